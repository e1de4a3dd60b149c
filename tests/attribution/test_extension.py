"""An index grows with its Datanet: new records are measured, and of the old ones nothing changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.attribution import InfluenceIndex, build_index, extend_index, shares
from openledger.primitives import InputError, ModelError, StorageError, VerificationError, keccak

HELD = 16


@pytest.fixture(scope="module")
def small(trained: Any) -> InfluenceIndex:
    """An index of the first records of a run that all records took part in."""
    return build_index(trained.base, trained.checkpoints, trained.examples[:HELD], workers=1)


@pytest.fixture(scope="module")
def grown(trained: Any, small: InfluenceIndex) -> InfluenceIndex:
    return extend_index(small, trained.base, trained.examples[:HELD], trained.examples[HELD:])


def test_the_scores_of_the_records_that_were_there_do_not_change(
    trained: Any, small: InfluenceIndex, grown: InfluenceIndex
) -> None:
    queries = [*trained.held_out(3), trained.query(2)]
    before, after = small.measure(trained.base, queries), grown.measure(trained.base, queries)
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(new.scores[:HELD], old.scores)
        assert (new.base_loss, new.adapted_loss) == (old.base_loss, old.adapted_loss)
        assert new.norm > old.norm, "more of the output's gradient is seen"
    assert np.array_equal(grown.floors[:HELD], small.floors)
    assert grown.record_hashes == tuple(example.record_hash for example in trained.examples)
    assert (grown.records, grown.manifest.built, small.manifest.additions) == (24, small.manifest.built, ())


def test_a_new_record_is_the_first_for_its_own_answer_and_is_credited(trained: Any, grown: InfluenceIndex) -> None:
    new = range(HELD, 24)
    measured = grown.measure(trained.base, [trained.query(place) for place in new])
    firsts = [int(one.scores.argmax()) for one in measured]
    assert np.mean([first == place for first, place in zip(firsts, new, strict=True)]) > 0.8
    credited = [shares(one, grown).ranked()[0][0] for one in measured]
    assert np.mean([first == place for first, place in zip(credited, new, strict=True)]) > 0.8


def test_the_same_records_in_the_same_order_give_the_same_digest(
    trained: Any, small: InfluenceIndex, grown: InfluenceIndex
) -> None:
    held, new = trained.examples[:HELD], trained.examples[HELD:]
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = extend_index(small, trained.fresh_base(), held, new)
    finally:
        torch.set_num_threads(threads)
    assert again.digest() == grown.digest()
    assert extend_index(small, trained.base, held, [*new[4:], *new[:4]]).digest() != grown.digest()


def test_an_index_can_be_extended_again(trained: Any, small: InfluenceIndex) -> None:
    half = extend_index(small, trained.base, trained.examples[:HELD], trained.examples[HELD:20])
    whole = extend_index(
        half, trained.base, trained.examples[:20], trained.examples[20:], unrelated=trained.held_out(9)
    )
    assert [records for records, _ in whole.manifest.additions] == [4, 4]
    assert all(0 < components <= 4 for _, components in whole.manifest.additions)
    assert whole.chance != half.chance == small.chance
    before, after = (index.scores(trained.base, [trained.query(21)])[0] for index in (half, whole))
    assert np.array_equal(after[:20], before)
    assert int(after.argmax()) == 21


def test_words_of_an_answer_are_scored_for_new_records_too(trained: Any, grown: InfluenceIndex) -> None:
    query = trained.query(20)
    scores = grown.scores(trained.base, [query])[0]
    split = grown.token_scores(trained.base, query, [20, 3])
    np.testing.assert_allclose(split.sum(axis=0), scores[[20, 3]], rtol=1e-3, atol=1e-3 * abs(scores).max())


def test_a_copy_of_a_record_that_is_held_joins_its_group_and_earns_nothing(trained: Any, small: InfluenceIndex) -> None:
    copy = replace(trained.examples[3], record_hash=keccak(b"copy"), seniority=99)
    index = extend_index(small, trained.base, trained.examples[:HELD], [copy])
    assert index.clusters[HELD] == index.clusters[3]
    measured = index.measure(trained.base, [trained.query(3)])[0]
    found = shares(measured, index).ppm
    assert found[3] > 0
    assert HELD not in found


def test_an_extended_index_is_written_whole_and_read_back(
    trained: Any, small: InfluenceIndex, grown: InfluenceIndex, tmp_path: Path
) -> None:
    held, new = trained.examples[:HELD], trained.examples[HELD:]
    extend_index(small, trained.base, held, new, tmp_path / "index", adapter=trained.adapter)
    assert InfluenceIndex.load(tmp_path / "index", grown.digest()).records == 24
    with pytest.raises(StorageError, match="never overwritten"):
        extend_index(small, trained.base, held, new, tmp_path / "index")


@pytest.mark.parametrize("additions", [((24, 1),), ((0, 1),), ((1, -1),), ((1, 99),)])
def test_an_index_that_states_additions_it_cannot_have_is_refused(
    grown: InfluenceIndex, additions: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(StorageError, match="says that"):
        InfluenceIndex(replace(grown.manifest, additions=additions), grown._tensors)


def test_what_cannot_be_added_is_refused_in_words(trained: Any, small: InfluenceIndex, tmp_path: Path) -> None:
    held, new = trained.examples[:HELD], trained.examples[HELD:]
    with pytest.raises(ModelError, match="belongs to the base model"):
        extend_index(small, trained.fresh_base(seed=7), held, new)
    with pytest.raises(VerificationError, match="not the one"):
        extend_index(small, trained.base, held, new, adapter=trained.checkpoints[0].path)
    for before, after, words in (
        (held, [], "0 records to add"),
        (held[:-1], new, "the 15 records given as held are not the 16"),
        (list(reversed(held)), new, "in its order"),
        (held, [held[2]], "is in the index already"),
        (held, [replace(new[0], weight=-1.0)], "weight -1.0"),
        (held, [replace(new[0], token_ids=(5,) * 60)], "context of 48"),
    ):
        with pytest.raises(InputError, match=words):
            extend_index(small, trained.base, before, after, tmp_path / "none")
    with pytest.raises(InputError, match="3 cluster numbers for 24 records"):
        extend_index(small, trained.base, held, new, clusters=[1, 2, 3])
    assert not (tmp_path / "none").exists()


def test_codes_and_projection_are_kept_bit_for_bit(small: InfluenceIndex, grown: InfluenceIndex) -> None:
    components = small.manifest.components
    assert torch.equal(grown._tensors["codes.values"][:HELD, :components], small._tensors["codes.values"])
    assert not grown._tensors["codes.values"][:HELD, components:].any()
    assert torch.equal(grown._tensors["codes.scales"][:HELD], small._tensors["codes.scales"])
    assert torch.equal(grown._tensors["projection.bits"][:components], small._tensors["projection.bits"])
