"""Adapters on disk: read and checked in peft's format, kept as one flat, pre-scaled, memory-mapped file named by its hash.

Nothing that an uploader sends is trusted: shapes and sizes are looked at before any number is read, only safetensors are
opened, files must lie in the folder, and every tensor must have the base's shapes and finite values.

DoRA (https://arxiv.org/abs/2402.09353) makes the weights m (W + sBA) / |W + sBA|, row by row. With g = m / |W + sBA| that is
g y + g s B A x for what the base computes, y: a gain for each output beside the factors. Biases are a shift for each output. So
both are served in one batch with plain adapters. What cannot be said in this way (whole modules, embeddings) is told by
:class:`NeedsMerging`, and served by the fallback engine.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import regex
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch.nn import functional

from openledger.openlora.shapes import (
    DTYPES,
    MODULES,
    RANKS,
    SITES,
    Dimensions,
    Layout,
    Precision,
    bucket,
    shared,
    tiled,
    untiled,
)
from openledger.primitives import InputError, ModelError, NotFoundError, keccak_file, parse_json, to_hex

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_HEADER = 4096
_FORMAT = "openledger-lora-3"
_MOST_CONFIG_BYTES = 1 << 20
_MOST_HEADER_BYTES = 16 << 20
_MOST_PATTERNS = 1024
_MOST_PATTERN = 256
_PATTERN_SECONDS = 2.0
_FLOATS = ("F64", "F32", "F16", "BF16")
_PARTS = {
    "lora_A.weight": "A",
    "lora_B.weight": "B",
    "lora_B.bias": "bias of B",
    "lora_magnitude_vector": "magnitude",
    "lora_magnitude_vector.weight": "magnitude",
    "bias": "bias",
    "base_layer.bias": "bias",
}
_KEY = re.compile(
    r"base_model\.model\.(?:model\.layers\.(0|[1-9][0-9]{0,5})\.([a-z_]+\.[a-z_]+)|(lm_head))\.("
    + "|".join(map(re.escape, _PARTS))
    + ")"
)
_SITE_OF = {module: site for site, module in MODULES.items()}
# At the start of training these take a part of the base's weights into the factors, so the adapter belongs to other weights.
_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")


class Change(NamedTuple):
    """What an adapter makes of a linear layer's output y for the input x: gain * y + shift + B A x.

    Attributes:
        a: [r, input]; r may be 0.
        b: [output, r], with the scaling in it.
        gain: [output]; None for 1.
        shift: [output]; None for 0.
    """

    a: torch.Tensor
    b: torch.Tensor
    gain: torch.Tensor | None = None
    shift: torch.Tensor | None = None


Factors = dict[tuple[int, str], Change]
"""By (layer, site); the head's layer is the number of layers."""

Linears = Callable[[int, str], tuple[torch.Tensor, torch.Tensor | None]]
"""(layer, site) → the base's weights [output, input] and bias [output], if any."""


class NeedsMerging(ModelError):
    """A sound LoRA adapter that is more than a change of linear layers' outputs; peft can run it."""


