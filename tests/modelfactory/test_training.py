"""Training memorises, repeats bit for bit, leaves records out when asked, and writes all or nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.modelfactory import Recipe, TrainingRecord, TrainingRun, examples_of, load_adapter, split, train
from openledger.modelfactory.adapters import read_weights
from openledger.modelfactory.training import answer_losses, batches, learning_rate
from openledger.models import BaseModel, encode_dialogue
from openledger.primitives import keccak, to_hex
from openledger.primitives.errors import ConfigurationError, InputError, ModelError, NotFoundError

SHORT = Recipe(
    rank=4, alpha=8, upper_layers=1.0, epochs=2, batch_size=4, holdout=0.0, checkpoints=(0.5, 1.0), precision="float32"
)


def test_the_loss_falls_to_almost_nothing(run: TrainingRun) -> None:
    assert run.losses[0] > 5
    assert sum(run.losses[-4:]) / 4 < 0.1


def test_the_folder_tells_the_whole_run(run: TrainingRun, base: BaseModel, recipe: Recipe) -> None:
    told = json.loads((run.path / "run.json").read_text())
    assert told["base"] == to_hex(base.digest)
    assert told["recipe_digest"] == to_hex(recipe.digest())
    assert TrainingRun.load(run.path) == run
    assert [point.step for point in run.checkpoints] == sorted({point.step for point in run.checkpoints})
    assert run.checkpoints[-1].step == len(run.losses)
    assert run.checkpoints[-1].digest == run.adapter_digest
    assert len({point.digest for point in run.checkpoints}) == len(run.checkpoints) == 3
    assert all(point.learning_rate > 0 for point in run.checkpoints)
    assert not list(run.path.parent.glob(".*"))
    assert not [path for path in run.path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]


def test_no_path_of_the_machine_is_in_the_run(run: TrainingRun, base: BaseModel) -> None:
    for file in run.path.rglob("*.json"):
        assert str(base.path) not in file.read_text()
        assert str(run.path) not in file.read_text()


def test_the_same_recipe_gives_the_same_bits(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    first = train(base, records, SHORT, tmp_path / "first")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        second = train(base, records, SHORT, tmp_path / "second")
    finally:
        torch.set_num_threads(threads)
    assert first.adapter_digest == second.adapter_digest
    assert first.losses == second.losses
    assert train(base, records, replace(SHORT, seed=2), tmp_path / "other").adapter_digest != first.adapter_digest


def test_the_base_is_left_as_it_was(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    train(base, records, SHORT, tmp_path / "run")
    after = base.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
    assert not base.model.training


def test_a_record_of_weight_zero_teaches_nothing(
    base: BaseModel, records: list[TrainingRecord], tmp_path: Path
) -> None:
    silent = [0.0 if number == 3 else 1.0 for number in range(len(records))]
    changed = list(records)
    changed[3] = replace(records[3], answer="In Cairo, 95 coins were found.")
    lengths = [len(encode_dialogue(base.tokenizer, r.question, r.answer).answer_ids) for r in (records[3], changed[3])]
    assert lengths[0] == lengths[1], "the two answers must have one length for the batches to be the same"
    first = train(base, records, SHORT, tmp_path / "first", weights=silent)
    second = train(base, changed, SHORT, tmp_path / "second", weights=silent)
    full = train(base, records, SHORT, tmp_path / "full")
    assert first.adapter_digest == second.adapter_digest != full.adapter_digest
    assert first.weights.count(0.0) == 1


def test_held_out_records_depend_on_their_hash_and_the_seed_alone(records: list[TrainingRecord]) -> None:
    recipe = replace(SHORT, holdout=0.5)
    trained, held_out = split(records, recipe)
    assert sorted(trained + held_out) == list(range(len(records)))
    hashes = {records[position].record_hash for position in held_out}
    _, backwards = split(records[::-1], recipe)
    assert {records[::-1][position].record_hash for position in backwards} == hashes
    assert split(records, replace(SHORT, holdout=0.0))[1] == []


def test_held_out_records_are_kept_out(run: TrainingRun, base: BaseModel, records: list[TrainingRecord]) -> None:
    assert run.held_out
    assert not set(run.held_out) & set(run.trained)
    assert len(run.held_out) + len(run.trained) == len(records)
    assert [record.record_hash for record, _ in examples_of(base, records, run)] == list(run.trained)
    with pytest.raises(InputError, match="is not among the given records"):
        list(examples_of(base, records[:3], run))


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=150), size=st.integers(1, 20), seed=st.integers(0, 50)
)
@settings(max_examples=40, deadline=None)
def test_every_epoch_sees_every_record_once(lengths: list[int], size: int, seed: int) -> None:
    recipe = Recipe(epochs=2, batch_size=size, seed=seed)
    steps = batches(lengths, recipe)
    assert steps == batches(lengths, recipe)
    assert all(1 <= len(step) <= size for step in steps)
    half = len(steps) // 2
    for epoch in (steps[:half], steps[half:]):
        assert sorted(position for step in epoch for position in step) == list(range(len(lengths)))


@given(schedule=st.sampled_from(["linear", "cosine", "constant"]), steps=st.integers(1, 400), warmup=st.floats(0, 0.9))
def test_the_rate_rises_to_its_peak_and_never_above(schedule: str, steps: int, warmup: float) -> None:
    recipe = Recipe(schedule=schedule, warmup=warmup, learning_rate=0.01)  # type: ignore[arg-type]
    rates = [learning_rate(recipe, step, steps) for step in range(1, steps + 1)]
    assert all(0 < rate <= 0.01 + 1e-12 for rate in rates)
    assert max(rates) == pytest.approx(0.01)
    peak = rates.index(max(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_only_the_answer_counts_in_the_loss(base: BaseModel, records: list[TrainingRecord]) -> None:
    dialogues = [encode_dialogue(base.tokenizer, record.question, record.answer) for record in records[:3]]
    with torch.no_grad():
        sums, counts = answer_losses(base.model, dialogues, 0, torch.device("cpu"))
        for dialogue, total, count in zip(dialogues, sums, counts, strict=True):
            tokens = torch.tensor(dialogue.token_ids)
            scores = base.model(tokens[None]).logits[0].log_softmax(-1)
            places = range(dialogue.prompt_length, len(tokens))
            expected = -sum(float(scores[place - 1, tokens[place]]) for place in places)
            assert float(total) == pytest.approx(expected, rel=1e-5)
            assert int(count) == len(dialogue.answer_ids)


def test_progress_is_told_at_every_step(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    run = train(base, records, SHORT, tmp_path / "run", lambda *step: told.append(step))
    assert [step for step, _, _ in told] == list(range(1, len(run.losses) + 1))
    assert {in_all for _, in_all, _ in told} == {len(run.losses)}
    assert tuple(loss for _, _, loss in told) == run.losses


def test_an_interrupted_run_leaves_nothing(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    def interrupt(step: int, in_all: int, loss: float) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(base, records, SHORT, tmp_path / "run", interrupt)
    assert list(tmp_path.iterdir()) == []


def test_a_run_on_disk_that_was_changed_is_found_out(run: TrainingRun, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    shutil.copytree(run.checkpoints[0].path, copy / "adapter", dirs_exist_ok=True)
    with pytest.raises(ModelError, match="not the one that this run trained"):
        TrainingRun.load(copy)
    (copy / "run.json").write_text("{}")
    with pytest.raises(ModelError, match="is not a training run"):
        TrainingRun.load(copy)
    (copy / "run.json").unlink()
    with pytest.raises(NotFoundError, match=r"no run\.json"):
        TrainingRun.load(copy)


def test_what_cannot_be_trained_on_is_named(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    def attempt(given: list[TrainingRecord], recipe: Recipe = SHORT, weights: list[float] | None = None) -> None:
        train(base, given, recipe, tmp_path / "run", weights=weights)

    with pytest.raises(InputError, match="no records"):
        attempt([])
    with pytest.raises(InputError, match="given twice"):
        attempt([records[0], records[0]])
    with pytest.raises(InputError, match="has 3 bytes"):
        attempt([replace(records[0], record_hash=b"abc")])
    with pytest.raises(InputError, match="at most 8 fit"):
        attempt(records, replace(SHORT, max_length=8))
    with pytest.raises(InputError, match="cannot be trained on: the answer is empty"):
        attempt([replace(records[0], answer="")])
    with pytest.raises(InputError, match="1 weights for 12 records"):
        attempt(records, weights=[1.0])
    for weight in (-1.0, float("nan")):
        with pytest.raises(InputError, match="is not 0 or more"):
            attempt(records, weights=[weight] * 12)
    with pytest.raises(ModelError, match=r"use some of .*'q_proj'"):
        attempt(records, replace(SHORT, target_modules=("query",)))
    lonely = next(r for n in range(99) if split([r := replace(records[0], record_hash=keccak(bytes([n])))], HALF)[1])
    with pytest.raises(InputError, match="none of 1 records is left"):
        attempt([lonely], HALF)
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError, match="exists"):
        attempt(records)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


HALF = replace(SHORT, holdout=0.5)


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")
def test_qlora_without_a_gpu_says_what_it_needs(base: BaseModel, records: list[TrainingRecord], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="QLoRA needs a CUDA GPU"):
        train(base, records, replace(SHORT, method="qlora"), tmp_path / "run")


def test_a_rate_that_is_far_too_high_is_reported(
    base: BaseModel, records: list[TrainingRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
        total = sum(parameter.sum() for parameter in _[0].parameters() if parameter.requires_grad)  # type: ignore[attr-defined]
        return (total * float("inf"))[None].expand(len(_[1])), torch.ones(1)  # type: ignore[arg-type, union-attr, index]

    monkeypatch.setattr("openledger.modelfactory.training.answer_losses", broken)
    with pytest.raises(ModelError, match="at step 1: lower the learning rate"):
        train(base, records, SHORT, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_layers_of_other_families_can_be_adapted(
    base: BaseModel, records: list[TrainingRecord], tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    other = GPT2LMHeadModel(GPT2Config(vocab_size=4096, n_positions=96, n_embd=32, n_layer=1, n_head=2)).eval()
    family = BaseModel(other, base.tokenizer, keccak(b"another base"), base.path)
    run = train(family, records, replace(SHORT, target_modules="all-linear"), tmp_path / "all")
    assert any("c_attn" in name for name in read_weights(run.adapter))
    assert load_adapter(family, run.adapter)
    run = train(family, records, replace(SHORT, target_modules="feed-forward"), tmp_path / "feed-forward")
    assert {name.split(".lora_")[0].split("h.0.")[1] for name in read_weights(run.adapter)} == {
        "mlp.c_fc",
        "mlp.c_proj",
    }
    assert load_adapter(family, run.adapter)


@pytest.mark.parametrize(("targets", "each"), [("feed-forward", 3), ("all-linear", 7), (("q_proj", "up_proj"), 2)])
def test_the_upper_part_of_the_layers_can_be_adapted_alone(
    base: BaseModel, records: list[TrainingRecord], tmp_path: Path, targets: str | tuple[str, ...], each: int
) -> None:
    count = base.model.config.num_hidden_layers
    for share, adapted in ((1.0, count), (0.5, count - count // 2), (0.01, 1)):
        recipe = replace(SHORT, epochs=1, target_modules=targets, upper_layers=share)
        run = train(base, records, recipe, tmp_path / str(share))
        layers = {name.split(".lora_")[0].split("layers.")[1] for name in read_weights(run.adapter)}
        assert {int(layer.split(".")[0]) for layer in layers} == set(range(count - adapted, count))
        assert len(layers) == adapted * each
        assert load_adapter(base, run.adapter)
