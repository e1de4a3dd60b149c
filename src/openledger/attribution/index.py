"""The influence index: what a training run left in a model, small enough to keep and exact enough to pay by.

The index is two files: ``manifest.json`` (canonical JSON, whose keccak-256 is the index's digest) and
``index.safetensors`` (named in the manifest by its own hash): the adapter at each checkpoint, the eigenbases and
eigenvalues, the projection, one int8 code per record, and what turns scores into shares. A score is

    score(query, record) = sum over checkpoints of  rate x <whitened query gradient, whitened record gradient>

up to the sketch, the projection and the rounding to int8: how much training on the record lowered the loss of the
query's output. Each query passes through the models alone on the pinned path, so that a score's bits depend on nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedModel

from openledger.attribution.calibration import Calibration
from openledger.attribution.common import Common
from openledger.attribution.curvature import Bases, Rounded, Whitening
from openledger.attribution.gradients import AdapterModel, Block, Query, TrainingExample, read_weights
from openledger.attribution.integers import product
from openledger.attribution.projection import Embedding, Metric, OpenedProjection, Projection
from openledger.models import pinned
from openledger.primitives.canonical import canonical_bytes, parse_json
from openledger.primitives.errors import InputError, ModelError, StorageError, VerificationError
from openledger.primitives.hashing import from_hex, keccak, to_hex

FORMAT = "openledger-influence-4"
_MANIFEST = "manifest.json"
_TENSORS = "index.safetensors"
_TOGETHER = 32
"""Queries that are projected together."""
_CONFIG_FIELDS = (
    "r",
    "lora_alpha",
    "target_modules",
    "exclude_modules",
    "use_rslora",
    "fan_in_fan_out",
    "rank_pattern",
    "alpha_pattern",
    "layers_to_transform",
    "layers_pattern",
)
_FINGERPRINTS: WeakKeyDictionary[PreTrainedModel, bytes] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Settings:
    """How an index is made.

    Attributes:
        damping: added to a matrix's eigenvalues, as a fraction of their mean.
        sketch: coordinates into which the whitened gradients are folded.
        components: most principal components, the bytes per record.
        variance: share of the whitened gradients' variance at which no more components are taken.
        ridge: directions that many records share are shortened as by a ridge regression on the records' whitened
            gradients, with this ridge in units of a gradient's mean square length. Small: only what is a record's
            own counts. Large: plain inner products.
        curvature_records: how many records, evenly spread, the curvature is measured on.
        largest_rotation: sides of a matrix longer than this are not rotated.
        least_weight: checkpoints whose share of the learning rates is below this are not differentiated.
        batch_tokens: tokens in a batch while building.
        text_similarity: least Jaccard similarity of token triples between near-duplicates.
        gradient_similarity: least cosine of the codes of near-duplicates.
    """

    damping: float = 0.1
    sketch: int = 262_139
    components: int = 768
    variance: float = 0.99
    ridge: float = 1.0
    curvature_records: int = 128
    largest_rotation: int = 512
    least_weight: float = 0.02
    batch_tokens: int = 1024
    text_similarity: float = 0.8
    gradient_similarity: float = 0.5

    def __post_init__(self) -> None:
        for name in ("sketch", "components", "curvature_records", "largest_rotation", "batch_tokens"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise InputError(f"{name} is {value!r}; give a whole number of at least 1")
        for name in ("damping", "ridge", "variance", "least_weight", "text_similarity", "gradient_similarity"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 < value <= (1e9 if name in ("damping", "ridge") else 1):
                raise InputError(f"{name} is {value!r}; give a number above 0, and a share at most 1")


@dataclass(frozen=True, slots=True)
class Stage:
    """A checkpoint in the index: optimiser step, learning rate, weight in the score (0: kept only as the final one)."""

    step: int
    learning_rate: float
    weight: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an index says about itself.

    Attributes:
        base: keccak-256 fingerprint of the base model's weights.
        adapter_config: the adapter's configuration, as far as it changes the arithmetic.
        stages: the checkpoints in order; the last is the adapter that is served.
        blocks: the adapter's matrices.
        sides: for each block the places of its two eigenbases.
        records: number of records.
        components: length of a code.
        additions: (records, components) of each part of them that was added after the index was built, the last of all
            (``extend_index``); records that were there before are zero in the components that were added.
        settings: how the index was made.
        tensors: keccak-256 of ``index.safetensors``.
    """

    base: bytes
    adapter_config: dict[str, Any]
    stages: tuple[Stage, ...]
    blocks: tuple[Block, ...]
    sides: tuple[tuple[int, int], ...]
    records: int
    components: int
    additions: tuple[tuple[int, int], ...]
    settings: Settings
    tensors: bytes

    @property
    def built(self) -> tuple[int, int]:
        """How many records the index was built from, and in how many components."""
        return (
            self.records - sum(records for records, _ in self.additions),
            self.components - sum(components for _, components in self.additions),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "base": to_hex(self.base),
            "adapter_config": self.adapter_config,
            "stages": [asdict(stage) for stage in self.stages],
            "blocks": [[block.name, block.rows, block.columns] for block in self.blocks],
            "sides": [list(pair) for pair in self.sides],
            "records": self.records,
            "components": self.components,
            "additions": [list(pair) for pair in self.additions],
            "settings": asdict(self.settings),
            "tensors": to_hex(self.tensors),
        }

    @classmethod
    def from_json(cls, value: Any) -> Manifest:
        """Read a manifest.

        Raises:
            StorageError: it is malformed or of another format.
        """
        try:
            if value["format"] != FORMAT:
                raise StorageError(f"an index of format {value['format']!r}; this version reads {FORMAT}")
            return cls(
                base=from_hex(value["base"], 32),
                adapter_config=dict(value["adapter_config"]),
                stages=tuple(
                    Stage(int(stage["step"]), float(stage["learning_rate"]), float(stage["weight"]))
                    for stage in value["stages"]
                ),
                blocks=tuple(Block(str(name), int(rows), int(columns)) for name, rows, columns in value["blocks"]),
                sides=tuple((int(rows), int(columns)) for rows, columns in value["sides"]),
                records=int(value["records"]),
                components=int(value["components"]),
                additions=tuple((int(records), int(components)) for records, components in value["additions"]),
                settings=Settings(**value["settings"]),
                tensors=from_hex(value["tensors"], 32),
            )
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise StorageError(f"the index's manifest is malformed: {error!r}; build the index again") from error


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one output owes to the records.

    Attributes:
        scores: influence of each record, float32 [records]; positive where training on it lowered the output's loss.
        norm: length of the query's own embedding; scores grow in proportion to it.
        base_loss: summed -log p of the output in nats under the base model alone.
        adapted_loss: the same under the adapter.
    """

    scores: NDArray[np.float32]
    norm: float
    base_loss: float
    adapted_loss: float


class InfluenceIndex:
    """Influence of every record of a training run on any output. Made by ``build_index`` or :meth:`load`.

    Attributes:
        manifest: what the index says about itself.
        record_hashes: 32 bytes for each record, in the order of the scores' columns.
        seniority: place of each record in the order of acceptance, int64 [records].
        clusters: groups of near-duplicates: a number for each record, int64 [records].
        floors: noise in each record's score for a query of length one, float32 [records].
        lengths: length of each record's code, float32 [records].
        chance: the part of an output that records explain where they have no business, 0 to 0.9.
    """

    def __init__(self, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
        _check_tensors(manifest, tensors)
        self.manifest = manifest
        self._tensors = dict(tensors)
        self._codes = tensors["codes.values"]
        self._scales = tensors["codes.scales"]
        lengths = [manifest.built[1], *(components for _, components in manifest.additions if components)]
        self._parts = [part.contiguous() for part in torch.split(self._codes, lengths, dim=1)]
        self.record_hashes = tuple(bytes(row) for row in tensors["records.hashes"].numpy())
        self.seniority: NDArray[np.int64] = tensors["records.seniority"].numpy()
        self.clusters: NDArray[np.int64] = tensors["records.clusters"].numpy()
        self.floors: NDArray[np.float32] = tensors["records.floors"].numpy()
        self.lengths: NDArray[np.float32] = tensors["records.lengths"].numpy()
        self.chance = float(tensors["calibration"])
        self._embedding = Embedding(manifest.blocks, _metric(manifest, tensors))
        bits, scales = tensors["projection.bits"], tensors["projection.scales"]
        self._projection = Projection(bits, scales, self._embedding.sketch.size).opened()
        self._opened: WeakKeyDictionary[PreTrainedModel, list[AdapterModel]] = WeakKeyDictionary()
        self._lock = threading.Lock()

    @property
    def records(self) -> int:
        """Number of records."""
        return self.manifest.records

    def codes(self, places: Sequence[int]) -> NDArray[np.float64]:
        """The codes of some records, float64 [records, components]."""
        wanted = list(places)
        found: NDArray[np.float64] = (self._codes[wanted].double() * self._scales[wanted].double()[:, None]).numpy()
        return found

    @property
    def projection(self) -> OpenedProjection:
        """From sketches to embeddings."""
        return self._projection

    def sketches(self, base: PreTrainedModel, queries: Sequence[Query | TrainingExample]) -> Tensor:
        """Whitened gradients before the projection [queries, size]; each query is worked on alone.

        Raises:
            InputError, ModelError: as :meth:`measure`.
        """
        rows = torch.zeros(len(queries), self._embedding.sketch.size)
        with self._lock, pinned():
            models = self._models(base)
            for place, query in enumerate(queries):
                rows[place] = self._sketch(models, query, Common())
        return rows

    def with_records(
        self,
        directions: Projection,
        codes: Rounded,
        hashes: Sequence[bytes],
        seniority: Sequence[int],
        clusters: NDArray[np.int64],
        calibration: Calibration,
    ) -> InfluenceIndex:
        """An index of these records and more, in which nothing changes of the codes of these.

        Args:
            directions: to add to the projection.
            codes: of the records to add, in all components, old and new; a column for each.
            hashes, seniority: of the records to add.
            clusters, calibration: of all records.
        """
        tensors = dict(self._tensors)
        old, added = tensors["codes.values"], len(directions.scales)
        tensors["codes.values"] = torch.cat([nn.functional.pad(old, (0, added)), codes.values.T])
        for name, rows in (
            ("codes.scales", codes.scales),
            ("projection.bits", directions.bits),
            ("projection.scales", directions.scales),
            ("records.hashes", _hash_rows(hashes)),
            ("records.seniority", torch.tensor(list(seniority), dtype=torch.int64)),
        ):
            tensors[name] = torch.cat([tensors[name], rows])
        tensors |= _record_tensors(clusters, calibration)
        manifest = replace(
            self.manifest,
            records=self.records + len(hashes),
            components=self.manifest.components + added,
            additions=(*self.manifest.additions, (len(hashes), added)),
            tensors=keccak(save(tensors)),
        )
        return InfluenceIndex(manifest, tensors)

    def digest(self) -> bytes:
        """keccak-256 of the manifest, which names everything else by hash: 32 bytes."""
        return keccak(canonical_bytes(self.manifest.to_json()))

    def measure(self, base: PreTrainedModel, queries: Sequence[Query]) -> list[Measurement]:
        """Scores and losses of each query.

        A query costs a forward pass of the base and of the final adapter, and one with a backward pass for each
        checkpoint; what is below the adapter's first layer is worked out once.

        Raises:
            InputError: a query has no output, is longer than the context, or has a token outside the vocabulary.
            ModelError: ``base`` is not the model that the index was built on, or a gradient is not finite.
        """
        return measure_all(base, [(self, query) for query in queries])

    def scores(self, base: PreTrainedModel, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Influence of each record on each query's output, float32 [queries, records].

        Raises:
            InputError, ModelError: as :meth:`measure`.
        """
        found = np.zeros((len(queries), self.records), np.float32)
        for begin in range(0, len(queries), _TOGETHER):
            sketches = self.sketches(base, queries[begin : begin + _TOGETHER])
            with pinned():
                found[begin : begin + _TOGETHER] = self._scores(self._projection.apply(sketches)).numpy()
        return found

    def token_scores(self, base: PreTrainedModel, query: Query, records: Sequence[int]) -> NDArray[np.float32]:
        """The scores of some records split over the output's tokens, float32 [output tokens, records].

        A column sums to that record's score: an entry is the derivative of one token's -log p along the step that the
        record's code stands for.

        Raises:
            InputError, ModelError: as :meth:`measure`, or a record number is out of range.
        """
        wanted = list(records)
        if any(not 0 <= place < self.records for place in wanted):
            raise InputError(f"record numbers must be between 0 and {self.records - 1}, got {wanted}")
        with self._lock, pinned():
            models = self._models(base)
            count = len(query.token_ids) - max(query.prompt_length, 1)
            total = torch.zeros(len(wanted), max(count, 0))
            codes = self._codes[wanted].float() * self._scales[wanted][:, None]
            sketches = self._projection.transpose(codes)
            for place, model in enumerate(self._weighted(models) if wanted else ()):
                total += model.derivatives(query, self._embedding.directions(sketches, place))
        found: NDArray[np.float32] = total.T.contiguous().numpy()
        return found

    def context_effects(
        self, base: PreTrainedModel, query: Query, without: Sequence[Sequence[int]]
    ) -> NDArray[np.float32]:
        """By how many nats each output token's loss rises where something is left out of the prompt, float32 [prompts,
        output tokens].

        This is evidence apart from influence: it tells what the served adapter read in its prompt, not what it was
        trained on (leave-one-out over the context; Cohen-Wang et al., 2024).

        Args:
            base: the base model.
            query: prompt and output.
            without: the prompt's token ids with one thing after the other left out.

        Raises:
            InputError, ModelError: as :meth:`measure`.
        """
        output = query.token_ids[query.prompt_length :]
        with self._lock, pinned():
            served = self._models(base)[-1]
            whole = served.token_losses(query)
            rows = [served.token_losses(Query([*prompt, *output], len(prompt))) - whole for prompt in without]
        found: NDArray[np.float32] = torch.stack(rows).numpy() if rows else np.zeros((0, len(whole)), np.float32)
        return found

    def check_adapter(self, adapter: Path) -> None:
        """Raise VerificationError unless the adapter in a folder is the one that this index was built for."""
        final = self._stage_weights(len(self.manifest.stages) - 1)
        given = read_weights(adapter)
        if set(given) != set(final) or any(not torch.equal(given[name], final[name]) for name in final):
            raise VerificationError(f"the adapter in {adapter} is not the one that this influence index was built for")

    def save(self, path: Path) -> None:
        """Write the index to a new folder, which appears whole or not at all.

        Raises:
            StorageError: the folder exists or cannot be written.
        """
        if path.exists():
            raise StorageError(f"{path} exists; an index is never overwritten, choose another folder")
        fresh = path.with_name(path.name + ".new")
        try:
            fresh.mkdir(parents=True, exist_ok=True)
            (fresh / _TENSORS).write_bytes(save(self._tensors))
            (fresh / _MANIFEST).write_bytes(canonical_bytes(self.manifest.to_json()))
            fresh.rename(path)
        except OSError as error:
            raise StorageError(f"cannot write the index to {path}: {error}") from error

    @classmethod
    def load(cls, path: Path, digest: bytes | None = None) -> InfluenceIndex:
        """Read an index, checked against its own hashes and, when given, against a digest.

        Raises:
            StorageError: files are missing, damaged, or not those of the digest.
        """
        try:
            written = (path / _MANIFEST).read_bytes()
            if digest is not None and keccak(written) != digest:
                raise StorageError(f"the index in {path} has digest {to_hex(keccak(written))}, not {to_hex(digest)}")
            manifest = Manifest.from_json(parse_json(written))
            if keccak((path / _TENSORS).read_bytes()) != manifest.tensors:
                raise StorageError(f"{path / _TENSORS} was changed after the index was made; fetch it again")
            return cls(manifest, load_file(path / _TENSORS))
        except (OSError, SafetensorError, InputError) as error:
            raise StorageError(f"no readable influence index in {path}: {error}") from error

    def _asked(self, base: PreTrainedModel, query: Query, common: Common, base_loss: float | None) -> _Asked:
        with self._lock, pinned():
            models = self._models(base)
            sketch = self._sketch(models, query, common)
            before = models[-1].loss(query, common, adapter=False) if base_loss is None else base_loss
            return _Asked(sketch, before, models[-1].loss(query, common))

    def _measured(self, asked: Sequence[_Asked]) -> list[Measurement]:
        with pinned():
            embeddings = self._projection.apply(torch.stack([one.sketch for one in asked]))
            scores = self._scores(embeddings).numpy()
            return [
                Measurement(row, float(embedding.double().norm()), one.base_loss, one.adapted_loss)
                for row, embedding, one in zip(scores, embeddings, asked, strict=True)
            ]

    def _sketch(self, models: Sequence[AdapterModel], query: Query | TrainingExample, common: Common) -> Tensor:
        """The query's whitened gradients at all checkpoints, folded [size]."""
        total = torch.zeros(self._embedding.sketch.size)
        for place, model in enumerate(self._weighted(models)):
            total += self._embedding.sketches(model.gradients(query, common), place)[0]
        return total

    def _scores(self, embeddings: Tensor) -> Tensor:
        """[queries, components] to [queries, records]; the components of each addition are summed by themselves, so that
        they change nothing for records that are zero in them."""
        lengths = [part.shape[1] for part in self._parts]
        sums = [
            product(part, wanted)
            for part, wanted in zip(self._parts, torch.split(embeddings, lengths, dim=1), strict=True)
        ]
        total = sums[0]
        for one in sums[1:]:
            total = total + one
        return total * self._scales

    def _weighted(self, models: Sequence[AdapterModel]) -> list[AdapterModel]:
        return [model for model, stage in zip(models, self.manifest.stages, strict=True) if stage.weight > 0]

    def _models(self, base: PreTrainedModel) -> list[AdapterModel]:
        """The base model with each checkpoint's adapter, opened once per base model."""
        if base not in self._opened:
            if fingerprint(base) != self.manifest.base:
                raise ModelError(
                    f"this index belongs to the base model {to_hex(self.manifest.base)}, the one given is "
                    f"{to_hex(fingerprint(base))}; load the base that the model was trained on"
                )
            config = LoraConfig(**self.manifest.adapter_config)
            stages = range(len(self.manifest.stages))
            opened = [AdapterModel(base, config, self._stage_weights(stage)) for stage in stages]
            if opened[0].blocks != self.manifest.blocks:
                raise ModelError("the adapter's matrices are in another order than the index; use its own versions")
            self._opened[base] = opened
        return self._opened[base]

    def _stage_weights(self, stage: int) -> dict[str, Tensor]:
        return {block.name: self._tensors[f"stage.{stage}.{block.name}"] for block in self.manifest.blocks}


