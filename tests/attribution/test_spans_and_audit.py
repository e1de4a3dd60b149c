"""Verbatim spans are the maximal ones; an audit is resumable, and right where the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.attribution import SpanIndex, audit, lds, subsets
from openledger.primitives import InputError, StorageError

TOKENS = st.lists(st.integers(0, 3), max_size=12)


def holders(documents: list[list[int]], part: list[int]) -> list[int]:
    return [
        place
        for place, document in enumerate(documents)
        if any(document[at : at + len(part)] == part for at in range(len(document) - len(part) + 1))
    ]


@given(st.lists(TOKENS, max_size=6), TOKENS, st.integers(1, 3))
def test_spans_are_exactly_the_maximal_stretches_found_by_comparing_everything(
    documents: list[list[int]], output: list[int], minimum: int
) -> None:
    wanted = {}
    for start in range(len(output)):
        for end in range(len(output), start + minimum - 1, -1):
            if found := holders(documents, output[start:end]):
                if not any(first <= start and end <= first + length for first, length in wanted):
                    wanted[start, end - start] = tuple(found)
                break
    found = SpanIndex.build(documents).spans(output, minimum)
    assert {(span.start, span.length): span.records for span in found} == wanted
    assert [span.rarity for span in found] == sorted((span.rarity for span in found), reverse=True)


def test_a_span_never_crosses_from_one_record_into_the_next() -> None:
    assert SpanIndex.build([[1, 2], [3, 4]]).spans([1, 2, 3, 4], minimum=3) == []


def test_a_span_index_is_named_by_its_bytes(tmp_path: Path) -> None:
    index = SpanIndex.build([[5, 70_000, 5], [9]])
    digest = index.save(tmp_path / "spans")
    assert digest == index.digest() == SpanIndex.build([[5, 70_000, 5], [9]]).digest()
    assert SpanIndex.load(tmp_path / "spans", digest).spans([5, 70_000], 2) == index.spans([5, 70_000], 2)
    with pytest.raises(StorageError, match="not the span index"):
        SpanIndex.load(tmp_path / "spans", bytes(32))
    (tmp_path / "spans").write_bytes(b"junk")
    with pytest.raises(StorageError, match="no readable"):
        SpanIndex.load(tmp_path / "spans")
    with pytest.raises(InputError, match="token ids"):
        SpanIndex.build([[-1]])
    with pytest.raises(InputError, match="token ids"):
        index.spans([5, -1])


def world(records: int = 20, queries: int = 6) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(queries, records)).astype(np.float32)


def test_true_scores_have_an_lds_of_one_and_reversed_ones_of_minus_one() -> None:
    truth, kept = world(), subsets(20, 16, 0)
    losses = 5.0 - kept.astype(float) @ truth.T.astype(float)
    assert lds(truth, kept, losses).lds == pytest.approx(1.0)
    assert lds(-truth, kept, losses).lds == pytest.approx(-1.0)
    chance = lds(world()[:, ::-1].copy(), kept, losses)
    assert chance.lds < 0.5
    assert chance.low <= chance.lds <= chance.high


def test_an_audit_that_is_stopped_goes_on_and_trains_nothing_twice(tmp_path: Path) -> None:
    truth, calls = world(), []

    def retrain(weights: np.ndarray) -> list[float]:
        calls.append(weights)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return (5.0 - weights @ truth.T.astype(float)).tolist()

    owners = [place % 5 for place in range(20)]
    with pytest.raises(KeyboardInterrupt):
        audit(truth, owners, retrain, tmp_path / "audit", retrainings=6)
    told: list[tuple[int, int]] = []
    found = audit(truth, owners, retrain, tmp_path / "audit", retrainings=6, progress=lambda *at: told.append(at))
    assert len(calls) == 13
    assert told[-1] == (12, 12)
    assert found.records.lds == pytest.approx(1.0)
    assert found.contributors is not None
    assert found.contributors.lds == pytest.approx(1.0)
    whole = {tuple(weights[owner::5]) for weights in calls[7:] for owner in range(5)}
    assert whole == {(0.0,) * 4, (1.0,) * 4}
    with pytest.raises(StorageError, match="another audit"):
        audit(truth, owners, retrain, tmp_path / "audit", retrainings=7)


def test_an_audit_without_enough_to_go_by_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 3"):
        audit(world(), list(range(20)), lambda _: [0.0] * 6, tmp_path / "a", retrainings=2)
    with pytest.raises(InputError, match="2 retrainings tell nothing"):
        audit(world(), list(range(20)), lambda _: [0.0] * 6, tmp_path / "a", contributor_retrainings=2)
    with pytest.raises(InputError, match="do not fit"):
        audit(world(), [1, 2], lambda _: [0.0] * 6, tmp_path / "b")
    with pytest.raises(InputError, match="not finite"):
        audit(world(), [1] * 20, lambda _: [float("nan")] * 6, tmp_path / "c")
    assert audit(world(), [1] * 20, lambda w: [w.sum()] * 6, tmp_path / "d", retrainings=3).contributors is None


def test_leaving_out_each_contributor_is_foretold_exactly_where_effects_add_up(tmp_path: Path) -> None:
    truth, owners = world(), [place % 4 for place in range(20)]

    def retrain(weights: np.ndarray) -> list[float]:
        return (3 - truth.astype(np.float64) @ weights * 2).tolist()

    found = audit(truth, owners, retrain, tmp_path / "a", retrainings=6, losses=retrain(np.ones(20)))
    assert found.nats_per_unit == pytest.approx(2)
    assert found.left_out is not None
    assert found.left_out.contributors == 4
    assert found.left_out.error == pytest.approx(0, abs=1e-6)
    assert found.left_out.correlation == pytest.approx(1)


def test_halves_of_the_contributors_are_left_away_when_none_are_wanted(tmp_path: Path) -> None:
    found = audit(
        world(), list(range(20)), lambda w: [w.sum()] * 6, tmp_path / "a", retrainings=3, contributor_retrainings=0
    )
    assert found.contributors is None
    assert found.left_out is None
