"""The Llama family's decoder on any device that torch runs on, behind the interface of :mod:`openledger.openlora.decoder`.

Shapes are static, so that a step of writing requests can be captured as a CUDA graph. Keys and values stand in slots of one
tensor on the device, and the row of a step is the number of a slot. Adapters stand in tables, one for each layout (rank bucket,
sites, precision): a row is an adapter's flat vector, its factors in rows instead of tiles, and row 0 is an adapter that changes
nothing. A step computes with the tables by row numbers, in plain torch or in the Triton kernels of ``grouped.py``, which take the
tokens in the order of their adapters. The base's linear layers are held as they are, or as int8 codes with a scale for each
output.

What it does not promise is the same bits in any batch: products of a GPU's libraries depend on the number of rows.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional

from openledger.openlora.decoder import Chunk
from openledger.openlora.residents import Resident
from openledger.openlora.shapes import DTYPES, GROUPS, SITES, Dimensions, Layout, untiled
from openledger.openlora.weights import Kind, let_go
from openledger.primitives import InputError, ModelError

_SHORTEST = 128
"""Keys are read up to a power of two from here, and rows up to a power of two."""


@dataclass(frozen=True)
class Route:
    """Which adapters the tokens of a pass over n requests with t tokens each have.

    Attributes:
        rows: [n], each request's row of the table; 0 for none.
        places: [3, n * t]: the tokens in the order of their rows, those rows, and the place in the order at which each one's row
            begins.
    """

    rows: torch.Tensor
    places: torch.Tensor

    @classmethod
    def of(cls, rows: torch.Tensor, tokens: int) -> Route:
        """Of requests with so many tokens each."""
        ordered, order = torch.sort(rows.repeat_interleave(tokens), stable=True)
        return cls(rows, torch.stack((order, ordered, torch.searchsorted(ordered, ordered))))


class Products(Protocol):
    """What is multiplied."""

    def change(
        self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, route: Route, scales: torch.Tensor | None
    ) -> torch.Tensor:
        """(x [n, t, input], A [table, r, input], B [table, r, output], rows, scales [table, r]) → x Aᵀ B, [n, t, output]."""
        ...

    def coded(self, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """(x [n, t, input], int8 codes [output, input], scales [output]) → [n, t, output]."""
        ...


class TorchProducts:
    """:class:`Products` in plain torch: the factors of the rows are gathered, and codes widened."""

    def change(
        self, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, route: Route, scales: torch.Tensor | None
    ) -> torch.Tensor:
        """See :class:`Products`."""
        rows = route.rows
        middle = torch.bmm(x, a[rows].to(x.dtype).transpose(1, 2))
        if scales is not None:
            middle = middle * scales[rows][:, None].to(x.dtype)
        return torch.bmm(middle, b[rows].to(x.dtype))

    def coded(self, x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
        """See :class:`Products`."""
        return functional.linear(x, codes.to(x.dtype)) * scales.to(x.dtype)


@dataclass(eq=False)
class _Table:
    """Adapters of one layout on the device."""

    layout: Layout
    flat: torch.Tensor
    places: OrderedDict[bytes, int]

    @classmethod
    def empty(cls, layout: Layout, capacity: int, device: torch.device) -> _Table:
        flat = torch.zeros(capacity, layout.size, device=device)
        for _, _, _, up in layout.places():
            if up.affine >= 0:
                flat[0, up.affine : up.affine + up.end - up.start] = 1
        return cls(layout, flat, OrderedDict())

    def row(self, resident: Resident, kept: set[bytes]) -> int:
        """Where the adapter stands; puts it there if it does not. Those in ``kept`` stay."""
        place = self.places.get(resident.digest)
        if place is None:
            place = len(self.places) + 1
            if place == len(self.flat):
                oldest = next(digest for digest in self.places if digest not in kept)
                place = self.places.pop(oldest)
            self.flat[place].copy_(self._in_rows(resident.flat))
            self.places[resident.digest] = place
        self.places.move_to_end(resident.digest)
        return place

    def _in_rows(self, flat: torch.Tensor) -> torch.Tensor:
        """The flat vector with every factor [rank, n] in rows instead of tiles."""
        found, rank = flat.clone(), self.layout.rank
        factors, kept = (one[self.layout.start :].view(DTYPES[self.layout.precision]) for one in (flat, found))
        for _, _, block, up in self.layout.places():
            for at, width in (
                (block.offset + up.part * rank * block.inputs, block.inputs),
                (up.offset, up.end - up.start),
            ):
                kept[at : at + rank * width] = untiled(factors[at : at + rank * width], rank).view(-1)
        return found

    def change(
        self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor, route: Route, products: Products
    ) -> None:
        """Changes y [n, t, outputs] in place as each request's adapter does for x [n, t, input]."""
        block = self.layout.blocks.get((layer, group))
        if block is None:
            return
        rank, factors = self.layout.rank, self.flat[:, self.layout.start :].view(DTYPES[self.layout.precision])
        for up in block.ups:
            at, width = block.offset + up.part * rank * block.inputs, up.end - up.start
            a = factors[:, at : at + rank * block.inputs].view(-1, rank, block.inputs)
            b = factors[:, up.offset : up.offset + rank * width].view(-1, rank, width)
            out = y[..., up.start : up.end]
            if up.affine >= 0:
                affine = self.flat[route.rows, up.affine : up.affine + 2 * width].view(len(x), 2, 1, width).to(y.dtype)
                out.mul_(affine[:, 0]).add_(affine[:, 1])
            scales = self.flat[:, up.scales : up.scales + rank] if up.scales >= 0 else None
            out.add_(products.change(x, a, b, route, scales))


