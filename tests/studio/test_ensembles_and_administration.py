"""Ensembles by name over the official OpenAI client, and what an operator does while requests run."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from openledger.cli.adapter import app
from openledger.openlora import AdapterLimits, Engine, EngineLimits, Sampling
from openledger.openlora import metrics as told
from openledger.primitives import InputError
from openledger.storage import token_in
from openledger.studio import administration
from openledger.studio.ensembles import Ensembles, read_ensemble
from openledger.studio.inference import Prompt
from openledger.studio.standalone import StandaloneService, add_adapters, make_app
from tests.openlora.models import random_adapter, random_base

ALL_KEY, ONE_KEY = "key-that-sees-everything", "key-that-sees-only-law"
QUESTION = [{"role": "user", "content": "What happened to Uranium?"}]


class Running:
    """A server, its engine and its operator's token file."""

    def __init__(self, engine: Engine, url: str, folder: Path, token: Path) -> None:
        self.engine = engine
        self.url = url
        self.folder = folder
        self.token = token

    def ask(self, model: str, key: str = ALL_KEY) -> str:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)
        answer = client.chat.completions.create(model=model, messages=QUESTION, max_tokens=20)
        assert answer.model == model
        return answer.choices[0].message.content

    def listed(self) -> list[str]:
        client = openai.OpenAI(base_url=f"{self.url}/v1", api_key=ALL_KEY, max_retries=0)
        return [model.id.partition(":")[2] for model in client.models.list()][1:]

    def right(self, adapter: str) -> str:
        ids = Prompt.chat(QUESTION).encode(self.engine.base.tokenizer)
        return self.engine.complete(adapter, ids, Sampling(max_tokens=20)).text

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--token", str(self.token), "--url", self.url])


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder, token = tmp_path_factory.mktemp("served"), tmp_path_factory.mktemp("operator") / "token"
    base = random_base()
    for seed, name in enumerate(("law", "medicine", "late")):
        random_adapter(base, folder / name, seed=seed)
    (folder / "late").rename(folder.parent / "late")
    engine = Engine(base, EngineLimits(batch=8, waiting=40, chunk=16), adapter_limits=AdapterLimits(rank=16))
    assert not add_adapters(engine, folder)
    (folder.parent / "late").rename(folder / "late")
    service = StandaloneService(engine, 1_700_000_000, {ALL_KEY: frozenset({"*"}), ONE_KEY: frozenset({"law"})})
    served = make_app(service, engine, administration.router(service, engine, folder, token_in(token)))
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(served, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Running(engine, f"http://127.0.0.1:{bound.getsockname()[1]}", folder, token)
    server.should_exit = True
    thread.join(timeout=10)
    engine.close()


WEIGHTS = st.floats(-16, 16, allow_nan=False).map(lambda weight: round(weight, 6))


@given(st.dictionaries(st.text("abcdefg-_09", min_size=1, max_size=8), WEIGHTS, min_size=1, max_size=8))
def test_an_ensembles_name_is_read_as_it_was_written(parts: dict[str, float]) -> None:
    assert read_ensemble("+".join(f"{name}*{weight:f}" for name, weight in parts.items())) == parts


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("law*0.4+medicine", "no adapter with a weight"),
        ("law*x", "no adapter with a weight"),
        ("*0.4", "no adapter with a weight"),
        ("law*1e9", "no adapter with a weight"),
        ("law*0.4+law*0.6", "twice"),
        ("law*17", "from -16 to 16"),
        ("+".join(f"a{number}*1" for number in range(9)), "at most 8"),
    ],
)
def test_what_is_no_ensemble_is_refused_by_name(running: Running, name: str, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message):
        running.ask(name)
    assert read_ensemble("law") is None


def test_a_request_names_an_ensemble_with_weights_and_gets_what_the_engine_says(running: Running) -> None:
    running.engine.combine("right", {"law": 0.4, "medicine": 0.6})
    right = running.right("right")
    running.engine.remove("right")
    assert right not in (running.right("law"), running.right("medicine"))
    names = ["law*0.4+medicine*0.6", "medicine*.6+law*0.40", f"{running.engine.name}:law*0.4+medicine*0.6"]
    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(running.ask, 2 * names)) == {right}
    assert running.ask("law*1") == running.right("law")
    assert running.listed() == ["law", "medicine"]


def test_an_ensemble_needs_a_key_that_sees_its_parts_and_ranks_within_the_limit(running: Running) -> None:
    assert running.ask("law*0.5", ONE_KEY)
    for name in ("law*0.5+medicine*0.5", "medicine*1"):
        with pytest.raises(openai.NotFoundError):
            running.ask(name, ONE_KEY)
    with pytest.raises(openai.NotFoundError):
        running.ask("law*0.5+nobody*0.5")


