"""Products with a base's weights are right, and a row's bits are its own, whatever the sizes, the precision and the company."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.openlora.decoder import Decoder
from openledger.openlora.product_kernel import COLUMNS, ROWS, multiply, pack, unpacked
from openledger.openlora.shapes import DTYPES
from openledger.openlora.team import Team
from openledger.openlora.weights import Weights
from tests.openlora.models import random_base

NOTHING = np.empty((0, 2), dtype=np.int64)
NONE = torch.empty(0)


def panels(*weights: torch.Tensor) -> torch.Tensor:
    """Panels of weights [inputs, outputs] beside each other."""
    outputs = sum(weight.shape[1] for weight in weights)
    held = torch.zeros(-(-outputs // COLUMNS), len(weights[0]), COLUMNS, dtype=weights[0].dtype)
    start = 0
    for weight in weights:
        pack(held, start, weight.t())
        start += weight.shape[1]
    return held


def product(
    x: torch.Tensor,
    weight: torch.Tensor,
    precision: Any,
    reads: Any = NOTHING,
    affine: tuple[torch.Tensor, torch.Tensor] = (NONE, NONE),
    parts: int = 1,
) -> torch.Tensor:
    held, out = panels(weight), torch.full((len(x), weight.shape[1]), float("nan"))
    place = (held.data_ptr(), *(one.data_ptr() if len(one) else 0 for one in affine))
    for part in range(parts):
        some = (len(held) * part // parts, len(held) * (part + 1) // parts)
        multiply(x.numpy(), place, precision, reads, out.numpy(), *some)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4 * ROWS + 1),
    st.integers(1, 90),
    st.integers(1, 100),
    st.sampled_from(tuple(DTYPES)),
    st.integers(0, 99),
)
def test_products_are_right_and_a_row_has_the_same_bits_alone_and_in_company(
    rows: int, inputs: int, outputs: int, precision: Any, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, inputs, generator=generator)
    weight = (20 * torch.randn(inputs, outputs, generator=generator)).round().clamp(-127, 127).to(DTYPES[precision])
    found = product(x, weight, precision)
    assert torch.allclose(found.double(), x.double() @ weight.double(), rtol=1e-5, atol=1e-3)
    for row in range(rows):
        assert torch.equal(product(x[row : row + 1].clone(), weight, precision)[0], found[row])


def test_a_sum_is_one_chain_in_the_order_of_the_inputs() -> None:
    x, weight = torch.randn(ROWS + 2, 67), torch.randn(67, 40)
    chain = np.zeros((ROWS + 2, 40), dtype=np.float32)
    for number in range(67):
        # In float64 the product of two float32 is exact, and so is the sum but in rare cases of double rounding.
        exact = np.multiply.outer(x[:, number].double().numpy(), weight[number].double().numpy())
        chain = (exact + chain).astype(np.float32)
    assert np.array_equal(product(x, weight, "float32").numpy(), chain)


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 1 << 20)), max_size=40), st.integers(1, 13))
def test_what_is_asked_for_changes_nothing(places: list[tuple[int, int]], rows: int) -> None:
    x, weight, other = torch.randn(rows, 24), torch.randn(24, 50), torch.zeros(1 << 18)
    reads = np.array([(other.data_ptr() + start, size) for start, size in places], dtype=np.int64).reshape(-1, 2)
    assert torch.equal(product(x, weight, "float32", reads), product(x, weight, "float32"))


@given(st.integers(1, 20), st.integers(1, 200), st.data())
def test_panels_hold_the_weights(inputs: int, outputs: int, data: st.DataObject) -> None:
    weight = torch.arange(inputs * outputs, dtype=torch.float32).view(inputs, outputs)
    start = data.draw(st.integers(0, outputs - 1))
    end = data.draw(st.integers(start + 1, outputs))
    widths = data.draw(st.lists(st.integers(1, 70), max_size=5))
    first = (
        torch.tensor([*widths, outputs]).cumsum(0).clamp(max=outputs).diff(prepend=torch.zeros(1, dtype=torch.int64))
    )
    held = panels(*weight.split(first.tolist(), dim=1))
    assert torch.equal(unpacked(held, start, end), weight[:, start:end])
    assert held.sum() == weight.sum()


def test_no_rows_are_no_work() -> None:
    assert product(torch.empty(0, 8), torch.randn(8, 20), "float32").shape == (0, 20)


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_products_are_scaled_and_then_moved_by_the_bias(parts: int) -> None:
    x, weight, scales, bias = torch.randn(ROWS + 2, 9), torch.randn(9, 75), torch.rand(75), torch.randn(75)
    plain = product(x, weight, "float32")
    for affine, right in (
        ((scales, NONE), plain * scales),
        ((NONE, bias), plain + bias),
        ((scales, bias), plain * scales + bias),
    ):
        assert torch.equal(product(x, weight, "float32", affine=affine, parts=parts), right)


@pytest.mark.parametrize("name", ["llama", "llama with biases"])
def test_weights_that_bfloat16_holds_are_kept_in_it_and_give_the_same_bits(name: str) -> None:
    base = random_base(name)
    for one in base.model.parameters():
        one.data = one.data.bfloat16().float()
    linear = base.model.model.layers[1].mlp.down_proj
    x = torch.randn(5, linear.in_features)
    short, exact = torch.empty(5, linear.out_features), torch.empty(5, linear.out_features)
    weights = Weights(base.model, "float32", Team(1))
    assert weights.precision == "bfloat16"
    weights.across(linear).times(x, short)
    assert torch.equal(Decoder(base.model).linear(1, "down")[0], linear.weight)
    linear.weight[0, 0] += 1e-3
    weights = Weights(base.model, "float32", Team(1))
    assert weights.precision == "float32"
    linear.weight[0, 0] -= 1e-3
    linear.weight.data = linear.weight.bfloat16().float()
    weights.across(linear).times(x, exact)
    assert torch.equal(short, exact)