@dataclass(frozen=True)
class _Step:
    """The static inputs of a forward pass over n requests with t tokens each.

    Attributes:
        tokens, positions, writes: [n, t]; ``writes`` is where keys and values go: a column that nobody reads for idle rows.
        slots: [n].
        first: the first slot; the n slots follow each other.
        keys: how many keys are looked at.
        rows: by layout, [n], rows of its table.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    writes: torch.Tensor
    slots: torch.Tensor
    first: int
    keys: int
    rows: dict[Layout, torch.Tensor]


class DeviceDecoder:
    """A base model's weights on their device, ready to run.

    Args:
        model: a transformers causal language model of the family, on any device, of any floating-point type.
        slots: most requests with keys and values.
        length: positions of each; at most the model's context.
        most_rows: tokens of one turn.
        weights: how the linear layers are held; int8 in a half of bfloat16's memory, which rounds them.
        products: what multiplies; :class:`TorchProducts`, or on a CUDA device the Triton kernels, if left out.
        keep: whether the model keeps its own weights; if not, it can run no more.

    Attributes:
        dimensions: its sizes.
        context: most positions.
        rows: the most tokens of one turn.
        token_bytes: of one position's keys and values.
        cache_step: positions in which a cache is measured out: a whole slot.
    """

    def __init__(
        self,
        model: Any,
        *,
        slots: int,
        length: int,
        most_rows: int,
        weights: Kind = "float32",
        products: Products | None = None,
        keep: bool = True,
    ) -> None:
        config, parts = model.config, model.model
        self.dimensions = size = Dimensions.of(config)
        self.context = self.cache_step = min(length, int(config.max_position_embeddings))
        self.rows = most_rows
        self._embedding = parts.embed_tokens.weight.detach()
        self._device, dtype = self._embedding.device, self._embedding.dtype
        self.token_bytes = size.kv_floats * dtype.itemsize
        self._epsilon = float(config.rms_norm_eps)
        self._layers = [_layer(layer, config, weights) for layer in parts.layers]
        self._head = _Fused.of(weights, model.lm_head)
        self._norm = parts.norm.weight.detach()
        with torch.inference_mode():
            cos, sin = parts.rotary_emb(self._embedding, torch.arange(self.context, device=self._device)[None])
            self._cos, self._sin = cos[0], sin[0]
            # The last column is written by rows that are idle, and read by nobody.
            self._kv = torch.zeros(
                *(size.layers, 2, slots, size.kv_heads, self.context + 1, size.head_size),
                device=self._device,
                dtype=dtype,
            )
        self._generation = 0
        self._free: list[int] = []
        self.forget()
        self._tables: dict[Layout, _Table] = {}
        self._graphs: dict[Any, _Graph] = {}
        self._products = products or _best(self._device)
        if not keep:
            for module in model.modules():
                if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
                    let_go(module)

    def new_cache(self, length: int) -> torch.Tensor:
        """A free slot: [layers, 2, kv heads, length, head size]. It is free again when nothing refers to this tensor.

        Raises:
            ModelError: there is none.
        """
        if not self._free:
            raise ModelError(f"all {self._kv.shape[2]} slots for keys and values are taken; wait for a request to end")
        slot = self._free.pop()
        view = self._kv[:, :, slot, :, :length]
        weakref.finalize(view, self._give, slot, self._generation)
        return view

    def close(self) -> None:
        """Nothing is left running."""

    def forget(self) -> None:
        """Takes every slot back, whoever still refers to one."""
        self._generation += 1
        self._free = list(reversed(range(self._kv.shape[2])))

    def linear(self, layer: int, site: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The weights [output, input] and the bias, if any, of a site, in float32 on the CPU."""
        for group, members in GROUPS.items():
            if site in members:
                start = sum(self.dimensions.site(other)[1] for other in members[: members.index(site)])
                held = self._head if group == "head" else self._layers[layer].groups[group]
                part = slice(start, start + self.dimensions.site(site)[1])
                bias = None if held.bias is None else held.bias[part].float().cpu()
                return held.wide(part).cpu(), bias
        raise InputError(f"the decoder has no site {site!r}; it has {', '.join(SITES)}")

    @torch.inference_mode()
    def run(self, chunks: Sequence[Chunk]) -> torch.Tensor:
        """One turn: the next tokens of those that write together, and pieces of prompts one after the other.

        Returns:
            Logits [wanted chunks, vocabulary], float32 on the CPU, in the chunks' order.
        """
        kept = {chunk.adapter.digest for chunk in chunks if chunk.adapter is not None}
        found: dict[int, torch.Tensor] = {}
        singles = [chunk for chunk in chunks if len(chunk.tokens) == 1]
        if singles:
            logits = self._together(singles, kept)
            found |= {id(chunk): logits[self._slot(chunk)] for chunk in singles}
        for chunk in chunks:
            if len(chunk.tokens) > 1:
                found[id(chunk)] = self._forward(self._piece(chunk, kept))[0]
        wanted = [found[id(chunk)] for chunk in chunks if chunk.wanted]
        return torch.stack(wanted).float().cpu() if wanted else torch.empty(0, self.dimensions.vocabulary)

    def _give(self, slot: int, generation: int) -> None:
        if generation == self._generation:
            self._free.append(slot)

    def _slot(self, chunk: Chunk) -> int:
        return (chunk.cache.storage_offset() // self._kv.stride(2)) % self._kv.shape[2]

    def _table(self, layout: Layout) -> _Table:
        table = self._tables.get(layout)
        if table is None:
            # As many as can be in one turn, twice, and the one that changes nothing.
            table = self._tables[layout] = _Table.empty(layout, 2 * self._kv.shape[2] + 1, self._device)
        return table

    def _together(self, chunks: Sequence[Chunk], kept: set[bytes]) -> torch.Tensor:
        """[rows, vocabulary]: a row for each slot up to the last that writes."""
        slots = self._kv.shape[2]
        by_slot = {self._slot(chunk): chunk for chunk in chunks}
        count = min(_power(max(by_slot) + 1, 1), slots)
        keys = min(_power(max(chunk.start for chunk in chunks) + 1, _SHORTEST), self.context)
        tokens, positions, writes = [0] * count, [0] * count, [self.context] * count
        rows: dict[Layout, list[int]] = {}
        for slot, chunk in by_slot.items():
            tokens[slot], positions[slot], writes[slot] = chunk.tokens[0], chunk.start, chunk.start
            if chunk.adapter is not None:
                layout = chunk.adapter.layout
                rows.setdefault(layout, [0] * count)[slot] = self._table(layout).row(chunk.adapter, kept)

        def column(values: list[int]) -> torch.Tensor:
            return torch.tensor(values, device=self._device)[:, None]

        step = _Step(
            tokens=column(tokens),
            positions=column(positions),
            writes=column(writes),
            slots=torch.arange(count, device=self._device),
            first=0,
            keys=keys,
            rows={layout: torch.tensor(rows[layout], device=self._device) for layout in sorted(rows, key=repr)},
        )
        if self._device.type != "cuda":
            return self._forward(step)
        key = (count, keys, tuple(step.rows))
        if key not in self._graphs:
            self._graphs[key] = _Graph(self._forward, step)
        return self._graphs[key].run(step)

    def _piece(self, chunk: Chunk, kept: set[bytes]) -> _Step:
        slot, count = self._slot(chunk), len(chunk.tokens)
        at = torch.arange(chunk.start, chunk.start + count, device=self._device)[None]
        rows: dict[Layout, torch.Tensor] = {}
        if chunk.adapter is not None:
            table = self._table(chunk.adapter.layout)
            rows[table.layout] = torch.tensor([table.row(chunk.adapter, kept)], device=self._device)
        return _Step(
            tokens=torch.tensor([chunk.tokens], device=self._device),
            positions=at,
            writes=at,
            slots=torch.tensor([slot], device=self._device),
            first=slot,
            keys=chunk.start + count,
            rows=rows,
        )

    def _forward(self, step: _Step) -> torch.Tensor:
        """[n, vocabulary], after each request's last token."""
        size, (n, t) = self.dimensions, step.tokens.shape
        cos, sin = self._cos[step.positions][:, :, None], self._sin[step.positions][:, :, None]
        at, keys = step.positions[:, None, :, None], torch.arange(step.keys, device=self._device)
        masks = {
            window: (keys <= at) & (keys > at - window) if window else keys <= at
            for window in {layer.window for layer in self._layers}
        }
        x = functional.embedding(step.tokens, self._embedding)
        slots = slice(step.first, step.first + n)
        routes = {layout: Route.of(rows, t) for layout, rows in step.rows.items()}
        for number, layer in enumerate(self._layers):
            h = self._normed(x, layer.norm)
            qkv = self._linear(layer.qkv, number, "attention", h, routes).view(n, t, -1, size.head_size)
            q, k, v = torch.split(qkv, [size.heads, size.kv_heads, size.kv_heads], dim=2)
            if layer.q_norm is not None:
                q, k = self._normed(q, layer.q_norm), self._normed(k, layer.k_norm)
            self._kv[number, 0][step.slots[:, None], :, step.writes] = _rotated(k, cos, sin)
            self._kv[number, 1][step.slots[:, None], :, step.writes] = v
            attended = functional.scaled_dot_product_attention(
                _rotated(q, cos, sin).transpose(1, 2),
                self._kv[number, 0, slots, :, : step.keys],
                self._kv[number, 1, slots, :, : step.keys],
                attn_mask=masks[layer.window],
                enable_gqa=True,
            )
            attended = attended.transpose(1, 2).reshape(n, t, -1)
            x = x + self._linear(layer.output, number, "output", attended, routes)
            gate, up = self._linear(layer.gate_up, number, "gate_up", self._normed(x, layer.mlp_norm), routes).chunk(
                2, dim=-1
            )
            x = x + self._linear(layer.down, number, "down", functional.silu(gate) * up, routes)
        last = self._normed(x[:, -1:], self._norm)
        last_routes = routes if t == 1 else {layout: Route.of(rows, 1) for layout, rows in step.rows.items()}
        return self._linear(self._head, size.layers, "head", last, last_routes)[:, 0]

    def _linear(
        self, held: _Fused, layer: int, group: str, x: torch.Tensor, routes: dict[Layout, Route]
    ) -> torch.Tensor:
        if held.scales is None:
            y = functional.linear(x, held.weight, held.bias)
        else:
            y = self._products.coded(x, held.weight, held.scales)
            if held.bias is not None:
                y += held.bias
        for layout, route in routes.items():
            self._tables[layout].change(layer, group, x, y, route, self._products)
        return y

    def _normed(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        return weight * (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self._epsilon)).to(x.dtype)


class _Graph:
    """A captured forward pass; run again with other numbers in the same places. CUDA only.

    Rows of tables, slots and positions are data, so a graph serves any requests with as many rows, keys and the same layouts.
    """

    def __init__(self, forward: Callable[[_Step], torch.Tensor], step: _Step) -> None:
        self._step = step
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            # Libraries choose and allocate at the first run. What it writes, the run that is asked for writes again.
            forward(step)
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._logits = forward(step)

    def run(self, step: _Step) -> torch.Tensor:
        """The logits; valid until the next run."""
        for name in ("tokens", "positions", "writes"):
            getattr(self._step, name).copy_(getattr(step, name))
        for layout, rows in step.rows.items():
            self._step.rows[layout].copy_(rows)
        self._graph.replay()
        return self._logits


@dataclass(frozen=True)
class _Fused:
    """Linear layers with the same input: weight [outputs, input], bias [outputs]; scales [outputs] if it is int8 codes."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    scales: torch.Tensor | None

    def wide(self, part: slice) -> torch.Tensor:
        """The weights [outputs, input] of some of the outputs in float32."""
        weight = self.weight[part].float()
        return weight if self.scales is None else weight * self.scales[part, None]

    @classmethod
    def of(cls, kind: Kind, *linears: Any) -> _Fused:
        weight = (
            linears[0].weight.detach() if len(linears) == 1 else torch.cat([one.weight.detach() for one in linears])
        )
        bias = None
        if any(one.bias is not None for one in linears):
            none = [one.weight.new_zeros(len(one.weight)) if one.bias is None else one.bias.detach() for one in linears]
            bias = torch.cat(none)
        if kind == "float32":
            return cls(weight, bias, None)
        scales = weight.float().abs().amax(dim=1).clamp_min(1e-12) / 127
        return cls((weight.float() / scales[:, None]).round().to(torch.int8), bias, scales)


@dataclass(frozen=True)
class _Layer:
    norm: torch.Tensor
    qkv: _Fused
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor
    output: _Fused
    mlp_norm: torch.Tensor
    gate_up: _Fused
    down: _Fused
    window: int

    @property
    def groups(self) -> dict[str, _Fused]:
        return {"attention": self.qkv, "output": self.output, "gate_up": self.gate_up, "down": self.down}


def _layer(layer: Any, config: Any, weights: Kind) -> _Layer:
    attention, mlp = layer.self_attn, layer.mlp
    everywhere = config.sliding_window if config.model_type == "mistral" else None
    normed = hasattr(attention, "q_norm")
    norm = layer.input_layernorm.weight.detach()
    return _Layer(
        norm=norm,
        qkv=_Fused.of(weights, attention.q_proj, attention.k_proj, attention.v_proj),
        q_norm=attention.q_norm.weight.detach() if normed else None,
        k_norm=attention.k_norm.weight.detach() if normed else norm,
        output=_Fused.of(weights, attention.o_proj),
        mlp_norm=layer.post_attention_layernorm.weight.detach(),
        gate_up=_Fused.of(weights, mlp.gate_proj, mlp.up_proj),
        down=_Fused.of(weights, mlp.down_proj),
        window=int(getattr(attention, "sliding_window", everywhere) or 0),
    )


def _rotated(heads: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat((-right, left), dim=-1) * sin


def _power(number: int, least: int) -> int:
    """The smallest power of two that is at least both."""
    return max(least, 1 << (number - 1).bit_length())


def _best(device: torch.device) -> Products:
    if device.type != "cuda":
        return TorchProducts()
    from openledger.openlora.grouped import TritonProducts

    return TritonProducts()
