"""Add records to an influence index without measuring all that it holds again.

What is a record's own lies outside the directions that an index has for the records before it, so new records bring
directions of their own. They are taken from what the projection's sign vectors leave of the new records' sketches.
Signs tell directions only in part, so some of what all records have in common is left too; a few old records, measured
again, show what that is, and it is shortened as everything common is (``build.principal``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from openledger.attribution.build import check_examples, grouped, rounded_codes
from openledger.attribution.calibration import Calibration, calibrate
from openledger.attribution.gradients import Query, TrainingExample
from openledger.attribution.index import InfluenceIndex
from openledger.attribution.projection import OpenedProjection, Projection
from openledger.models import pinned
from openledger.primitives.errors import InputError
from openledger.primitives.hashing import to_hex

_SAMPLE = 64
_MOST = 1024
_BLOCK = 8192
_LEAST = 1e-6


def extend_index(
    index: InfluenceIndex,
    base: PreTrainedModel,
    held: Sequence[TrainingExample],
    examples: Sequence[TrainingExample],
    output: Path | None = None,
    *,
    adapter: Path | None = None,
    unrelated: Sequence[Query] = (),
    clusters: Sequence[int] | None = None,
) -> InfluenceIndex:
    """A new index that holds more records, as when a Datanet version grows.

    The new records are measured, each alone, at the index's own checkpoints and in its metric, and at most 64 of the
    old ones, evenly spread. The old records' codes are kept bit for bit, and so are their scores. The same
    records in the same order give the same digest; the manifest says how many were added in how many components.

    More of an output's gradient is seen in the new directions, so that what old records explain is a smaller part of it.

    What is approximate: the metric was chosen without the new records. Their code in the old directions has the
    error of one bit a coordinate, since exact directions are not kept. Old records count as zero in the new
    directions. The noise of old records is not measured again; that of new ones is measured on the old ones that were,
    and on ``unrelated``. Where much is added, build the index anew.

    A record that the adapter was not trained on gets a score that says what training on it would do, not what it did;
    train again before anybody is paid by it.

    Args:
        index: the index to add to; it is not changed.
        base: the base model that it was built on.
        held: the records that it holds, in its order; their texts are needed to find near-duplicates.
        examples: the records to add, at most 1,024 at a time.
        output: folder to write the new index to, which must not exist; it appears whole or not at all.
        adapter: folder of the adapter that is served; checked, if given, to be the index's own.
        unrelated: the model's own answers to questions that no record is about, at least eight; chance is then measured
            anew with all records. Without them what counted as chance still does.
        clusters: for each record, old and new, a number that near-duplicates have in common; found when None.

    Raises:
        InputError: ``held`` is not what the index holds, there is nothing or too much to add, or a record to add is
            malformed or held already.
        ModelError: ``base`` is not the model that the index was built on.
        StorageError: ``output`` exists or cannot be written.
        VerificationError: ``adapter`` is not the one that the index was built for.
    """
    _check(index, held, examples, clusters)
    if adapter is not None:
        index.check_adapter(adapter)
    places = [place * len(held) // min(_SAMPLE, len(held)) for place in range(min(_SAMPLE, len(held)))]
    again = index.sketches(base, [held[place] for place in places])
    fresh = index.sketches(base, examples)
    factors = torch.tensor([example.weight for example in examples])
    with pinned():
        directions = _own(index, again, fresh * factors[:, None])
        added = Projection.of(directions)
        codes = rounded_codes(torch.cat([index.projection.apply(fresh), fresh @ directions], dim=1), factors)
        everybody = torch.zeros(index.records + len(examples), codes.values.shape[0])
        everybody[: index.records, : index.manifest.components] = torch.from_numpy(index.codes(range(index.records)))
        everybody[index.records :] = codes.matrix().T
        groups = grouped(clusters, [*held, *examples], everybody, index.manifest.settings)

        def asked(sketches: Tensor) -> Tensor:
            return torch.cat([index.projection.apply(sketches), added.opened().apply(sketches)], dim=1)

        probes, owners = [asked(again)], [*places, *[-1] * len(unrelated)]
        if unrelated:
            probes.append(asked(index.sketches(base, unrelated)))
        found = calibrate(everybody, groups, torch.cat(probes), owners)
        calibration = Calibration(
            floors=torch.cat([torch.from_numpy(index.floors), found.floors[index.records :]]),
            lengths=torch.cat([torch.from_numpy(index.lengths), found.lengths[index.records :]]),
            chance=found.chance if unrelated else index.chance,
        )
        extended = index.with_records(
            added,
            codes,
            [example.record_hash for example in examples],
            [example.seniority for example in examples],
            groups,
            calibration,
        )
    if output is not None:
        extended.save(output)
    return extended


def _own(index: InfluenceIndex, again: Tensor, fresh: Tensor) -> Tensor:
    """Directions [size, components] of what is new in the new records' sketches, at most one for each record.

    ``again`` are sketches of old records, which stand for all of them.
    """
    settings, counts = index.manifest.settings, index.records / len(again)
    rest = _rest(index.projection, torch.cat([again, fresh]))
    rest[: len(again)] *= counts**0.5
    square = torch.cat([again, fresh]).square().sum(dim=1).double().mean()
    values, vectors = torch.linalg.eigh((rest @ rest.T).double())
    kept = values > _LEAST * square
    values, vectors = values[kept], vectors[:, kept]
    ridge = settings.ridge * square
    lengths = torch.sqrt(ridge / (values + ridge))
    # The new records' embeddings along all these directions, and the fewest axes that hold them.
    embeddings = vectors[len(again) :] * (values.sqrt() * lengths)
    _, sizes, turned = torch.linalg.svd(embeddings, full_matrices=False)
    wanted = sizes > _LEAST * square.sqrt()
    combined = (vectors * (lengths / values.sqrt())) @ turned[wanted].T
    directions: Tensor = rest.T @ combined.float()
    return directions


def _rest(projection: OpenedProjection, sketches: Tensor) -> Tensor:
    """What is left of sketches outside the span of the projection's sign vectors [rows, size]."""
    count, size = projection.signs.shape
    gram = torch.zeros(count, count)
    for begin in range(0, size, _BLOCK):
        part = projection.signs[:, begin : begin + _BLOCK].float()
        gram += part @ part.T
    inner = gram.double() + _LEAST * size * torch.eye(count, dtype=torch.float64)
    along = (projection.apply(sketches) / projection.scales).double()
    weights = torch.linalg.solve(inner, along.T).T
    return sketches - projection.transpose((weights / projection.scales).float())


def _check(
    index: InfluenceIndex,
    held: Sequence[TrainingExample],
    examples: Sequence[TrainingExample],
    clusters: Sequence[int] | None,
) -> None:
    if not 0 < len(examples) <= _MOST:
        raise InputError(f"{len(examples)} records to add to the index; give 1 to {_MOST:,} at a time")
    check_examples(examples)
    if tuple(example.record_hash for example in held) != index.record_hashes:
        raise InputError(
            f"the {len(held)} records given as held are not the {index.records} that the index holds, in its order; "
            "give those that it was built from and extended by"
        )
    known = set(index.record_hashes)
    again = [example.record_hash for example in examples if example.record_hash in known]
    if again:
        raise InputError(f"record {to_hex(again[0])} is in the index already; leave it out of those to add")
    if clusters is not None and len(clusters) != len(held) + len(examples):
        raise InputError(f"{len(clusters)} cluster numbers for {len(held) + len(examples)} records, old and new")
