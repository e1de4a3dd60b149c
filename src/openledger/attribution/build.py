"""Build an influence index from a training run: its records, its checkpoints, its base model.

One pass over a sample of the records gives the eigenbases, a second over all records gives their gradients, rotated,
whitened, folded and projected as they come, so that memory does not grow with the records' gradients. The second is
shared out to workers (``crew.py``), of this process or of a cluster; the index is the same whatever their number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel

from openledger.attribution.calibration import calibrate
from openledger.attribution.clusters import near_duplicates
from openledger.attribution.common import Common
from openledger.attribution.crew import Crew, Examples, Run, gathered
from openledger.attribution.curvature import Covariances, OpenedBases, Rounded, Whitening, bases
from openledger.attribution.gradients import (
    AdapterModel,
    Batch,
    Block,
    Checkpoint,
    Query,
    TrainingExample,
    batched,
    read_config,
    read_weights,
)
from openledger.attribution.index import Contents, InfluenceIndex, Settings, Stage, fingerprint
from openledger.attribution.projection import Embedding, Metric, Projection
from openledger.models import pinned
from openledger.primitives.errors import InputError, ModelError

Progress = Callable[[float, str], None]
"""Called with the share of the work that is done, 0 to 1, and what is being done."""

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
    ray_address: str | None = None,
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
        workers: chunks of records that are worked on at the same time, each on one thread. Each worker holds a
            copy of the matrices that the adapter changes, for each checkpoint.
        ray_address: of a Ray cluster that shall do the work, as ``ray.init`` takes it, or "local" for processes of this
            machine (the extra ``openledger[distributed]``). Ray sends the base model to its machines by pickle and runs
            what it is sent: connect to none but your own.

    Raises:
        ConfigurationError: Ray is not installed or has no cluster at that address.
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
    counted = tuple(weight for weight, stage in zip(weights, stages, strict=True) if stage.weight > 0)
    run = Run(base, config, counted, settings.batch_tokens)
    with pinned():
        models = run.open()
        everything: list[Query | TrainingExample] = [*examples, *unrelated]
        for example in everything:
            models[0].check(example)
        counter = _Counter(tell, len(models) * (len(examples) + len(unrelated)))
        sampled = _sample(models, [stage.weight for stage in stages if stage.weight > 0], examples, settings, counter)
        factors = torch.tensor([example.weight for example in examples])
        with gathered(run, models, max(1, workers), ray_address) as crew:
            measured = _measured(sampled, examples, factors, unrelated, settings, crew, counter)
        codes = rounded_codes(measured.embeddings, factors)
        tell(0.95, "grouping near-duplicates")
        rounded = codes.matrix().T.contiguous()
        groups = grouped(clusters, examples, rounded, settings)
        calibration = calibrate(rounded, groups, measured.probes, measured.owners)
        index = Contents(
            base=fingerprint(base),
            config=config,
            stages=stages,
            stage_weights=tuple(weights),
            blocks=models[0].blocks,
            metric=sampled.metric,
            projection=measured.projection,
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
    with pinned():
        pairs = [(stage.weight, point) for stage, point in zip(stages, checkpoints, strict=True) if stage.weight > 0]
        models = [AdapterModel(base, config, read_weights(point.path)) for _, point in pairs]
        counter = _Counter(_silent, 1)
        sampled = _sample(models, [weight for weight, _ in pairs], examples, settings, counter)
        chosen = set(sampled.places)
        rest = [place for place in range(len(examples)) if place not in chosen]
        order = [*sampled.places, *rest]
        factors = torch.tensor([example.weight for example in examples])
        asked, gram = torch.zeros(len(queries), len(examples)), torch.zeros(len(examples), len(examples))
        for stage, model in enumerate(models):
            sample = sampled.sketches(stage)
            rows = torch.cat([sample, _sketches(model, stage, [examples[place] for place in rest], sampled, settings)])
            rows *= factors[order][:, None]
            gram += rows @ rows.T
            asked += _sketches(model, stage, queries, sampled, settings) @ rows.T
        ridge = settings.ridge * gram.diagonal().double().mean()
        if not ridge > 0:
            raise ModelError(_NO_GRADIENT)
        solved = torch.linalg.solve(gram.double() / ridge + torch.eye(len(gram), dtype=torch.float64), asked.double().T)
        found = torch.empty(len(queries), len(examples))
        found[:, order] = solved.T.float()
        scores: NDArray[np.float32] = (found * factors).numpy()
        return scores


@dataclass
class _Sampled:
    """The metric, fixed on a sample of the records, and the sample's gradients in it until they are asked for.

    Attributes:
        metric: the metric.
        embedding: the metric ready for use.
        places: which records the sample is, in the order in which ``sketches`` gives them.
        held: by checkpoint, the gradients of each batch.
    """

    metric: Metric
    embedding: Embedding
    places: list[int]
    held: list[_Held]

    def sketches(self, stage: int) -> Tensor:
        """One checkpoint's part of the sample's sketches [records, size]; its gradients are let go."""
        rows = torch.empty(len(self.places), self.embedding.sketch.size)
        for positions, parts in self.held[stage]:
            rows[list(positions)] = self.embedding.sketches_of(parts, stage)
        self.held[stage].clear()
        return rows


@dataclass(frozen=True)
class _Measured:
    """All records' embeddings [records, components]; and of questions, each with the record it belongs to (-1: none),
    made as a query's are: records, asked about their own answers, and then the unrelated queries."""

    projection: Projection
    embeddings: Tensor
    probes: Tensor
    owners: list[int]


