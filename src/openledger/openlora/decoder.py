"""The Llama family's decoder in few, large operations: fused projections, one key-value write a layer, any adapter per row.

Weights are kept as [input, output], which on this path is faster than torch's own order, and whose products of two rows or
more do not depend on how many rows there are. :func:`smallest_stable_rows` measures that, and the decoder pads a batch to
it, so that a row's result is bitwise the same alone and in any batch (float32, one thread). A prompt is read by chunks whose
bounds depend on the prompt alone. transformers is the oracle: tests compare logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from openledger.openlora.shapes import Dimensions
from openledger.primitives import ModelError

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
_STATIC_ROPES = ("default", "linear", "llama3", "yarn")
TILE = 16
"""Attention is padded to whole tiles of keys: with those, padding changes no bit."""
_PROBED = (*range(1, 20), 24, 31, 32, 33, 47, 48, 64, 96, 128)


class Deltas(Protocol):
    """What adapters add to a group's output."""

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Adds to ``y`` [rows, outputs], in place, each row's change for its input ``x`` [rows, inputs]."""


class NoDeltas:
    """The base model alone."""

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Adds nothing."""


@dataclass(frozen=True)
class _Layer:
    norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    output: torch.Tensor
    output_bias: torch.Tensor | None
    mlp_norm: torch.Tensor
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None
    window: int | None


def unsupported(config: Any) -> str | None:
    """Why this decoder cannot run a model of that transformers configuration; None if it can."""
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
        most_rows: the largest batch that will be decoded.

    Attributes:
        dimensions: its sizes.
        context: most positions.
        rows: the fewest rows that a decoding batch is padded to; see the module.

    Raises:
        ModelError: the architecture is another.
    """

    def __init__(self, model: Any, *, most_rows: int = 128) -> None:
        config = model.config
        if why := unsupported(config):
            raise ModelError(f"this decoder cannot run the model: {why}")
        parts = model.model
        first = parts.layers[0]
        head_size = int(first.self_attn.head_dim)
        self.dimensions = Dimensions(
            layers=len(parts.layers),
            hidden=int(config.hidden_size),
            heads=int(config.num_attention_heads),
            kv_heads=int(config.num_key_value_heads),
            head_size=head_size,
            feed_forward=int(config.intermediate_size),
            vocabulary=int(model.lm_head.weight.shape[0]),
        )
        self.context = int(config.max_position_embeddings)
        self.device = parts.embed_tokens.weight.device
        self.dtype = parts.embed_tokens.weight.dtype
        self._epsilon = float(config.rms_norm_eps)
        self._embedding = parts.embed_tokens.weight.detach()
        self._norm = parts.norm.weight.detach()
        self._head = _across(model.lm_head)
        with torch.inference_mode():
            self._layers = [_layer(layer, config) for layer in parts.layers]
            self._cos, self._sin = self._rotation(parts.rotary_emb)
        self._positions = torch.arange(self.context, device=self.device)
        kinds = {layer.window for layer in self._layers}
        self._windows = tuple(sorted(kinds, key=lambda window: window or 0))
        self.rows = smallest_stable_rows(self._weights(), most_rows) if self.device.type == "cpu" else 1

    def new_cache(self, rows: int | None, length: int) -> torch.Tensor:
        """Room for keys and values: [layers, rows, 2, kv heads, length, head size], or without rows."""
        size = self.dimensions
        lead = (size.layers,) if rows is None else (size.layers, rows)
        return torch.zeros(*lead, 2, size.kv_heads, length, size.head_size, dtype=self.dtype, device=self.device)

    def decode(
        self, tokens: torch.Tensor, positions: torch.Tensor, cache: torch.Tensor, deltas: Deltas
    ) -> torch.Tensor:
        """One more token for each row.

        Args:
            tokens: [rows], the last token of each.
            positions: [rows], where it stands, from 0.
            cache: [layers, at least rows, 2, kv heads, length, head size]; row i's keys and values are added to it.
            deltas: the rows' adapters.

        Returns:
            Logits [rows, vocabulary].
        """
        size, rows = self.dimensions, len(tokens)
        reach = min(-(-(int(positions.max()) + 1) // TILE) * TILE, cache.shape[4])
        keys = self._positions[:reach] if reach <= self.context else torch.arange(reach, device=self.device)
        masks = {window: _mask(keys, positions, window, self.dtype).view(rows, 1, 1, reach) for window in self._windows}
        cos, sin = self._cos[positions].unsqueeze(1), self._sin[positions].unsqueeze(1)
        index = self._positions[:rows] if rows <= self.context else torch.arange(rows, device=self.device)
        x = self._embedding[tokens]
        for number, layer in enumerate(self._layers):
            qk, qkv = self._project(number, layer, x, cos, sin, deltas)
            kv = cache[number]
            kv[index, :, :, positions] = qkv[:, size.heads :].view(rows, 2, size.kv_heads, size.head_size)
            heads = qk[:, : size.heads].reshape(rows, size.kv_heads, -1, size.head_size)
            attended = functional.scaled_dot_product_attention(
                heads, kv[:rows, 0, :, :reach], kv[:rows, 1, :, :reach], attn_mask=masks[layer.window]
            )
            x = self._finish(number, layer, x, attended.reshape(rows, -1), deltas)
        return self._logits(x, deltas)

    def prefill(
        self, tokens: torch.Tensor, start: int, cache: torch.Tensor, deltas: Deltas, *, last: bool
    ) -> torch.Tensor | None:
        """Reads a chunk of one prompt.

        Args:
            tokens: [n], which stand at ``start`` and after.
            cache: [layers, 2, kv heads, length, head size]; holds the tokens before, and gets these.
            deltas: the prompt's adapter.
            last: whether the logits after the last token are wanted.

        Returns:
            Logits [vocabulary] after the last token, or None.
        """
        size, count = self.dimensions, len(tokens)
        end = start + count
        group = size.heads // size.kv_heads
        positions = self._positions[start:end]
        masks = {
            window: _mask(self._positions[:end], positions, window, self.dtype).repeat(group, 1)
            for window in self._windows
        }
        cos, sin = self._cos[start:end].unsqueeze(1), self._sin[start:end].unsqueeze(1)
        x = self._embedding[tokens]
        for number, layer in enumerate(self._layers):
            qk, qkv = self._project(number, layer, x, cos, sin, deltas)
            kv = cache[number]
            kv[:, :, start:end] = qkv[:, size.heads :].view(count, 2, size.kv_heads, size.head_size).permute(1, 2, 0, 3)
            heads = qk[:, : size.heads].view(count, size.kv_heads, group, size.head_size).permute(1, 2, 0, 3)
            attended = functional.scaled_dot_product_attention(
                heads.reshape(1, size.kv_heads, group * count, size.head_size),
                kv[None, 0, :, :end],
                kv[None, 1, :, :end],
                attn_mask=masks[layer.window],
            )
            rows = attended.view(size.heads, count, size.head_size).transpose(0, 1).reshape(count, -1)
            x = self._finish(number, layer, x, rows, deltas)
        return self._logits(x[-1:], deltas)[0] if last else None

    def _project(
        self, number: int, layer: _Layer, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, deltas: Deltas
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(rotated queries and keys, the same with values): [rows, heads, head size] each."""
        size = self.dimensions
        h = functional.rms_norm(x, (size.hidden,), layer.norm, self._epsilon)
        y = _times(h, layer.qkv, layer.qkv_bias)
        deltas.add(number, "attention", h, y)
        qkv = y.view(len(x), -1, size.head_size)
        both = size.heads + size.kv_heads
        qk = qkv[:, :both]
        if layer.q_norm is not None:
            qk = torch.cat(
                (
                    functional.rms_norm(qk[:, : size.heads], (size.head_size,), layer.q_norm, self._epsilon),
                    functional.rms_norm(qk[:, size.heads :], (size.head_size,), layer.k_norm, self._epsilon),
                ),
                dim=1,
            )
        qk = torch.addcmul(qk * cos, qk.roll(size.head_size // 2, -1), sin)
        qkv[:, size.heads : both] = qk[:, size.heads :]
        return qk, qkv

    def _finish(
        self, number: int, layer: _Layer, x: torch.Tensor, attended: torch.Tensor, deltas: Deltas
    ) -> torch.Tensor:
        size = self.dimensions
        y = _times(attended, layer.output, layer.output_bias)
        deltas.add(number, "output", attended, y)
        x = x + y
        h = functional.rms_norm(x, (size.hidden,), layer.mlp_norm, self._epsilon)
        y = _times(h, layer.gate_up, layer.gate_up_bias)
        deltas.add(number, "gate_up", h, y)
        inner = functional.silu(y[:, : size.feed_forward]).mul_(y[:, size.feed_forward :])
        y = _times(inner, layer.down, layer.down_bias)
        deltas.add(number, "down", inner, y)
        return x + y

    def _logits(self, x: torch.Tensor, deltas: Deltas) -> torch.Tensor:
        h = functional.rms_norm(x, (self.dimensions.hidden,), self._norm, self._epsilon)
        y = h @ self._head
        deltas.add(self.dimensions.layers, "head", h, y)
        return y

    def _rotation(self, rotary: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and signed sines [context, head size], as transformers computes them."""
        cos, sin = rotary(self._embedding, torch.arange(self.context, device=self.device)[None])
        half = self.dimensions.head_size // 2
        signed = torch.cat((-sin[0, :, :half], sin[0, :, half:]), dim=-1)
        return cos[0].clone(), signed

    def _weights(self) -> list[torch.Tensor]:
        layer = self._layers[0]
        return [layer.qkv, layer.output, layer.gate_up, layer.down, self._head]


def smallest_stable_rows(weights: list[torch.Tensor], most: int) -> int:
    """The fewest rows from which products with these weights give a row the same bits whatever the number of rows.

    Measured here and now, since it depends on the processor and the library; where no number is stable it is ``most``, and a
    batch is always padded to that.
    """
    generator = torch.Generator().manual_seed(0)
    counts = [count for count in _PROBED if count < most]
    least = 1
    with torch.inference_mode():
        for shape in {tuple(weight.shape): weight for weight in weights}.values():
            x = torch.randn(most, shape.shape[0], generator=generator, dtype=torch.float32).to(shape.dtype)
            whole = x @ shape
            unstable = [count for count in counts if not torch.equal(x[:count] @ shape, whole[:count])]
            if unstable:
                later = [count for count in counts if count > unstable[-1]]
                least = max(least, later[0] if later else most)
    return least


def _layer(layer: Any, config: Any) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    everywhere = config.sliding_window if config.model_type == "mistral" else None
    window = getattr(attention, "sliding_window", everywhere)
    return _Layer(
        norm=layer.input_layernorm.weight.detach(),
        qkv=_across(attention.q_proj, attention.k_proj, attention.v_proj),
        qkv_bias=_biases(attention.q_proj, attention.k_proj, attention.v_proj),
        q_norm=attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None,
        k_norm=attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None,
        output=_across(attention.o_proj),
        output_bias=_biases(attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_across(mlp.gate_proj, mlp.up_proj),
        gate_up_bias=_biases(mlp.gate_proj, mlp.up_proj),
        down=_across(mlp.down_proj),
        down_bias=_biases(mlp.down_proj),
        window=int(window) if window else None,
    )


def _across(*linears: Any) -> torch.Tensor:
    return torch.cat([linear.weight.detach() for linear in linears]).t().contiguous()


def _biases(*linears: Any) -> torch.Tensor | None:
    if all(linear.bias is None for linear in linears):
        return None
    return torch.cat(
        [
            linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias.detach()
            for linear in linears
        ]
    )


def _times(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    y = x @ weight
    return y if bias is None else y.add_(bias)


def _mask(keys: torch.Tensor, positions: torch.Tensor, window: int | None, dtype: torch.dtype) -> torch.Tensor:
    """[positions, keys]: 0 where a position sees a key, minus infinity elsewhere."""
    seen = keys <= positions[:, None]
    if window is not None:
        seen &= keys > positions[:, None] - window
    return torch.zeros(seen.shape, dtype=dtype, device=keys.device).masked_fill_(~seen, float("-inf"))
