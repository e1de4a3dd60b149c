"""Other ways to turn gradients into pay, as they are published: what our shares are compared with under attack.

All three work on the final adapter's gradients, keep what is positive and pay everything out: a record's part of a
query is its positive score over the sum of all positive scores.

- ``dot product``: inner product of the query's gradient with the record's (TracIn at one checkpoint; Pruthi et al., 2020).
- ``cosine``: the same over the lengths of both.
- ``DataInf``: inverse Hessian of each matrix in closed form (Kwon et al., 2024, eq. 5), damped by a tenth of the mean
  squared gradient; the rule of OpenLedger's paper for small models.

These are here to be measured, not to pay by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from openledger.attribution.gradients import AdapterModel, Query, TrainingExample

_DATAINF_DAMPING = 0.1


@dataclass(frozen=True, slots=True)
class Products:
    """Inner products of gradients, one matrix for each block of the adapter.

    Attributes:
        records: between records [records, records].
        queries: of queries with records [queries, records].
        lengths: of the queries' whole gradients [queries].
        sizes: numbers in one gradient of each block.
    """

    records: tuple[Tensor, ...]
    queries: tuple[Tensor, ...]
    lengths: Tensor
    sizes: tuple[int, ...]


def products(model: AdapterModel, examples: Sequence[TrainingExample], queries: Sequence[Query]) -> Products:
    """Measure all inner products of records' and queries' gradients; memory grows with their number.

    Raises:
        InputError, ModelError: as :meth:`AdapterModel.batches`.
    """
    everything: list[Query | TrainingExample] = [*examples, *queries]
    held = [torch.empty(len(everything), block.size) for block in model.blocks]
    for batch in model.batches(everything):
        for block, captured in zip(held, batch.blocks, strict=True):
            block[list(batch.positions)] = captured.gradients().flatten(1).cpu()
    count, within, across = len(examples), [], []
    lengths = torch.zeros(len(queries))
    while held:
        block = held.pop(0)
        within.append(block[:count] @ block[:count].T)
        across.append(block[count:] @ block[:count].T)
        lengths += block[count:].square().sum(dim=1)
    sizes = tuple(block.size for block in model.blocks)
    return Products(tuple(within), tuple(across), lengths.sqrt(), sizes)


def dot_product(found: Products) -> NDArray[np.float64]:
    """Scores [queries, records]."""
    return _plain(torch.stack(found.queries).double().sum(dim=0))


def cosine(found: Products) -> NDArray[np.float64]:
    """Scores [queries, records], each between -1 and 1."""
    squares = torch.stack([block.diagonal() for block in found.records]).double().sum(dim=0)
    scale = squares.sqrt()[None] * found.lengths.double()[:, None]
    return _plain(torch.stack(found.queries).double().sum(dim=0) / scale.clamp(min=1e-30))


def datainf(found: Products) -> NDArray[np.float64]:
    """Scores [queries, records]; larger lowers the loss more."""
    total = torch.zeros(found.queries[0].shape, dtype=torch.float64)
    for within, across, size in zip(found.records, found.queries, found.sizes, strict=True):
        gram, query = within.double(), across.double()
        squares = gram.diagonal()
        damping = (_DATAINF_DAMPING * squares.mean() / size).clamp(min=1e-30)
        total += (query - (query / (damping + squares)) @ gram / len(gram)) / damping
    return _plain(total)


RULES: dict[str, Callable[[Products], NDArray[np.float64]]] = {
    "cosine": cosine,
    "dot product": dot_product,
    "DataInf": datainf,
}
"""The rules by name."""


def paid(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Parts of one that a rule pays to each record for each query [queries, records]; rows sum to one, or to zero."""
    positive = np.maximum(scores, 0.0)
    whole = positive.sum(axis=1, keepdims=True)
    found: NDArray[np.float64] = np.divide(positive, whole, out=np.zeros_like(positive), where=whole > 0)
    return found


def _plain(values: Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.numpy()
    return found
