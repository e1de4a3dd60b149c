"""Keys, values and adapters in memory stay within their budgets, whatever comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.openlora.adapters import AdapterStore, Change, Factors, StoredAdapter
from openledger.openlora.caches import Caches
from openledger.openlora.memory import floats
from openledger.openlora.residents import Resident, ResidentAdapters
from openledger.openlora.shapes import Dimensions
from openledger.primitives import InputError, ModelError

SIZE = Dimensions(layers=1, hidden=16, heads=2, kv_heads=1, head_size=8, feed_forward=24, vocabulary=64)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells how memory is mapped")
def test_memory_that_is_read_at_every_turn_may_be_in_huge_pages() -> None:
    memory = floats(4 << 20).fill_(1)
    inside = False
    told: dict[str, list[str]] = {}
    address = memory.data_ptr()
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if "-" in name and not name.endswith(":"):
            first, last = (int(one, 16) for one in name.split("-"))
            inside = first <= address < last
            name = "mapping:"
        if inside:
            told[name] = rest
    assert told["mapping:"][0] == "rw-p"
    assert "hg" in told["VmFlags:"]


@settings(deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 500)), max_size=60))
def test_caches_never_hold_more_than_their_budget_and_serve_whatever_fits(steps: list[tuple[bool, int]]) -> None:
    caches = Caches(lambda length: torch.empty(1, 2, 1, length, 2), 16, 16 * 1000, 500)
    taken: list[torch.Tensor] = []
    for take, number in steps:
        if take or not taken:
            cache = caches.take(number)
            if cache is None:
                assert caches.used + 16 * (number + 64) > 16 * 1000
            else:
                assert cache.shape[3] >= number
                taken.append(cache)
        else:
            caches.give(taken.pop(number % len(taken)))
        assert caches.used == sum(16 * cache.shape[3] for cache in taken)
        assert caches.held <= 16 * 1000
        assert len({cache.data_ptr() for cache in taken}) == len(taken)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> list[StoredAdapter]:
    store = AdapterStore(tmp_path_factory.mktemp("store"), SIZE, "0x")
    return [store.put(factors(seed, 4 if seed < 6 else 8)) for seed in range(8)]


def factors(seed: int, rank: int) -> Factors:
    generator = torch.Generator().manual_seed(seed)
    return {(0, "o"): Change(torch.randn(rank, 16, generator=generator), torch.randn(16, rank, generator=generator))}


@settings(deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=60))
def test_residents_keep_what_is_used_and_stay_in_their_budget(
    stored: list[StoredAdapter], steps: list[tuple[bool, int]]
) -> None:
    entry = 4 * stored[7].layout.size
    residents, taken = ResidentAdapters(3 * entry, entry), []
    for take, number in steps:
        if take or not taken:
            resident = residents.take(stored[number])
            if resident is not None:
                taken.append((number, resident))
        else:
            residents.give(taken.pop(number % len(taken))[1])
        assert residents.size <= 3 * entry
        assert all(torch.equal(one.flat, stored[which].open()) for which, one in taken)
        assert len({id(one) for _, one in taken}) == len({which for which, _ in taken})


def test_a_pinned_adapter_stays_and_pins_leave_room_for_others(stored: list[StoredAdapter]) -> None:
    entry = 4 * stored[7].layout.size
    residents = ResidentAdapters(3 * entry, entry)
    residents.pin(stored[6])
    pinned = residents.take(stored[6])
    for one in stored[:6]:
        used = residents.take(one)
        assert isinstance(used, Resident)
        residents.give(used)
    assert residents.take(stored[6]) is pinned
    residents.pin(stored[7])
    with pytest.raises(InputError, match="unpin one"):
        residents.pin(stored[0])
    residents.unpin(stored[7].digest)
    residents.pin(stored[0])


def test_a_file_that_was_cut_is_told(stored: list[StoredAdapter]) -> None:
    one = stored[5]
    one.path.write_bytes(one.path.read_bytes()[:-8])
    with pytest.raises(ModelError, match="was cut"):
        ResidentAdapters(1 << 20, 1 << 20).take(one)
