"""The engine answers requests of many adapters together, each as if it were alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.models import BaseModel, load_base, pinned
from openledger.openlora import AdapterLimits, Engine, EngineLimits, Finished, Grammar, Piece, Sampling, team
from openledger.openlora.text import TextStream
from openledger.primitives import InputError, ModelError, NotFoundError, OverloadedError
from tests.openlora.models import gpt2_base, random_adapter, random_base

LIMITS = EngineLimits(batch=8, chunk=16, prefix_bytes=1 << 20)
ADAPTERS: dict[str, dict[str, Any]] = {"a": {}, "b": {}, "wide": {"r": 20}, "c": {}, "dora": {"use_dora": True}}


@pytest.fixture(scope="module")
def base() -> BaseModel:
    return random_base()


@pytest.fixture(scope="module")
def folders(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    for seed, (name, settings_) in enumerate(ADAPTERS.items()):
        random_adapter(base, root / name, seed=seed, **settings_)
    return {name: root / name for name in ADAPTERS}


@pytest.fixture(scope="module")
def engine(base: BaseModel, folders: dict[str, Path]) -> Iterator[Engine]:
    with Engine(base, LIMITS) as made:
        for name, folder in folders.items():
            made.add(name, folder)
        yield made


def prompt(seed: int, length: int = 20) -> list[int]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 4000, (length,), generator=generator).tolist()


def test_more_threads_than_processors_are_not_started(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "_WORTH_SHARING", 1)
    with Engine(base, LIMITS) as alone, Engine(base, replace(LIMITS, threads=64)) as engine:
        right, found = (one.complete(None, prompt(1), Sampling(max_tokens=3)).token_ids for one in (alone, engine))
        started = sum(thread.name.startswith("openlora-team") for thread in threading.enumerate())
    assert found == right
    assert started < team.processors()


@pytest.mark.parametrize("adapter", [None, "a", "wide"])
def test_greedy_answers_are_those_of_transformers_and_peft(
    engine: Engine, base: BaseModel, folders: dict[str, Path], adapter: str | None
) -> None:
    from peft import PeftModel

    from openledger.models import shared_copy

    model = base.model
    if adapter is not None:
        model = PeftModel.from_pretrained(shared_copy(base.model), str(folders[adapter]))
    ids = prompt(1, 40)
    with pinned(), torch.inference_mode():
        right = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=24, do_sample=False, pad_token_id=0)
    assert list(engine.complete(adapter, ids, Sampling(max_tokens=24)).token_ids) == right[0, len(ids) :].tolist()


HOW = [
    Sampling(max_tokens=12),
    Sampling(max_tokens=30, temperature=0.9, seed=3),
    Sampling(max_tokens=17, temperature=1.0, top_p=0.8, seed=5, logprobs=3),
    Sampling(max_tokens=9, temperature=0.7, top_k=20, min_p=0.02, seed=8, repetition_penalty=1.3),
    Sampling(max_tokens=25, frequency_penalty=0.5, presence_penalty=0.2, logprobs=0),
]


def test_an_answer_is_bitwise_the_same_alone_and_in_any_batch(engine: Engine) -> None:
    names = [None, "a", "b", "wide", "c", "dora"]
    requests = [(names[n % 6], prompt(n, 3 + 13 * n % 70)) for n in range(40)]
    how = [HOW[n % len(HOW)] for n in range(40)]
    together = engine.generate_many(requests, how)
    for place in (0, 3, 5, 7, 12, 22, 35, 38):
        alone = engine.complete(*requests[place], how[place])
        assert alone == together[place]
        assert alone.logprobs == together[place].logprobs
    order = sorted(range(40), key=lambda n: n * 17 % 40)
    shuffled = engine.generate_many([requests[n] for n in order], [how[n] for n in order])
    assert shuffled == [together[n] for n in order]


def test_adapters_that_are_shared_or_copied_give_the_same_bits(
    base: BaseModel, folders: dict[str, Path], engine: Engine
) -> None:
    requests = [(name, prompt(n)) for n in range(3) for name in ("a", "b", "a", None)]
    how = Sampling(max_tokens=10, logprobs=2)
    with Engine(base, replace(LIMITS, entry_bytes=1)) as shared:
        for name, folder in folders.items():
            shared.add(name, folder)
        found, right = shared.generate_many(requests, how), engine.generate_many(requests, how)
    assert found == right
    assert [one.logprobs for one in found] == [one.logprobs for one in right]


def test_adapters_in_int8_are_bitwise_the_same_alone_and_in_any_batch(
    base: BaseModel, folders: dict[str, Path]
) -> None:
    how = Sampling(max_tokens=10, logprobs=2)
    requests = [(name, prompt(n)) for n in range(2) for name in ("a", "dora", "wide", "a", None)]
    with Engine(base, LIMITS, adapter_limits=AdapterLimits(precision="int8")) as short:
        for name in ("a", "dora", "wide"):
            short.add(name, folders[name])
        together = short.generate_many(requests, how)
        for place, request in enumerate(requests):
            alone = short.complete(*request, how)
            assert (alone, alone.logprobs) == (together[place], together[place].logprobs)


def test_a_prefix_that_is_known_changes_no_bit_and_belongs_to_one_adapter(
    base: BaseModel, folders: dict[str, Path]
) -> None:
    ids = prompt(9, 70)
    how = Sampling(max_tokens=8, logprobs=1)
    with Engine(base, LIMITS) as fresh:
        fresh.add("a", folders["a"])
        first, again = fresh.complete("a", ids, how), fresh.complete("a", [*ids[:64], 7, 8, 9], how)
        same = fresh.complete("a", ids, how)
        other = fresh.complete(None, ids, how)
    assert (first.cached_tokens, again.cached_tokens, same.cached_tokens, other.cached_tokens) == (0, 64, 64, 0)
    assert first == same
    assert first.logprobs == same.logprobs


def test_an_ensemble_changes_the_base_by_the_weighted_sum(
    base: BaseModel, folders: dict[str, Path], engine: Engine
) -> None:
    from peft import PeftModel

    from openledger.models import shared_copy

    engine.combine("ab", {"a": 0.3, "b": 0.7})
    model = PeftModel.from_pretrained(shared_copy(base.model), str(folders["a"]), adapter_name="a")
    model.load_adapter(str(folders["b"]), adapter_name="b")
    model.add_weighted_adapter(["a", "b"], [0.3, 0.7], "ab", combination_type="cat")
    model.set_adapter("ab")
    ids = prompt(4)
    with pinned(), torch.inference_mode():
        right = model.generate(input_ids=torch.tensor([ids]), max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert list(engine.complete("ab", ids, Sampling(max_tokens=12)).token_ids) == right[0, len(ids) :].tolist()
    engine.remove("ab")
    engine.combine("dora alone", {"dora": 1.0, "a": 0.0})
    how = Sampling(max_tokens=12)
    assert engine.complete("dora alone", ids, how).token_ids == engine.complete("dora", ids, how).token_ids
    engine.remove("dora alone")
    with pytest.raises(NotFoundError, match="'ab'"):
        engine.complete("ab", ids, Sampling())


def test_adapters_come_and_go_while_requests_run(base: BaseModel, folders: dict[str, Path]) -> None:
    with Engine(base, LIMITS) as busy:
        busy.add("a", folders["a"])
        right = busy.complete("a", prompt(0), Sampling(max_tokens=60))
        stop, wrong = threading.Event(), []

        def ask() -> None:
            while not stop.is_set():
                if busy.complete("a", prompt(0), Sampling(max_tokens=60)) != right:
                    wrong.append(1)

        with ThreadPoolExecutor(3) as pool:
            asking = [pool.submit(ask) for _ in range(3)]
            for number in range(10):
                busy.add(f"b{number}", folders["b"])
                busy.complete(f"b{number}", prompt(1), Sampling(max_tokens=3))
                busy.remove(f"b{number}")
            stop.set()
            for each in asking:
                each.result()
        assert not wrong
        assert busy.adapters == {"a"}


def test_dora_is_answered_in_one_batch_with_plain_adapters(base: BaseModel, tmp_path: Path, engine: Engine) -> None:
    oracle = random_adapter(base, tmp_path / "dora", seed=4, use_dora=True)
    ids = prompt(2)
    with pinned(), torch.inference_mode():
        right = oracle.generate(input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    answers = engine.generate_many([("a", ids), ("dora", ids), (None, ids)], Sampling(max_tokens=8))
    assert list(answers[1].token_ids) == right[0, len(ids) :].tolist()
    assert len({answer.token_ids for answer in answers}) == 3


def test_whole_modules_and_other_architectures_run_through_peft(base: BaseModel, tmp_path: Path) -> None:
    oracle = random_adapter(base, tmp_path / "whole", modules_to_save=["lm_head"])
    ids = prompt(2)
    with pinned(), torch.inference_mode():
        right = oracle.generate(input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0)
    with Engine(base, LIMITS) as mixed:
        mixed.add("whole", tmp_path / "whole")
        answers = mixed.generate_many([("whole", ids), (None, ids)], Sampling(max_tokens=8))
        assert list(answers[0].token_ids) == right[0, len(ids) :].tolist()
        assert answers[0] != answers[1]
        mixed.remove("whole")
    with Engine(gpt2_base()) as other:
        assert other.fallback == "its architecture is gpt2"
        assert len(other.complete(None, ids, Sampling(max_tokens=5)).token_ids) == 5


def _folder(path: Path, dtype: torch.dtype, name: str = "qwen 2") -> Path:
    """An ordinary model folder whose numbers are stored so."""
    base = random_base(name, tie_word_embeddings=name == "qwen 2", vocab_size=4100)
    base.model.to(dtype).save_pretrained(path)
    base.tokenizer.save_pretrained(path)
    return path


def _held(engine: Engine) -> int:
    """Weights of layers and embeddings that transformers' copy still has."""
    modules = engine.base.model.modules()
    return sum(one.weight.numel() for one in modules if isinstance(one, torch.nn.Linear | torch.nn.Embedding))


