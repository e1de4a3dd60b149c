"""Shares are exact integers; copies share one credit; what cannot be told from noise stays with the base model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openledger.attribution import Measurement, Query, build_index, gain_ppm, shares, verify
from openledger.attribution.composition import composition, nonnegative, outstanding
from openledger.primitives import PPM, InputError, VerificationError, keccak

RECORDS = 24


class Stand:
    """What ``shares`` reads of an index, in any order of its records; scores are what the codes give a query."""

    chance = 0.3

    def __init__(self, codes: np.ndarray, clusters: np.ndarray, seniority: np.ndarray, hashes: list[bytes]) -> None:
        self.records = len(codes)
        self._codes = codes
        self.lengths = np.linalg.norm(codes, axis=1).astype(np.float32)
        self.floors = self.lengths / 10
        self.clusters, self.seniority = clusters, seniority
        self.record_hashes = tuple(hashes)

    def codes(self, places: list[int]) -> np.ndarray:
        return self._codes[places]

    def measured(self, query: np.ndarray, base_loss: float = 50.0, adapted_loss: float = 1.0) -> Measurement:
        scores = (self._codes @ query).astype(np.float32)
        return Measurement(scores, float(np.linalg.norm(query)), base_loss, adapted_loss)

    def reordered(self, order: list[int]) -> Stand:
        hashes = [self.record_hashes[place] for place in order]
        return Stand(self._codes[order], self.clusters[order], self.seniority[order], hashes)


def stand(codes: Any, clusters: Any = None) -> Stand:
    """Records of these codes, each senior to the next, and each a group of its own unless clusters say otherwise."""
    rows = np.asarray(codes, float)
    groups = np.arange(len(rows)) if clusters is None else np.asarray(clusters)
    return Stand(rows, groups, np.arange(len(rows)), [keccak(bytes([place])) for place in range(len(rows))])


@st.composite
def situations(draw: st.DrawFn) -> tuple[Stand, Measurement]:
    count, size = draw(st.integers(1, RECORDS)), draw(st.integers(4, 8))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    codes = generator.normal(size=(count, size))
    for place in range(1, count):
        if draw(st.integers(0, 4)) == 0:
            codes[place] = codes[generator.integers(place)]
    same = {tuple(code): place for place, code in reversed(list(enumerate(codes)))}
    groups = np.asarray([same[tuple(code)] for code in codes])
    index = Stand(codes, groups, generator.integers(0, 3, count), [keccak(bytes([place])) for place in range(count)])
    query = generator.normal(size=size) + draw(st.floats(0, 3)) * codes[generator.integers(count)]
    losses = draw(st.floats(0, 50)), draw(st.floats(0, 50))
    return index, index.measured(query, *losses)


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
    there = shares(replace(measurement, scores=measurement.scores[order]), index.reordered(order))
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


@given(situations(), st.integers(2, 100), st.booleans())
def test_splitting_one_record_among_names_gains_nothing(
    situation: tuple[Any, Measurement], names: int, known: bool
) -> None:
    index, measurement = situation
    codes = index.codes(list(range(index.records)))
    copies = np.repeat(codes[:1], names - 1, axis=0)
    group = index.clusters[:1] if known else np.arange(names - 1) + 1000
    split = Stand(
        np.concatenate([codes, copies]),
        np.concatenate([index.clusters, np.broadcast_to(group, names - 1)]),
        np.concatenate([index.seniority, np.full(names - 1, index.seniority[0])]),
        [*index.record_hashes, *(keccak(b"name", bytes([place])) for place in range(names - 1))],
    )
    scores = np.concatenate([measurement.scores, np.repeat(measurement.scores[:1], names - 1)])
    after = shares(replace(measurement, scores=scores), split, minimum_ppm=1)
    if known:
        alike = [place for place in range(index.records) if index.clusters[place] == index.clusters[0]]
        before = shares(measurement, index, minimum_ppm=1)
        names_of_it = [*alike, *range(index.records, split.records)]
        had = sum(before.ppm.get(place, 0) for place in alike)
        assert sum(after.ppm.get(place, 0) for place in names_of_it) <= had * 1.02 + names
    assert PPM - after.residual_ppm <= gain_ppm(measurement)


def test_a_record_that_explains_the_output_is_credited_with_what_the_adapter_gained() -> None:
    index: Any = stand([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    assert shares(index.measured(np.asarray([2.0, 0.0, 0.0])), index).ppm == {0: 980_000}


def test_what_is_explained_of_unrelated_outputs_too_is_not_credited() -> None:
    index: Any = stand([[1.0, 0.0], [-1.0, 0.0]])
    explained = 0.6
    found = shares(index.measured(np.asarray([explained**0.5, (1 - explained) ** 0.5])), index)
    assert found.ppm[0] == pytest.approx(980_000 * ((explained - 0.3) / 0.7) ** 2, abs=2)
    assert shares(index.measured(np.asarray([0.5, 1.0])), index).ppm == {}


def test_a_paraphrase_takes_nothing_of_an_output_that_the_original_explains() -> None:
    original, paraphrase = [1.0, 0.0], [0.8, 0.6]
    index: Any = stand([original, paraphrase])
    assert set(shares(index.measured(np.asarray(original)), index).ppm) == {0}


def test_a_longer_gradient_earns_no_more() -> None:
    query = np.asarray([1.0, 1.0, 0.1])
    plain, loud = (stand([[1.0, 0.0, 0.0], [0.0, length, 0.0]]) for length in (1.0, 30.0))
    assert shares(plain.measured(query), plain).ppm == shares(loud.measured(query), loud).ppm  # type: ignore[arg-type]


def test_pieces_of_a_record_earn_no_more_than_the_whole() -> None:
    whole: Any = stand([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0]])
    pieces: Any = stand([[1.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    query = np.asarray([1.0, 1.1, 0.9])
    assert (
        sum(shares(pieces.measured(query), pieces).ppm.values()) <= 1.02 * shares(whole.measured(query), whole).ppm[0]
    )


def test_only_what_stands_out_from_the_records_noise_and_from_the_querys_takes_part() -> None:
    scores = np.asarray([0.0, 0.1, -0.1, 0.1, -0.1, 0.0, 0.1, -0.1, 5.0])
    assert np.flatnonzero(outstanding(scores, np.zeros(9))).tolist() == [8]
    assert not outstanding(scores, np.full(9, 5.0)).any()
    assert np.flatnonzero(outstanding(scores[-3:], np.zeros(3))).tolist() == [0, 2]


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 8))
def test_parts_are_the_non_negative_least_squares_solution(seed: int, count: int, size: int) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.normal(size=(count, size))
    directions = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    query = generator.normal(size=size)
    cosines = directions @ query / np.linalg.norm(query)
    weights = nonnegative(directions @ directions.T, cosines)
    slope = cosines - directions @ directions.T @ weights
    assert (weights >= 0).all()
    assert slope.max() < 1e-5
    assert np.abs(slope[weights > 0]).max(initial=0) < 1e-5
    parts = composition(cosines, directions)
    assert (parts >= 0).all()
    assert parts.sum() <= PPM + count


def test_no_gain_or_no_gradient_leaves_everything_with_the_base_model() -> None:
    index: Any = stand([[1.0]])
    strong = Measurement(np.ones(1, np.float32), 1.0, 10.0, 1.0)
    assert shares(strong, index).ppm[0] > PPM // 2
    for quiet in (replace(strong, adapted_loss=10.0), replace(strong, base_loss=0.0), replace(strong, norm=0.0)):
        assert shares(quiet, index).residual_ppm == PPM


@pytest.mark.parametrize("change", [{"scores": np.ones(2, np.float32)}, {"norm": float("nan")}, {"base_loss": np.inf}])
def test_a_measurement_that_does_not_fit_is_refused(change: dict[str, Any]) -> None:
    index: Any = stand([[1.0]])
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