@dataclass(frozen=True)
class AdapterLimits:
    """What an operator accepts, and how it is kept.

    Attributes:
        rank: the highest rank.
        file_bytes: the largest safetensors file.
        precision: of the factors in the store and in memory. float32 is exact, and takes half of the memory for an adapter
            whose scaled factors bfloat16 holds without rounding, as those that were trained in it. bfloat16 takes half and
            int8 (a scale for each rank) a quarter for every adapter, and rounds: not what receipts are recomputed with.
    """

    rank: int = 256
    file_bytes: int = 2 << 30
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= RANKS[-1]:
            raise InputError(f"the rank limit is {self.rank}; it must be from 1 to {RANKS[-1]}")
        if self.precision not in DTYPES:
            raise InputError(f"the adapters' precision is {self.precision!r}; it must be {', '.join(DTYPES)}")


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
        linears: the base's weights, without which DoRA and biases are not taken.
    """

    def __init__(
        self,
        folder: Path,
        dimensions: Dimensions,
        base: str,
        limits: AdapterLimits | None = None,
        linears: Linears | None = None,
    ) -> None:
        self._folder = folder
        self._dimensions = dimensions
        self._base = base
        self._limits = limits or AdapterLimits()
        self._linears = linears
        folder.mkdir(parents=True, exist_ok=True)

    def take(self, source: Path) -> StoredAdapter:
        """Checks an adapter in peft's format and converts it.

        Raises:
            NotFoundError: a file is missing.
            ModelError: it is broken, too large, not finite, or made for another base.
            NeedsMerging: it is sound and only peft can run it.
        """
        return self.put(read_factors(source, self._dimensions, self._base, self._limits, self._linears))

    def combine(self, parts: Sequence[tuple[StoredAdapter, float]]) -> StoredAdapter:
        """One adapter that changes the base by the weighted sum of what the parts change it by.

        Raises:
            InputError: no part, a weight that is not finite, or ranks that sum to more than the limit.
        """
        opened = [(unpack(stored.open(), stored.layout), weight) for stored, weight in parts]
        return self.put(weighted_sum(opened, self._limits.rank))

    def put(self, factors: Factors) -> StoredAdapter:
        """Writes factors; the same factors give the same file."""
        rank = max(len(change.a) for change in factors.values())
        sites = tuple(site for site in SITES if any(name == site for _, name in factors))
        affine = {site for (_, site), change in factors.items() if change.gain is not None or change.shift is not None}
        precision = self._limits.precision
        if precision == "float32" and all(_short(change.a) and _short(change.b) for change in factors.values()):
            precision = "bfloat16"
        layout = shared(
            Layout(self._dimensions, bucket(rank), sites, tuple(sorted(affine, key=SITES.index)), precision)
        )
        head = json.dumps(
            {
                "format": _FORMAT,
                "rank": layout.rank,
                "sites": sites,
                "affine": layout.affine,
                "precision": layout.precision,
                "size": layout.size,
            },
            sort_keys=True,
        )
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
    """The flat vector [layout.size] of the factors, ranks padded with zeros and what is not changed with gains of 1."""
    flat = torch.zeros(layout.size)
    room = flat[layout.start :].view(DTYPES[layout.precision])
    for layer, site, block, up in layout.places():
        change = factors.get((layer, site))
        width = up.end - up.start
        if up.affine >= 0:
            gain, shift = (change.gain, change.shift) if change is not None else (None, None)
            flat[up.affine : up.affine + width] = 1 if gain is None else gain
            flat[up.affine + width : up.affine + 2 * width] = 0 if shift is None else shift
        if change is None:
            continue
        a, b = change.a, change.b.t()
        if up.scales >= 0:
            a, of_a = _codes(a)
            b, of_b = _codes(b)
            flat[up.scales : up.scales + len(a)] = of_a * of_b
        for at, rows in ((block.offset + up.part * layout.rank * block.inputs, a), (up.offset, b)):
            whole = torch.zeros(layout.rank, rows.shape[1], dtype=room.dtype)
            whole[: len(rows)] = rows
            room[at : at + whole.numel()] = tiled(whole)
    return flat


def unpack(flat: torch.Tensor, layout: Layout) -> Factors:
    """The factors of a flat vector, at the bucket's rank."""
    found: Factors = {}
    room = flat[layout.start :].view(DTYPES[layout.precision])
    for layer, site, block, up in layout.places():
        at, width = block.offset + up.part * layout.rank * block.inputs, up.end - up.start
        a = untiled(room[at : at + layout.rank * block.inputs], layout.rank).float()
        b = untiled(room[up.offset : up.offset + layout.rank * width], layout.rank).t().float()
        if up.scales >= 0:
            b = b * flat[up.scales : up.scales + layout.rank]
        gain = shift = None
        if up.affine >= 0:
            gain, shift = flat[up.affine : up.affine + 2 * width].view(2, width)
        if (a.any() and b.any()) or (gain is not None and shift is not None and ((gain != 1).any() or shift.any())):
            found[layer, site] = Change(a, b, gain, shift)
    return found