@pytest.mark.parametrize("name", ["qwen 2", "qwen 3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_engine_from_a_folder_holds_each_weight_once_and_answers_as_one_from_float32(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    whole = load_base(_folder(tmp_path / "base", dtype, name))
    assert {one.dtype for one in whole.model.parameters()} == {torch.float32}
    how, requests = Sampling(max_tokens=6, logprobs=20), [("a", prompt(1, 40)), ("dora", prompt(2)), (None, prompt(3))]
    random_adapter(whole, tmp_path / "a")
    random_adapter(whole, tmp_path / "dora", seed=1, use_dora=True)
    for change in ({"weights": "float32"}, {"weights": "int8"}, {"decoder": "torch", "slot": 128}):
        limits = replace(LIMITS, **change)
        with Engine(whole.path, limits) as engine, Engine(whole, limits) as right:
            assert engine.base.model.dtype == (torch.float32 if limits.decoder == "torch" else dtype)
            assert _held(engine) == 0 < _held(right)
            for one in (engine, right):
                one.add("a", tmp_path / "a")
                one.add("dora", tmp_path / "dora")
            assert engine.generate_many(requests, how) == right.generate_many(requests, how)


def test_whole_modules_are_served_after_the_weights_were_let_go(tmp_path: Path) -> None:
    whole = load_base(_folder(tmp_path / "base", torch.bfloat16))
    for seed in range(2):
        random_adapter(whole, tmp_path / str(seed), seed=seed, modules_to_save=["lm_head"])
    with Engine(whole.path, LIMITS) as engine, Engine(whole, LIMITS) as right:
        for one in (engine, right):
            one.add("whole", tmp_path / "0")
        how = Sampling(max_tokens=6)
        assert engine.complete("whole", prompt(1), how) == right.complete("whole", prompt(1), how)
        assert engine.complete(None, prompt(1), how) == right.complete(None, prompt(1), how)
        # The base that an adapter needed goes with it, and after one that is refused: the next one loads it again.
        engine.remove("whole")
        config = json.loads((tmp_path / "1" / "adapter_config.json").read_text())
        (tmp_path / "1" / "adapter_config.json").write_text(json.dumps({**config, "bias": "all"}))
        with pytest.raises(ModelError, match="changes biases"):
            engine.add("whole", tmp_path / "1")
        (whole.path / "config.json").write_text((whole.path / "config.json").read_text() + "\n")
        with pytest.raises(ModelError, match="no longer those that the engine runs: start it again"):
            engine.add("whole", tmp_path / "1")
        assert engine.adapters == frozenset()


def test_another_architecture_in_short_numbers_runs_in_float32(tmp_path: Path) -> None:
    base = gpt2_base()
    base.model.resize_token_embeddings(4100)
    base.model.to(torch.bfloat16).save_pretrained(tmp_path)
    base.tokenizer.save_pretrained(tmp_path)
    with Engine(tmp_path) as engine, Engine(load_base(tmp_path)) as right:
        assert engine.base.model.dtype == torch.float32
        assert engine.complete(None, prompt(1), Sampling(max_tokens=5)) == right.complete(
            None, prompt(1), Sampling(max_tokens=5)
        )


def test_int8_weights_give_nearly_the_same_logits_and_bits_that_no_batch_changes(tmp_path: Path) -> None:
    shipped = load_base()
    ids = prompt(3, 30)
    how = Sampling(max_tokens=6, logprobs=20)
    with Engine(shipped.path, replace(LIMITS, weights="int8")) as small, Engine(shipped, LIMITS) as whole:
        random_adapter(shipped, tmp_path / "a", lora_alpha=1)
        random_adapter(shipped, tmp_path / "whole", modules_to_save=["lm_head"])
        for engine in (small, whole):
            engine.add("a", tmp_path / "a")
        with pytest.raises(ModelError, match="which int8 is to save: use float32"):
            small.add("whole", tmp_path / "whole")
        found, right = small.complete("a", ids, how), whole.complete("a", ids, how)
        first, other = dict(found.logprobs[0].top), dict(right.logprobs[0].top)
        assert max(abs(first[token] - other[token]) for token in set(first) & set(other)) < 0.2
        assert len(set(first) & set(other)) > 15
        together = small.generate_many([(None, prompt(n)) for n in range(5)] + [("a", ids)], how)
        assert together[-1] == found
        assert together[-1].logprobs == found.logprobs
    with pytest.raises(InputError, match="int4"):
        EngineLimits(weights="int4")  # type: ignore[arg-type]


def test_closing_a_stream_frees_its_row(engine: Engine) -> None:
    stream = engine.generate("a", prompt(3), Sampling(max_tokens=400))
    assert isinstance(next(stream), Piece)
    stream.close()
    until = time.monotonic() + 60
    while engine.load != (0, 0) and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.load == (0, 0)


def test_the_pieces_of_a_stream_are_the_answer(engine: Engine) -> None:
    *pieces, finished = engine.generate("b", prompt(6), Sampling(max_tokens=50, temperature=1, seed=1))
    assert isinstance(finished, Finished)
    assert "".join(piece.text for piece in pieces) == finished.text
    assert finished == engine.complete("b", prompt(6), Sampling(max_tokens=50, temperature=1, seed=1))


def test_a_stop_string_ends_the_answer_and_is_cut_off(engine: Engine) -> None:
    whole = engine.complete("b", prompt(6), Sampling(max_tokens=50))
    stop = whole.text[12:15]
    cut = engine.complete("b", prompt(6), Sampling(max_tokens=50, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.reason == "stop"
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]


def test_output_follows_a_json_schema(engine: Engine) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2]}},
        "required": ["ok", "n"],
    }
    schema["additionalProperties"] = False
    how = Sampling(max_tokens=40, grammar=Grammar.json_schema(schema), temperature=1, seed=2)
    finished = engine.complete("a", prompt(8), how)
    document = json.loads(finished.text)
    assert list(document) == ["ok", "n"]
    assert finished.reason == "stop"
    assert finished == engine.generate_many([("b", prompt(1)), ("a", prompt(8))], how)[1]


