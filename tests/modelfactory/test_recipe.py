"""A recipe says everything about a fine-tune, refuses nonsense, and has one digest."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.modelfactory import Recipe
from openledger.primitives.errors import InputError

CHANGED = {
    "base": "another",
    "method": "qlora",
    "rank": 3,
    "alpha": 7,
    "target_modules": ("q_proj",),
    "upper_layers": 0.75,
    "epochs": 3,
    "learning_rate": 0.5,
    "b_rate_factor": 3.5,
    "optimiser": "adamw",
    "schedule": "constant",
    "warmup": 0.3,
    "batch_size": 5,
    "weight_decay": 0.125,
    "max_gradient_norm": 0.5,
    "seed": 99,
    "max_length": 64,
    "holdout": 0.25,
    "checkpoints": (0.5, 1.0),
    "shards": 3,
}


@given(
    rank=st.integers(1, 1024),
    rate=st.floats(1e-9, 1.0, exclude_min=True),
    shares=st.lists(st.floats(0.001, 0.999), unique=True, max_size=5),
    targets=st.one_of(st.just("all-linear"), st.lists(st.text("abc_", min_size=1), min_size=1, max_size=4)),
)
def test_a_recipe_survives_json(rank: int, rate: float, shares: list[float], targets: str | list[str]) -> None:
    recipe = Recipe(
        rank=rank,
        learning_rate=rate,
        checkpoints=(*sorted(shares), 1.0),
        target_modules=targets if isinstance(targets, str) else tuple(targets),
    )
    again = Recipe.from_json(recipe.to_json())
    assert again == recipe
    assert again.digest() == recipe.digest()


def test_every_field_counts_in_the_digest() -> None:
    plain = Recipe()
    changed = CHANGED | {"precision": "bfloat16" if plain.precision == "float32" else "float32"}
    assert set(changed) == {field.name for field in fields(Recipe)}
    digests = {replace(plain, **{name: value}).digest() for name, value in changed.items()}
    assert len(digests | {plain.digest()}) == len(changed) + 1


def test_the_order_of_layer_names_does_not_matter() -> None:
    assert Recipe(target_modules=("v_proj", "q_proj")) == Recipe(target_modules=("q_proj", "v_proj"))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("rank", 0),
        ("rank", 2.5),
        ("rank", True),
        ("alpha", 0),
        ("epochs", 0),
        ("epochs", "3"),
        ("batch_size", -1),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("learning_rate", "fast"),
        ("warmup", -0.1),
        ("holdout", 1.0),
        ("seed", -1),
        ("shards", 0),
        ("method", "full"),
        ("schedule", "step"),
        ("optimiser", "sgd"),
        ("precision", "float16"),
        ("base", " "),
        ("target_modules", "some"),
        ("upper_layers", 0.0),
        ("upper_layers", 1.5),
        ("target_modules", ()),
        ("target_modules", ("",)),
        ("checkpoints", ()),
        ("checkpoints", (0.5,)),
        ("checkpoints", (0.5, 0.2, 1.0)),
        ("checkpoints", (0.0, 1.0)),
    ],
)
def test_a_value_that_makes_no_sense_is_named(field: str, value: Any) -> None:
    with pytest.raises(InputError, match=field):
        Recipe(**{field: value})


def test_an_unknown_field_is_named() -> None:
    with pytest.raises(InputError, match="'rnak' is no field of a recipe"):
        Recipe.from_json({"rnak": 8})
