"""Build an influence index from a training run: its records, its checkpoints, its base model.

One pass over a sample of the records gives the eigenbases, a second over all records gives their gradients, rotated,
whitened, folded and projected as they come, so that memory does not grow with the records' gradients. Checkpoints are
worked on side by side; the result is the same whatever their number of workers.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from openledger.attribution.calibration import calibrate
from openledger.attribution.clusters import near_duplicates
from openledger.attribution.curvature import Covariances, OpenedBases, Rounded, Whitening, bases
from openledger.attribution.gradients import (
    AdapterModel,
    Batch,
    Checkpoint,
    Query,
    TrainingExample,
    read_config,
    read_weights,
)
from openledger.attribution.index import Contents, InfluenceIndex, Settings, Stage, fingerprint
from openledger.attribution.projection import Embedding, Metric, Projection
from openledger.models import pinned
from openledger.primitives.errors import InputError, ModelError

Progress = Callable[[float, str], None]
"""Called with the share of the work that is done, 0 to 1, and what is being done."""

_T = TypeVar("_T")
_PROJECTION_SAMPLE = 2048
_PROBES = 256
_NO_GRADIENT = "no record has a gradient at any checkpoint; give checkpoints from the training run itself"
_Held = list[tuple[tuple[int, ...], list[Tensor]]]
"""Gradients in the eigenbases by batch: the examples' places, and one tensor for each block."""


def build_index(
    base: PreTrainedModel,
    checkpoints: Sequence[Checkpoint],
    examples: Sequence[TrainingExample],
    settings: Settings | None = None,
    output: Path | None = None,
    progress: Progress | None = None,
    *,
    unrelated: Sequence[Query] = (),
    clusters: Sequence[int] | None = None,
    workers: int = 2,
) -> InfluenceIndex:
    """Measure every record's gradients over a training run and keep them for scoring.

    Args:
        base: the base model, float32; it is not changed.
        checkpoints: adapters saved during the run, in rising order of steps; the last is the adapter that is served.
        examples: the records as they were trained on; those with weight 0 get no influence.
        settings: how the index is made.
        output: folder to write it to, which must not exist; it appears whole or not at all.
        progress: told how far the work is.
        unrelated: the model's own answers to questions that no record is about; what records explain of them by
            chance is not credited. Eight are needed; otherwise the records' own answers have to do.
        clusters: for each record a number that near-duplicates have in common; found by itself when None.
        workers: checkpoints that are worked on at the same time, each on one thread.

    Raises:
        InputError: no example, no checkpoint, a checkpoint without a rate, or an example that is malformed.
        ModelError: a checkpoint does not fit the model or is not finite.
        StorageError: ``output`` exists or cannot be written.
    """
    settings = settings or Settings()
    _check(checkpoints, examples, clusters)
    stages = _stages(checkpoints, settings.least_weight)
    config = read_config(checkpoints[-1].path)
    weights = [read_weights(checkpoint.path) for checkpoint in checkpoints]
    tell = progress or _silent
    with pinned(), ThreadPoolExecutor(max(1, workers)) as pool:
        models = [
            AdapterModel(base, config, weight)
            for weight, stage in zip(weights, stages, strict=True)
            if stage.weight > 0
        ]
        factors = torch.tensor([example.weight for example in examples])
        measuring = _Measuring(models, [stage.weight for stage in stages if stage.weight > 0], settings, pool, tell)
        codes = Rounded.of((measuring.records(examples, factors) * factors[:, None]).T.contiguous())
        tell(0.95, "grouping near-duplicates")
        rounded = codes.matrix().T.contiguous()
        groups = _groups(clusters, examples, rounded, settings)
        probes, owners = measuring.probes(unrelated)
        calibration = calibrate(rounded, groups, probes, owners)
        index = Contents(
            base=fingerprint(base),
            config=config,
            stages=stages,
            stage_weights=tuple(weights),
            blocks=models[0].blocks,
            metric=measuring.metric,
            projection=measuring.projection,
            codes=codes,
            hashes=[example.record_hash for example in examples],
            seniority=[example.seniority for example in examples],
            clusters=groups,
            calibration=calibration,
            settings=settings,
        ).index()
    if output is not None:
        index.save(output)
    tell(1.0, "done")
    return index


