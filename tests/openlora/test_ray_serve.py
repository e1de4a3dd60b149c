"""Two replicas on a Ray cluster of this machine answer as one engine does, are replaced when they die, and drain."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn

from openledger.models import load_base
from openledger.openlora import AdapterLimits, CancelledError, Engine, EngineLimits, Finished, Grammar, Piece, Sampling
from openledger.openlora.shapes import SITES, Dimensions, Layout
from openledger.primitives import InputError, NotFoundError, UnavailableError
from tests.openlora.models import random_adapter

pytest.importorskip("ray.serve", reason="the extra 'distributed' is not installed")
from openledger.openlora.ray_serve import RayBackend, RaySettings
from openledger.studio import administration
from openledger.studio.standalone import StandaloneService, make_app

pytestmark = pytest.mark.cluster
PROMPT = [15, 200, 31, 77, 12, 901]
LONG = Sampling(max_tokens=400, temperature=1.5, seed=1)
NAMES = ("law", "medicine", "exploits", "music")
HOW = [
    Sampling(max_tokens=12),
    Sampling(max_tokens=15, temperature=0.9, seed=3, logprobs=2),
    Sampling(max_tokens=40, grammar=Grammar.json_schema({"enum": ["yes", "no"]})),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("adapters")
    for seed, name in enumerate(NAMES):
        random_adapter(load_base(), made / name, seed=seed)
    return made


@pytest.fixture(scope="module")
def replicas(folder: Path) -> Iterator[RayBackend]:
    of_one = 4 * Layout(Dimensions.of(load_base().model.config), 8, SITES[:-1]).size
    limits = EngineLimits(batch=4, waiting=8, adapter_bytes=of_one * 5 // 2, entry_bytes=of_one)
    settings = RaySettings(replicas=2, health_seconds=1.0)
    backend = RayBackend(None, settings, limits, adapter_limits=AdapterLimits(rank=24))
    try:
        for name in NAMES:
            backend.add(name, folder / name)
        yield backend
    finally:
        backend.close()


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[Engine]:
    with Engine(load_base()) as engine:
        for name in NAMES:
            engine.add(name, folder / name)
        yield engine


def test_replicas_answer_with_the_bits_of_an_engine_here(replicas: RayBackend, here: Engine) -> None:
    assert replicas.context_length == here.context_length
    assert replicas.adapters == here.adapters
    for name in (None, *NAMES):
        for how in HOW:
            found, right = replicas.complete(name, PROMPT, how), here.complete(name, PROMPT, how)
            assert found == right
            assert found.logprobs == right.logprobs
    pieces = list(replicas.generate("law", PROMPT, LONG))
    assert "".join(piece.text for piece in pieces[:-1]) == pieces[-1].text


def test_answers_of_replicas_are_counted_where_they_are_handed_on(replicas: RayBackend) -> None:
    def told() -> dict[str, float]:
        lines = (line.rpartition(" ") for line in replicas.exposition().decode().splitlines() if line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    before = told()
    answer = replicas.complete("law", PROMPT, HOW[0])
    left = replicas.generate("law", PROMPT, LONG)
    next(left)
    left.close()
    more = {name: value - before.get(name, 0) for name, value in told().items()}
    assert more['openledger_requests_total{outcome="finished"}'] == 1
    assert more['openledger_requests_total{outcome="cancelled"}'] == 1
    assert more["openledger_output_tokens_total"] == len(answer.token_ids)
    assert more["openledger_prompt_tokens_total"] == 2 * len(PROMPT)
    assert more["openledger_time_to_first_token_seconds_count"] == 2
    assert more["openledger_requests_running"] == 0


def test_an_adapter_stays_with_a_replica_that_has_it(replicas: RayBackend) -> None:
    homes = {}
    for _ in range(4):
        for name in NAMES:
            replicas.complete(name, PROMPT, HOW[0])
            homes.setdefault(name, []).append(replicas.home(name))
    assert all(len(set(seen)) == 1 for seen in homes.values()), homes


def test_what_is_wrong_is_said_by_the_engines_errors(replicas: RayBackend, folder: Path) -> None:
    with pytest.raises(NotFoundError, match="'nobody'"):
        replicas.complete("nobody", PROMPT, HOW[0])
    with pytest.raises(InputError, match="leave room"):
        replicas.complete("law", [5] * 100_000, HOW[0])
    with pytest.raises(InputError, match="taken"):
        replicas.add("law", folder / "law")
    with pytest.raises(NotFoundError, match="no adapter"):
        replicas.add("new", folder)
    with pytest.raises(NotFoundError, match="'nobody'"):
        replicas.combine("mix", {"law": 1.0, "nobody": 1.0})
    with pytest.raises(InputError, match="finite weight"):
        replicas.combine("mix", {"law": float("nan")})
    with pytest.raises(InputError, match="ranks sum to"):
        replicas.combine("mix", dict.fromkeys(NAMES, 1.0))
    with pytest.raises(NotFoundError, match="'nobody'"):
        replicas.pin("nobody")
    assert replicas.adapters == set(NAMES)


def test_an_ensemble_has_the_bits_of_an_engine_here_and_outlives_its_parts(replicas: RayBackend, here: Engine) -> None:
    for backend in (replicas, here):
        backend.combine("mix", {"law": 0.4, "medicine": 0.6})
        backend.combine("mixed again", {"mix": -1.5, "law": 1.0})
    for name in ("mix", "mixed again"):
        for how in HOW:
            assert replicas.complete(name, PROMPT, how) == here.complete(name, PROMPT, how)
    assert replicas.complete("mix", PROMPT, LONG) != replicas.complete("law", PROMPT, LONG)
    replicas.remove("law")
    assert replicas.complete("mixed again", PROMPT, LONG) == here.complete("mixed again", PROMPT, LONG)
    for backend in (replicas, here):
        backend.remove("mixed again")
        backend.remove("mix")


def test_an_adapter_with_norms_is_checked_by_a_replica_and_answered(
    replicas: RayBackend, here: Engine, folder: Path, tmp_path: Path
) -> None:
    random_adapter(load_base(), tmp_path / "norms", seed=9, use_dora=True)
    replicas.add("law", folder / "law")
    for backend in (replicas, here):
        backend.add("norms", tmp_path / "norms")
        backend.combine("both", {"law": 0.5, "norms": 0.5})
    for name in ("norms", "both"):
        assert replicas.complete(name, PROMPT, LONG) == here.complete(name, PROMPT, LONG)
    for backend in (replicas, here):
        backend.remove("both")
        backend.remove("norms")


def test_a_pin_holds_at_its_adapters_home_and_follows_it_to_the_next(replicas: RayBackend, folder: Path) -> None:
    homes = {}
    for name in NAMES:
        replicas.complete(name, PROMPT, HOW[0])
        homes[name] = replicas.home(name)
    first, second = next((one, other) for one in NAMES for other in NAMES if one < other and homes[one] == homes[other])
    replicas.pin(first)
    assert replicas.pinned_at(first) == homes[first]
    with pytest.raises(InputError, match="unpin one"):  # each replica has room for one pinned adapter and another
        replicas.pin(second)
    replicas.unpin(first)
    assert replicas.pinned_at(first) == ""
    replicas.pin(second)
    lost = replicas.pinned_at(second)
    os.kill(int(lost.split()[1]), signal.SIGKILL)
    wait_until(lambda: replicas.pinned_at(second) not in ("", lost))
    for name in NAMES:
        if name != second and home_of(replicas, name) == home_of(replicas, second):
            with pytest.raises(InputError, match="unpin one"):
                replicas.pin(name)
    replicas.remove(second)
    assert replicas.pinned_at(second) == ""
    replicas.add(second, folder / second)


def home_of(replicas: RayBackend, name: str) -> str:
    replicas.complete(name, PROMPT, HOW[0])
    return replicas.home(name)


def test_a_request_can_be_cancelled(replicas: RayBackend) -> None:
    cancel = threading.Event()
    stream = replicas.generate("law", PROMPT, LONG, cancel=cancel)
    assert isinstance(next(stream), Piece)
    cancel.set()
    with pytest.raises(CancelledError):
        list(stream)
    assert replicas.load == (0, 0)


def test_a_replica_that_is_killed_ends_its_streams_and_is_replaced(replicas: RayBackend, here: Engine) -> None:
    stream = replicas.generate("law", PROMPT, LONG)
    next(stream)
    lost = replicas.home("law")
    os.kill(int(lost.split()[1]), signal.SIGKILL)
    with pytest.raises(UnavailableError, match="send the request again"):
        list(stream)
    right = here.complete("law", PROMPT, HOW[1])
    assert replicas.complete("law", PROMPT, HOW[1]) == right
    assert replicas.home("law") != lost
    seen: set[str] = set()

    def both_answer() -> bool:
        assert replicas.complete(None, PROMPT, HOW[0]) == here.complete(None, PROMPT, HOW[0])
        seen.add(replicas.home(None))
        return len(seen) == 2

    wait_until(both_answer)
    assert lost not in seen


def test_the_openai_client_is_served_by_replicas(replicas: RayBackend) -> None:
    bound = socket.create_server(("127.0.0.1", 0))
    service = StandaloneService(replicas, 1_700_000_000)
    app = make_app(service, replicas, administration.router(service, replicas, None, "operator"))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{bound.getsockname()[1]}/v1", api_key="anyone", timeout=120)
    assert [model.id for model in client.models.list()] == [
        replicas.name,
        *(f"{replicas.name}:{name}" for name in sorted(NAMES)),
    ]
    asked = {"model": "law", "messages": [{"role": "user", "content": "What happened?"}], "max_tokens": 12}
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = client.chat.completions.create(**asked, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**asked, "model": "nobody"})
    operator = httpx.Client(
        base_url=f"{client.base_url.join('/admin')}", headers={"Authorization": "Bearer operator"}, timeout=120
    )
    parts = {"law": 0.4, "medicine": 0.6}
    assert operator.post("/ensembles", json={"name": "mix", "parts": parts}).is_success
    by_name = client.chat.completions.create(**{**asked, "model": "law*0.4+medicine*0.6"}).choices[0].message.content
    mixed = client.chat.completions.create(**{**asked, "model": "mix"}).choices[0].message.content
    assert by_name == mixed
    assert {"name": "law", "pinned": True} in operator.put("/pins/law").json()["data"]
    assert replicas.pinned_at("law")
    assert {"name": "law", "pinned": False} in operator.delete("/pins/law").json()["data"]
    assert operator.delete("/adapters/mix").is_success
    server.should_exit = True
    thread.join(timeout=10)


def test_replicas_that_are_replaced_finish_what_they_answer(replicas: RayBackend, here: Engine) -> None:
    right = here.complete("music", PROMPT, LONG)
    both: set[int] = set()

    def know_both() -> bool:
        replicas.complete(None, PROMPT, HOW[0])
        both.add(int(replicas.home(None).split()[1]))
        return len(both) == 2

    wait_until(know_both)
    streams = [replicas.generate(name, PROMPT, LONG) for name in ("music", None, "music", None)]
    firsts = [next(stream) for stream in streams]
    assert all(isinstance(first, Piece) for first in firsts)
    resizing = threading.Thread(target=replicas.resize, args=(1,))
    resizing.start()
    lasts = [list(stream)[-1] for stream in streams]
    resizing.join()
    assert all(isinstance(last, Finished) for last in lasts)
    assert lasts[0] == lasts[2] == right
    assert replicas.complete("music", PROMPT, LONG) == right
    wait_until(lambda: not any(Path(f"/proc/{process}").exists() for process in both))
    with pytest.raises(InputError, match="keep one"):
        replicas.resize(0)


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not (held := holds()) and time.monotonic() < until:
        time.sleep(0.05)
    assert held
