"""Proof of Attribution: whose records shaped an output, by how much, and how sure that is.

``build_index`` measures a training run; ``InfluenceIndex`` answers for one output which records lowered its loss, and
splits that over the output's tokens; ``shares`` turns it into integers that sum to 1,000,000; ``verify`` recomputes a
claim; ``audit`` measures by real retraining how right the scores are. ``SpanIndex`` finds verbatim stretches, which is
another kind of evidence. ``influence`` does it all in one call for anybody's adapter.

Influence is about the adapter: what the base model knew before belongs to the residual.
"""

from openledger.attribution.audit import Audit, Score, audit, lds, subsets
from openledger.attribution.build import build_index
from openledger.attribution.contradiction import Contradiction, Statement, contradictions
from openledger.attribution.extension import extend_index
from openledger.attribution.gradients import AdapterModel, Checkpoint, Query, TrainingExample
from openledger.attribution.index import InfluenceIndex, Measurement, Settings, measure_all
from openledger.attribution.influence import influence
from openledger.attribution.shares import Shares, gain_ppm, shares
from openledger.attribution.spans import Span, SpanIndex
from openledger.attribution.verify import OTHER_PROCESSOR_PPM, Verdict, verify

__all__ = [
    "OTHER_PROCESSOR_PPM",
    "AdapterModel",
    "Audit",
    "Checkpoint",
    "Contradiction",
    "InfluenceIndex",
    "Measurement",
    "Query",
    "Score",
    "Settings",
    "Shares",
    "Span",
    "SpanIndex",
    "Statement",
    "TrainingExample",
    "Verdict",
    "audit",
    "build_index",
    "contradictions",
    "extend_index",
    "gain_ppm",
    "influence",
    "lds",
    "measure_all",
    "shares",
    "subsets",
    "verify",
]
