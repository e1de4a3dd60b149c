"""The Llama family's decoder: it puts the rows of a turn together, and one compiled loop runs all layers.

A turn runs any number of :class:`Chunk`: one more token of a running request, or a piece of a prompt. Their rows stand below
each other, so that every weight is read once for all of them. A sum's order depends neither on how many rows there are nor on
how a prompt is cut nor on the processor, so a request's results are bitwise the same alone and in any batch, with any number of
threads, on any machine.
transformers is the oracle in tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from openledger.models import release_freed_memory
from openledger.openlora.kernels import TOGETHER
from openledger.openlora.memory import floats
from openledger.openlora.product_kernel import multiplication
from openledger.openlora.residents import Deltas, Resident
from openledger.openlora.shapes import GROUPS, SITES, Dimensions
from openledger.openlora.team import Team
from openledger.openlora.turn_kernel import GIVE_WAY, Share, Turn, run_layers
from openledger.openlora.weights import Kind, Linear, Weights, let_go
from openledger.primitives import InputError, ModelError

FAMILY = ("llama", "mistral", "qwen2", "qwen3")
_STATIC_ROPES = ("default", "linear", "llama3", "yarn")
_WIDENED = (torch.float32, torch.bfloat16, torch.float16)
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
        model: a transformers causal language model of the family, in float32 or shorter numbers, which are widened.
        most_rows: tokens that one turn must be able to have.
        weights: how they are held.
        threads: that share a turn's work; their number changes no bit.
        keep: whether the model keeps its own weights; if not, they are let go one by one, and it can run no more.

    Attributes:
        dimensions: its sizes.
        context: most positions.
        rows: the most that a turn can have.
        token_bytes: of one position's keys and values.
        cache_step: positions in which a cache is measured out.

    Raises:
        ModelError: the architecture is another, or the weights are not such numbers on a CPU.
    """

    def __init__(
        self,
        model: Any,
        *,
        most_rows: int = 64,
        weights: Kind = "float32",
        threads: int = 1,
        keep: bool = True,
    ) -> None:
        why, weight = unsupported(model), next(model.parameters())
        if why is None and (weight.device.type != "cpu" or weight.dtype not in _WIDENED):
            why = f"its weights are {weight.dtype} on {weight.device}; it runs float32, bfloat16 and float16 on a CPU"
        if why is not None:
            raise ModelError(f"this decoder cannot run the model: {why}")
        config, parts = model.config, model.model
        self.dimensions = Dimensions.of(config)
        self.context = int(config.max_position_embeddings)
        self.token_bytes = 4 * self.dimensions.kv_floats
        self.cache_step = 64
        self._embedding = parts.embed_tokens.weight.detach().float()
        self._team = Team(threads)
        made = Weights(model, weights, self._team, keep=keep)
        with torch.inference_mode():
            self._groups = []
            for layer in parts.layers:
                self._groups.append(_groups(layer, made))
                if not keep:
                    release_freed_memory()
            self._head = made.across(model.lm_head)
            rotation = _rotation(parts.rotary_emb, self.context)
        self._norms = [_norms(layer) for layer in parts.layers]
        self._layers = (
            np.array(
                [
                    [*(0 if norm is None else norm.data_ptr() for norm in norms), _window(layer, config)]
                    + [number for held in groups.values() for number in held.place]
                    for layer, norms, groups in zip(parts.layers, self._norms, self._groups, strict=True)
                ],
                dtype=np.int64,
            ),
            multiplication(self._head.precision).address,
            (self.dimensions.heads, self.dimensions.kv_heads),
            np.float32(config.rms_norm_eps),
            rotation,
            parts.norm.weight.detach().float().numpy(),
        )
        if not keep:
            let_go(parts.embed_tokens)
            release_freed_memory()
        self._weights = sum(held.size for groups in self._groups for held in groups.values())
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
                held = self._head if group == "head" else self._groups[layer][group]
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
        deltas, count = Deltas(rows.adapters), len(rows.tokens)
        wide = size.heads + 2 * size.kv_heads
        widths = {"x": size.hidden, "h": size.hidden, "y": size.hidden, "qkv": wide * size.head_size}
        widths |= {
            "attended": size.heads * size.head_size,
            "gate_up": 2 * size.feed_forward,
            "inner": size.feed_forward,
        }
        rooms = {name: self._room(name, count, width) for name, width in widths.items()}
        torch.index_select(self._embedding, 0, torch.tensor(rows.tokens), out=rooms["x"])
        rooms["y"].zero_()
        made = {name: room.numpy() for name, room in rooms.items()}
        for name in ("qkv", "attended"):
            made[name] = made[name].reshape(count, -1, size.head_size)
        together = TOGETHER * size.heads // size.kv_heads
        longest = -(-(int(rows.positions.max()) + 1) // self.cache_step) * self.cache_step
        room = self._room("weights", self._team.threads * together, longest).numpy()
        turn = Turn(**made, weights=room.reshape(-1, together, longest), positions=rows.positions, pieces=rows.pieces)
        met = np.zeros(1, dtype=np.int64)

        def work(part: int, parts: int) -> None:
            share = Share(part, parts, met, GIVE_WAY)
            try:
                run_layers(*self._layers, turn, deltas.changes, share)
            except BaseException:
                share.fail()
                raise

        self._team.share(work, count * self._weights + deltas.size)
        return self._logits(rooms["h"], rows)

    def _logits(self, h: torch.Tensor, rows: _Rows) -> torch.Tensor:
        last = self._room("last", len(rows.wanted), self.dimensions.hidden)
        torch.index_select(h, 0, torch.tensor(rows.wanted, dtype=torch.int64), out=last)
        logits = self._room("logits", len(last), self.dimensions.vocabulary)
        self._head.times(last, logits)
        Deltas(rows.heads).add(self.dimensions.layers, "head", last, logits, self._team)
        return logits

    def _room(self, name: str, rows: int, width: int) -> torch.Tensor:
        """The same memory at every turn: new pages are slow."""
        room = self._rooms.get(name)
        if room is None or len(room) < rows * width:
            room = self._rooms[name] = torch.zeros(rows * width)
        return room[: rows * width].view(rows, width)


class _RoundedOnce(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Has powers, cosines and sines computed in float64 and rounded: torch's float32 ones depend on the kind of processor."""

    _WIDER = (torch.ops.aten.pow.Scalar, torch.ops.aten.cos.default, torch.ops.aten.sin.default)

    def __torch_dispatch__(self, function: Any, _types: Any, given: Any = (), named: Any = None) -> Any:
        if function not in self._WIDER:
            return function(*given, **(named or {}))
        return function(*(one.double() if isinstance(one, torch.Tensor) else one for one in given)).float()


def _rotation(rotary: Any, context: int) -> tuple[Any, Any]:
    """Cosines and sines [context, head size], by transformers' own formulas."""
    with _RoundedOnce():  # type: ignore[no-untyped-call]
        cos, sin = type(rotary)(rotary.config)(torch.empty(0), torch.arange(context)[None])
    return cos[0].numpy().copy(), sin[0].numpy().copy()


@dataclass(frozen=True)
class _Rows:
    """The rows of a turn; those of a chunk follow each other."""

    tokens: list[int]
    positions: Any
    pieces: Any
    """[chunks, 4], as in :func:`openledger.openlora.kernels.attend`."""
    adapters: list[tuple[Resident, int, int]]
    wanted: list[int]
    heads: list[tuple[Resident, int, int]]
    """The adapters that change the head, by their places in ``wanted``."""

    @classmethod
    def of(cls, chunks: Sequence[Chunk]) -> _Rows:
        tokens: list[int] = []
        positions: list[int] = []
        wanted: list[int] = []
        pieces, adapters, heads = [], [], []
        for chunk in chunks:
            first, last = len(tokens), len(tokens) + len(chunk.tokens)
            tokens += chunk.tokens
            positions += range(chunk.start, chunk.start + len(chunk.tokens))
            pieces.append((chunk.cache.data_ptr(), chunk.cache.shape[3], first, last))
            if chunk.adapter is not None:
                adapters.append((chunk.adapter, first, last))
                if chunk.wanted and "head" in chunk.adapter.layout.sites:
                    heads.append((chunk.adapter, len(wanted), len(wanted) + 1))
            if chunk.wanted:
                wanted.append(last - 1)
        return cls(
            tokens=tokens,
            positions=np.array(positions, dtype=np.int64),
            pieces=np.array(pieces, dtype=np.int64),
            adapters=adapters,
            wanted=wanted,
            heads=heads,
        )


def _groups(layer: Any, made: Weights) -> dict[str, Linear]:
    """A layer's linear layers, by the groups that adapters change."""
    attention, mlp = layer.self_attn, layer.mlp
    return {
        "attention": made.across(attention.q_proj, attention.k_proj, attention.v_proj),
        "output": made.across(attention.o_proj),
        "gate_up": made.across(mlp.gate_proj, mlp.up_proj),
        "down": made.across(mlp.down_proj),
    }


def _norms(layer: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Weights of the norms before attention and before the feed-forward layers, and of queries' and keys' [2, head size]."""
    attention, heads = layer.self_attn, None
    if hasattr(attention, "q_norm"):
        heads = torch.stack((attention.q_norm.weight.detach(), attention.k_norm.weight.detach())).float()
    before, after = (norm.weight.detach().float() for norm in (layer.input_layernorm, layer.post_attention_layernorm))
    return before, after, heads


def _window(layer: Any, config: Any) -> int:
    """How many keys are seen; 0 for all."""
    everywhere = config.sliding_window if config.model_type == "mistral" else None
    return int(getattr(layer.self_attn, "sliding_window", everywhere) or 0)
