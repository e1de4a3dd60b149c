"""An engine in a process of its own answers as one in this process does, and comes back when it is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from openledger.models import load_base
from openledger.openlora import CancelledError, Engine, EngineLimits, EngineProcess, Grammar, Piece, Sampling
from openledger.primitives import InputError, ModelError, NotFoundError, OverloadedError, UnavailableError
from tests.openlora.models import random_adapter

PROMPT = [15, 200, 31, 77, 12, 901]
LONG = Sampling(max_tokens=400, temperature=1.5, seed=1)
HOW = [
    Sampling(max_tokens=12),
    Sampling(max_tokens=15, temperature=0.9, seed=3, logprobs=2),
    Sampling(max_tokens=40, grammar=Grammar.json_schema({"enum": ["yes", "no"]})),
]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "law"
    random_adapter(load_base(), folder)
    return folder


@pytest.fixture(scope="module")
def process(adapter: Path) -> Iterator[EngineProcess]:
    with EngineProcess(load_base().path, EngineLimits(batch=4, waiting=2)) as made:
        made.add("law", adapter)
        made.combine("half", {"law": 0.5})
        yield made


def test_it_answers_as_an_engine_in_this_process(process: EngineProcess, adapter: Path) -> None:
    with Engine(load_base()) as here:
        here.add("law", adapter)
        here.combine("half", {"law": 0.5})
        assert process.context_length == here.context_length
        assert process.adapters == here.adapters
        for name in (None, "law", "half"):
            for how in HOW:
                found, right = process.complete(name, PROMPT, how), here.complete(name, PROMPT, how)
                assert found == right
                assert found.logprobs == right.logprobs


def test_its_errors_are_the_engines(process: EngineProcess) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        process.complete("nobody", PROMPT, HOW[0])
    with pytest.raises(InputError, match="leave room"):
        process.complete(None, [5] * 100_000, HOW[0])
    with pytest.raises(InputError, match="taken"):
        process.add("law", Path("/nowhere"))
    streams = [process.generate("law", PROMPT, LONG) for _ in range(6)]
    with pytest.raises(OverloadedError) as refused:
        process.generate("law", PROMPT, LONG)
    assert refused.value.retry_after >= 1
    for stream in streams:
        next(stream)
        stream.close()
    wait_until(lambda: process.load == (0, 0))


def test_a_request_can_be_cancelled(process: EngineProcess) -> None:
    cancel = threading.Event()
    stream = process.generate("law", PROMPT, LONG, cancel=cancel)
    assert isinstance(next(stream), Piece)
    cancel.set()
    with pytest.raises(CancelledError):
        list(stream)
    wait_until(lambda: process.load == (0, 0))


def test_when_it_is_killed_its_requests_are_told_and_it_comes_back_with_its_adapters(process: EngineProcess) -> None:
    right = process.complete("half", PROMPT, HOW[1])
    for round_ in range(2):
        stream = process.generate("law", PROMPT, LONG)
        assert isinstance(next(stream), Piece)
        os.kill(process.process_id, signal.SIGKILL)
        with pytest.raises(UnavailableError, match="send the request again"):
            list(stream)
        assert process.complete("half", PROMPT, HOW[1]) == right
        assert process.restarts == round_ + 1
        assert f"openledger_engine_restarts_total {round_ + 1}" in process.exposition().decode()
    assert process.adapters == {"law", "half"}


def test_a_whole_answer_is_made_again_by_the_next_process(process: EngineProcess) -> None:
    right = process.complete("law", PROMPT, LONG)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(process.complete, "law", PROMPT, LONG)
        wait_until(lambda: process.load != (0, 0) or asked.done())
        assert not asked.done()
        os.kill(process.process_id, signal.SIGKILL)
        assert asked.result() == right


def test_while_no_process_is_there_streams_are_told_to_come_back(process: EngineProcess) -> None:
    restarts = process.restarts
    os.kill(process.process_id, signal.SIGKILL)
    wait_until(lambda: process.restarts > restarts)
    with pytest.raises(UnavailableError) as refused:
        process.generate("law", PROMPT, LONG)
    assert refused.value.retry_after >= 1
    assert "openledger_engine_up 0\n" in process.exposition().decode()
    process.wait()
    assert "openledger_engine_up 1\n" in process.exposition().decode()
    assert process.adapters == {"law", "half"}


def test_what_is_pinned_is_pinned_again_in_the_next_process(process: EngineProcess) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        process.pin("nobody")
    process.pin("law")
    os.kill(process.process_id, signal.SIGKILL)
    wait_until(lambda: not process._ready.is_set())
    process.wait()
    held = "openledger_adapter_bytes 0.0"
    told = process.exposition().decode()
    assert "openledger_adapter_bytes" in told
    assert held not in told
    process.unpin("law")


def test_a_process_that_answers_nothing_is_killed_and_started_again() -> None:
    with EngineProcess(load_base().path, silent_seconds=2) as process:
        stream = process.generate(None, PROMPT, LONG)
        next(stream)
        os.kill(process.process_id, signal.SIGSTOP)
        with pytest.raises(UnavailableError):
            list(stream)
        process.wait()
        assert process.restarts == 1


@pytest.mark.parametrize(
    ("missing", "why"),
    [("model.safetensors", r"has no \*\.safetensors weights: add"), ("tokenizer", "holds no tokenizer")],
)
def test_a_base_that_cannot_be_loaded_is_told_in_one_line_and_leaves_no_process(
    missing: str, why: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for file in load_base().path.iterdir():
        if not file.name.startswith(missing):
            (tmp_path / file.name).write_bytes(file.read_bytes())
    before = children()
    with pytest.raises(ModelError, match=why):
        EngineProcess(tmp_path)
    assert children() == before
    assert "Traceback" not in capfd.readouterr().err


def children() -> set[int]:
    """The processes that this one has started, and that have not ended."""
    return {int(pid) for path in Path("/proc/self/task").iterdir() for pid in (path / "children").read_text().split()}


def wait_until(holds: object) -> None:
    until = time.monotonic() + 60
    while not holds() and time.monotonic() < until:  # type: ignore[operator]
        time.sleep(0.01)
    assert holds()  # type: ignore[operator]