def test_a_schema_that_cannot_be_followed_is_refused() -> None:
    with pytest.raises(InputError, match="schema"):
        Grammar.json_schema({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}})


def test_requests_beyond_the_queue_are_refused_and_the_others_answered(base: BaseModel) -> None:
    with Engine(base, EngineLimits(batch=2, waiting=3)) as small:
        with pytest.raises(OverloadedError) as refused:
            small.generate_many([(None, prompt(n)) for n in range(6)], Sampling(max_tokens=4))
        assert refused.value.retry_after >= 1
        assert len(small.generate_many([(None, prompt(n)) for n in range(5)], Sampling(max_tokens=4))) == 5


def test_memory_stays_in_the_budget_and_long_requests_wait_for_room(base: BaseModel) -> None:
    token = 4 * 2 * 2 * 2 * 16
    with Engine(base, EngineLimits(batch=8, kv_bytes=600 * token, prefix_bytes=0)) as tight:
        scheduler = tight._scheduler
        assert scheduler is not None
        answers = tight.generate_many(
            [(None, prompt(n, 10 + 60 * (n % 4))) for n in range(16)], Sampling(max_tokens=20)
        )
        assert all(len(answer.token_ids) == 20 for answer in answers)
        assert scheduler._caches.used == 0
    with Engine(base, EngineLimits(batch=8, kv_bytes=300 * token)) as tight:
        assert tight.context_length == 300
        with pytest.raises(InputError, match="leave room"):
            tight.complete(None, prompt(0, 400), Sampling())