def _short(rows: torch.Tensor) -> bool:
    """Whether bfloat16 holds all the numbers without rounding."""
    return torch.equal(rows.bfloat16().float(), rows)


def _codes(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """int8 codes of [r, n], symmetric and nearest, and the scale of each row."""
    scale = rows.abs().amax(dim=1).clamp_min(1e-30) / 127
    return (rows / scale[:, None]).round().to(torch.int8), scale


def weighted_sum(parts: Sequence[tuple[Factors, float]], most_rank: int) -> Factors:
    """Factors that change the base by the weighted sum of what the parts change it by: their ranks one after the other.

    Raises:
        InputError: no part, a weight that is not finite, or ranks that sum to more than ``most_rank``.
    """
    if not parts or not all(math.isfinite(weight) for _, weight in parts):
        raise InputError("an ensemble needs at least one adapter, each with a finite weight")
    joined: Factors = {}
    for factors, weight in parts:
        for key, change in factors.items():
            joined[key] = _sum(joined.get(key), change, weight)
    rank = max(len(change.a) for change in joined.values())
    if rank > most_rank:
        raise InputError(f"the ensemble's ranks sum to {rank}, above the limit of {most_rank}; leave some out")
    return joined


def _sum(before: Change | None, change: Change, weight: float) -> Change:
    """What both change together, the second times ``weight``."""
    a, b, gain, shift = change
    if gain is not None and shift is not None:
        gain, shift = 1 + weight * (gain - 1), weight * shift
    if before is None:
        return Change(a, b * weight, gain, shift)
    if gain is None or shift is None:
        gain, shift = before.gain, before.shift
    elif before.gain is not None and before.shift is not None:
        gain, shift = gain + before.gain - 1, shift + before.shift
    return Change(torch.cat((before.a, a)), torch.cat((before.b, b * weight), dim=1), gain, shift)


def read_factors(
    folder: Path, dimensions: Dimensions, base: str, limits: AdapterLimits, linears: Linears | None = None
) -> Factors:
    """An adapter's factors from a folder in peft's format, checked.

    Raises:
        NotFoundError: a file is missing.
        ModelError: what is wrong with it, with the value.
        NeedsMerging: it is sound and only peft can run it; without ``linears`` that includes DoRA and biases.
    """
    config = read_config(folder, base)
    if config.get("fan_in_fan_out"):
        raise ModelError(f"{folder / CONFIG} sets fan_in_fan_out, which none of this base's layers has")
    for name, what in (("modules_to_save", "whole modules"), ("trainable_token_indices", "tokens")):
        if config.get(name) not in (None, [], {}):
            raise NeedsMerging(f"it changes {what} of the base besides its factors")
    for name in ("alora_invocation_tokens", "use_qalora", "arrow_config"):
        if config.get(name):
            raise NeedsMerging(f"it uses {name}")
    if linears is None and (config.get("use_dora") or config.get("lora_bias") or config.get("bias", "none") != "none"):
        raise NeedsMerging("its DoRA norms or biases depend on the base's weights")

    def place(name: str, shape: Sequence[int]) -> tuple[tuple[int, str], str]:
        key, part = _place(name, dimensions)
        _check_shape(key, part, shape, dimensions, limits)
        return key, part

    parts: dict[tuple[int, str], dict[str, torch.Tensor]] = {}
    with open_weights(folder, limits) as tensors:
        places = {name: place(name, tensors.shape(name)) for name in tensors.names}
        for name, (key, part) in places.items():
            if part in parts.setdefault(key, {}):
                raise ModelError(f"the tensor {short(name)} tells the {part} of {_module(key)} again; keep one")
            parts[key][part] = tensors.read(name)
    patterns = Patterns(config)
    factors = {key: _change(key, parts[key], config, patterns, linears) for key in sorted(parts)}
    if not factors:
        raise ModelError(f"{folder / WEIGHTS} holds no factors of this base's modules; it changes nothing")
    return factors


def write_factors(folder: Path, factors: Factors) -> None:
    """Writes low-rank factors in peft's format, the inverse of :func:`read_factors`; all of them padded to one rank.

    Raises:
        ModelError: they have gains or shifts, which that format tells otherwise.
    """
    rank = max(len(change.a) for change in factors.values())
    tensors = {}
    for key, (a, b, gain, shift) in factors.items():
        if gain is not None or shift is not None:
            raise ModelError(f"the gains or shifts of {_module(key)} cannot be written as low-rank factors")
        name, more = f"base_model.model.{_module(key)}", rank - len(a)
        tensors[f"{name}.lora_A.weight"] = functional.pad(a, (0, 0, 0, more)).contiguous()
        tensors[f"{name}.lora_B.weight"] = functional.pad(b, (0, more)).contiguous()
    save_file(tensors, folder / WEIGHTS)
    modules = sorted({MODULES[site].rpartition(".")[2] for _, site in factors})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": modules, "bias": "none"}
    (folder / CONFIG).write_text(json.dumps(config))


def read_config(folder: Path, base: str) -> dict[str, Any]:
    """An adapter's configuration, for whose base and method of training this project can answer.

    Raises:
        NotFoundError, ModelError: there is none, or what is wrong with it.
    """
    path = _checked_file(folder, CONFIG, _MOST_CONFIG_BYTES)
    try:
        config = parse_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{path} does not describe a LoRA adapter: only LoRA is served")
    named = config.get("revision")
    if isinstance(named, str) and named.startswith("0x") and named != base:
        raise ModelError(f"the adapter in {folder} was trained on the base {named}, not on {base}; load that base")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGING_STARTS):
        raise ModelError(
            f"{path} says init_lora_weights {start!r}, which changes the base's weights; save the adapter with "
            "path_initial_model_for_weight_conversion"
        )
    if config.get("bias") not in (None, "none", "all", "lora_only"):
        raise ModelError(f"{path} says bias {short(config['bias'])}; it must be none, all or lora_only")
    for name in ("layer_replication", "megatron_config", "target_parameters"):
        if config.get(name):
            raise ModelError(f"{path} sets {name}, which is not served")
    return config


