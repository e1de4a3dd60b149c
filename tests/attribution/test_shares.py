"""Shares are exact integers; copies share one credit; what cannot be told from noise stays with the base model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openledger.attribution import Measurement, Query, build_index, gain_ppm, shares, verify
from openledger.attribution.calibration import evidence
from openledger.primitives import PPM, InputError, VerificationError, keccak

RECORDS = 24


class Stand:
    """What ``shares`` reads of an index, in any order of its records."""

    def __init__(self, lengths: list[float], clusters: list[int], seniority: list[int]) -> None:
        self.records = len(lengths)
        self.lengths = np.asarray(lengths, np.float32)
        self.floors = self.lengths / 10
        self.clusters = np.asarray(clusters)
        self.seniority = np.asarray(seniority)
        self.unit, self.cap, self.base_mass = 1.0, 2.0, 0.1
        self.record_hashes = tuple(keccak(bytes([place])) for place in range(self.records))


@st.composite
def situations(draw: st.DrawFn) -> tuple[Any, Measurement]:
    count = draw(st.integers(1, RECORDS))
    numbers = st.floats(-3, 3, width=32)
    index = Stand(
        draw(st.lists(st.floats(0.125, 4, width=32), min_size=count, max_size=count)),
        draw(st.lists(st.integers(0, RECORDS), min_size=count, max_size=count)),
        draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)),
    )
    scores = np.asarray(draw(st.lists(numbers, min_size=count, max_size=count)), np.float32)
    return index, Measurement(scores, draw(st.floats(0.1, 10)), draw(st.floats(0, 50)), draw(st.floats(0, 50)))


@given(situations())
def test_shares_are_positive_and_sum_with_the_residual_to_a_million(situation: tuple[Any, Measurement]) -> None:
    index, measurement = situation
    found = shares(measurement, index)
    assert sum(found.ppm.values()) + found.residual_ppm == PPM
    assert all(share > 0 for share in found.ppm.values())
    assert PPM - found.residual_ppm <= gain_ppm(measurement)


@given(situations(), st.randoms(use_true_random=False))
def test_shares_do_not_depend_on_the_order_of_the_records(situation: tuple[Any, Measurement], random: Any) -> None:
    index, measurement = situation
    order = list(range(index.records))
    random.shuffle(order)
    moved = Stand(index.lengths[order].tolist(), index.clusters[order].tolist(), index.seniority[order].tolist())
    there = shares(replace(measurement, scores=measurement.scores[order]), moved)
    assert {order[place]: share for place, share in there.ppm.items()} == shares(measurement, index).ppm


@given(situations())
def test_identical_records_get_identical_shares_and_juniors_of_a_group_get_none(
    situation: tuple[Any, Measurement],
) -> None:
    index, measurement = situation
    found = shares(measurement, index)
    for group in set(index.clusters.tolist()):
        members = np.flatnonzero(index.clusters == group)
        first = index.seniority[members].min()
        assert len({found.ppm.get(place, 0) for place in members if index.seniority[place] == first}) == 1
        assert not any(place in found.ppm for place in members if index.seniority[place] > first)


def test_what_leans_a_little_on_everyone_credits_nobody_and_what_stands_out_is_credited() -> None:
    spread = np.linspace(0.5, 1.0, RECORDS)
    index: Any = Stand([1.0] * RECORDS, list(range(RECORDS)), list(range(RECORDS)))
    crowd = Measurement(spread.astype(np.float32), 1.0, 10.0, 1.0)
    assert shares(crowd, index).ppm == {}
    peak = spread.copy()
    peak[7] = 4.0
    assert set(shares(replace(crowd, scores=peak.astype(np.float32)), index).ppm) == {7}


def test_evidence_is_what_exceeds_both_the_records_own_noise_and_the_querys() -> None:
    scores = np.asarray([0.0, 0.1, -0.1, 0.1, -0.1, 0.0, 0.1, -0.1, 5.0])
    noise = 8 * 1.4826 * 0.1
    assert evidence(scores, np.zeros(9)) == pytest.approx([0.0] * 8 + [5.0 - noise])
    assert evidence(scores, np.full(9, 3.0)) == pytest.approx([0.0] * 8 + [2.0])
    assert evidence(scores[-3:], np.zeros(3)) == pytest.approx([0.1, 0.0, 5.0])


def test_no_gain_or_no_gradient_leaves_everything_with_the_base_model() -> None:
    index: Any = Stand([1.0], [0], [0])
    strong = Measurement(np.ones(1, np.float32), 1.0, 10.0, 1.0)
    assert shares(strong, index).ppm[0] > PPM // 2
    for quiet in (replace(strong, adapted_loss=10.0), replace(strong, base_loss=0.0), replace(strong, norm=0.0)):
        assert shares(quiet, index).residual_ppm == PPM


@pytest.mark.parametrize("change", [{"scores": np.ones(2, np.float32)}, {"norm": float("nan")}, {"base_loss": np.inf}])
def test_a_measurement_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    index: Any = Stand([1.0], [0], [0])
    with pytest.raises(InputError):
        shares(replace(Measurement(np.ones(1, np.float32), 1.0, 10.0, 1.0), **change), index)


def test_a_memorised_answer_is_credited_to_its_record_and_a_strange_one_to_the_base(trained: Any) -> None:
    queries = [trained.query(place) for place in range(RECORDS)]
    found = [shares(measured, trained.index) for measured in trained.index.measure(trained.base, queries)]
    first = [divided.ranked()[0][0] if divided.ppm else None for divided in found]
    assert np.mean([place == own for own, place in enumerate(first)]) > 0.9
    own = np.mean([divided.ppm.get(place, 0) for place, divided in enumerate(found)])
    generator = np.random.default_rng(5)
    strange = [Query(tuple(generator.integers(20, 64, 12).tolist()), 4) for _ in range(12)]
    credited = [PPM - shares(each, trained.index).residual_ppm for each in trained.index.measure(trained.base, strange)]
    assert own > 3 * np.mean(credited)
    assert np.mean(credited) < PPM // 4


def test_a_copy_earns_nothing_and_the_original_keeps_its_share(trained: Any) -> None:
    copy = replace(trained.examples[6], seniority=99, record_hash=keccak(b"copy"))
    index = build_index(trained.base, trained.checkpoints, [*trained.examples, copy])
    query = trained.query(6)
    before = shares(trained.index.measure(trained.base, [query])[0], trained.index).ppm[6]
    after = shares(index.measure(trained.base, [query])[0], index)
    assert index.clusters[6] == index.clusters[RECORDS]
    assert RECORDS not in after.ppm
    assert after.ppm[6] > 0.6 * before


@pytest.fixture(scope="module")
def claim(trained: Any) -> tuple[tuple[tuple[bytes, int], ...], int]:
    divided = shares(trained.index.measure(trained.base, [trained.query(4)])[0], trained.index)
    return divided.by_hash(trained.index), divided.residual_ppm


def test_an_honest_claim_is_verified_to_the_last_ppm(trained: Any, claim: Any) -> None:
    verdict = verify(trained.base, trained.index, trained.query(4), *claim, adapter=trained.adapter)
    assert verdict.valid
    verdict.check()


def test_a_shifted_share_is_found_and_named(trained: Any, claim: Any) -> None:
    (pairs, residual) = claim
    record, ppm = pairs[0]
    forged = ((record, ppm + 1), *pairs[1:])
    verdict = verify(trained.base, trained.index, trained.query(4), forged, residual - 1)
    assert verdict.differences == {record: (ppm + 1, ppm)}
    assert verdict.residual == (residual - 1, residual)
    with pytest.raises(VerificationError, match=f"claimed {ppm + 1} ppm, recomputed {ppm} ppm"):
        verdict.check()
    assert verify(trained.base, trained.index, trained.query(4), forged, residual - 1, tolerance_ppm=1).valid


def test_an_invented_record_and_another_prompt_or_output_are_found(trained: Any, claim: Any) -> None:
    (pairs, residual) = claim
    query = trained.query(4)
    invented = ((b"\x07" * 32, residual), *pairs)
    assert (b"\x07" * 32) in verify(trained.base, trained.index, query, invented, 0).differences
    tokens = list(query.token_ids)
    for place in (2, len(tokens) - 2):
        changed = [*tokens[:place], (tokens[place] + 1) % 64, *tokens[place + 1 :]]
        assert not verify(trained.base, trained.index, Query(changed, query.prompt_length), pairs, residual).valid


def test_a_claim_that_cannot_be_right_is_refused(trained: Any, claim: Any) -> None:
    (pairs, residual) = claim
    for wrong, rest in (((*pairs, pairs[0]), residual), (pairs, residual + 1), (((b"\x01" * 32, -1),), PPM + 1)):
        with pytest.raises(InputError):
            verify(trained.base, trained.index, trained.query(4), wrong, rest)
    with pytest.raises(VerificationError, match="not the one"):
        verify(trained.base, trained.index, trained.query(4), *claim, adapter=trained.checkpoints[0].path)


settings.register_profile("attribution", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("attribution")
