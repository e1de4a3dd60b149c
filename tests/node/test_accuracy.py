"""A model's attribution is audited by retraining it: resumable, repeatable, and told with its digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from openledger.attribution import Checkpoint, TrainingExample, build_index
from openledger.datanets import load_records, partition
from openledger.modelfactory import Recipe, TrainingRecord, examples_of, train
from openledger.models import load_base
from openledger.node.accuracy import REPORT, Subject, audit_model, cost_seconds, report
from openledger.primitives import InputError, canonical_bytes, keccak, parse_json, to_hex


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    base = load_base()
    shipped = sorted(load_records()[:24], key=lambda record: record.hash)
    owners = {row.hash: name for name, rows in partition(shipped, ("ada", "boris")).items() for row in rows}
    records = tuple(TrainingRecord(row.hash, row.question, row.answer) for row in shipped)
    recipe = Recipe(rank=4, alpha=8, epochs=2, batch_size=8, holdout=0.2, checkpoints=(0.5, 1.0))
    run = train(base, records, recipe, tmp_path_factory.mktemp("accuracy") / "run")
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
    assert told == [(done, 5) for done in range(1, 6)]
    assert -1 <= found.records.low <= found.records.lds <= found.records.high <= 1
    assert found.left_out is not None
    assert found.left_out.contributors == 2
    assert audit_model(subject, tmp_path / "a", questions=4, retrainings=3, leave_out=True) == found


def test_the_report_names_the_model_and_its_own_digest(subject: Subject, tmp_path: Path) -> None:
    found = audit_model(subject, tmp_path / "a", questions=4, retrainings=3)
    written = parse_json((tmp_path / "a" / REPORT).read_bytes())
    assert written == parse_json(canonical_bytes(report(subject, found, 4)))
    digest = written.pop("digest")
    assert digest == to_hex(keccak(canonical_bytes(written)))
    assert written["adapter"] == to_hex(subject.run.adapter_digest)
    assert written["left_out"] is None


def test_an_audit_without_questions_is_refused_and_its_cost_is_known_beforehand(
    subject: Subject, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="at least one"):
        audit_model(subject, tmp_path / "a", questions=0)
    assert cost_seconds(subject.run, 10, 0, 2) == pytest.approx(8 * subject.run.seconds)