@dataclass
class _Counter:
    """Tells how far the work is."""

    tell: Progress
    whole: int
    done: int = 0

    def add(self, passes: int) -> None:
        self.done += passes
        self.tell(0.95 * min(1.0, self.done / self.whole), "measuring gradients")


def _sample(
    models: Sequence[AdapterModel],
    weights: Sequence[float],
    examples: Sequence[TrainingExample],
    settings: Settings,
    counter: _Counter,
) -> _Sampled:
    """Fix the metric."""
    places = _strided(len(examples), settings.curvature_records)
    sample = [examples[place] for place in places]
    blocks = models[0].blocks
    sums = [Covariances(blocks, settings.largest_rotation) for _ in models]
    captured: list[list[Batch]] = [[] for _ in models]
    for positions in batched(sample, settings.batch_tokens):
        common = Common()
        for stage, model in enumerate(models):
            batch = model.capture(positions, [sample[place] for place in positions], common)
            sums[stage].add(batch)
            captured[stage].append(batch)
        counter.add(len(positions) * len(models))
    found = bases(sums)
    opened = found.opened()
    held = [_turned(batches, opened) for batches in captured]
    metric = Metric(found, tuple(_whitenings(each, blocks, settings) for each in held), tuple(weights), settings.sketch)
    return _Sampled(metric, Embedding(blocks, metric), places, held)


def _measured(
    sampled: _Sampled,
    examples: Sequence[TrainingExample],
    factors: Tensor,
    unrelated: Sequence[Query],
    settings: Settings,
    crew: Crew,
    counter: _Counter,
) -> _Measured:
    """Fix the projection on a sample, and measure the records and the unrelated queries."""
    crew.learn(sampled.metric)
    stages, size = len(sampled.held), sampled.embedding.sketch.size

    def fill(rows: Tensor, chosen: Examples, directions: Tensor | None = None) -> Tensor:
        for places, found in crew.rows(chosen, directions):
            rows[places] = found
            counter.add(len(places) * stages)
        return rows

    known = set(sampled.places)
    inner = [place for place in _strided(len(examples), _PROJECTION_SAMPLE) if place not in known]
    places = [*sampled.places, *inner]
    sketches = torch.zeros(len(places), size)
    for stage in range(stages):
        sketches[: len(known)] += sampled.sketches(stage)
    fill(sketches[len(known) :], [examples[place] for place in inner])
    directions = principal(sketches * factors[places][:, None], settings)
    projection = Projection.of(directions)
    opened = projection.opened()
    embeddings = torch.empty(len(examples), directions.shape[1])
    embeddings[places] = sketches @ directions
    probes = [opened.apply(sketches[:_PROBES])]
    del sketches
    later = sorted(set(range(len(examples))) - set(places))
    if later:
        rows = torch.empty(len(later), directions.shape[1])
        embeddings[later] = fill(rows, [examples[place] for place in later], directions)
    if unrelated:
        probes.append(opened.apply(fill(torch.empty(len(unrelated), size), unrelated)))
    owners = [*places[:_PROBES], *[-1] * len(unrelated)]
    return _Measured(projection, embeddings, torch.cat(probes), owners)


def _sketches(model: AdapterModel, stage: int, examples: Examples, sampled: _Sampled, settings: Settings) -> Tensor:
    """One checkpoint's part of the sketches [examples, size]."""
    rows = torch.empty(len(examples), sampled.embedding.sketch.size)
    for batch in model.batches(examples, settings.batch_tokens):
        rows[list(batch.positions)] = sampled.embedding.sketches(batch, stage)
    return rows


def _whitenings(held: _Held, blocks: Sequence[Block], settings: Settings) -> tuple[Whitening, ...]:
    """From the mean squares of the sample's gradients."""
    count = sum(len(positions) for positions, _ in held)
    squares = [
        sum((parts[place].square().sum(dim=0) for _, parts in held), start=torch.zeros(block.rows, block.columns))
        for place, block in enumerate(blocks)
    ]
    return tuple(Whitening.of(square / count, settings.damping) for square in squares)


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


def rounded_codes(embeddings: Tensor, factors: Tensor) -> Rounded:
    """Embeddings [records, components] times the records' weights, as codes; a record's code is its own."""
    return Rounded.of((embeddings * factors[:, None]).T.contiguous())


def grouped(
    clusters: Sequence[int] | None, examples: Sequence[TrainingExample], codes: Tensor, settings: Settings
) -> NDArray[np.int64]:
    """Groups of near-duplicates [records]: those given, or those found in texts and codes [records, components]."""
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
    check_examples(examples)
    if clusters is not None and len(clusters) != len(examples):
        raise InputError(f"{len(clusters)} cluster numbers for {len(examples)} records")


def check_examples(examples: Sequence[TrainingExample]) -> None:
    """Raise InputError unless every weight is one and every hash has 32 bytes."""
    for place, example in enumerate(examples):
        if not (math.isfinite(example.weight) and example.weight >= 0):
            raise InputError(f"record {place} has weight {example.weight}; weights are finite and not negative")
        if len(example.record_hash) != 32:
            raise InputError(f"record {place} has a hash of {len(example.record_hash)} bytes instead of 32")


def _silent(_: float, __: str) -> None:
    """Tells nobody."""


def _strided(count: int, most: int) -> list[int]:
    """At most ``most`` places of ``range(count)``, evenly spread."""
    if count <= most:
        return list(range(count))
    return [place * count // most for place in range(most)]
