"""What the API's schema allows, and what it does not, is answered or refused in OpenAI's shape, never by a crash.

``OPENLEDGER_FUZZ`` sets how many requests each operation is sent (``make fuzz-api``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from openledger.openlora import Engine, EngineLimits
from openledger.studio import administration
from openledger.studio.standalone import StandaloneService, make_app
from tests.openlora.models import random_adapter, random_base

EXAMPLES = int(os.environ.get("OPENLEDGER_FUZZ", "30"))
KEY, TOKEN = "key-that-sees-everything", "operator's token"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    base = random_base(max_position_embeddings=128)
    folder = tmp_path_factory.mktemp("fuzzed") / "law"
    random_adapter(base, folder)
    with Engine(base, EngineLimits(batch=4, waiting=8)) as engine:
        engine.add("law", folder)
        service = StandaloneService(engine, 1_700_000_000, {KEY: frozenset({"*"})})
        yield make_app(service, engine, administration.router(service, engine, folder.parent, TOKEN))


OPERATIONS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
]
ADMINISTRATION = [
    ("GET", "/admin/adapters"),
    ("POST", "/admin/adapters"),
    ("DELETE", "/admin/adapters/{name}"),
    ("POST", "/admin/ensembles"),
    ("PUT", "/admin/pins/{name}"),
    ("DELETE", "/admin/pins/{name}"),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", GenerationMode)
def test_any_request_is_answered_or_refused_in_openais_shape(
    app: FastAPI, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    if mode is GenerationMode.NEGATIVE and method == "GET":
        return

    @settings(
        max_examples=EXAMPLES if method == "POST" else EXAMPLES // 3,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.headers = {"Authorization": f"Bearer {KEY}"}
        if isinstance(case.body, dict):
            # Most requests ask for a model that there is, and for little of it, so that they come as far as the engine.
            case.body = {**case.body, **({"model": "law"} if len(str(case.body)) % 4 else {}), "max_tokens": 3}
        response = case.call()
        assert response.status_code in {200, 400, 404, 405}, response.text
        if response.status_code != 200:
            told = response.json()["error"]
            assert set(told) == {"message", "type", "param", "code"}
            assert told["message"]

    ask()


@pytest.mark.parametrize(("method", "path"), ADMINISTRATION)
@pytest.mark.parametrize("mode", GenerationMode)
def test_whatever_an_operator_sends_is_done_or_refused_and_the_adapters_stay(
    app: FastAPI, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    if mode is GenerationMode.NEGATIVE and method != "POST":
        return
    operator = {"Authorization": f"Bearer {TOKEN}"}
    client = TestClient(app, headers=operator)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode), st.integers(0, 3))
    def ask(case: Any, real: int) -> None:
        case.headers = operator
        if real and mode is GenerationMode.POSITIVE:  # most name what there is, so that they come as far as the engine
            if method != "POST":
                case.path_parameters = {"name": "law"} if case.path_parameters else case.path_parameters
            elif path.endswith("adapters"):
                case.body = {**case.body, "folder": "law"}
            else:
                case.body = {**case.body, "parts": {"law": next(iter(case.body["parts"].values()))}}
        response = case.call()
        assert response.status_code in {200, 400, 404, 405}, response.text
        if response.status_code != 200:
            told = response.json()["error"]
            assert set(told) == {"message", "type", "param", "code"}
            assert told["message"]
            assert len(told["message"]) < 2000
        names = {row["name"] for row in client.get("/admin/adapters").json()["data"]}
        if method == "DELETE" and "law" not in names and "pins" not in path:
            names |= {"law"}
            added = client.post("/admin/adapters", json={"name": "law"})
            assert added.status_code == 200, added.text
        assert "law" in names
        for extra in names - {"law"}:
            gone = client.delete(f"/admin/adapters/{quote(extra, safe='')}")
            assert gone.status_code == 200, (extra, gone.text)

    ask()


def test_the_paths_that_are_fuzzed_are_all_that_there_are(app: FastAPI) -> None:
    described = app.openapi()["paths"]
    assert {(method.upper(), path) for path, methods in described.items() for method in methods} == {
        *OPERATIONS,
        *ADMINISTRATION,
    }