def measure_all(base: PreTrainedModel, asked: Sequence[tuple[InfluenceIndex, Query]]) -> list[Measurement]:
    """Measure many queries with many indices of one base, in the order in which they are given.

    Of a query that several indices are asked about, what they have in common is worked out once: the base's loss, and
    the layers below the first that an adapter changes. Queries of one index are projected together. Every measurement
    has the bits that it has alone.

    Raises:
        InputError, ModelError: as :meth:`InfluenceIndex.measure`; nothing is returned then.
    """
    found: dict[int, Measurement] = {}
    order = sorted(
        range(len(asked)), key=lambda place: (asked[place][1].prompt_length, list(asked[place][1].token_ids))
    )
    for begin in range(0, len(order), _TOGETHER):
        read: dict[InfluenceIndex, dict[int, _Asked]] = {}
        last, common, base_loss = None, Common(), None
        for place in order[begin : begin + _TOGETHER]:
            index, query = asked[place]
            key = (query.prompt_length, list(query.token_ids))
            if key != last:
                last, common, base_loss = key, Common(), None
            one = index._asked(base, query, common, base_loss)
            base_loss = one.base_loss
            read.setdefault(index, {})[place] = one
        for index, ones in read.items():
            found |= zip(ones, index._measured(list(ones.values())), strict=True)
    return [found[place] for place in range(len(asked))]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A query as an index read it, before projection: sketch [size] and losses in nats."""

    sketch: Tensor
    base_loss: float
    adapted_loss: float


@dataclass(frozen=True, slots=True)
class Contents:
    """All that an index is made of; see the attributes of :class:`InfluenceIndex`.

    ``stage_weights`` are the adapter's matrices at each stage, ``codes`` has a column for each record.
    """

    base: bytes
    config: LoraConfig
    stages: tuple[Stage, ...]
    stage_weights: tuple[Mapping[str, Tensor], ...]
    blocks: tuple[Block, ...]
    metric: Metric
    projection: Projection
    codes: Rounded
    hashes: Sequence[bytes]
    seniority: Sequence[int]
    clusters: NDArray[np.int64]
    calibration: Calibration
    settings: Settings

    def index(self) -> InfluenceIndex:
        """The index."""
        tensors = {
            "projection.bits": self.projection.bits.contiguous(),
            "projection.scales": self.projection.scales,
            "codes.values": self.codes.values.T.contiguous(),
            "codes.scales": self.codes.scales,
            "records.hashes": _hash_rows(self.hashes),
            "records.seniority": torch.tensor(list(self.seniority), dtype=torch.int64),
        }
        tensors |= _record_tensors(self.clusters, self.calibration)
        for place, basis in enumerate(self.metric.bases.matrices):
            tensors[f"basis.{place}.values"], tensors[f"basis.{place}.scales"] = basis.values, basis.scales
        for stage, whitenings in enumerate(self.metric.whitenings):
            for block, whitening in zip(self.blocks, whitenings, strict=True):
                tensors[f"whitening.{stage}.{block.name}"] = whitening.values.contiguous()
            scales = [whitening.scale for whitening in whitenings]
            tensors[f"whitening.{stage}.scales"] = torch.tensor(scales, dtype=torch.float64)
        for stage, weights in enumerate(self.stage_weights):
            for block in self.blocks:
                tensors[f"stage.{stage}.{block.name}"] = weights[block.name].contiguous()
        manifest = Manifest(
            base=self.base,
            adapter_config=plain_config(self.config),
            stages=self.stages,
            blocks=self.blocks,
            sides=self.metric.bases.sides,
            records=self.codes.values.shape[1],
            components=self.codes.values.shape[0],
            additions=(),
            settings=self.settings,
            tensors=keccak(save(tensors)),
        )
        return InfluenceIndex(manifest, tensors)


def fingerprint(base: PreTrainedModel) -> bytes:
    """keccak-256 of a model's parameters with their names and shapes, 32 bytes; remembered for each model."""
    if base not in _FINGERPRINTS:
        parts = []
        for name, value in sorted(base.named_parameters()):
            data = value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
            parts.append([name, list(value.shape), str(value.dtype), to_hex(keccak(data))])
        _FINGERPRINTS[base] = keccak(canonical_bytes(parts))
    return _FINGERPRINTS[base]