def test_the_ensembles_least_lately_asked_for_go(running: Running) -> None:
    kept = Ensembles(running.engine, most=2)
    names = []
    for weight in (0.1, 0.2, 0.3):
        with kept.holding({"law": weight}) as name:
            names.append(name)
    assert [name in running.engine.adapters for name in names] == [False, True, True]
    kept.forget("law")
    assert not set(names) & running.engine.adapters
    refused = "+".join(f"a{number}*1" for number in range(5))
    for number in range(5):
        random_adapter(running.engine.base, running.folder.parent / "more", seed=number)
        running.engine.add(f"a{number}", running.folder.parent / "more")
    with pytest.raises(openai.BadRequestError, match="ranks sum"):
        running.ask(refused)
    for number in range(5):
        running.engine.remove(f"a{number}")
    assert running.ask("law*1") == running.right("law")


def test_only_the_operators_token_administers_and_it_asks_no_model(running: Running) -> None:
    token = token_in(running.token)
    assert running.token.stat().st_mode & 0o077 == 0
    for headers in ({}, {"Authorization": f"Bearer {ALL_KEY}"}, {"Authorization": f"Basic {token}"}):
        for method, path in (("GET", "adapters"), ("DELETE", "adapters/law"), ("PUT", "pins/law")):
            refused = httpx.request(method, f"{running.url}/admin/{path}", headers=headers)
            assert refused.status_code == 401
            assert refused.json()["error"]["message"]
    with pytest.raises(openai.AuthenticationError):
        running.ask("law", token)
    assert running.listed() == ["law", "medicine"]


def test_an_operator_adds_pins_combines_and_removes_while_requests_run(running: Running) -> None:
    def act(*arguments: str) -> dict[str, bool]:
        done = running.command(*arguments, "--json")
        assert done.exit_code == 0, done.output
        return {row["name"]: row["pinned"] for row in json.loads(done.stdout)}

    stop = threading.Event()

    def keep_asking() -> set[str]:
        texts = set()
        while not stop.is_set():
            texts.add(running.ask("law"))
        return texts

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(keep_asking)
        try:
            assert act("add", "late") == {"late": False, "law": False, "medicine": False}
            assert act("pin", "late")["late"]
            assert act("combine", "mix", "law=0.4", "late=0.6")["mix"] is False
            assert running.ask("mix") == running.ask("law*0.4+late*0.6")
            cold = told.ACTIVATIONS.labels("cold")._value.get()
            assert running.ask("late") == running.right("late")
            assert told.ACTIVATIONS.labels("cold")._value.get() == cold
            assert act("unpin", "late")["late"] is False
            assert act("remove", "late") == {"law": False, "medicine": False, "mix": False}
            assert act("remove", "mix") == act("list") == {"law": False, "medicine": False}
        finally:
            stop.set()
        assert asked.result() == {running.right("law")}
    with pytest.raises(openai.NotFoundError):
        running.ask("law*0.4+late*0.6")


def test_what_an_operator_cannot_do_is_one_clear_line(running: Running, tmp_path: Path) -> None:
    random_adapter(running.engine.base, tmp_path / "elsewhere")
    (running.folder / "link").symlink_to(tmp_path / "elsewhere")
    (running.folder / "circle").symlink_to(running.folder / "circle")
    wrong: list[tuple[dict[str, Any] | None, str, str, str]] = [
        ({"name": "x", "folder": "../elsewhere"}, "POST", "adapters", "right inside"),
        ({"name": "x", "folder": "link"}, "POST", "adapters", "right inside"),
        ({"name": "x", "folder": "/etc"}, "POST", "adapters", "right inside"),
        ({"name": "x", "folder": "circle"}, "POST", "adapters", "right inside"),
        ({"name": "x", "folder": "\u1e70" * 90}, "POST", "adapters", "no adapter_config.json"),
        ({"name": "\0"}, "POST", "adapters", "right inside"),
        ({"name": "x", "folder": "\ud800"}, "POST", "adapters", "right inside"),
        ({"name": "law"}, "POST", "adapters", "taken"),
        ({"name": "m", "parts": {"law": 0.4, "nobody": 0.6}}, "POST", "ensembles", "'nobody'"),
        (None, "PUT", "pins/nobody", "'nobody'"),
        (None, "DELETE", "adapters/nobody", "'nobody'"),
    ]
    headers = {"Authorization": f"Bearer {token_in(running.token)}", "Content-Type": "application/json"}
    for body, method, path, message in wrong:
        # httpx sends characters as they are; half a character comes only escaped.
        refused = httpx.request(method, f"{running.url}/admin/{path}", content=json.dumps(body), headers=headers)
        assert refused.status_code in (400, 404)
        assert message in refused.json()["error"]["message"]
    for name in ("link", "circle"):
        (running.folder / name).unlink()
    assert running.listed() == ["law", "medicine"]
    done = running.command("combine", "m", "law")
    assert isinstance(done.exception, InputError)
    assert "write law=0.4" in str(done.exception)
