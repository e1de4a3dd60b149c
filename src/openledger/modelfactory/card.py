"""The model card: what a fine-tuned model is, on which data, how it was made and how well it was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openledger.primitives.errors import InputError
from openledger.primitives.hashing import to_hex

if TYPE_CHECKING:
    from openledger.modelfactory.evaluation import Evaluation, Score
    from openledger.modelfactory.recipe import Recipe
    from openledger.modelfactory.training import TrainingRun

_ACCURACY = "## Attribution accuracy"


@dataclass(frozen=True, slots=True)
class DataSource:
    """One Datanet version that a model was trained on.

    Attributes:
        datanet: its name.
        version: its number.
        root: 32 bytes, the version's Merkle root.
        records: how many accepted records it holds.
        licences: SPDX identifiers of its contributions.
    """

    datanet: str
    version: int
    root: bytes
    records: int
    licences: tuple[str, ...] = ()


def model_card(
    name: str,
    run: TrainingRun,
    evaluation: Evaluation,
    data: Sequence[DataSource],
    *,
    tolerance_ppm: int,
    summary: str = "",
    attribution: Mapping[str, str] | None = None,
) -> str:
    """The card as Markdown.

    Args:
        name: the model's name, one line.
        run: how it was trained.
        evaluation: how it was measured; it must be of the run's own adapter.
        data: the Datanet versions.
        tolerance_ppm: by how many ppm a share that is recomputed on another kind of processor may differ.
        summary: a few words by its builder.
        attribution: measured attribution accuracy, as rows of name and value with its interval; without it the
            card says that it was not measured.

    Raises:
        InputError: an empty name, no data, or an evaluation of another adapter.
    """
    title = " ".join(name.split())
    if not title:
        raise InputError("the model has no name: give one")
    if not data:
        raise InputError("no Datanet version is named: give at least one")
    if evaluation.tuned is None or evaluation.adapter_digest != run.adapter_digest:
        raise InputError("the evaluation is not of this run's adapter: evaluate run.adapter")
    recipe = run.recipe
    parts = [
        f"# {title}",
        " ".join(summary.split()) or f"A LoRA fine-tune of {recipe.base}.",
        "## Data",
        _table(
            ("Datanet", "version", "accepted records", "licences", "root"),
            [
                (
                    one.datanet,
                    str(one.version),
                    str(one.records),
                    ", ".join(one.licences) or "not stated",
                    _code(one.root),
                )
                for one in data
            ],
        ),
        f"{len(run.trained)} records were trained on, {len(run.held_out)} were held out by their hashes and the seed.",
        "## Evaluation",
        _table(
            ("measure", "base", "tuned"),
            [
                (f"exact answers, of {evaluation.sampled}", *_both(evaluation, lambda score: str(score.exact))),
                (
                    f"answers with every fact, of {evaluation.with_facts}",
                    *_both(evaluation, lambda score: str(score.contains)),
                ),
                (
                    "loss on trained records (nats per token)",
                    *_both(evaluation, lambda score: f"{score.held_in_loss:.3f}"),
                ),
                (
                    f"loss on {evaluation.held_out} held-out records",
                    *_both(evaluation, lambda s: "-" if s.held_out_loss is None else f"{s.held_out_loss:.3f}"),
                ),
            ],
        ),
        "Exact answers to trained questions show what the model remembers, not what it can conclude: about a record "
        "that it was not trained on, expect it to invent an answer in the same form.",
        _ACCURACY,
        _accuracy(attribution or {}),
        "## Verification",
        "Whoever recomputes an answer's shares on the host's kind of processor must get the same shares, to the ppm; on another "
        f"kind a share may differ by {tolerance_ppm:,} ppm (`openledger verify --other-processor`).",
        "## Training",
        _table(
            ("setting", "value"),
            [
                ("method", recipe.method),
                ("rank, alpha", f"{recipe.rank}, {recipe.alpha:g}"),
                ("layers", _layers(recipe)),
                ("epochs, batch size", f"{recipe.epochs}, {recipe.batch_size}"),
                ("learning rate", f"{recipe.learning_rate:g}, {recipe.schedule}"),
                ("precision", recipe.precision),
                ("seed", str(recipe.seed)),
                ("steps", str(len(run.losses))),
                ("first and last loss", f"{run.losses[0]:.3f}, {run.losses[-1]:.3f}"),
                ("time", f"{run.seconds:.0f} s"),
            ],
        ),
        "## Identity",
        _table(
            ("what", "keccak256"),
            [
                ("base", _code(run.base_digest)),
                ("adapter", _code(run.adapter_digest)),
                ("recipe", _code(recipe.digest())),
                ("evaluation", _code(evaluation.digest())),
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def with_accuracy(card: str, attribution: Mapping[str, str]) -> str:
    """A card with what was measured later of its attribution's accuracy, as rows of name and value."""
    before, heading, rest = card.partition(_ACCURACY)
    if not heading or not attribution:
        return card
    return f"{before}{heading}\n\n{_accuracy(attribution)}\n\n## {rest.partition('## ')[2]}"


def _accuracy(attribution: Mapping[str, str]) -> str:
    return _table(("measure", "value"), list(attribution.items())) if attribution else "Not measured."


def _both(evaluation: Evaluation, shown: Callable[[Score], str]) -> tuple[str, str]:
    return shown(evaluation.base), "-" if evaluation.tuned is None else shown(evaluation.tuned)


def _code(digest: bytes) -> str:
    return f"`{to_hex(digest)}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _layers(recipe: Recipe) -> str:
    """Which layers were adapted, in words."""
    targets = recipe.target_modules
    kinds = targets if isinstance(targets, str) else ", ".join(targets)
    return kinds if recipe.upper_layers == 1 else f"{kinds}, the upper {recipe.upper_layers:.0%} of the model"
