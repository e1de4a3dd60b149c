"""Influence for anybody's LoRA adapter, in one call."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from peft import PeftModel

from openledger.attribution.build import exact_scores
from openledger.attribution.gradients import Checkpoint, Query, TrainingExample, bare
from openledger.attribution.index import Settings


def influence(
    model: PeftModel,
    records: Sequence[TrainingExample],
    checkpoints: Sequence[Checkpoint],
    queries: Sequence[Query],
    settings: Settings | None = None,
) -> NDArray[np.float32]:
    """How much each training record lowered the loss of each query's output.

    Works on any causal language model of transformers in float32 that carries one plain LoRA adapter on linear layers
    (any rank, any target modules, Conv1D included). Nothing is written, and the model is not changed.

    Args:
        model: the base with the adapter. Only its base weights and the adapter's configuration are used; the adapter's
            own matrices come from ``checkpoints``.
        records: token ids, prompt length and weight of every training record. The loss of a record is the sum of
            -log p over the tokens after the prompt, times its weight.
        checkpoints: folders in peft's format saved during training, in rising order of steps, early ones included, with
            the learning rate at each. Those at next to no rate are left out, the others count alike.
        queries: token ids and prompt length; the score is about the summed -log p of the tokens after the prompt.
        settings: damping, ridge and the like. Nothing is compressed but gradients of more than 262,139 coordinates,
            which are folded into so many; memory grows with the square of the number of records, so that
            ``build_index`` is for tens of thousands of them.

    Returns:
        float32 [queries, records]. A larger score means that the record lowered the query's loss more; a negative one,
        that it raised it. The unit is arbitrary but the same for all queries of one call, so rows may be compared,
        and scores of a group of records may be added.

    Raises:
        InputError: no record or checkpoint; a query or record without output, longer than the context, or with a token
            outside the vocabulary.
        ModelError: the model is not float32, has another kind of adapter, or a checkpoint does not fit it.
    """
    base, config, _ = bare(model)
    return exact_scores(
        base,
        config,
        checkpoints,
        records,
        queries,
        settings or Settings(ridge=3.0, largest_rotation=4096),
    )
