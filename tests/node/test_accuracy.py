"""A model's attribution is audited by retraining it: resumable, repeatable, and told with its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from openledger.attribution import Checkpoint, TrainingExample, build_index
from openledger.datanets import load_records, partition
from openledger.modelfactory import Recipe, TrainingRecord, evaluate, examples_of, model_card, train, with_accuracy
from openledger.modelfactory.card import DataSource
from openledger.models import load_base
from openledger.node.accuracy import EVALUATION, Subject, audit_model, cost_seconds, evaluation
from openledger.node.evaluations import attribution_rows
from openledger.primitives import InputError, canonical_bytes, parse_json, to_hex
from openledger.settlement.terms import Accuracy


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    base = load_base()
    shipped = sorted(load_records()[:24], key=lambda record: record.hash)
    owners = {
        row.hash: name for name, rows in partition(shipped, ("ada", "boris", "chidi", "dana")).items() for row in rows
    }
    records = tuple(TrainingRecord(row.hash, row.question, row.answer) for row in shipped)
    recipe = Recipe(rank=4, alpha=8, epochs=2, batch_size=8, holdout=0.2, checkpoints=(0.5, 1.0))
    run = train(base, records, recipe, tmp_path_factory.mktemp("accuracy") / "run")
    measured = evaluate(base, run.adapter, run, records, sample=4)
    (run.path / EVALUATION).write_bytes(canonical_bytes(measured.to_json()))
    examples = [
        TrainingExample(dialogue.token_ids, dialogue.prompt_length, 1.0, record.record_hash)
        for record, dialogue in examples_of(base, records, run)
    ]
    points = [Checkpoint(point.path, point.learning_rate, point.step) for point in run.checkpoints]
    index = build_index(base.model, points, examples)
    return Subject(base, run, index, records, tuple(owners[digest] for digest in run.trained))


def test_an_audit_retrains_once_for_each_half_and_each_contributor_and_is_the_same_again(
    subject: Subject, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    found = audit_model(
        subject, tmp_path / "a", questions=4, retrainings=3, leave_out=True, progress=lambda *at: told.append(at)
    )
    assert told == [(done, 7) for done in range(1, 8)]
    assert -1 <= found.records.low <= found.records.lds <= found.records.high <= 1
    assert found.left_out is not None
    assert found.left_out.contributors == 4
    assert audit_model(subject, tmp_path / "a", questions=4, retrainings=3, leave_out=True) == found


def test_an_audit_adds_to_the_registered_evaluation_what_card_and_settlement_read(
    subject: Subject, tmp_path: Path
) -> None:
    found = audit_model(subject, tmp_path / "a", questions=4, retrainings=3, contributor_retrainings=3)
    written = parse_json((tmp_path / "a" / EVALUATION).read_bytes())
    assert written == parse_json(canonical_bytes(evaluation(subject, found, 4)))
    registered = parse_json((subject.run.path / EVALUATION).read_bytes())
    assert {**registered, "attribution": written["attribution"]} == written
    assert written["attribution"]["adapter"] == to_hex(subject.run.adapter_digest)
    assert found.contributors is not None
    assert Accuracy.of(written).audited_ppm == max(0, int(found.contributors.low * 1_000_000 // 1))
    rows = attribution_rows(written["attribution"])
    assert rows["LDS over halves of the records"].startswith(f"{found.records.lds:.2f} (95%: ")
    assert "LDS of verbatim spans, records" in rows
    card = model_card("m", subject.run, evaluate(subject.base, subject.run.adapter, subject.run, subject.records, sample=4),
                      [DataSource("d", 1, bytes(32), len(subject.records))], tolerance_ppm=1_500)  # fmt: skip
    shown = with_accuracy(card, rows)
    assert "Not measured." in card
    assert "Not measured." not in shown
    assert with_accuracy(shown, rows) == shown
    assert shown.count("\n## ") == card.count("\n## ")


def test_what_is_no_audit_is_not_shown_as_one() -> None:
    with pytest.raises(InputError, match="no audit"):
        attribution_rows({"records": {"lds": 1}})


def test_an_audit_without_questions_is_refused_and_its_cost_is_known_beforehand(
    subject: Subject, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least one"):
        audit_model(subject, tmp_path / "a", questions=0)
    assert cost_seconds(subject.run, 10, 0, 2) == pytest.approx(8 * subject.run.seconds)
