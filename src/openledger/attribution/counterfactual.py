"""What the loss of one output would be without some of the records.

The adapter took a loss away that the base model had. The records explain a part of that (``composition``); without some of
them the others explain less, however well they step in for those that are gone. The estimate is the gain times the part
that is no longer explained: a model trained without them is expected to find the output that much less likely.

It is an estimate from the gradients of one training run. Retraining without the records is the truth, and how far the two
lie apart is measured in ``bench/results/counterfactual.json``.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from openledger.attribution.index import InfluenceIndex, Measurement
from openledger.attribution.shares import explained
from openledger.primitives.amounts import PPM
from openledger.primitives.errors import InputError


@dataclass(frozen=True, slots=True)
class Counterfactual:
    """One output with all records and without some.

    Attributes:
        base_loss, loss: summed -log p of the output's tokens in nats under the base model and the adapter.
        explained_ppm: part of the output that all records together explain.
        left_ppm: part that they still explain without those that are left out.
        change: estimated rise of the loss in nats.
    """

    base_loss: float
    loss: float
    explained_ppm: int
    left_ppm: int
    change: float


def counterfactual(measurement: Measurement, index: InfluenceIndex, without: Collection[int]) -> Counterfactual:
    """Estimate the loss of the measured output had the model been trained without some records.

    Args:
        measurement: of the output, from ``index.measure``.
        index: the index it was measured with.
        without: numbers of the records that are left out.

    Raises:
        InputError: a record number is out of range, or the measurement does not fit the index.
    """
    if any(not 0 <= place < index.records for place in without):
        raise InputError(f"record numbers must be between 0 and {index.records - 1}, got {sorted(without)[:8]}")
    whole = min(PPM, sum(explained(measurement, index).values()))
    left = min(whole, sum(explained(measurement, index, without).values()))
    gain = max(0.0, measurement.base_loss - measurement.adapted_loss)
    return Counterfactual(measurement.base_loss, measurement.adapted_loss, whole, left, gain * (whole - left) / PPM)
