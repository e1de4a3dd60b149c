"""What the decoder and an adapter must agree on: the model's dimensions, and where an adapter's factors stand in its file.

A *site* is a linear layer that an adapter can change (``q`` … ``down``, ``head``); a *group* is the sites that read the same
input and are computed by one multiplication. An adapter of rank r is one flat vector of two parts. First float32 numbers that
stand for whole rows: gains and shifts for the outputs of the sites that have them, and the scales of int8 codes. Then the
factors, in float32 or shorter: for each group of each layer the stacked down-projections A [sites * r, input], then each site's
up-projection B [r, output], already scaled. Four ranks of a factor stand tile by tile, :func:`tiled`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch

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


Precision = Literal["float32", "bfloat16", "int8"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
LIKE: dict[Precision, Any] = {
    "float32": np.empty(0, dtype=np.float32),
    "bfloat16": np.empty(0, dtype=np.uint16),
    "int8": np.empty(0, dtype=np.int8),
}
"""Arrays by whose type compiled loops know a precision; bfloat16 is its bits."""


TILE_RANKS = 4
"""Ranks that are multiplied together."""
LINE = 64
"""Bytes of each of them in a tile: a cache line of most processors."""


def tiled(rows: torch.Tensor) -> torch.Tensor:
    """A factor [r, n] in the order in which it is computed with: for each four ranks a line of each, then the next line of each.

    Columns that fill no line follow the tiles, rank by rank.

    Args:
        rows: r is a multiple of four.

    Returns:
        [r * n].
    """
    rank, count = rows.shape
    whole = count - count % (LINE // rows.element_size())
    fours = rows.view(rank // TILE_RANKS, TILE_RANKS, count)
    lines = fours[:, :, :whole].reshape(len(fours), TILE_RANKS, -1, LINE // rows.element_size()).transpose(1, 2)
    return torch.cat((lines.reshape(len(fours), -1), fours[:, :, whole:].reshape(len(fours), -1)), dim=1).view(-1)


def untiled(flat: torch.Tensor, rank: int) -> torch.Tensor:
    """The factor [rank, n] that :func:`tiled` made ``flat`` [rank * n] of."""
    count = len(flat) // rank
    whole = count - count % (LINE // flat.element_size())
    fours = flat.view(rank // TILE_RANKS, TILE_RANKS * count)
    lines = fours[:, : TILE_RANKS * whole].reshape(len(fours), -1, TILE_RANKS, LINE // flat.element_size())
    rest = fours[:, TILE_RANKS * whole :].reshape(len(fours), TILE_RANKS, count - whole)
    return torch.cat((lines.transpose(1, 2).reshape(len(fours), TILE_RANKS, whole), rest), dim=2).view(rank, count)


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
    """One site of a group.

    Attributes:
        site: its name.
        part: its place among the group's sites that are changed.
        offset: where its up-projection B [rank, output] stands among the factors.
        start, end: its output columns in the group.
        affine: where its gains [output] and then its shifts [output] stand in the first part; -1 where it has none.
        scales: where the scales [rank] of its int8 codes do; -1 where there are none.
    """

    site: str
    part: int
    offset: int
    start: int
    end: int
    affine: int
    scales: int


@dataclass(frozen=True)
class Block:
    """One group of one layer: A [len(ups) * rank, inputs] at ``offset`` among the factors, then the up-projections."""

    offset: int
    inputs: int
    ups: tuple[Up, ...]

    @cached_property
    def columns(self) -> Any:
        """[ups, 5]: each one's offset, start, end, affine and scales."""
        return np.array([(up.offset, up.start, up.end, up.affine, up.scales) for up in self.ups], dtype=np.int64)


@dataclass(frozen=True)
class Layout:
    """Where an adapter's numbers stand in its flat vector.

    Attributes:
        dimensions: the base's.
        rank: the bucket.
        sites: those that are changed.
        affine: those among them that have gains and shifts.
        precision: of the factors.
    """

    dimensions: Dimensions
    rank: int
    sites: tuple[str, ...]
    affine: tuple[str, ...] = ()
    precision: Precision = "float32"

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.dimensions, self.rank, self.sites, self.affine, self.precision))

    @cached_property
    def blocks(self) -> dict[tuple[int, str], Block]:
        """By (layer, group); the head's layer is the number of layers."""
        return self._laid[0]

    @cached_property
    def start(self) -> int:
        """Floats before the factors, a multiple of a cache line."""
        return -(-self._laid[1] // 16) * 16

    @cached_property
    def size(self) -> int:
        """Floats in all, or as many bytes: four for each."""
        return self.start + -(-self._laid[2] * DTYPES[self.precision].itemsize // 4)

    @cached_property
    def table(self) -> Any:
        """[layers + 1, groups, 4]: where a block's A stands among the factors or -1, bytes of its factors, the first of
        :attr:`ups` and the one after the last.
        """
        size = DTYPES[self.precision].itemsize
        found = np.full((self.dimensions.layers + 1, len(GROUPS), 4), -1, dtype=np.int64)
        at = 0
        for (layer, group), block in self.blocks.items():
            factors = self.rank * sum(block.inputs + up.end - up.start for up in block.ups)
            found[layer, list(GROUPS).index(group)] = (block.offset, size * factors, at, at + len(block.ups))
            at += len(block.ups)
        return found

    @cached_property
    def ups(self) -> Any:
        """[all sites, 5]: every block's :attr:`Block.columns`, one after the other."""
        return np.concatenate([block.columns for block in self.blocks.values()])

    def places(self) -> Iterator[tuple[int, str, Block, Up]]:
        """Every (layer, site) with its block and up-projection."""
        for (layer, _), block in self.blocks.items():
            for up in block.ups:
                yield layer, up.site, block, up

    @cached_property
    def _laid(self) -> tuple[dict[tuple[int, str], Block], int, int]:
        """(blocks, floats that stand for whole rows, factors)."""
        blocks: dict[tuple[int, str], Block] = {}
        rows = at = 0
        for layer in range(self.dimensions.layers + 1):
            for group, members in GROUPS.items():
                used = [site for site in members if site in self.sites]
                if (group == "head") != (layer == self.dimensions.layers) or not used:
                    continue
                inputs = self.dimensions.site(used[0])[0]
                offset, at = at, at + len(used) * self.rank * inputs
                ups: list[Up] = []
                column = 0
                for site in members:
                    width = self.dimensions.site(site)[1]
                    if site in used:
                        affine = scales = -1
                        if site in self.affine:
                            affine, rows = rows, rows + 2 * width
                        if self.precision == "int8":
                            scales, rows = rows, rows + self.rank
                        ups.append(Up(site, len(ups), at, column, column + width, affine, scales))
                        at += self.rank * width
                    column += width
                blocks[layer, group] = Block(offset, inputs, tuple(ups))
        return blocks, rows, at


@lru_cache(maxsize=1024)
def shared(layout: Layout) -> Layout:
    """The one that stands for all that are equal to it, so that what follows from them is worked out once."""
    return layout
