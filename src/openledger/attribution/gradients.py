"""Per-example gradients of a LoRA adapter, exact and in batches.

LoRA changes a linear map by ``scale x B A``. The gradient of one example's loss with respect to A or B is the sum over
token positions of (gradient at its output) x (its input), so one forward and one backward pass over a batch gives every
example's own gradient (Goodfellow, 2015, "Efficient per-example gradient computations"). The loss of an example is the
sum of -log p over its answer tokens.

The base model's weights are shared and never changed: an :class:`AdapterModel` is a second skeleton over them.
An example is padded on the right to a multiple of 8 tokens, at least 16, whatever it is batched with.
This module knows nothing of curvature or of records' worth.
"""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from openledger.attribution.common import Common, standing_in, unreached
from openledger.primitives.errors import InputError, ModelError

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
_PADDING = 8
_SHORTEST = 16
_LARGEST_MERGED = 1 << 30
"""Bytes of changed matrices up to which a merged copy is kept for each opened adapter."""
_UNASKED = -100
_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True)
class Query:
    """A prompt and the output whose influences are asked for.

    Attributes:
        token_ids: prompt and output, as the model saw them.
        prompt_length: how many of them are the prompt; the loss is over the rest (never over the first token,
            which nothing predicts).
    """

    token_ids: Sequence[int]
    prompt_length: int


@dataclass(frozen=True, slots=True)
class TrainingExample:
    """A record as it was trained on.

    Attributes:
        token_ids: prompt and answer.
        prompt_length: how many tokens are the prompt; the training loss is over the rest.
        weight: factor of this record's loss in training; 0 means that it was left out.
        record_hash: 32 bytes that name the record.
        seniority: place in the order of acceptance; among near-duplicates the smallest takes the credit.
    """

    token_ids: Sequence[int]
    prompt_length: int
    weight: float = 1.0
    record_hash: bytes = bytes(32)
    seniority: int = 0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An adapter saved during training.

    Attributes:
        path: folder with ``adapter_model.safetensors`` and ``adapter_config.json``.
        learning_rate: the optimiser's rate at that step; a checkpoint at next to no rate is left out.
        step: number of optimiser steps done.
    """

    path: Path
    learning_rate: float
    step: int


@dataclass(frozen=True, slots=True)
class Block:
    """One LoRA matrix: ``name`` as in the adapter's file, gradient of shape [rows, columns]."""

    name: str
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.rows * self.columns


@dataclass(frozen=True, slots=True)
class Captured:
    """One block's inputs [examples, tokens, columns] and output gradients [examples, tokens, rows] in a batch."""

    inputs: Tensor
    deltas: Tensor

    def gradients(self) -> Tensor:
        """Per-example gradients [examples, rows, columns]."""
        return torch.bmm(self.deltas.transpose(1, 2), self.inputs)


@dataclass(frozen=True, slots=True)
class Batch:
    """The captured blocks of some examples.

    Attributes:
        positions: the examples' places in the sequence that was asked for.
        losses: summed -log p of each example's output in nats [examples].
        mask: which tokens are the example's own, not padding [examples, tokens].
        blocks: what was captured, in the order of the model's blocks.
    """

    positions: tuple[int, ...]
    losses: Tensor
    mask: Tensor
    blocks: tuple[Captured, ...]