def plain_config(config: LoraConfig) -> dict[str, Any]:
    """The parts of an adapter's configuration that change its arithmetic, as canonical JSON can hold them."""
    values = {name: getattr(config, name) for name in _CONFIG_FIELDS}
    return {name: sorted(value) if isinstance(value, set) else value for name, value in values.items()}


def _hash_rows(hashes: Sequence[bytes]) -> Tensor:
    return torch.from_numpy(np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32).copy())


def _record_tensors(clusters: NDArray[np.int64], calibration: Calibration) -> dict[str, Tensor]:
    return {
        "records.clusters": torch.from_numpy(clusters),
        "records.floors": calibration.floors.contiguous(),
        "records.lengths": calibration.lengths.contiguous(),
        "calibration": torch.tensor(calibration.chance, dtype=torch.float64),
    }


def _metric(manifest: Manifest, tensors: Mapping[str, Tensor]) -> Metric:
    matrices: list[Rounded] = []
    while f"basis.{len(matrices)}.values" in tensors:
        name = f"basis.{len(matrices)}"
        matrices.append(Rounded(tensors[f"{name}.values"], tensors[f"{name}.scales"]))
    weights = tuple(stage.weight for stage in manifest.stages if stage.weight > 0)
    whitenings = tuple(
        tuple(
            Whitening(tensors[f"whitening.{stage}.{block.name}"], float(scale))
            for block, scale in zip(manifest.blocks, tensors[f"whitening.{stage}.scales"], strict=True)
        )
        for stage in range(len(weights))
    )
    return Metric(Bases(tuple(matrices), manifest.sides), whitenings, weights, manifest.settings.sketch)


