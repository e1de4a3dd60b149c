"""Adapters on disk: read and checked in peft's format, kept as one flat, pre-scaled, memory-mapped file named by its hash.

Nothing that an uploader sends is trusted: sizes are looked at before anything is read, only safetensors are opened, files
must lie in the folder, and every tensor must have the base's shapes and finite values. What the fused path does not express
(DoRA, biases, whole modules, embeddings) is told by :class:`NeedsMerging`, and served by the fallback engine.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft.utils.other import get_pattern_key
from safetensors import SafetensorError, safe_open

from openledger.openlora.shapes import MODULES, RANKS, SITES, Dimensions, Layout, bucket
from openledger.primitives import InputError, ModelError, NotFoundError, keccak_file, parse_json, to_hex

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_HEADER = 4096
_FORMAT = "openledger-lora-1"
_MOST_CONFIG_BYTES = 1 << 20
_MOST_HEADER_BYTES = 16 << 20
_KEY = re.compile(r"base_model\.model\.(?:model\.layers\.(\d+)\.([a-z_.]+)|(lm_head))\.lora_(A|B)\.weight")
_SITE_OF = {module: site for site, module in MODULES.items()}

Factors = dict[tuple[int, str], tuple[torch.Tensor, torch.Tensor]]
"""(layer, site) → (A [r, input], B [output, r] with the scaling in it); the head's layer is the number of layers."""


class NeedsMerging(ModelError):
    """A sound LoRA adapter that is more than down- and up-projections; peft can run it."""


@dataclass(frozen=True)
class AdapterLimits:
    """What an operator accepts.

    Attributes:
        rank: the highest rank.
        file_bytes: the largest safetensors file.
    """

    rank: int = 256
    file_bytes: int = 2 << 30

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= RANKS[-1]:
            raise InputError(f"the rank limit is {self.rank}; it must be from 1 to {RANKS[-1]}")


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter in the store; a few hundred bytes of memory, however large its file."""

    digest: bytes
    path: Path
    layout: Layout
    rank: int

    def open(self) -> torch.Tensor:
        """The flat vector [layout.size], mapped from the file and not yet read."""
        with self.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        return torch.frombuffer(mapped, dtype=torch.float32, offset=_HEADER, count=self.layout.size)

    def read(self, room: torch.Tensor) -> None:
        """Reads the flat vector into ``room`` [layout.size].

        Raises:
            ModelError: the file is too short.
        """
        with self.path.open("rb") as file:
            file.seek(_HEADER)
            found = file.readinto(room.numpy().data.cast("B"))
        if found != 4 * self.layout.size:
            raise ModelError(f"{self.path} was cut to {_HEADER + found:,} bytes; add the adapter again")


class AdapterStore:
    """A folder of converted adapters, each named by the hash of its content.

    Args:
        folder: where they are kept; made if missing.
        dimensions: the base model's.
        base: the base model's digest in hex, to refuse adapters that name another.
        limits: what is accepted.
    """

    def __init__(self, folder: Path, dimensions: Dimensions, base: str, limits: AdapterLimits | None = None) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._base = base
        self._limits = limits or AdapterLimits()
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, source: Path) -> StoredAdapter:
        """Checks an adapter in peft's format and converts it.

        Raises:
            NotFoundError: a file is missing.
            ModelError: it is broken, too large, not finite, or made for another base.
            NeedsMerging: it is sound and only peft can run it.
        """
        return self.put(read_factors(source, self._dimensions, self._base, self._limits))

    def combine(self, parts: Sequence[tuple[StoredAdapter, float]]) -> StoredAdapter:
        """One adapter that changes the base by the weighted sum of what the parts change it by.

        Raises:
            InputError: no part, a weight that is not finite, or ranks that sum to more than the limit.
        """
        if not parts or not all(math.isfinite(weight) for _, weight in parts):
            raise InputError("an ensemble needs at least one adapter, each with a finite weight")
        joined: Factors = {}
        for stored, weight in parts:
            for key, (a, b) in unpack(stored.open(), stored.layout).items():
                before = joined.get(key)
                joined[key] = (
                    (a, b * weight)
                    if before is None
                    else (
                        torch.cat((before[0], a)),
                        torch.cat((before[1], b * weight), dim=1),
                    )
                )
        rank = max(len(a) for a, _ in joined.values())
        if rank > self._limits.rank:
            raise InputError(
                f"the ensemble's ranks sum to {rank}, above the limit of {self._limits.rank}; leave some out"
            )
        return self.put(joined)

    def put(self, factors: Factors) -> StoredAdapter:
        """Writes factors; the same factors give the same file."""
        rank = max(len(a) for a, _ in factors.values())
        sites = tuple(site for site in SITES if any(name == site for _, name in factors))
        layout = Layout(self._dimensions, bucket(rank), sites)
        head = json.dumps({"format": _FORMAT, "rank": layout.rank, "sites": sites, "size": layout.size}, sort_keys=True)
        descriptor, name = tempfile.mkstemp(dir=self._folder, suffix=".part")
        part = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(head.encode().ljust(_HEADER))
                file.write(pack(factors, layout).numpy().data)
            digest = keccak_file(part)
            path = self._folder / f"{to_hex(digest)}.lora"
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return StoredAdapter(digest, path, layout, rank)

    def remove(self, stored: StoredAdapter) -> None:
        """Deletes the file; requests that are using it keep their mapping."""
        stored.path.unlink(missing_ok=True)


def pack(factors: Factors, layout: Layout) -> torch.Tensor:
    """The flat vector [layout.size] of the factors, ranks padded with zeros."""
    flat = torch.zeros(layout.size)
    for layer, site, block, up in layout.places():
        if (layer, site) in factors:
            a, b = factors[layer, site]
            at = block.offset + up.part * layout.rank * block.inputs
            flat[at : at + a.numel()] = a.reshape(-1)
            flat[up.offset : up.offset + b.numel()] = b.t().reshape(-1)
    return flat


def unpack(flat: torch.Tensor, layout: Layout) -> Factors:
    """The factors of a flat vector, at the bucket's rank."""
    found: Factors = {}
    for layer, site, block, up in layout.places():
        at = block.offset + up.part * layout.rank * block.inputs
        a = flat[at : at + layout.rank * block.inputs].view(layout.rank, block.inputs)
        b = flat[up.offset : up.offset + layout.rank * (up.end - up.start)].view(layout.rank, -1).t()
        if a.any() and b.any():
            found[layer, site] = (a, b)
    return found


