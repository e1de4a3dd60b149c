"""Products in whole numbers: exact sums, close to the real product, and a row's own whatever it is computed with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from openledger.attribution import integers
from openledger.attribution.integers import product


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 593])
@pytest.mark.parametrize("rows", [1, 3, 70])
def test_a_product_is_the_real_one_up_to_the_rounding_of_the_vector(rows: int, size: int) -> None:
    generator = torch.Generator().manual_seed(rows * 1000 + size)
    matrix = torch.randint(-127, 128, (rows, size), dtype=torch.int8, generator=generator)
    vectors = torch.randn(5, size, generator=generator)
    exact = vectors.double().numpy() @ matrix.double().numpy().T
    bound = vectors.abs().amax(dim=1).numpy() / 8064 / 2 * 127 * size
    assert (np.abs(product(matrix, vectors).numpy() - exact) <= bound[:, None] * 1.001).all()


def test_a_row_has_the_same_bits_alone_and_beside_others() -> None:
    matrix = torch.randint(-127, 128, (40, 300), dtype=torch.int8, generator=torch.Generator().manual_seed(1))
    vectors = torch.randn(9, 300, generator=torch.Generator().manual_seed(2))
    together = product(matrix, vectors)
    assert all(torch.equal(product(matrix, vectors[row : row + 1])[0], together[row]) for row in range(9))


def test_processors_with_and_without_int8_instructions_agree_to_the_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = torch.randint(0, 2, (50, 200_000), dtype=torch.int8, generator=torch.Generator().manual_seed(3))
    matrix, vectors = 2 * signs - 1, torch.rand(4, 200_000, generator=torch.Generator().manual_seed(4))
    matrix[0] = 1  # sums that a float32 of both halves together could not hold
    found = product(matrix, vectors)
    monkeypatch.setattr(integers.torch.cpu, "_is_vnni_supported", lambda: False)
    assert torch.equal(found, product(matrix, vectors))


def test_a_vector_of_zeros_gives_zeros() -> None:
    assert not product(torch.ones(3, 80, dtype=torch.int8), torch.zeros(2, 80)).any()