class Tensors:
    """The tensors of a safetensors file, of which only the header was read."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.names: tuple[str, ...] = tuple(file.keys())

    def shape(self, name: str) -> tuple[int, ...]:
        """Its shape.

        Raises:
            ModelError: it holds no floating-point numbers.
        """
        tensor = self._file.get_slice(name)
        if tensor.get_dtype() not in _FLOATS:
            raise ModelError(
                f"the tensor {short(name)} is {tensor.get_dtype()}: it must be of floating-point numbers, "
                f"one of {', '.join(_FLOATS)}"
            )
        return tuple(tensor.get_shape())

    def read(self, name: str) -> torch.Tensor:
        """Its values as float32.

        Raises:
            ModelError: one is not finite.
        """
        value: torch.Tensor = self._file.get_tensor(name).float()
        if not torch.isfinite(value).all():
            raise ModelError(f"the tensor {short(name)} holds values that are not finite; train the adapter again")
        return value


@contextmanager
def open_weights(folder: Path, limits: AdapterLimits) -> Iterator[Tensors]:
    """An adapter's weights.

    Raises:
        NotFoundError, ModelError: there are none, or what is wrong with the file.
    """
    path = _checked_file(folder, WEIGHTS, limits.file_bytes)
    size = path.stat().st_size
    with path.open("rb") as file:
        declared = int.from_bytes(file.read(8), "little")
    if size < 8 or declared > min(size - 8, _MOST_HEADER_BYTES):
        raise ModelError(
            f"{path} is no safetensors file: it declares a header of {declared:,} bytes and has {size:,} in all "
            f"(headers above {_MOST_HEADER_BYTES:,} bytes are refused)"
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as opened:
            yield Tensors(opened)
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelError(f"{path} is no safetensors file: {' '.join(str(error).split())[:200]}") from error


def _checked_file(folder: Path, name: str, most: int) -> Path:
    path = folder / name
    if not os.path.isfile(path):  # pathlib raises where a name is too long
        pickled = name == WEIGHTS and os.path.exists(folder / "adapter_model.bin")
        if pickled:
            raise ModelError(f"{folder} has only pickled weights, which can run code: save it as safetensors")
        raise NotFoundError(f"{folder} is no adapter: it has no {name}; only safetensors in peft's format are served")
    if path.resolve().parent != folder.resolve():
        raise ModelError(f"{path} points out of its folder, to {path.resolve()}; put the file itself there")
    if (size := path.stat().st_size) > most:
        raise ModelError(f"{path} has {size:,} bytes; at most {most:,} are accepted")
    return path


def _place(name: str, dimensions: Dimensions) -> tuple[tuple[int, str], str]:
    """((layer, site), what of it) of a tensor's name."""
    found = _KEY.fullmatch(name)
    if found is None:
        if any(part in name for part in ("lora_embedding", "embed_tokens", ".base_layer.")):
            raise NeedsMerging("it brings embeddings or weights of its own")
        raise ModelError(f"the tensor {short(name)} belongs to no module of this base; was it trained on another?")
    layer, module, head, part = found.groups()
    if head:
        return (dimensions.layers, "head"), _PARTS[part]
    site = _SITE_OF.get(module)
    if site is None or int(layer) >= dimensions.layers:
        raise ModelError(
            f"the tensor {short(name)} belongs to no module of this base, which has {dimensions.layers} layers; "
            "was it trained on another?"
        )
    return (int(layer), site), _PARTS[part]


