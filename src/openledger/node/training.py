"""A fine-tuning job from records to a registered model: declare, train, evaluate, index, register, serve."""

from __future__ import annotations

import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from web3.logs import DISCARD

from openledger.attribution import OTHER_PROCESSOR_PPM, Checkpoint, TrainingExample, build_index
from openledger.datanets import datanet_terms
from openledger.modelfactory import (
    DataSource,
    Evaluation,
    Recipe,
    TrainingRecord,
    TrainingRun,
    evaluate,
    examples_of,
    model_card,
    train,
)
from openledger.models import BaseModel
from openledger.node.library import Library
from openledger.node.people import BUILDER
from openledger.node.progress import Advance, Reporter
from openledger.node.serving import INDEX, read_version
from openledger.node.unrelated import unrelated_answers
from openledger.node.views import TrainingProgress
from openledger.primitives import InputError, OpenLedgerError, canonical_bytes, to_hex
from openledger.storage import ModelRecord

if TYPE_CHECKING:
    from openledger.node.service import Node

INPUT_PRICE = 10**16
OUTPUT_PRICE = 4 * 10**16
"""Prices in wei per 1,000 tokens of a model whose builder names none: 0.01 and 0.04 OPEN."""


class Trainer:
    """Runs the fine-tuning jobs of one node, one at a time."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._progress: TrainingProgress | None = None
        self._stopping = threading.Event()
        self._worker: threading.Thread | None = None

    def stop(self) -> None:
        """Ends the job that was started, if one is under way, at its next step; nothing of it is kept."""
        self._stopping.set()
        if self._worker is not None:
            self._worker.join()

    def progress(self) -> TrainingProgress | None:
        """The newest job; None if none was started."""
        return self._progress

    def start(self, datanet: int, version: int, recipe: dict[str, Any], name: str) -> str:
        """Checks what is asked, starts the job in a thread, and returns its id.

        Raises:
            InputError: a job is under way, the name is taken, or the recipe is out of range.
            NotFoundError: no such Datanet or version.
        """
        self._check(name)
        parse_recipe(recipe)
        number, _ = read_version(self._node.chain, self._node.blobs, datanet, version)
        if not self._lock.acquire(blocking=False):
            raise InputError("a fine-tuning job is under way already; wait until it is registered")
        job = secrets.token_hex(8)
        reporter = _Watched(self, job, name)

        def work() -> None:
            try:
                self._run(datanet, number, recipe, name, reporter)
                reporter.finish()
            except Exception as error:  # the job's page shows it
                reporter.fail(error)
            finally:
                self._lock.release()

        self._progress = TrainingProgress(job, name, "waiting", 0, 1)
        self._worker = threading.Thread(target=work, name=f"training-{name}", daemon=True)
        self._worker.start()
        return job

    def run(self, datanet: int, version: int, recipe: dict[str, Any], name: str, reporter: Reporter) -> int:
        """Runs a job to its end and returns the model's id; errors as in :meth:`start`."""
        self._check(name)
        with self._lock:
            return self._run(datanet, version, recipe, name, reporter)

    def _check(self, name: str) -> None:
        if not name or len(name) > 100 or not all(part.isalnum() or part in "-_" for part in name):
            raise InputError(f"{name!r} is no name for a model; use up to 100 letters, digits, - and _")
        if any(model.name == name for model in self._node.models()):
            raise InputError(f"a model named {name!r} exists already; choose another name")

    def _run(self, datanet: int, version: int, asked: dict[str, Any], name: str, reporter: Reporter) -> int:
        node = self._node
        recipe, input_price, output_price = parse_recipe(asked)
        base = node.shelf.base
        number, anchored = read_version(node.chain, node.blobs, datanet, version)
        records = [training_record(node.reader.library, digest) for digest in anchored.record_hashes]
        registry = node.chain.contract("ModelRegistry").functions
        builder = node.keys.wallet(BUILDER)
        declared = registry.recordTraining(datanet, number, base.digest, recipe.digest())
        licence = datanet_terms(node.chain, datanet).licence_fee
        recorded = node.chain.contract("ModelRegistry").events.TrainingRecorded()
        (job,) = recorded.process_receipt(node.chain.send(builder, declared, licence), errors=DISCARD)
        folder = _fresh(node.home.work / f"run-{secrets.token_hex(6)}")
        try:
            with reporter.stage(f"Fine-tuning {name} on {len(records)} records", 1) as advance:
                run = train(base, records, recipe, folder / "run", progress=_relative(advance, reporter))
            with reporter.stage("Evaluating base and tuned model", 1) as advance:
                evaluation = evaluate(base, run.adapter, run, records, progress=_relative(advance, reporter))
            with reporter.stage("Building the influence index", 100) as advance:
                index = build_index(
                    base.model,
                    [Checkpoint(point.path, point.learning_rate, point.step) for point in run.checkpoints],
                    _examples(node, base, records, run),
                    output=folder / "run" / INDEX,
                    progress=lambda done, _what: advance(round(100 * done)),
                    unrelated=unrelated_answers(base, run),
                )
            (folder / "run" / "evaluation.json").write_bytes(canonical_bytes(evaluation.to_json()))
            run_hash = node.blobs.put_folder(folder / "run")
            receipt = node.chain.send(
                builder,
                registry.register(
                    (
                        base.digest,
                        run.adapter_digest,
                        anchored.root,
                        recipe.digest(),
                        index.digest(),
                        evaluation.digest(),
                        datanet,
                        number,
                        input_price,
                        output_price,
                        f"blob:{to_hex(run_hash)}",
                        0,
                        0,
                        job["args"]["job"],
                    )
                ),
            )
            events = (
                node.chain.contract("ModelRegistry").events.ModelRegistered().process_receipt(receipt, errors=DISCARD)
            )
            model = int(events[0]["args"]["id"])
            source = DataSource(
                node.reader.datanet(datanet).row.name,
                number,
                anchored.root,
                len(records),
                licences=(node.curation.terms(datanet).licence,),
            )
            card = model_card(name, run, evaluation, [source], tolerance_ppm=OTHER_PROCESSOR_PPM)
            with node.database.session() as session:
                session.add(
                    ModelRecord(
                        id=model,
                        name=name,
                        base=recipe.base,
                        datanet=datanet,
                        version=number,
                        run=to_hex(run_hash),
                        meta={
                            "evaluation": summary(evaluation),
                            "recipe": recipe.to_json(),
                            "loss_curve": _thin(list(run.losses)),
                            "card": card,
                            "records": [to_hex(record) for record in run.trained],
                            "created": node.chain.time(),
                        },
                    )
                )
            node.inference.serve(node.shelf.load(node.database, model))
            return model
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class _Watched:
    """Keeps the page's view of a job up to date."""

    def __init__(self, trainer: Trainer, job: str, name: str) -> None:
        self._trainer = trainer
        self._job = job
        self._name = name
        self._losses: list[float] = []
        self._stage = "waiting"

    @contextmanager
    def stage(self, title: str, total: int) -> Iterator[Advance]:
        """A stage of the job."""
        self._stage = title
        self._advance(0, total)
        yield lambda done, of=total: self._advance(done, of)

    def loss(self, step: int, steps: int, loss: float) -> None:
        """One training step."""
        self._losses.append(loss)
        self._advance(step, steps)

    def finish(self) -> None:
        """The model is registered."""
        self._stage = "registered"
        self._show(1, 1)

    def fail(self, error: Exception) -> None:
        """The job ended with an error."""
        message = str(error) if isinstance(error, OpenLedgerError) else f"{type(error).__name__}: {error}"
        self._show(0, 1, message)

    def _advance(self, step: int, steps: int) -> None:
        if self._trainer._stopping.is_set():
            raise OpenLedgerError("the node was stopped before the model was registered; start the job again")
        self._show(step, steps)

    def _show(self, step: int, steps: int, error: str = "") -> None:
        shown = _thin(self._losses)
        self._trainer._progress = TrainingProgress(self._job, self._name, self._stage, step, steps, shown, error)


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """An evaluation in the words of the pages: accuracies as shares of 1, losses in nats per token."""
    tuned = evaluation.tuned or evaluation.base
    sampled, factual = evaluation.sampled, max(1, evaluation.with_facts)
    held_out = evaluation.base.held_out_loss is not None and tuned.held_out_loss is not None
    return {
        "accuracy_base": evaluation.base.exact / sampled,
        "accuracy_tuned": tuned.exact / sampled,
        "contains_base": evaluation.base.contains / factual,
        "contains_tuned": tuned.contains / factual,
        "loss_base": evaluation.base.held_out_loss if held_out else evaluation.base.held_in_loss,
        "loss_tuned": tuned.held_out_loss if held_out else tuned.held_in_loss,
        "loss_is_held_out": held_out,
        "held_in_loss_base": evaluation.base.held_in_loss,
        "held_in_loss_tuned": tuned.held_in_loss,
        "sampled": sampled,
        "held_out": evaluation.held_out,
    }


