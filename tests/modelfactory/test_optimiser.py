"""SOAP does not mind which way the axes of a problem are turned, and moves the same way each time."""

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


def _valley(seed: int, turned: bool = True) -> Callable[[torch.Tensor], torch.Tensor]:
    """A quadratic over [8, 24] matrices, up to a million times as steep one way as another; its axes may be turned."""
    generator = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(8, 8, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(24, 24, generator=generator))[0]
    steep = torch.logspace(0, -3, 8)[:, None] * torch.logspace(0, -3, 24)
    goal = torch.randn(8, 24, generator=generator)
    return lambda at: (steep * ((left @ at @ right if turned else at) - goal).square()).sum()


def _descend(
    pool: ThreadPoolExecutor, valleys: list[Callable[[torch.Tensor], torch.Tensor]], steps: int = 150
) -> list[float]:
    places = [torch.nn.Parameter(torch.zeros(8, 24)) for _ in valleys]
    soap = Soap([(places, 1.0)])
    for step in range(steps):
        for place, valley in zip(places, valleys, strict=True):
            (place.grad,) = torch.autograd.grad(valley(place), place)
        soap.step(0.05 * (1 - step / steps), pool)
    return [float(valley(place.detach())) for place, valley in zip(places, valleys, strict=True)]


def _descend_with_adamw(valley: Callable[[torch.Tensor], torch.Tensor]) -> float:
    place = torch.nn.Parameter(torch.zeros(8, 24))
    adamw = torch.optim.AdamW([place], weight_decay=0.0, betas=(0.9, 0.95))
    for step in range(150):
        adamw.param_groups[0]["lr"] = 0.05 * (1 - step / 150)
        (place.grad,) = torch.autograd.grad(valley(place), place)
        adamw.step()
    return float(valley(place.detach()))


def test_turning_the_axes_does_not_slow_it_down_as_it_does_adamw(pool: ThreadPoolExecutor) -> None:
    for seed in range(1, 7):
        plain, turned = _descend(pool, [_valley(seed, turned=False), _valley(seed)])
        assert turned < 4 * plain
        assert _descend_with_adamw(_valley(seed)) > 3 * _descend_with_adamw(_valley(seed, turned=False))


def test_it_descends(pool: ThreadPoolExecutor) -> None:
    for seed in range(1, 7):
        before = float(_valley(seed)(torch.zeros(8, 24)))
        assert _descend(pool, [_valley(seed)])[0] < before / 25


def test_it_moves_the_same_way_each_time(pool: ThreadPoolExecutor) -> None:
    valleys = [_valley(seed) for seed in (4, 5, 6)]
    assert _descend(pool, valleys) == _descend(pool, valleys)


def test_a_matrix_does_not_feel_its_neighbours(pool: ThreadPoolExecutor) -> None:
    valleys = [_valley(seed) for seed in range(11)]
    together = _descend(pool, valleys, steps=40)
    alone = [_descend(pool, [valley], steps=40)[0] for valley in valleys]
    assert together == pytest.approx(alone, rel=1e-2)


def test_a_long_side_keeps_its_own_basis(pool: ThreadPoolExecutor) -> None:
    place = torch.nn.Parameter(torch.ones(4, 40))
    soap = Soap([([place], 1.0)], betas=(0.9, 0.95), longest=16)
    for _ in range(60):
        place.grad = place.detach() * 2
        soap.step(0.03, pool)
    assert float(place.detach().abs().max()) < 0.2
