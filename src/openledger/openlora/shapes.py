"""What the decoder and an adapter must agree on: the model's dimensions, and where an adapter's factors stand in its file.

A *site* is a linear layer that an adapter can change (``q`` … ``down``, ``head``); a *group* is the sites that read the same
input and are computed by one multiplication. An adapter of rank r is one flat float32 vector: for each group of each layer
first the stacked down-projections A [sites * r, input], then each site's up-projection B [r, output], already scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

GROUPS: dict[str, tuple[str, ...]] = {
    "attention": ("q", "k", "v"),
    "output": ("o",),
    "gate_up": ("gate", "up"),
    "down": ("down",),
    "head": ("head",),
}
MODULES = {
    "q": "self_attn.q_proj",
    "k": "self_attn.k_proj",
    "v": "self_attn.v_proj",
    "o": "self_attn.o_proj",
    "gate": "mlp.gate_proj",
    "up": "mlp.up_proj",
    "down": "mlp.down_proj",
    "head": "lm_head",
}
SITES = tuple(MODULES)
RANKS = (4, 8, 16, 32, 64, 128, 256)
"""Ranks that factors are padded to, so that adapters of one bucket share one table."""


def bucket(rank: int) -> int:
    """The smallest bucket that holds ``rank``."""
    return next(size for size in RANKS if size >= rank)


@dataclass(frozen=True)
class Dimensions:
    """A decoder's sizes."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    feed_forward: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Dimensions:
        """Those of a transformers configuration of the Llama family."""
        heads = int(config.num_attention_heads)
        return cls(
            layers=int(config.num_hidden_layers),
            hidden=int(config.hidden_size),
            heads=heads,
            kv_heads=int(config.num_key_value_heads),
            head_size=int(getattr(config, "head_dim", None) or config.hidden_size // heads),
            feed_forward=int(config.intermediate_size),
            vocabulary=int(config.vocab_size),
        )

    def site(self, name: str) -> tuple[int, int]:
        """(input, output) features of a site."""
        inner, kv = self.heads * self.head_size, self.kv_heads * self.head_size
        return {
            "q": (self.hidden, inner),
            "k": (self.hidden, kv),
            "v": (self.hidden, kv),
            "o": (inner, self.hidden),
            "gate": (self.hidden, self.feed_forward),
            "up": (self.hidden, self.feed_forward),
            "down": (self.feed_forward, self.hidden),
            "head": (self.hidden, self.vocabulary),
        }[name]

    @property
    def kv_floats(self) -> int:
        """Floats that one token's keys and values take over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_size


@dataclass(frozen=True)
class Up:
    """One site's up-projection: B [rank, output] at ``offset``, added to output columns ``start:end`` of its group."""

    site: str
    part: int
    offset: int
    start: int
    end: int


@dataclass(frozen=True)
class Block:
    """One group of one layer: A [len(ups) * rank, inputs] at ``offset``, then the up-projections."""

    offset: int
    inputs: int
    ups: tuple[Up, ...]

    @cached_property
    def columns(self) -> Any:
        """[ups, 3]: each one's offset, start and end."""
        return np.array([(up.offset, up.start, up.end) for up in self.ups], dtype=np.int64)


@dataclass(frozen=True)
class Layout:
    """Where the factors of an adapter with this rank bucket and these sites stand in its flat vector."""

    dimensions: Dimensions
    rank: int
    sites: tuple[str, ...]

    @cached_property
    def blocks(self) -> dict[tuple[int, str], Block]:
        """By (layer, group); the head's layer is the number of layers."""
        return {key: block for key, block, _ in self._laid()}

    @cached_property
    def size(self) -> int:
        """Floats in all."""
        end = 0
        for _, _, after in self._laid():
            end = after
        return end

    def places(self) -> Iterator[tuple[int, str, Block, Up]]:
        """Every (layer, site) with its block and up-projection."""
        for (layer, _), block in self.blocks.items():
            for up in block.ups:
                yield layer, up.site, block, up

    def _laid(self) -> Iterator[tuple[tuple[int, str], Block, int]]:
        at = 0
        for layer in range(self.dimensions.layers + 1):
            for group, members in GROUPS.items():
                if (group == "head") != (layer == self.dimensions.layers):
                    continue
                used = [site for site in members if site in self.sites]
                if not used:
                    continue
                inputs = self.dimensions.site(used[0])[0]
                offset, at = at, at + len(used) * self.rank * inputs
                ups: list[Up] = []
                column = 0
                for site in members:
                    width = self.dimensions.site(site)[1]
                    if site in used:
                        ups.append(Up(site, len(ups), at, column, column + width))
                        at += self.rank * width
                    column += width
                yield (layer, group), Block(offset, inputs, tuple(ups)), at
