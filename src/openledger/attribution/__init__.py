"""Proof of Attribution: whose records shaped an output, by how much, and how sure that is."""

from openledger.attribution.build import build_index
from openledger.attribution.gradients import AdapterModel, Checkpoint, Query, TrainingExample
from openledger.attribution.index import InfluenceIndex, Measurement, Settings
from openledger.attribution.shares import Shares, gain_ppm, shares
from openledger.attribution.spans import Span, SpanIndex

__all__ = [
    "AdapterModel",
    "Checkpoint",
    "InfluenceIndex",
    "Measurement",
    "Query",
    "Settings",
    "Shares",
    "Span",
    "SpanIndex",
    "TrainingExample",
    "build_index",
    "gain_ppm",
    "shares",
]
