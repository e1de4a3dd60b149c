"""A recipe: everything that decides how an adapter is trained, in one value with one digest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal

from openledger.primitives.canonical import canonical_bytes
from openledger.primitives.errors import InputError
from openledger.primitives.hashing import keccak

ALL_LINEAR = "all-linear"
FEED_FORWARD = "feed-forward"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to fine-tune. The defaults are tuned for a few hundred short records on two CPU cores.

    Attributes:
        base: how the base model is named to people: "openledger-base", a folder's name or a hub id. What
            binds a run to its base is the digest in ``run.json``.
        method: "lora", or "qlora" (4-bit base weights; needs a CUDA GPU and bitsandbytes).
        rank: rank of each weight change.
        alpha: LoRA scaling; a change is multiplied by ``alpha / rank``.
        target_modules: "feed-forward" (the linear layers between the attention layers, where facts are kept),
            "all-linear", or the names of the linear layers to adapt.
        upper_layers: share of the model's layers that is adapted, counted from the output; 1 adapts all. What is
            below the lowest of them needs no gradients.
        epochs: passes over the records.
        optimiser: "soap" (see ``optimiser.py``) or "adamw".
        learning_rate: peak of the optimiser's rate.
        b_rate_factor: how many times the rate is higher for the B matrices (LoRA+; Hayou et al., 2024).
        schedule: "linear", "cosine" or "constant", each after the warm-up.
        warmup: share of the steps over which the rate rises from zero.
        batch_size: records per step.
        weight_decay: share of each weight taken away per step, times the rate (decoupled).
        max_gradient_norm: gradients are scaled down to this norm.
        seed: decides the initial adapter, the order of records and the held-out records.
        max_length: longest record in tokens, prompt and answer together; a longer one is refused.
        holdout: share of the records that is never trained on.
        checkpoints: where adapters are kept for attribution, as shares of all steps, rising, the last one 1.
        precision: "float32", or "bfloat16" for autocast in the forward pass: faster on processors with matrix units
            for it (AMX) and on GPUs, half as fast on others.
        shards: parts of a batch that are computed at the same time, each by one CPU thread, and summed in order:
            part of the recipe so that the bits do not depend on how many cores a machine has.
    """

    base: str = "openledger-base"
    method: Literal["lora", "qlora"] = "lora"
    rank: int = 128
    alpha: int = 256
    target_modules: str | tuple[str, ...] = FEED_FORWARD
    upper_layers: float = 0.5
    epochs: int = 10
    optimiser: Literal["soap", "adamw"] = "soap"
    learning_rate: float = 4e-3
    b_rate_factor: float = 4.0
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: float = 0.05
    batch_size: int = 16
    weight_decay: float = 0.0
    max_gradient_norm: float = 1.0
    seed: int = 1
    max_length: int = 512
    holdout: float = 0.05
    checkpoints: tuple[float, ...] = (0.15, 0.4, 1.0)
    precision: Literal["float32", "bfloat16"] = "float32"
    shards: int = 2

    def __post_init__(self) -> None:
        for name, low, high in _WHOLE:
            _whole(name, getattr(self, name), low, high)
        for name, above, most in _REAL:
            _real(name, getattr(self, name), above, most)
        for name, allowed in _CHOICES.items():
            if getattr(self, name) not in allowed:
                raise InputError(f"{name} is {getattr(self, name)!r}: use {' or '.join(allowed)}")
        if not isinstance(self.base, str) or not self.base.strip():
            raise InputError(f"base is {self.base!r}: name the base model")
        targets = self.target_modules
        if isinstance(targets, str):
            if targets not in (ALL_LINEAR, FEED_FORWARD):
                raise InputError(
                    f'target_modules is {targets!r}: use "{FEED_FORWARD}", "{ALL_LINEAR}" or a list of layer names'
                )
        elif not targets or not all(isinstance(name, str) and name for name in targets):
            raise InputError(f'target_modules is {targets!r}: name at least one layer, or use "{FEED_FORWARD}"')
        object.__setattr__(self, "target_modules", targets if isinstance(targets, str) else tuple(sorted(set(targets))))
        shares = tuple(self.checkpoints)
        for share in shares:
            _real("checkpoints", share, 0.0, 1.0)
        if not shares or shares[-1] != 1 or any(a >= b for a, b in pairwise(shares)):
            raise InputError(f"checkpoints is {shares}: give rising shares of the run, the last one 1.0")
        object.__setattr__(self, "checkpoints", tuple(float(share) for share in shares))

    def to_json(self) -> dict[str, Any]:
        """A JSON object with every field."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """The recipe in a JSON object; missing fields get their defaults.

        Raises:
            InputError: an unknown field, or a value out of range.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise InputError(f"{unknown[0]!r} is no field of a recipe: use {', '.join(sorted(known))}")
        given: dict[str, Any] = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items()}
        return cls(**given)

    def digest(self) -> bytes:
        """keccak256 of the recipe's canonical JSON, 32 bytes."""
        return keccak(canonical_bytes(self.to_json()))


_WHOLE = (
    ("rank", 1, 1024),
    ("alpha", 1, 65536),
    ("epochs", 1, 1000),
    ("batch_size", 1, 4096),
    ("seed", 0, 2**32 - 1),
    ("max_length", 8, 1 << 20),
    ("shards", 1, 256),
)
_REAL = (
    ("upper_layers", 0.0, 1.0),
    ("learning_rate", 0.0, 1.0),
    ("b_rate_factor", 0.0, 1024.0),
    ("max_gradient_norm", 0.0, 1e6),
    ("warmup", -1.0, 0.9),
    ("weight_decay", -1.0, 1.0),
    ("holdout", -1.0, 0.9),
)
_CHOICES = {
    "method": ("lora", "qlora"),
    "optimiser": ("soap", "adamw"),
    "schedule": ("linear", "cosine", "constant"),
    "precision": ("float32", "bfloat16"),
}


def _whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InputError(f"{name} is {value!r}: give a whole number from {low} to {high}")


def _real(name: str, value: object, above: float, most: float) -> None:
    zero_allowed = above < 0
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not fits or not (0 if zero_allowed else above) <= float(value) <= most or (value == 0 and not zero_allowed):  # type: ignore[arg-type]
        raise InputError(f"{name} is {value!r}: give a number {'from' if zero_allowed else 'above'} 0 up to {most:g}")