def _module(key: tuple[int, str]) -> str:
    layer, site = key
    return MODULES[site] if site == "head" else f"model.layers.{layer}.{MODULES[site]}"


def _check_shape(
    key: tuple[int, str], part: str, shape: Sequence[int], dimensions: Dimensions, limits: AdapterLimits
) -> None:
    inputs, outputs = dimensions.site(key[1])
    needed: tuple[int | None, ...] = {"A": (None, inputs), "B": (outputs, None)}.get(part, (outputs,))
    if len(shape) != len(needed) or any(want not in (None, have) for want, have in zip(needed, shape, strict=True)):
        wanted = ", ".join("r" if want is None else str(want) for want in needed)
        raise ModelError(f"the {part} of {_module(key)} has the shape {list(shape)}; this base needs [{wanted}]")
    rank = next((have for want, have in zip(needed, shape, strict=True) if want is None), 1)
    if not 1 <= rank <= limits.rank:
        raise ModelError(
            f"the adapter has the rank {rank} at {_module(key)}; at least 1, at most {limits.rank} is accepted"
        )


def _change(
    key: tuple[int, str],
    parts: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    patterns: Patterns,
    linears: Linears | None,
) -> Change:
    """What one module's tensors change, with the scaling, the norms and the biases worked in."""
    module = _module(key)
    if not {"A", "B"} <= set(parts) and set(parts) != {"bias"}:
        raise ModelError(f"the adapter has only {' and '.join(sorted(parts))} of {module}; it needs both factors")
    for part, field in (("magnitude", "use_dora"), ("bias of B", "lora_bias")):
        if (part in parts) != bool(config.get(field)) and set(parts) != {"bias"}:
            raise ModelError(f"{module} {'has a' if part in parts else 'lacks its'} {part}, against {field}")
    if linears is None:
        return Change(*_scaled(module, parts["A"], parts["B"], patterns, bool(config.get("use_rslora")))[:2])
    weight, bias = linears(*key)
    before = torch.zeros(len(weight)) if bias is None else bias
    shift = parts.get("bias", before)
    if "bias" in parts and (bias is None or config.get("bias", "none") == "none"):
        raise ModelError(f"the adapter has a bias for {module}, which has none or which its configuration excludes")
    if "A" not in parts:
        return Change(torch.zeros(0, weight.shape[1]), torch.zeros(len(weight), 0), None, shift - before)
    a, b, scale = _scaled(module, parts["A"], parts["B"], patterns, bool(config.get("use_rslora")))
    gain = torch.ones(len(weight))
    if "magnitude" in parts:
        # In float64, which rounds to the same float32 however a processor orders the sums.
        changed = torch.linalg.norm(weight.double() + b.double() @ a.double(), dim=1)
        gain = (parts["magnitude"].double() / changed).float()
        b = gain[:, None] * b
    shift = shift - gain * before
    if "bias of B" in parts:
        shift = shift + scale * parts["bias of B"]
    if not all(torch.isfinite(one).all() for one in (b, gain, shift)):
        raise ModelError(f"the gains or shifts of {module} are not finite; train the adapter again")
    if not parts.keys() - {"A", "B"}:
        return Change(a, b)
    return Change(a, b, gain, shift)