def exact_scores(
    base: PreTrainedModel,
    config: LoraConfig,
    checkpoints: Sequence[Checkpoint],
    examples: Sequence[TrainingExample],
    queries: Sequence[Query],
    settings: Settings,
) -> NDArray[np.float32]:
    """Influences [queries, examples] as an index gives them, without its projection and rounding; nothing is kept.

    Raises:
        InputError, ModelError: as :func:`build_index`, and for a malformed query.
    """
    _check(checkpoints, examples, None)
    stages = _stages(checkpoints, settings.least_weight)
    with pinned(), ThreadPoolExecutor(1) as pool:
        pairs = [(stage.weight, point) for stage, point in zip(stages, checkpoints, strict=True) if stage.weight > 0]
        models = [AdapterModel(base, config, read_weights(point.path)) for _, point in pairs]
        measuring = _Measuring(models, [weight for weight, _ in pairs], settings, pool, _silent)
        factors = torch.tensor([example.weight for example in examples])
        found: NDArray[np.float32] = measuring.scores(examples, factors, queries).numpy()
        return found


class _Measuring:
    """Gradients at every checkpoint, turned into embeddings."""

    def __init__(
        self,
        models: Sequence[AdapterModel],
        weights: Sequence[float],
        settings: Settings,
        pool: ThreadPoolExecutor,
        tell: Progress,
    ) -> None:
        self._models = models
        self._weights = tuple(weights)
        self._settings = settings
        self._pool = pool
        self._tell = tell
        self._blocks = models[0].blocks
        self._lock = threading.Lock()
        self._done = 0
        self._steps = 1

    def records(self, examples: Sequence[TrainingExample], factors: Tensor) -> Tensor:
        """Embeddings [examples, components]; fixes the metric and the projection on the way."""
        sample, held = self._metric(examples)
        chosen = set(sample)
        inner = [place for place in _strided(len(examples), _PROJECTION_SAMPLE) if place not in chosen]
        places = [*sample, *inner]
        later = sorted(set(range(len(examples))) - set(places))
        rest = [examples[place] for place in inner]
        sketches = self._summed(lambda stage: self._sketches(stage, held[stage], rest))
        self._directions = principal(sketches * factors[places][:, None], self._settings)
        self.projection = Projection.of(self._directions)
        embeddings = torch.empty(len(examples), self._directions.shape[1])
        embeddings[places] = sketches @ self._directions
        if later:
            embeddings[later] = self._embeddings([examples[place] for place in later], self._exactly)
        self._probing = places[:_PROBES]
        self._probes = self.projection.opened().apply(sketches[:_PROBES])
        return embeddings

    def scores(self, examples: Sequence[TrainingExample], factors: Tensor, queries: Sequence[Query]) -> Tensor:
        """Influences without projection or rounding [queries, examples], a checkpoint at a time."""
        sample, held = self._metric(examples)
        chosen = set(sample)
        rest = [place for place in range(len(examples)) if place not in chosen]
        order = [*sample, *rest]
        asked = torch.zeros(len(queries), len(examples))
        gram = torch.zeros(len(examples), len(examples))
        for stage in range(len(self._models)):
            rows = self._sketches(stage, held[stage], [examples[place] for place in rest]) * factors[order][:, None]
            gram += rows @ rows.T
            asked += self._sketches(stage, [], queries) @ rows.T
        ridge = self._settings.ridge * gram.diagonal().double().mean()
        if not ridge > 0:
            raise ModelError(_NO_GRADIENT)
        solved = torch.linalg.solve(gram.double() / ridge + torch.eye(len(gram), dtype=torch.float64), asked.double().T)
        found = torch.empty(len(queries), len(examples))
        found[:, order] = solved.T.float()
        return found * factors

    def _metric(self, examples: Sequence[TrainingExample]) -> tuple[list[int], list[_Held]]:
        """Fixes the metric on a sample; gives the sample's places and, by checkpoint, its gradients."""
        sample = _strided(len(examples), self._settings.curvature_records)
        self._steps = len(self._models) * len(examples)
        chosen = [examples[place] for place in sample]
        measured = self._each(lambda stage: self._covariances(stage, chosen))
        found = bases([covariances for covariances, _ in measured])
        opened = found.opened()
        held = self._each(lambda stage: _turned(measured[stage][1], opened))
        whitenings = tuple(self._each(lambda stage: self._whitenings(held[stage])))
        self.metric = Metric(found, whitenings, self._weights, self._settings.sketch)
        self._embedding = Embedding(self._blocks, self.metric)
        return sample, held

    def probes(self, unrelated: Sequence[Query]) -> tuple[Tensor, list[int]]:
        """Embeddings of questions, made as a query's is, and the record that each belongs to (-1: none).

        They are records, each asked about its own answer, and then the unrelated queries.
        """
        rows = [self._probes]
        if unrelated:
            rows.append(self._embeddings(unrelated, self.projection.opened().apply))
        return torch.cat(rows), [*self._probing, *[-1] * len(unrelated)]

    def _covariances(self, stage: int, sample: Sequence[TrainingExample]) -> tuple[Covariances, list[Batch]]:
        """Covariances of the sample, and what was captured of it."""
        sums = Covariances(self._blocks, self._settings.largest_rotation)
        held = []
        for batch in self._models[stage].batches(sample, self._settings.batch_tokens):
            sums.add(batch)
            held.append(batch)
            self._count(len(batch.positions))
        return sums, held

    def _whitenings(self, held: _Held) -> tuple[Whitening, ...]:
        """From the mean squares of the sample's gradients."""
        count = sum(len(positions) for positions, _ in held)
        squares = [
            sum((parts[place].square().sum(dim=0) for _, parts in held), start=torch.zeros(block.rows, block.columns))
            for place, block in enumerate(self._blocks)
        ]
        return tuple(Whitening.of(square / count, self._settings.damping) for square in squares)

    def _sketches(self, stage: int, held: _Held, rest: Sequence[Query] | Sequence[TrainingExample]) -> Tensor:
        """Sketches of the sample's gradients (which are let go) and of the examples after it."""
        count = sum(len(positions) for positions, _ in held)
        rows = torch.empty(count + len(rest), self._embedding.sketch.size)
        for positions, parts in held:
            rows[list(positions)] = self._embedding.sketches_of(parts, stage)
        held.clear()
        for batch in self._models[stage].batches(rest, self._settings.batch_tokens):
            rows[[count + place for place in batch.positions]] = self._embedding.sketches(batch, stage)
            self._count(len(batch.positions))
        return rows

    def _exactly(self, sketches: Tensor) -> Tensor:
        return sketches @ self._directions

    def _embeddings(
        self, queries: Sequence[Query] | Sequence[TrainingExample], project: Callable[[Tensor], Tensor]
    ) -> Tensor:
        def one(stage: int) -> Tensor:
            rows = torch.empty(len(queries), self._directions.shape[1])
            for batch in self._models[stage].batches(queries, self._settings.batch_tokens):
                rows[list(batch.positions)] = project(self._embedding.sketches(batch, stage))
                self._count(len(batch.positions))
            return rows

        return self._summed(one)

    def _each(self, work: Callable[[int], _T]) -> list[_T]:
        return list(self._pool.map(work, range(len(self._models))))

    def _summed(self, work: Callable[[int], Tensor]) -> Tensor:
        """The sum over checkpoints, in their order; a part is let go once it is added."""
        parts = self._pool.map(work, range(len(self._models)))
        total = next(parts)
        for part in parts:
            total += part
        return total

    def _count(self, examples: int) -> None:
        with self._lock:
            self._done += examples
            self._tell(0.95 * min(1.0, self._done / self._steps), "measuring gradients")


