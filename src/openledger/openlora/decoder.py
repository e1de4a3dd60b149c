"""The Llama family's decoder: a few large products for all rows of a turn, and compiled loops between them.

A turn runs any number of :class:`Chunk`: one more token of a running request, or a piece of a prompt. Their rows stand below
each other, so that every weight is read once for all of them. Weights are kept as [input, output], which on this path is faster
than torch's own order, and whose products of a few rows or more do not depend on how many rows there are.
:func:`stable_rows` measures from and up to how many, and a turn keeps to it; all else works row by row or on one chunk. So a
request's results are bitwise the same alone and in any batch (float32, one thread). transformers is the oracle in tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from openledger.openlora import kernels
from openledger.openlora.memory import floats
from openledger.openlora.residents import Deltas, Resident
from openledger.openlora.shapes import GROUPS, SITES, Dimensions
from openledger.openlora.team import Team
from openledger.openlora.weights import Kind, Linear, Weights
from openledger.primitives import InputError, ModelError

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
_EXP_COST = 8
"""Multiplications that an exponential takes."""
_STATIC_ROPES = ("default", "linear", "llama3", "yarn")
_ROWS = 256
"""Of one turn, unless more are asked for: weights are read so rarely then that more save nothing."""


@dataclass(frozen=True)
class Chunk:
    """Tokens of one request that follow each other.

    Attributes:
        tokens: at least one.
        start: the first one's position.
        cache: the request's keys and values [layers, 2, kv heads, length, head size]; gets those of these tokens.
        adapter: None for the base.
        wanted: whether the logits after the last token are.
    """

    tokens: tuple[int, ...]
    start: int
    cache: torch.Tensor
    adapter: Resident | None
    wanted: bool = True


@dataclass(frozen=True)
class _Layer:
    norm: Any
    qkv: Linear
    head_norms: Any
    output: Linear
    mlp_norm: Any
    gate_up: Linear
    down: Linear
    window: int

    @property
    def groups(self) -> dict[str, Linear]:
        """By the names of the groups that adapters change."""
        return {"attention": self.qkv, "output": self.output, "gate_up": self.gate_up, "down": self.down}


def unsupported(model: Any) -> str | None:
    """Why our decoders cannot run a transformers model; None if they can."""
    config = model.config
    if config.model_type not in FAMILY:
        return f"its architecture is {config.model_type}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") not in _STATIC_ROPES:
        return f"its rotary embedding is {rope.get('rope_type')}"
    if rope.get("partial_rotary_factor", 1.0) != 1.0:
        return "it rotates only a part of each head"
    if config.hidden_act not in ("silu", "swish"):
        return f"its activation is {config.hidden_act}"
    return None


class Decoder:
    """A base model's weights, ready to run.

    Args:
        model: a transformers causal language model of the family.
        most_rows: tokens that one turn must be able to have.
        weights: how they are held.
        threads: that share a turn's work; their number changes no bit.

    Attributes:
        dimensions: its sizes.
        context: most positions.
        rows: the most that a turn can have.
        token_bytes: of one position's keys and values.
        cache_step: positions in which a cache is measured out.

    Raises:
        ModelError: the architecture is another, or the weights are not float32 on a CPU.
    """

    def __init__(self, model: Any, *, most_rows: int = 64, weights: Kind = "float32", threads: int = 1) -> None:
        why, weight = unsupported(model), next(model.parameters())
        if why is None and (weight.device.type != "cpu" or weight.dtype != torch.float32):
            why = f"its weights are {weight.dtype} on {weight.device}; the compiled loops are for float32 on a CPU"
        if why is not None:
            raise ModelError(f"this decoder cannot run the model: {why}")
        config, parts = model.config, model.model
        self.dimensions = Dimensions.of(config)
        self.context = int(config.max_position_embeddings)
        self.token_bytes = 4 * self.dimensions.kv_floats
        self.cache_step = 64
        self._epsilon = np.float32(config.rms_norm_eps)
        self._embedding = parts.embed_tokens.weight.detach()
        self._norm = parts.norm.weight.detach().numpy()
        self._team = Team(threads)
        made = Weights(model, weights, self._team)
        with torch.inference_mode():
            self._layers = [_layer(layer, config, made) for layer in parts.layers]
            self._head = made.across(model.lm_head)
            self._cos, self._sin = self._rotation(parts.rotary_emb)
        self.rows = max(most_rows, _ROWS)
        self._rooms: dict[str, torch.Tensor] = {}

    def new_cache(self, length: int) -> torch.Tensor:
        """Room for one request's keys and values: [layers, 2, kv heads, length, head size]."""
        size = self.dimensions
        return floats(length * size.kv_floats).view(size.layers, 2, size.kv_heads, length, size.head_size)

    def close(self) -> None:
        """Ends its threads."""
        self._team.close()

    def forget(self) -> None:
        """Takes caches back that are still referred to: here each has memory of its own, so there is nothing to do."""

    def linear(self, layer: int, site: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [output, input], as this decoder holds them, and the bias, if any, of a site; from any thread."""
        start = 0
        for group, members in GROUPS.items():
            if site in members:
                for other in members[: members.index(site)]:
                    start += self.dimensions.site(other)[1]
                held = self._head if group == "head" else self._layers[layer].groups[group]
                return held.part(start, start + self.dimensions.site(site)[1])
        raise InputError(f"the decoder has no site {site!r}; it has {', '.join(SITES)}")

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> torch.Tensor:
        """One turn.

        Args:
            chunks: of different requests.

        Returns:
            Logits [wanted chunks, vocabulary], in the chunks' order; valid until the next turn.
        """
        size, rows = self.dimensions, _Rows.of(chunks)
        deltas = Deltas(rows.adapters, self._team)
        shape = (size.heads, size.kv_heads)
        masks = {
            (number, window): _mask(rows.positions[first:last], window, size.heads // size.kv_heads)
            for number, (_, first, last) in enumerate(rows.pieces)
            for window in {layer.window for layer in self._layers}
        }
        x, h, y = (self._room(name, len(rows.tokens), size.hidden) for name in ("x", "h", "y"))
        qkv = self._room("qkv", len(rows.tokens), (size.heads + 2 * size.kv_heads) * size.head_size)
        attended = self._room("attended", len(rows.tokens), size.heads * size.head_size)
        gate_up = self._room("gate_up", len(rows.tokens), 2 * size.feed_forward)
        inner = self._room("inner", len(rows.tokens), size.feed_forward)
        heads = qkv.numpy().reshape(len(rows.tokens), -1, size.head_size)
        written = attended.numpy().reshape(len(rows.tokens), -1, size.head_size)
        torch.index_select(self._embedding, 0, torch.tensor(rows.tokens), out=x)
        y.zero_()
        for number, layer in enumerate(self._layers):
            kernels.add_norm(x.numpy(), y.numpy(), layer.norm, self._epsilon, h.numpy())
            layer.qkv.times(h, qkv, deltas.reads(number, "attention"))
            deltas.add(number, "attention", h, qkv)
            kernels.rotate(heads, self._cos, self._sin, rows.positions, layer.head_norms, self._epsilon, shape)
            self._attend_singles(number, layer.window, heads, written, rows)
            self._attend_pieces(
                number, [masks[place, layer.window] for place in range(len(rows.pieces))], qkv, attended, rows
            )
            layer.output.times(attended, y, deltas.reads(number, "output"))
            deltas.add(number, "output", attended, y)
            kernels.add_norm(x.numpy(), y.numpy(), layer.mlp_norm, self._epsilon, h.numpy())
            layer.gate_up.times(h, gate_up, deltas.reads(number, "gate_up"))
            deltas.add(number, "gate_up", h, gate_up)
            self._gate(gate_up.numpy(), inner.numpy())
            layer.down.times(inner, y, deltas.reads(number, "down"))
            deltas.add(number, "down", inner, y)
        kernels.add_norm(x.numpy(), y.numpy(), self._norm, self._epsilon, h.numpy())
        return self._logits(h, rows)

    def _gate(self, y: Any, out: Any) -> None:
        self._team.share(len(y), lambda first, last: kernels.gate(y[first:last], out[first:last]), _EXP_COST * out.size)

    def _attend_singles(self, number: int, window: int, heads: Any, written: Any, rows: _Rows) -> None:
        """Attends for the first rows, each of one request of its own."""
        shape, size = (self.dimensions.heads, self.dimensions.kv_heads), self.dimensions

        def some(first: int, last: int) -> None:
            part = slice(first, last)
            kept = (rows.caches[part], rows.lengths[part], rows.positions[part])
            kernels.attend(heads[part], *kept, number, window, shape, written[part])

        count = len(rows.caches)
        seen = int(rows.positions[:count].sum()) + count
        self._team.share(count, some, 2 * seen * size.heads * size.head_size)

    def _attend_pieces(
        self, number: int, masks: list[torch.Tensor], qkv: torch.Tensor, attended: torch.Tensor, rows: _Rows
    ) -> None:
        """Attends for the pieces of prompts."""
        size = self.dimensions

        def some(first: int, last: int) -> None:
            with torch.inference_mode():
                for mask, (chunk, start, end) in list(zip(masks, rows.pieces, strict=True))[first:last]:
                    attended[start:end] = self._attend(chunk.cache[number], chunk.start, qkv[start:end], mask)

        work = sum(mask.numel() for mask in masks) * size.kv_heads * size.head_size * 2
        self._team.share(len(rows.pieces), some, work)

    def _attend(self, kv: torch.Tensor, start: int, qkv: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Keeps the keys and values of a piece of a prompt, and attends: [tokens, heads * head size]."""
        size, count = self.dimensions, len(qkv)
        end, group = start + count, size.heads // size.kv_heads
        heads = qkv.view(count, -1, size.head_size)
        kv[:, :, start:end] = heads[:, size.heads :].view(count, 2, size.kv_heads, size.head_size).permute(1, 2, 0, 3)
        queries = heads[:, : size.heads].view(count, size.kv_heads, group, size.head_size).permute(1, 2, 0, 3)
        attended = functional.scaled_dot_product_attention(
            queries.reshape(1, size.kv_heads, group * count, size.head_size),
            kv[None, 0, :, :end],
            kv[None, 1, :, :end],
            attn_mask=mask,
        )
        return attended.view(size.heads, count, size.head_size).transpose(0, 1).reshape(count, -1)

    def _logits(self, h: torch.Tensor, rows: _Rows) -> torch.Tensor:
        last = self._room("last", len(rows.wanted), self.dimensions.hidden)
        torch.index_select(h, 0, torch.tensor(rows.wanted, dtype=torch.int64), out=last)
        logits = self._room("logits", len(last), self.dimensions.vocabulary)
        self._head.times(last, logits)
        Deltas(rows.heads, self._team).add(self.dimensions.layers, "head", last, logits)
        return logits

    def _room(self, name: str, rows: int, width: int) -> torch.Tensor:
        """The same memory at every turn: new pages are slow."""
        room = self._rooms.get(name)
        if room is None or len(room) < rows:
            room = self._rooms[name] = torch.zeros(rows, width)
        return room[:rows]

    def _rotation(self, rotary: Any) -> tuple[Any, Any]:
        """Cosines and sines [context, head size], as transformers computes them."""
        cos, sin = rotary(self._embedding, torch.arange(self.context)[None])
        return cos[0].numpy().copy(), sin[0].numpy().copy()


@dataclass(frozen=True)
class _Rows:
    """The rows of a turn: first those of single tokens, which are attended together, then pieces of prompts."""

    tokens: list[int]
    positions: Any
    caches: Any
    lengths: Any
    pieces: list[tuple[Chunk, int, int]]
    adapters: list[tuple[Resident, int, int]]
    wanted: list[int]
    heads: list[tuple[Resident, int, int]]
    """The adapters that change the head, by their places in ``wanted``."""

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> _Rows:
        singles = [chunk for chunk in chunks if len(chunk.tokens) == 1]
        tokens: list[int] = []
        positions: list[int] = []
        pieces, adapters, ends = [], [], {}
        for chunk in (*singles, *(chunk for chunk in chunks if len(chunk.tokens) > 1)):
            first, last = len(tokens), len(tokens) + len(chunk.tokens)
            tokens += chunk.tokens
            positions += range(chunk.start, chunk.start + len(chunk.tokens))
            ends[id(chunk)] = last - 1
            if last - first > 1:
                pieces.append((chunk, first, last))
            if chunk.adapter is not None:
                adapters.append((chunk.adapter, first, last))
        wanted = [chunk for chunk in chunks if chunk.wanted]
        return cls(
            tokens=tokens,
            positions=np.array(positions, dtype=np.int64),
            caches=np.array([chunk.cache.data_ptr() for chunk in singles], dtype=np.int64),
            lengths=np.array([chunk.cache.shape[3] for chunk in singles], dtype=np.int64),
            pieces=pieces,
            adapters=adapters,
            wanted=[ends[id(chunk)] for chunk in wanted],
            heads=[
                (chunk.adapter, place, place + 1)
                for place, chunk in enumerate(wanted)
                if chunk.adapter is not None and "head" in chunk.adapter.layout.sites
            ],
        )


def _layer(layer: Any, config: Any, made: Weights) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    everywhere = config.sliding_window if config.model_type == "mistral" else None
    norms = np.empty((0, int(attention.head_dim)), np.float32)
    if hasattr(attention, "q_norm"):
        norms = torch.stack((attention.q_norm.weight.detach(), attention.k_norm.weight.detach())).numpy()
    return _Layer(
        norm=layer.input_layernorm.weight.detach().numpy(),
        qkv=made.across(attention.q_proj, attention.k_proj, attention.v_proj),
        head_norms=norms,
        output=made.across(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach().numpy(),
        gate_up=made.across(mlp.gate_proj, mlp.up_proj),
        down=made.across(mlp.down_proj),
        window=int(getattr(attention, "sliding_window", everywhere) or 0),
    )


def _mask(positions: Any, window: int, group: int) -> torch.Tensor:
    """[group * positions, keys]: 0 where a position sees a key, minus infinity elsewhere."""
    at = torch.from_numpy(positions)[:, None]
    keys = torch.arange(int(positions[-1]) + 1)
    seen = keys <= at
    if window:
        seen &= keys > at - window
    return torch.zeros(seen.shape).masked_fill_(~seen, float("-inf")).repeat(group, 1)
