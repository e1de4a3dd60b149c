"""SOAP finds the low valleys that AdamW is slow to find, and does so the same way each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from openledger.modelfactory.optimiser import Soap


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Two threads of one arithmetic thread each."""
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        yield threads


def _valley(seed: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """A quadratic over [8, 24] matrices whose axes are turned, and a thousand times as steep one way as another."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
    steep = torch.logspace(0, -3, 8)[:, None] * torch.logspace(0, -3, 24)
    goal = torch.randn(8, 24, generator=generator)
    return lambda at: (steep * (left @ (at - goal) @ right).square()).sum()


def _descend(pool: ThreadPoolExecutor, seeds: list[int], steps: int = 150) -> list[float]:
    valleys = [_valley(seed) for seed in seeds]
    places = [torch.nn.Parameter(torch.zeros(8, 24)) for _ in seeds]
    soap = Soap([(places, 1.0)])
    for step in range(steps):
        for place, valley in zip(places, valleys, strict=True):
            (place.grad,) = torch.autograd.grad(valley(place), place)
        soap.step(0.05 * (1 - step / steps), pool)
    return [float(valley(place).detach()) for place, valley in zip(places, valleys, strict=True)]


def test_it_gets_further_than_adamw_where_the_axes_are_turned(pool: ThreadPoolExecutor) -> None:
    for seed in (1, 2, 3):
        valley = _valley(seed)
        place = torch.nn.Parameter(torch.zeros(8, 24))
        adamw = torch.optim.AdamW([place], weight_decay=0.0, betas=(0.9, 0.95))
        for step in range(150):
            adamw.param_groups[0]["lr"] = 0.05 * (1 - step / 150)
            (place.grad,) = torch.autograd.grad(valley(place), place)
            adamw.step()
        assert _descend(pool, [seed])[0] < 0.8 * float(valley(place).detach())


def test_it_moves_the_same_way_each_time(pool: ThreadPoolExecutor) -> None:
    assert _descend(pool, [4, 5, 6]) == _descend(pool, [4, 5, 6])


def test_a_matrix_does_not_feel_its_neighbours(pool: ThreadPoolExecutor) -> None:
    together = _descend(pool, list(range(11)), steps=40)
    alone = [_descend(pool, [seed], steps=40)[0] for seed in range(11)]
    assert together == pytest.approx(alone, rel=1e-2)


def test_a_long_side_keeps_its_own_basis(pool: ThreadPoolExecutor) -> None:
    place = torch.nn.Parameter(torch.ones(4, 40))
    soap = Soap([([place], 1.0)], longest=16)
    for _ in range(60):
        place.grad = place.detach() * 2
        soap.step(0.03, pool)
    assert float(place.detach().abs().max()) < 0.2