def _turned(captured: list[Batch], opened: OpenedBases) -> _Held:
    """The gradients of what was captured, which is let go."""
    held = [(batch.positions, opened.gradients(batch)) for batch in captured]
    captured.clear()
    return held


def principal(rows: Tensor, settings: Settings) -> Tensor:
    """Principal directions of ``rows`` [examples, size] by their Gram matrix, as columns [size, components].

    The fewest are taken that hold the wanted share of the variance. A direction's length is
    ``sqrt(ridge / (eigenvalue + ridge))`` with the ridge in units of a row's mean square: what many records
    have in common counts less for each, as it does when one of them is left out.

    Raises:
        ModelError: every row is zero: the records left no trace in the adapter.
    """
    gram = (rows @ rows.T).double()
    ridge = settings.ridge * gram.diagonal().mean()
    values, vectors = torch.linalg.eigh(gram)
    values, vectors = values.flip(0), vectors.flip(1)
    if not values[0] > 0:
        raise ModelError(_NO_GRADIENT)
    kept = int((values > 1e-9 * values[0]).sum())
    held = torch.cumsum(values[:kept], 0) / values[:kept].sum()
    count = min(settings.components, int((held < settings.variance).sum()) + 1, kept)
    lengths = torch.sqrt(ridge / (values[:count] + ridge) / values[:count])
    directions: Tensor = rows.T @ (vectors[:, :count] * lengths).float()
    return directions


