"""The compiled loop over adapters computes what the factors say, whatever their sizes, precision and company."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.openlora.adapters import Change, Factors, pack, unpack
from openledger.openlora.residents import Deltas, Resident
from openledger.openlora.shapes import DTYPES, GROUPS, SITES, Dimensions, Layout, tiled, untiled
from openledger.openlora.team import Team

ALONE = Team(1)

SIZES = st.builds(
    Dimensions,
    layers=st.just(1),
    hidden=st.sampled_from((16, 24, 40, 64, 200)),
    heads=st.sampled_from((2, 4)),
    kv_heads=st.just(2),
    head_size=st.sampled_from((4, 10, 32)),
    feed_forward=st.sampled_from((4, 33, 96, 130)),
    vocabulary=st.just(8),
)


def factors(size: Dimensions, rank: int, seed: int, *, affine: bool) -> Factors:
    generator = torch.Generator().manual_seed(seed)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    found: Factors = {}
    for site in SITES[:-1]:
        inputs, outputs = size.site(site)
        more = (1 + numbers(outputs), numbers(outputs)) if affine and site in ("k", "down") else (None, None)
        found[0, site] = Change(numbers(rank, inputs), numbers(outputs, rank), *more)
    return found


def resident(made: Factors, size: Dimensions, precision: Any, *, affine: bool) -> Resident:
    rank = 4 * -(-len(made[0, "q"].a) // 4)
    layout = Layout(size, rank, SITES[:-1], ("k", "down") if affine else (), precision)
    return Resident(b"", layout, pack(made, layout))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 12), st.booleans(), st.sampled_from(tuple(DTYPES)))
def test_rows_are_changed_as_the_factors_say_and_alike_alone_and_in_company(
    size: Dimensions, rank: int, affine: bool, precision: Any
) -> None:
    adapters = [resident(factors(size, rank, seed, affine=affine), size, precision, affine=affine) for seed in (1, 2)]
    used = [(adapters[0], 0, 2), (adapters[1], 3, 4)]
    for group in ("attention", "output", "gate_up", "down"):
        sites = GROUPS[group]
        x, width = torch.randn(5, size.site(sites[0])[0]), sum(size.site(site)[1] for site in sites)
        y = torch.randn(5, width)
        found = y.clone()
        Deltas(used).add(0, group, x, found, ALONE)
        right = y.double()
        for adapter, first, last in used:
            kept, column = unpack(adapter.flat, adapter.layout), 0
            for site in sites:
                change, end = kept[0, site], column + size.site(site)[1]
                part = right[first:last, column:end]
                if change.gain is not None and change.shift is not None:
                    part.mul_(change.gain.double()).add_(change.shift.double())
                part += x[first:last].double() @ change.a.double().t() @ change.b.double().t()
                column = end
        assert torch.allclose(found.double(), right, rtol=1e-5, atol=1e-4)
        assert torch.equal(found[[2, 4]], y[[2, 4]])
        for row, adapter in ((0, adapters[0]), (1, adapters[0]), (3, adapters[1])):
            alone = y[row : row + 1].clone()
            Deltas([(adapter, 0, 1)]).add(0, group, x[row : row + 1].contiguous(), alone, ALONE)
            assert torch.equal(alone[0], found[row])


@given(st.integers(1, 5), st.integers(1, 200), st.sampled_from((torch.float32, torch.bfloat16, torch.int8)))
def test_a_factor_in_tiles_holds_the_same_numbers(fours: int, count: int, kind: torch.dtype) -> None:
    rows = torch.arange(4 * fours * count, dtype=torch.int64).remainder(127).to(kind).view(4 * fours, count)
    flat = tiled(rows)
    assert torch.equal(untiled(flat, 4 * fours), rows)
    lane = 64 // rows.element_size()
    if count >= lane:
        assert torch.equal(flat[:lane], rows[0, :lane])
        assert torch.equal(flat[lane : 2 * lane], rows[1, :lane])


def test_what_is_not_changed_keeps_its_bits() -> None:
    size = Dimensions(layers=1, hidden=64, heads=2, kv_heads=2, head_size=32, feed_forward=96, vocabulary=8)
    only = {key: change for key, change in factors(size, 4, 1, affine=False).items() if key[1] == "v"}
    layout = Layout(size, 4, ("v",))
    y = torch.randn(3, 3 * 64)
    found = y.clone()
    used = [(Resident(b"", layout, pack(only, layout)), 1, 2)]
    Deltas(used).add(0, "attention", torch.randn(3, 64), found, ALONE)
    assert torch.equal(found[:, :128], y[:, :128])
    assert torch.equal(found[[0, 2]], y[[0, 2]])
    assert not torch.equal(found[1, 128:], y[1, 128:])


def test_adapters_of_several_layouts_change_a_turn_together() -> None:
    size = Dimensions(layers=1, hidden=64, heads=2, kv_heads=2, head_size=32, feed_forward=96, vocabulary=8)
    adapters = [
        resident(factors(size, rank, rank, affine=affine), size, precision, affine=affine)
        for rank, precision, affine in (
            (3, "float32", True),
            (8, "bfloat16", False),
            (6, "int8", False),
            (4, "float32", False),
        )
    ]
    used = [(adapter, 2 * number, 2 * number + 2) for number, adapter in enumerate(adapters)]
    for group in ("attention", "output", "gate_up", "down"):
        sites = GROUPS[group]
        x = torch.randn(9, size.site(sites[0])[0])
        y = torch.randn(9, sum(size.site(site)[1] for site in sites))
        together, apart = y.clone(), y.clone()
        Deltas(used).add(0, group, x, together, ALONE)
        for one in used:
            Deltas([one]).add(0, group, x, apart, ALONE)
        assert torch.equal(together, apart)
        assert torch.equal(together[8], y[8])
        assert not any(torch.equal(together[row], y[row]) for row in range(8))