class AdapterModel:
    """A base model with a LoRA adapter, opened for gradients.

    The adapter is merged into a copy of the matrices that it changes, or, where these are large, added to their outputs.

    Args:
        base: a causal language model of transformers in float32; its weights are shared, it is not changed.
        config: the adapter's configuration.
        weights: the adapter's matrices by their names in peft's files.

    Attributes:
        blocks: the adapter's matrices in a fixed order.

    Raises:
        ModelError: the model is not float32, or the adapter does not fit it, is not plain LoRA on linear layers,
            or holds a number that is not finite.
    """

    def __init__(self, base: PreTrainedModel, config: LoraConfig, weights: Mapping[str, Tensor]) -> None:
        _check_config(config)
        _check_base(base)
        plain = _share(base).eval()
        plain.set_attn_implementation("eager")
        try:
            wrapped = get_peft_model(plain, _inference_config(config))
        except ValueError as error:
            raise ModelError(f"the adapter does not fit this base model: {error}") from error
        self._layers = _adapted_layers(wrapped)
        self.blocks = tuple(block for layer in self._layers for block in layer.blocks)
        self.model: nn.Module = wrapped.unload()
        self.context = int(getattr(plain.config, "max_position_embeddings", 0) or 1 << 30)
        self.vocabulary = int(plain.get_input_embeddings().weight.shape[0])
        self.device = next(plain.parameters()).device
        self._keeps = "logits_to_keep" in inspect.signature(plain.forward).parameters
        self.load(weights)
        probe = torch.ones(1, min(_SHORTEST, self.context), dtype=torch.int64, device=self.device)
        self._unreached = unreached(self.model, {layer.path for layer in self._layers}, probe)

    @classmethod
    def from_folder(cls, base: PreTrainedModel, adapter: Path) -> AdapterModel:
        """A base model with the adapter in a folder."""
        return cls(base, read_config(adapter), read_weights(adapter))

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Put an adapter's weights in place (names as in peft's files).

        Raises:
            ModelError: a matrix is missing, too many, of another shape, or not finite.
        """
        wanted = {block.name for block in self.blocks}
        if wanted != set(weights):
            raise ModelError(
                f"the adapter has other matrices than the model: missing {sorted(wanted - set(weights))[:3]}, "
                f"unknown {sorted(set(weights) - wanted)[:3]}; use a checkpoint of the same training run"
            )
        for block in self.blocks:
            value, shape = weights[block.name], [block.rows, block.columns]
            if list(value.shape) != shape:
                raise ModelError(f"{block.name} has shape {list(value.shape)}, the model needs {shape}")
            if not torch.isfinite(value).all():
                raise ModelError(f"{block.name} holds a number that is not finite; the training run diverged")
        merge = sum(layer.linear.weight.nbytes for layer in self._layers) <= _LARGEST_MERGED
        for layer in self._layers:
            a, b = (weights[block.name].to(self.device) for block in layer.blocks)
            layer.put(a, b, merge)

    def batches(self, queries: Sequence[Query | TrainingExample], tokens_per_batch: int = 2048) -> Iterator[Batch]:
        """Forward and backward over all queries, in batches of one padded length.

        Raises:
            InputError: a query has no output, is longer than the context, or has a token outside the vocabulary.
            ModelError: a loss or gradient is not finite.
        """
        for query in queries:
            self.check(query)
        for positions in batched(queries, tokens_per_batch):
            yield self._capture(positions, [queries[place] for place in positions], Common())

    def capture(self, positions: tuple[int, ...], queries: Sequence[Query | TrainingExample], common: Common) -> Batch:
        """Forward and backward over one batch; ``common`` is what passes over it have in common.

        Raises:
            InputError, ModelError: as :meth:`batches`.
        """
        for query in queries:
            self.check(query)
        return self._capture(positions, queries, common)

    def gradients(self, query: Query | TrainingExample, common: Common) -> Batch:
        """The same over one query alone."""
        return self.capture((0,), [query], common)

    def losses(self, queries: Sequence[Query], adapter: bool = True) -> Tensor:
        """Summed -log p of each query's output tokens in nats, float32 [queries]; ``adapter=False`` asks the base."""
        return torch.tensor([self.loss(query, Common(), adapter=adapter) for query in queries])

    def loss(self, query: Query, common: Common, adapter: bool = True) -> float:
        """Summed -log p of one query's output tokens in nats; arguments and errors as above."""
        self.check(query)
        ids, targets = self._tensors([query])
        with torch.no_grad(), self._adapted(adapter):
            return float(_token_losses(self._logits(ids, targets, common), targets).sum())

    def token_losses(self, query: Query) -> Tensor:
        """-log p of each output token in nats, float32 [output tokens]; errors as in :meth:`batches`."""
        self.check(query)
        ids, targets = self._tensors([query])
        with torch.no_grad(), self._adapted(True):
            found = _token_losses(self._logits(ids, targets, Common()), targets)
        return found[targets != _UNASKED].cpu()

    def derivatives(self, query: Query, directions: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """Directional derivatives of every output token's loss, float32 [directions, output tokens].

        Forward-mode differentiation of the token losses along each direction (a step of the LoRA matrices, by block
        name). A row sums to the inner product of the query's gradient with that direction.
        """
        self.check(query)
        ids, targets = self._tensors([query])
        primals = tuple(matrix for layer in self._layers for matrix in (layer.a, layer.b))

        def losses(*matrices: Tensor) -> Tensor:
            with ExitStack() as stack:
                for place, layer in enumerate(self._layers):
                    stack.enter_context(layer.added(*matrices[2 * place : 2 * place + 2]))
                return _token_losses(self._logits(ids, targets, Common()), targets)[0]

        rows = []
        for direction in directions:
            tangents = tuple(direction[block.name].to(self.device) for block in self.blocks)
            derivative: Tensor = torch.func.jvp(losses, primals, tangents)[1]
            rows.append(derivative[targets[0] != _UNASKED].detach())
        return torch.stack(rows).cpu()

    def _capture(self, positions: tuple[int, ...], queries: Sequence[Query | TrainingExample], common: Common) -> Batch:
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}

        def keep(path: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
            def hook(_: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
                inputs[path] = arguments[0].detach()
                outputs[path] = output if output.requires_grad else output.detach().requires_grad_()
                return outputs[path]

            return hook

        ids, targets = self._tensors(queries)
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(self._adapted(True))
            for layer in self._layers:
                stack.callback(layer.linear.register_forward_hook(keep(layer.path)).remove)
            logits = self._logits(ids, targets, common)
        losses, slopes = _losses_and_slopes(logits.detach(), targets)
        found = torch.autograd.grad(logits, [outputs[layer.path] for layer in self._layers], slopes)
        if (
            not torch.isfinite(losses).all()
            or not torch.isfinite(torch.stack([deltas.sum() for deltas in found])).all()
        ):
            raise ModelError(
                f"a loss or gradient of example {positions[0]} or its batch is not finite; "
                "the model diverged or was damaged"
            )
        blocks = tuple(
            captured
            for layer, deltas in zip(self._layers, found, strict=True)
            for captured in layer.captured(inputs[layer.path], deltas)
        )
        counts = torch.tensor([len(query.token_ids) for query in queries], device=ids.device)
        mask = torch.arange(ids.shape[1], device=ids.device) < counts[:, None]
        return Batch(positions, losses, mask, blocks)

    def _logits(self, ids: Tensor, targets: Tensor, common: Common) -> Tensor:
        """[queries, kept positions, vocabulary] at the places of ``targets``."""
        first = ids.shape[1] - targets.shape[1]
        options = {"logits_to_keep": torch.arange(first, ids.shape[1], device=ids.device)} if self._keeps else {}
        with torch.autocast(ids.device.type, enabled=False), common.over(self.model, self._unreached):
            logits: Tensor = self.model(input_ids=ids, use_cache=False, **options).logits
        return logits if self._keeps else logits[:, first:]

    def _tensors(self, queries: Sequence[Query | TrainingExample]) -> tuple[Tensor, Tensor]:
        """Token ids [queries, padded length], and targets [queries, kept positions], the last so many positions.

        Positions before the first output are not kept, up to the padding; targets are -100 where nothing is predicted.
        """
        length = min(self.context, max(padded_length(len(query.token_ids)) for query in queries))
        ids = torch.zeros(len(queries), length, dtype=torch.int64)
        targets = torch.full((len(queries), length), _UNASKED, dtype=torch.int64)
        for row, query in enumerate(queries):
            tokens = torch.tensor(list(query.token_ids), dtype=torch.int64)
            first = max(query.prompt_length, 1)
            ids[row, : len(tokens)] = tokens
            targets[row, first - 1 : len(tokens) - 1] = tokens[first:]
        earliest = min(max(query.prompt_length, 1) for query in queries) - 1
        begin = max(0, min(earliest // _PADDING * _PADDING, length - _SHORTEST))
        return ids.to(self.device), targets[:, begin:].contiguous().to(self.device)

    def check(self, query: Query | TrainingExample) -> None:
        check_tokens(query)
        count = len(query.token_ids)
        if count > self.context:
            raise InputError(f"{count} tokens are more than the model's context of {self.context}; shorten the text")
        for token in query.token_ids:
            if not 0 <= token < self.vocabulary:
                raise InputError(
                    f"token id {token} is outside the vocabulary of {self.vocabulary}; use the base's own tokenizer"
                )

    @contextmanager
    def _adapted(self, enabled: bool) -> Iterator[None]:
        with ExitStack() as stack:
            for layer in self._layers if enabled else ():
                stack.enter_context(layer.adapted())
            yield


class _Layer:
    """A linear layer of the base (``linear``, called ``path`` there) and what an adapter adds to it."""

    def __init__(self, name: str, path: str, peft: Any) -> None:
        first, second = peft.lora_A["default"], peft.lora_B["default"]
        self.path = path
        self.linear: Any = peft.get_base_layer()
        self.blocks = (
            Block(f"{name}.lora_A.weight", first.out_features, first.in_features),
            Block(f"{name}.lora_B.weight", second.out_features, second.in_features),
        )
        self.a, self.b = first.weight.detach(), second.weight.detach()
        self._scale = float(peft.scaling["default"])
        self._turned = bool(peft.fan_in_fan_out)
        self._merged: nn.Parameter | None = None

    def put(self, a: Tensor, b: Tensor, merge: bool) -> None:
        """Take an adapter's matrices; ``merge`` keeps a copy of the layer's with them."""
        self.a, self.b = a, b
        self._scaled_a, self._scaled_b = a * self._scale, b * self._scale
        self._merged = None
        if merge:
            change = b @ self._scaled_a
            self._merged = nn.Parameter(self.linear.weight + (change.T if self._turned else change), False)

    def adapted(self) -> AbstractContextManager[None]:
        """Inside it the layer works with the adapter."""
        return self.added(self.a, self.b) if self._merged is None else self._with(self._merged)

    def added(self, a: Tensor, b: Tensor) -> AbstractContextManager[None]:
        """Inside it these matrices' product is added to the layer's output."""
        plain = self.linear.forward
        return standing_in(self.linear, lambda inputs: plain(inputs) + (inputs @ a.T) @ b.T * self._scale)

    def captured(self, inputs: Tensor, deltas: Tensor) -> tuple[Captured, Captured]:
        """For A and B, from the layer's inputs and the gradients at its outputs."""
        return Captured(inputs, deltas @ self._scaled_b), Captured(inputs @ self._scaled_a.T, deltas)

    @contextmanager
    def _with(self, weight: nn.Parameter) -> Iterator[None]:
        plain = self.linear.weight
        self.linear.weight = weight
        try:
            yield
        finally:
            self.linear.weight = plain


def _token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """-log p of each target in nats, in the shape of ``targets``; 0 where nothing is predicted."""
    found = cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=_UNASKED, reduction="none")
    return found.reshape(targets.shape)


def _losses_and_slopes(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed -log p in nats [examples], and its derivatives by the logits, in their shape."""
    known = targets.flatten() != _UNASKED
    wanted = torch.where(known, targets.flatten(), 0)
    rows = torch.arange(len(wanted), device=wanted.device)
    slopes = torch.log_softmax(logits.flatten(0, 1), dim=1)
    losses = torch.where(known, -slopes[rows, wanted], 0.0).reshape(targets.shape).sum(dim=1)
    slopes.exp_()
    slopes[rows, wanted] -= 1
    slopes[rows[~known]] = 0
    return losses, slopes.reshape(logits.shape)


def check_tokens(query: Query | TrainingExample) -> None:
    """Raise InputError unless there is at least one output token that something predicts."""
    count = len(query.token_ids)
    if query.prompt_length < 0 or count <= max(query.prompt_length, 1):
        raise InputError(
            f"the output is empty: {count} tokens of which {query.prompt_length} are the prompt; "
            "influence needs at least one output token after at least one other token"
        )


def batched(queries: Sequence[Query | TrainingExample], tokens: int) -> Iterator[tuple[int, ...]]:
    """Places of queries of one padded length, the short ones first, of at most ``tokens`` tokens together."""
    lengths = [padded_length(len(query.token_ids)) for query in queries]
    order = sorted(range(len(queries)), key=lambda place: lengths[place])
    start = 0
    while start < len(order):
        length = lengths[order[start]]
        end = start + max(1, tokens // length)
        chosen = tuple(place for place in order[start:end] if lengths[place] == length)
        yield chosen
        start += len(chosen)


def padded_length(count: int) -> int:
    """The length in tokens to which a sequence of ``count`` tokens is padded: enough for the same bits in any batch."""
    return max(_SHORTEST, -(-count // _PADDING) * _PADDING)


def read_weights(adapter: Path) -> dict[str, Tensor]:
    """An adapter's matrices in float32 by their names in the file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    path = Path(adapter) / ADAPTER_WEIGHTS
    try:
        return {name: value.float() for name, value in load_file(path).items()}
    except (OSError, SafetensorError) as error:
        raise ModelError(f"no readable adapter in {path}: {error}; only safetensors are read") from error


def read_config(adapter: Path) -> LoraConfig:
    """An adapter's configuration.

    Raises:
        ModelError: it is missing, malformed, or not LoRA.
    """
    path = Path(adapter) / ADAPTER_CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("peft_type") != "LORA":
            raise ModelError(f"{path} is an adapter of type {values.get('peft_type')!r}; attribution reads LORA")
        config: LoraConfig = LoraConfig.from_pretrained(str(adapter))
        return config
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"no readable adapter configuration in {path}: {error}") from error


def _check_config(config: Any) -> None:
    if not isinstance(config, LoraConfig):
        raise ModelError(f"attribution reads LoRA adapters, this one is {type(config).__name__}")
    for field in ("use_dora", "modules_to_save", "trainable_token_indices", "layer_replication", "target_parameters"):
        if getattr(config, field, None):
            raise ModelError(f"the adapter uses {field}, whose influence is not measured; train it as plain LoRA")
    if config.bias != "none" or getattr(config, "lora_bias", False):
        raise ModelError("the adapter trains biases, whose influence is not measured; train it with bias='none'")


def _check_base(base: nn.Module) -> None:
    kinds = {parameter.dtype for parameter in base.parameters() if parameter.is_floating_point()}
    if kinds != {torch.float32}:
        raise ModelError(
            f"the model's weights are {sorted(map(str, kinds))}; load it in float32, since attribution in a lower "
            "precision is silently wrong"
        )


def _inference_config(config: LoraConfig) -> LoraConfig:
    fresh = copy.deepcopy(config)
    fresh.inference_mode = False
    fresh.init_lora_weights = True
    fresh.lora_dropout = 0.0
    return fresh


def _share(model: nn.Module) -> Any:
    """A second module tree over the same memory, without the first one's hooks; nothing in it asks for gradients."""
    memo: dict[int, Any] = {id(tensor): nn.Parameter(tensor.detach(), False) for tensor in model.parameters()}
    memo |= {id(tensor): tensor for tensor in model.buffers()}
    twin = copy.deepcopy(model, memo)
    for module in twin.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return twin


def bare(model: PeftModel) -> tuple[PreTrainedModel, LoraConfig, dict[str, Tensor]]:
    """A peft model's base (a tree of its own over the same weights), configuration and adapter matrices.

    Raises:
        ModelError: not exactly one adapter is active.
    """
    active = list(model.active_adapters)
    if len(active) != 1:
        raise ModelError(f"{len(active)} adapters are active: {active}; activate the one that is asked about")
    ending = f".{active[0]}.weight"
    weights = {
        name.removesuffix(ending) + ".weight": value.detach().float()
        for name, value in model.named_parameters()
        if ".lora_" in name and name.endswith(ending)
    }
    config: Any = model.peft_config[active[0]]
    return _share(model).unload(), config, weights


def _adapted_layers(wrapped: PeftModel) -> tuple[_Layer, ...]:
    """The adapter's layers in a fixed order."""
    found = []
    for name, module in wrapped.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if len(module.lora_embedding_A):
            raise ModelError(f"the adapter trains the embedding {name}, whose influence is not measured")
        for part in ("lora_A", "lora_B"):
            linear = getattr(module, part)["default"]
            if not isinstance(linear, nn.Linear):
                raise ModelError(f"{name}.{part} is a {type(linear).__name__}; only linear layers are supported")
        found.append(_Layer(name, name.removeprefix(_PREFIX), module))
    if not found:
        raise ModelError("the adapter adapts no linear layer of this model; check its target_modules")
    return tuple(found)
