"""What cannot be attributed is refused in words, and what is merely odd has a defined answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from openledger.attribution import AdapterModel, TrainingExample, build_index, gain_ppm, shares
from openledger.attribution.counterfactual import counterfactual
from openledger.attribution.poison import suspicion
from openledger.primitives import PPM, InputError, ModelError, keccak


def test_one_record_alone_is_credited_with_all_that_the_adapter_gained(trained: Any) -> None:
    index = build_index(trained.base, trained.checkpoints, trained.examples[:1], workers=1)
    measured = index.measure(trained.base, [trained.query(0)])[0]
    assert shares(measured, index).ppm == {0: gain_ppm(measured)}


def test_of_nothing_but_duplicates_the_most_senior_takes_all(trained: Any) -> None:
    copies = [
        replace(trained.examples[0], seniority=10 - place, record_hash=keccak(bytes([place]))) for place in range(10)
    ]
    index = build_index(trained.base, trained.checkpoints, copies, workers=1)
    assert set(index.clusters.tolist()) == {0}
    assert set(shares(index.measure(trained.base, [trained.query(0)])[0], index).ppm) == {9}


def test_duplicates_of_the_same_seniority_share_in_equal_parts(trained: Any) -> None:
    copies = [replace(trained.examples[0], seniority=0, record_hash=keccak(bytes([place]))) for place in range(3)]
    index = build_index(trained.base, trained.checkpoints, copies, workers=1)
    found = shares(index.measure(trained.base, [trained.query(0)])[0], index)
    assert set(found.ppm) == {0, 1, 2}
    assert len(set(found.ppm.values())) == 1


@pytest.mark.parametrize("damaged", ["base", "adapter"])
def test_a_model_that_gives_numbers_that_are_not_finite_is_refused(trained: Any, damaged: str) -> None:
    base = trained.fresh_base()
    if damaged == "base":
        base.model.layers[0].mlp.up_proj.weight.data[0, 0] = float("nan")
    model = AdapterModel.from_folder(base, trained.adapter)
    if damaged == "adapter":
        model.load({block.name: torch.full((block.rows, block.columns), 1e30) for block in model.blocks})
    with pytest.raises(ModelError, match="not finite"):
        list(model.batches([trained.query(0)]))


def test_a_record_longer_than_the_context_is_refused(trained: Any) -> None:
    long = TrainingExample(tuple([5] * 60), 4)
    with pytest.raises(InputError, match="context of 48"):
        build_index(trained.base, trained.checkpoints, [*trained.examples, long], workers=1)


def test_a_counterfactual_without_nobody_changes_nothing_and_without_everybody_all(trained: Any) -> None:
    measured = trained.index.measure(trained.base, [trained.query(3)])[0]
    assert counterfactual(measured, trained.index, []).change == 0
    alone = counterfactual(measured, trained.index, [3])
    everybody = counterfactual(measured, trained.index, range(24))
    assert 0 < alone.change <= everybody.change
    assert everybody.left_ppm == 0
    assert everybody.change == pytest.approx((alone.base_loss - alone.loss) * everybody.explained_ppm / PPM)
    with pytest.raises(InputError, match="between 0 and 23"):
        counterfactual(measured, trained.index, [24])


def test_a_counterfactual_is_near_what_retraining_gives(trained: Any) -> None:
    queries = [trained.query(place) for place in range(0, 24, 4)]
    estimated, real = [], []
    measured = trained.index.measure(trained.base, queries)
    whole = trained.trainer.losses(np.ones(24), queries)
    for owner in range(4):
        gone = list(range(owner, 24, 4))
        weights = np.asarray([0.0 if place in gone else 1.0 for place in range(24)])
        real += [after - before for after, before in zip(trained.trainer.losses(weights, queries), whole, strict=True)]
        estimated += [counterfactual(one, trained.index, gone).change for one in measured]
    assert np.corrcoef(estimated, real)[0, 1] > 0.8


def test_poison_needs_something_to_go_by(trained: Any) -> None:
    with pytest.raises(InputError, match="0 trusted answers"):
        suspicion(trained.base, trained.index, [])
