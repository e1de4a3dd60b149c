"""An evaluation says how much a fine-tune remembers, against its base, and a card says it to people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from openledger.modelfactory import (
    DataSource,
    Evaluation,
    TrainingRecord,
    TrainingRun,
    evaluate,
    generate,
    load_adapter,
    model_card,
)
from openledger.models import BaseModel, encode_dialogue
from openledger.primitives import keccak, to_hex
from openledger.primitives.errors import InputError, ModelError

DATA = [DataSource("Coins | of the world", 3, keccak(b"root"), 12, ("CC0-1.0",))]


@pytest.fixture(scope="module")
def evaluation(base: BaseModel, run: TrainingRun, records: list[TrainingRecord]) -> Evaluation:
    """The finished run, measured."""
    return evaluate(base, run.adapter, run, records, sample=50)


def test_the_tuned_model_remembers_what_the_base_never_saw(evaluation: Evaluation, run: TrainingRun) -> None:
    assert evaluation.tuned is not None
    assert evaluation.sampled == evaluation.with_facts == len(run.trained)
    assert evaluation.held_out == len(run.held_out)
    assert (evaluation.base.exact, evaluation.base.contains) == (0, 0)
    assert evaluation.tuned.exact >= 0.9 * evaluation.sampled
    assert evaluation.tuned.contains >= evaluation.tuned.exact
    assert evaluation.tuned.held_in_loss < 0.1 < evaluation.base.held_in_loss
    assert evaluation.tuned.held_out_loss is not None
    assert evaluation.tuned.held_out_loss > evaluation.tuned.held_in_loss


def test_an_early_checkpoint_remembers_less(
    base: BaseModel, run: TrainingRun, records: list[TrainingRecord], evaluation: Evaluation
) -> None:
    early = evaluate(base, run.checkpoints[0].path, run, records, sample=50)
    assert early.tuned is not None
    assert evaluation.tuned is not None
    assert early.tuned.exact < evaluation.tuned.exact
    assert early.adapter_digest == run.checkpoints[0].digest
    assert early.digest() != evaluation.digest()


def test_the_base_can_be_measured_alone(base: BaseModel, run: TrainingRun, records: list[TrainingRecord]) -> None:
    alone = evaluate(base, None, run, records, sample=3)
    assert alone.tuned is None
    assert alone.adapter_digest is None
    assert alone.sampled == 3


def test_an_evaluation_is_the_same_again(
    base: BaseModel, run: TrainingRun, records: list[TrainingRecord], evaluation: Evaluation
) -> None:
    told: list[tuple[int, int]] = []
    again = evaluate(base, run.adapter, run, records[::-1], sample=50, progress=lambda *done: told.append(done))
    assert again.digest() == evaluation.digest()
    assert told[-1] == (2 * evaluation.sampled, 2 * evaluation.sampled)


def test_records_of_weight_zero_are_not_asked(base: BaseModel, run: TrainingRun, records: list[TrainingRecord]) -> None:
    weights = tuple(1.0 if number < 4 else 0.0 for number in range(len(run.trained)))
    assert evaluate(base, None, replace(run, weights=weights), records).sampled == 4
    with pytest.raises(InputError, match="every record of the run has weight 0"):
        evaluate(base, None, replace(run, weights=(0.0,) * len(weights)), records)


def test_an_evaluation_needs_the_right_base_and_records(
    base: BaseModel, run: TrainingRun, records: list[TrainingRecord]
) -> None:
    with pytest.raises(ModelError, match="was trained on the base"):
        evaluate(replace(base, digest=keccak(b"other")), None, run, records)
    trained = [record for record in records if record.record_hash in run.trained]
    with pytest.raises(InputError, match="held-out record"):
        evaluate(base, None, run, trained)
    with pytest.raises(InputError, match="not among the given records"):
        evaluate(base, None, run, [record for record in records if record not in trained])
    with pytest.raises(InputError, match="sample is 0"):
        evaluate(base, None, run, records, sample=0)


def test_answers_do_not_depend_on_who_else_asks(
    base: BaseModel, run: TrainingRun, records: list[TrainingRecord]
) -> None:
    tuned = load_adapter(base, run.adapter)
    known = [record for record in records if record.record_hash in run.trained]
    prompts = [encode_dialogue(base.tokenizer, record.question).token_ids for record in known]
    together = generate(tuned, base.tokenizer, prompts, 40)
    assert together == [generate(tuned, base.tokenizer, [prompt], 40)[0] for prompt in prompts]


def test_a_card_tells_data_measures_and_identity(run: TrainingRun, evaluation: Evaluation) -> None:
    card = model_card(
        "Coin finder", run, evaluation, DATA, tolerance_ppm=1_500, attribution={"LDS": "0.61 (0.55 to 0.66)"}
    )
    assert card.startswith("# Coin finder\n")
    assert evaluation.tuned is not None
    assert f"| exact answers, of {evaluation.sampled} | 0 | {evaluation.tuned.exact} |" in card
    assert "Coins \\| of the world" in card
    assert "| LDS | 0.61 (0.55 to 0.66) |" in card
    assert "may differ by 1,500 ppm" in card
    for digest in (run.base_digest, run.adapter_digest, run.recipe.digest(), evaluation.digest(), keccak(b"root")):
        assert to_hex(digest) in card


def test_a_card_does_not_hide_what_was_not_measured(run: TrainingRun, evaluation: Evaluation) -> None:
    assert "Not measured." in model_card("Coin finder", run, evaluation, DATA, tolerance_ppm=1_500)


def test_a_card_is_not_written_for_another_adapter(run: TrainingRun, evaluation: Evaluation) -> None:
    with pytest.raises(InputError, match="not of this run's adapter"):
        model_card("Coin finder", run, replace(evaluation, adapter_digest=keccak(b"other")), DATA, tolerance_ppm=1_500)
    with pytest.raises(InputError, match="no name"):
        model_card("  ", run, evaluation, DATA, tolerance_ppm=1_500)
    with pytest.raises(InputError, match="no Datanet version"):
        model_card("Coin finder", run, evaluation, [], tolerance_ppm=1_500)