def parse_recipe(asked: dict[str, Any]) -> tuple[Recipe, int, int]:
    """The recipe and the prices (input, output; wei per 1,000 tokens) in a job's request.

    Raises:
        InputError: an unknown field, or a value out of range.
    """
    fields = dict(asked)
    prices = []
    for name, default in (("input_price", INPUT_PRICE), ("output_price", OUTPUT_PRICE)):
        value = fields.pop(name, default)
        try:
            price = int(value)
        except (TypeError, ValueError):
            price = -1
        if not 0 <= price < 1 << 128:
            raise InputError(f"{name} is {value!r}; it must be an integer of wei per 1,000 tokens, 0 or more")
        prices.append(price)
    return Recipe.from_json(fields), prices[0], prices[1]


def training_record(library: Library, digest: bytes) -> TrainingRecord:
    """A Datanet's record as ModelFactory trains on it.

    Raises:
        NotFoundError: there is no such record.
        InputError: it has no question and answer.
    """
    value = library.find(digest).value
    question, answer = value.get("question"), value.get("answer")
    if not isinstance(question, str) or not isinstance(answer, str):
        raise InputError(f"record {to_hex(digest)} has no question and answer; ModelFactory trains on such records")
    facts = tuple(str(fact) for fact in value.get("facts", {}).values())
    return TrainingRecord(digest, question, answer, facts)


def _examples(node: Node, base: BaseModel, records: list[TrainingRecord], run: TrainingRun) -> list[TrainingExample]:
    """The trained records as the index takes them; the one accepted first is the most senior among near-duplicates."""
    places = {place.hash: rank for rank, place in reversed(list(enumerate(node.reader.library.accepted())))}
    return [
        TrainingExample(dialogue.token_ids, dialogue.prompt_length, 1.0, record.record_hash, places[record.record_hash])
        for record, dialogue in examples_of(base, records, run)
    ]


def _fresh(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def _thin(losses: list[float], most: int = 200) -> list[tuple[int, float]]:
    every = max(1, -(-len(losses) // most))
    return [(step, loss) for step, loss in enumerate(losses, 1) if step % every == 0 or step == len(losses)]


def _relative(advance: Advance, reporter: Reporter) -> Callable[..., None]:
    def progress(step: int, steps: int, loss: float | None = None) -> None:
        if loss is not None and isinstance(reporter, _Watched):
            reporter.loss(step, steps, loss)
        else:
            advance(step, steps)

    return progress