def _check_tensors(manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
    """Raise StorageError unless every tensor that will be used is there, has its shape and is finite."""
    count, components = manifest.records, manifest.components
    if min(manifest.built) < 1 or any(records < 1 or length < 0 for records, length in manifest.additions):
        raise StorageError(
            f"the influence index of {count} records in {components} components says that {manifest.additions} of them "
            "were added; build it again"
        )
    shapes: dict[str, tuple[int, ...]] = {
        "projection.scales": (components,),
        "codes.values": (count, components),
        "codes.scales": (count,),
        "records.hashes": (count, 32),
        "records.seniority": (count,),
        "records.clusters": (count,),
        "records.floors": (count,),
        "records.lengths": (count,),
        "calibration": (),
    }
    size = sum(block.size for block in manifest.blocks)
    weighted = sum(stage.weight > 0 for stage in manifest.stages)
    for prefix, number in (("stage", len(manifest.stages)), ("whitening", weighted)):
        for place in range(number):
            shapes |= {f"{prefix}.{place}.{block.name}": (block.rows, block.columns) for block in manifest.blocks}
    shapes |= {f"whitening.{place}.scales": (len(manifest.blocks),) for place in range(weighted)}
    shapes["projection.bits"] = (components, -(-min(manifest.settings.sketch, size * weighted) // 8))
    for block, pair in zip(manifest.blocks, manifest.sides, strict=True):
        for place, side in zip(pair, (block.rows, block.columns), strict=True):
            if place >= 0:
                shapes |= {f"basis.{place}.values": (side, side), f"basis.{place}.scales": (side,)}
    for name, shape in shapes.items():
        value = tensors.get(name)
        if value is None or tuple(value.shape) != shape or not torch.isfinite(value.float()).all():
            raise StorageError(f"the influence index is damaged at {name}; build it again")