def test_after_a_failure_the_engine_starts_anew(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    right = engine.complete("a", prompt(0), Sampling(max_tokens=5))
    decoder = engine._scheduler._decoder  # type: ignore[union-attr]
    monkeypatch.setattr(decoder, "run", lambda *_: 1 / 0)
    with pytest.raises(ModelError, match="send the request again"):
        engine.complete("a", prompt(0), Sampling(max_tokens=5))
    monkeypatch.undo()
    assert engine.complete("a", prompt(0), Sampling(max_tokens=5)) == right


@pytest.mark.parametrize(
    ("adapter", "ids", "error"),
    [("nobody", [5], NotFoundError), (None, [], InputError), (None, [4096], InputError), (None, [5] * 512, InputError)],
)
def test_what_cannot_be_answered_is_refused(
    engine: Engine, adapter: str | None, ids: list[int], error: type[Exception]
) -> None:
    with pytest.raises(error):
        engine.complete(adapter, ids, Sampling())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=4), max_size=2))
def test_streamed_text_is_the_decoded_text_up_to_the_first_stop(text: str, stops: list[str]) -> None:
    tokenizer = load_base().tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    stream = TextStream(tokenizer, stops)
    shown = ""
    for token in ids:
        shown += stream.add(token)
        if stream.stopped:
            break
    if not stream.stopped:
        stream.finish(ids)
    shown += stream.rest()
    places = [whole.find(stop) for stop in stops if stop in whole]
    assert shown == (whole[: min(places)] if places else whole)