def read_factors(folder: Path, dimensions: Dimensions, base: str, limits: AdapterLimits) -> Factors:
    """An adapter's factors from a folder in peft's format, checked.

    Raises:
        NotFoundError: a file is missing.
        ModelError: what is wrong with it, with the value.
        NeedsMerging: it is sound and only peft can run it.
    """
    config = _config(folder, base)
    weights = _checked_file(folder, WEIGHTS, limits.file_bytes)
    _check_header(weights)
    try:
        with safe_open(weights, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{weights} is no safetensors file: {_line(error)}") from error
    if config.get("use_dora"):
        raise NeedsMerging("it is a DoRA adapter, whose norms depend on the base's weights")
    halves: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        key, half = _place(name, dimensions)
        if not tensor.is_floating_point():
            raise ModelError(f"the tensor {name} is {tensor.dtype}: factors are floating-point numbers")
        value = tensor.float()
        if not torch.isfinite(value).all():
            raise ModelError(f"the tensor {name} holds values that are not finite; train the adapter again")
        halves.setdefault(key, {})[half] = value
    factors: Factors = {}
    for (layer, site), pair in sorted(halves.items()):
        factors[layer, site] = _scaled(layer, site, pair, dimensions, config, limits)
    if not factors:
        raise ModelError(f"{weights} holds no factors of this base's modules; it changes nothing")
    return factors


def _config(folder: Path, base: str) -> dict[str, Any]:
    path = _checked_file(folder, CONFIG, _MOST_CONFIG_BYTES)
    try:
        config = parse_json(path.read_bytes())
    except InputError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{path} does not describe a LoRA adapter: only LoRA is served")
    named = config.get("revision")
    if isinstance(named, str) and named.startswith("0x") and named != base:
        raise ModelError(f"the adapter in {folder} was trained on the base {named}, not on {base}; load that base")
    if config.get("fan_in_fan_out"):
        raise ModelError(f"{path} sets fan_in_fan_out, which none of this base's layers has")
    for name, what in (("bias", "biases"), ("modules_to_save", "whole modules"), ("trainable_token_indices", "tokens")):
        if config.get(name) not in (None, "none", [], {}):
            raise NeedsMerging(f"it changes {what} of the base besides its factors")
    for name in ("alora_invocation_tokens", "use_qalora", "lora_bias", "arrow_config"):
        if config.get(name):
            raise NeedsMerging(f"it uses {name}")
    return config


def _checked_file(folder: Path, name: str, most: int) -> Path:
    path = folder / name
    if not path.is_file():
        pickled = name == WEIGHTS and (folder / "adapter_model.bin").exists()
        if pickled:
            raise ModelError(f"{folder} has only pickled weights, which can run code: save it as safetensors")
        raise NotFoundError(f"{folder} is no adapter: it has no {name}; only safetensors in peft's format are served")
    if path.resolve().parent != folder.resolve():
        raise ModelError(f"{path} points out of its folder, to {path.resolve()}; put the file itself there")
    if (size := path.stat().st_size) > most:
        raise ModelError(f"{path} has {size:,} bytes; at most {most:,} are accepted")
    return path


def _check_header(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(8), "little")
    if size < 8 or declared > min(size - 8, _MOST_HEADER_BYTES):
        raise ModelError(
            f"{path} is no safetensors file: it declares a header of {declared:,} bytes and has {size:,} in all "
            f"(headers above {_MOST_HEADER_BYTES:,} bytes are refused)"
        )


def _place(name: str, dimensions: Dimensions) -> tuple[tuple[int, str], str]:
    """((layer, site), A or B) of a tensor's name."""
    found = _KEY.fullmatch(name)
    if found is None:
        if any(part in name for part in ("lora_embedding", "embed_tokens", ".base_layer.")):
            raise NeedsMerging("it brings embeddings or weights of its own")
        raise ModelError(f"the tensor {name!r} belongs to no module of this base; was it trained on another?")
    layer, module, head, half = found.groups()
    if head:
        return (dimensions.layers, "head"), half
    site = _SITE_OF.get(module)
    if site is None or int(layer) >= dimensions.layers:
        raise ModelError(
            f"the tensor {name!r} belongs to no module of this base, which has {dimensions.layers} layers; "
            "was it trained on another?"
        )
    return (int(layer), site), half


def _scaled(
    layer: int,
    site: str,
    pair: Mapping[str, torch.Tensor],
    dimensions: Dimensions,
    config: Mapping[str, Any],
    limits: AdapterLimits,
) -> tuple[torch.Tensor, torch.Tensor]:
    module = MODULES[site] if site == "head" else f"model.layers.{layer}.{MODULES[site]}"
    if set(pair) != {"A", "B"}:
        raise ModelError(f"the adapter has only one of the two factors of {module}")
    a, b = pair["A"], pair["B"]
    inputs, outputs = dimensions.site(site)
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != inputs or b.shape[0] != outputs or len(a) != b.shape[1]:
        raise ModelError(
            f"the factors of {module} have the shapes {list(a.shape)} and {list(b.shape)}; "
            f"this base needs [r, {inputs}] and [{outputs}, r]"
        )
    rank = len(a)
    if not 1 <= rank <= limits.rank:
        raise ModelError(f"the adapter has the rank {rank} at {module}; at most {limits.rank} is accepted")
    declared = _by_pattern(config, "rank_pattern", module, config.get("r"))
    if declared != rank:
        raise ModelError(f"the configuration gives {module} the rank {declared}, its factors have {rank}")
    alpha = _by_pattern(config, "alpha_pattern", module, config.get("lora_alpha"))
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise ModelError(f"lora_alpha of {module} is {alpha!r}; it must be a finite number")
    scale = alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank
    scaled = b * scale
    if not torch.isfinite(scaled).all():
        raise ModelError(f"the factors of {module} times the scaling {scale:g} are not finite; lora_alpha is {alpha!r}")
    return a, scaled


def _by_pattern(config: Mapping[str, Any], name: str, module: str, default: Any) -> Any:
    patterns = config.get(name) or {}
    if not isinstance(patterns, dict):
        raise ModelError(f"{name} is {patterns!r}; it must map modules to numbers")
    try:
        return patterns.get(get_pattern_key(list(patterns), module), default)
    except re.error as error:
        raise ModelError(f"{name} holds a pattern that is no regular expression: {error}") from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
