"""The index says who shaped an output, as retraining does, in bytes that anyone can make again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from openledger.attribution import (
    AdapterModel,
    Checkpoint,
    InfluenceIndex,
    Query,
    Settings,
    TrainingExample,
    build_index,
    influence,
    lds,
    subsets,
)
from openledger.primitives import InputError, ModelError, StorageError, VerificationError


def test_scores_predict_what_retraining_without_records_does(trained: Any) -> None:
    queries = [trained.query(place) for place in range(0, 24, 3)] + trained.held_out()
    kept = subsets(len(trained.examples), 12, seed=4)
    losses = np.asarray([trained.trainer.losses(mask.astype(float), queries) for mask in kept])
    scores = trained.index.scores(trained.base, queries)
    measured = lds(scores, kept, losses, draws=0)
    shuffled = lds(scores[:, np.random.default_rng(0).permutation(24)], kept, losses, draws=0)
    assert measured.lds > 0.3
    assert measured.lds > shuffled.lds + 0.2


def test_a_trained_record_is_the_first_for_its_own_answer(trained: Any) -> None:
    queries = [trained.query(place) for place in range(24)]
    found = trained.index.scores(trained.base, queries).argmax(axis=1)
    assert (found == np.arange(24)).mean() > 0.9


def test_token_scores_are_an_exact_split_of_the_scores(trained: Any) -> None:
    for query in (trained.query(3), trained.held_out(1)[0]):
        scores = trained.index.scores(trained.base, [query])[0]
        split = trained.index.token_scores(trained.base, query, [3, 0, 17])
        assert split.shape == (len(query.token_ids) - query.prompt_length, 3)
        np.testing.assert_allclose(split.sum(axis=0), scores[[3, 0, 17]], rtol=1e-3, atol=1e-3 * abs(scores).max())


def test_what_stands_in_the_prompt_has_an_effect_of_its_own_on_each_token(trained: Any) -> None:
    query = trained.query(3)
    prompt, output = list(query.token_ids[:4]), query.token_ids[4:]
    shorter = [3, prompt[1], prompt[3]]
    effects = trained.index.context_effects(trained.base, query, [prompt, shorter])
    assert effects.shape == (2, len(output))
    assert not effects[0].any()
    served = AdapterModel.from_folder(trained.base, trained.adapter)
    losses = served.losses([Query([*shorter, *output], 3), query])
    assert float(effects[1].sum()) == pytest.approx(float(losses[0] - losses[1]), abs=1e-4)
    assert trained.index.context_effects(trained.base, query, []).shape == (0, len(output))


def test_the_same_run_gives_the_same_bytes_with_any_number_of_workers_and_threads(trained: Any) -> None:
    again = build_index(trained.base, trained.checkpoints, trained.examples, Settings(), workers=1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        third = build_index(trained.fresh_base(), trained.checkpoints, trained.examples, Settings(), workers=3)
        scores = third.scores(trained.base, [trained.query(1)])
    finally:
        torch.set_num_threads(threads)
    assert trained.index.digest() == again.digest() == third.digest()
    assert np.array_equal(scores, trained.index.scores(trained.base, [trained.query(0), trained.query(1)])[1:])


def test_an_index_read_back_gives_the_same_scores(trained: Any, tmp_path: Path) -> None:
    trained.index.save(tmp_path / "index")
    read = InfluenceIndex.load(tmp_path / "index", trained.index.digest())
    query = trained.query(5)
    assert np.array_equal(read.scores(trained.base, [query]), trained.index.scores(trained.base, [query]))
    with pytest.raises(StorageError, match="never overwritten"):
        trained.index.save(tmp_path / "index")


@pytest.mark.parametrize("name", ["manifest.json", "index.safetensors"])
def test_a_changed_byte_in_an_index_is_found(trained: Any, tmp_path: Path, name: str) -> None:
    trained.index.save(tmp_path / "index")
    path = tmp_path / "index" / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageError):
        InfluenceIndex.load(tmp_path / "index", trained.index.digest())


def test_another_base_model_and_another_adapter_are_refused(trained: Any) -> None:
    with pytest.raises(ModelError, match="belongs to the base model"):
        trained.index.scores(trained.fresh_base(seed=7), [trained.query(0)])
    trained.index.check_adapter(trained.adapter)
    with pytest.raises(VerificationError, match="not the one"):
        trained.index.check_adapter(trained.checkpoints[0].path)


def test_a_folded_index_agrees_with_an_exact_one(trained: Any) -> None:
    folded = build_index(trained.base, trained.checkpoints, trained.examples, Settings(sketch=8191))
    queries = trained.held_out()
    exact, found = (index.scores(trained.base, queries).ravel() for index in (trained.index, folded))
    assert np.corrcoef(exact, found)[0, 1] > 0.9


def test_influence_works_on_a_peft_model_that_somebody_brings(trained: Any) -> None:
    model = trained.trainer.model
    before = {name: value.clone() for name, value in model.named_parameters()}
    queries = [trained.query(place) for place in range(4)]
    found = influence(model, trained.examples, trained.checkpoints, queries)
    assert found.dtype == np.float32
    assert found.shape == (4, 24)
    assert found.argmax(axis=1).tolist() == [0, 1, 2, 3]
    assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())


def test_a_record_of_weight_zero_has_no_influence(trained: Any) -> None:
    examples = [replace(example, weight=0.0 if place == 2 else 1.0) for place, example in enumerate(trained.examples)]
    scores = build_index(trained.base, trained.checkpoints, examples).scores(trained.base, [trained.query(2)])
    assert scores[0, 2] == 0
    assert abs(scores).max() > 0


def test_one_record_alone_can_be_indexed(trained: Any) -> None:
    index = build_index(trained.base, trained.checkpoints, trained.examples[:1])
    assert index.scores(trained.base, [trained.query(0)])[0, 0] > 0


def test_progress_rises_to_one(trained: Any) -> None:
    told: list[float] = []
    build_index(
        trained.base, trained.checkpoints, trained.examples[:4], progress=lambda share, _: told.append(share), workers=1
    )
    assert told == sorted(told)
    assert told[-1] == 1.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: ([], t.examples), "at least one of each"),
        (lambda t: (t.checkpoints, []), "at least one of each"),
        (lambda t: (list(reversed(t.checkpoints)), t.examples), "rising order"),
        (lambda t: ([Checkpoint(t.adapter, 0.0, 1)], t.examples), "learning rates"),
        (lambda t: (t.checkpoints, [replace(t.examples[0], weight=float("nan"))]), "weight nan"),
        (lambda t: (t.checkpoints, [replace(t.examples[0], record_hash=b"x")]), "1 bytes"),
        (lambda t: (t.checkpoints, [TrainingExample((1, 2), 2)]), "output is empty"),
        (lambda t: (t.checkpoints, [TrainingExample((1,) * 49, 2)]), "context of 48"),
    ],
)
def test_a_training_run_that_cannot_be_indexed_is_refused_in_words(
    trained: Any, change: Callable[[Any], tuple[list[Checkpoint], list[TrainingExample]]], words: str
) -> None:
    checkpoints, examples = change(trained)
    with pytest.raises(InputError, match=words):
        build_index(trained.base, checkpoints, examples)


def test_record_numbers_outside_the_index_are_refused(trained: Any) -> None:
    with pytest.raises(InputError, match="between 0 and 23"):
        trained.index.token_scores(trained.base, trained.query(0), [24])
    with pytest.raises(InputError, match="output is empty"):
        trained.index.measure(trained.base, [Query((1, 2), 2)])