def _scaled(
    module: str, a: torch.Tensor, b: torch.Tensor, patterns: Patterns, root: bool
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """(A, B times the scaling, the scaling)."""
    rank = len(a)
    if b.shape[1] != rank:
        raise ModelError(f"the factors of {module} have the ranks {rank} and {b.shape[1]}; they must be the same")
    scale = scaling_of(patterns, module, rank, root)
    scaled = b * scale
    if not torch.isfinite(scaled).all():
        raise ModelError(f"the factors of {module} times the scaling {scale:g} are not finite; lower lora_alpha")
    return a, scaled, scale


def scaling_of(patterns: Patterns, module: str, rank: int, root: bool) -> float:
    """lora_alpha over the rank of a module, or over its root (rsLoRA).

    Raises:
        ModelError: the configuration gives the module another rank, or no number.
    """
    declared, alpha = patterns.rank(module), patterns.alpha(module)
    if declared != rank:
        raise ModelError(f"the configuration gives {module} the rank {short(declared)}, its factors have {rank}")
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not -1e30 < alpha < 1e30:
        raise ModelError(f"lora_alpha of {module} is {short(alpha)}; it must be a number between -1e30 and 1e30")
    return alpha / math.sqrt(rank) if root else alpha / rank


class Patterns:
    """``r`` and ``lora_alpha`` by module: the first pattern that fits the end of its name counts, as in peft.

    Raises:
        ModelError: they are no patterns, too many, or take too long together.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._left = _PATTERN_SECONDS
        self._config = config
        self._found = {name: list(self._compiled(name)) for name in ("rank_pattern", "alpha_pattern")}

    def rank(self, module: str) -> Any:
        """As the uploader wrote it."""
        return self._first("rank_pattern", module, self._config.get("r"))

    def alpha(self, module: str) -> Any:
        """As the uploader wrote it."""
        return self._first("alpha_pattern", module, self._config.get("lora_alpha"))

    def _compiled(self, name: str) -> Iterator[tuple[Any, Any]]:
        patterns = self._config.get(name) or {}
        if not isinstance(patterns, dict) or len(patterns) > _MOST_PATTERNS:
            raise ModelError(f"{name} is {short(patterns)}; it must map at most {_MOST_PATTERNS} modules to numbers")
        for pattern, value in patterns.items():
            if len(pattern) > _MOST_PATTERN:
                raise ModelError(f"{name} holds a pattern of {len(pattern):,} characters; {_MOST_PATTERN} are accepted")
            try:
                yield regex.compile(rf"(.*\.)?({pattern})$"), value
            except (regex.error, ValueError, OverflowError, RecursionError, MemoryError) as error:
                raise ModelError(f"{name} holds {short(pattern)}, which is no regular expression: {error}") from error

    def _first(self, name: str, module: str, default: Any) -> Any:
        started = time.monotonic()
        for pattern, value in self._found[name]:
            try:
                if pattern.match(module, timeout=max(1e-3, self._left + started - time.monotonic())):
                    default = value
                    break
            except TimeoutError as error:
                raise ModelError(
                    f"{name} takes too long to match; write it simpler: {short(pattern.pattern)}"
                ) from error
        self._left -= time.monotonic() - started
        return default


def short(value: object) -> str:
    """What an uploader wrote, in at most 80 characters."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