def _groups(
    clusters: Sequence[int] | None, examples: Sequence[TrainingExample], codes: Tensor, settings: Settings
) -> NDArray[np.int64]:
    if clusters is not None:
        return np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    tokens = [example.token_ids for example in examples]
    return near_duplicates(tokens, codes.numpy(), settings.text_similarity, settings.gradient_similarity)


def _stages(checkpoints: Sequence[Checkpoint], least: float) -> tuple[Stage, ...]:
    """Checkpoints of equal weight; those whose part of the learning rates is too small get none.

    Whitened gradients are of about the same length at every checkpoint. Weighing them by the rates is no better.
    """
    total = math.fsum(checkpoint.learning_rate for checkpoint in checkpoints)
    kept = [point.learning_rate >= least * total for point in checkpoints]
    return tuple(
        Stage(point.step, float(point.learning_rate), 1 / sum(kept) if counts else 0.0)
        for point, counts in zip(checkpoints, kept, strict=True)
    )


def _check(
    checkpoints: Sequence[Checkpoint], examples: Sequence[TrainingExample], clusters: Sequence[int] | None
) -> None:
    if not checkpoints or not examples:
        raise InputError(f"{len(checkpoints)} checkpoints and {len(examples)} records; at least one of each is needed")
    rates = [point.learning_rate for point in checkpoints]
    if not all(math.isfinite(rate) and rate >= 0 for rate in rates) or not sum(rates) > 0:
        raise InputError(f"the checkpoints' learning rates are {rates}; give those of the training run")
    steps = [point.step for point in checkpoints]
    if any(later <= earlier for earlier, later in pairwise(steps)):
        raise InputError(f"the checkpoints' steps are {steps}; give them in rising order")
    for place, example in enumerate(examples):
        if not (math.isfinite(example.weight) and example.weight >= 0):
            raise InputError(f"record {place} has weight {example.weight}; weights are finite and not negative")
        if len(example.record_hash) != 32:
            raise InputError(f"record {place} has a hash of {len(example.record_hash)} bytes instead of 32")
    if clusters is not None and len(clusters) != len(examples):
        raise InputError(f"{len(clusters)} cluster numbers for {len(examples)} records")


def _silent(_: float, __: str) -> None:
    """Tells nobody."""


def _strided(count: int, most: int) -> list[int]:
    """At most ``most`` of ``range(count)``, evenly spread."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]
