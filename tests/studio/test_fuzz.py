"""What the API's schema allows, and what it does not, is answered or refused in OpenAI's shape, never by a crash."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode

from openledger.openlora import Engine, EngineLimits
from openledger.studio.standalone import StandaloneService, make_app
from tests.openlora.models import random_adapter, random_base

KEY = "key-that-sees-everything"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    base = random_base(max_position_embeddings=128)
    folder = tmp_path_factory.mktemp("fuzzed") / "law"
    random_adapter(base, folder)
    with Engine(base, EngineLimits(batch=4, waiting=8)) as engine:
        engine.add("law", folder)
        yield make_app(StandaloneService(engine, 1_700_000_000, {KEY: frozenset({"*"})}), engine)


OPERATIONS = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{name}"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/completions"),
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", GenerationMode)
def test_any_request_is_answered_or_refused_in_openais_shape(
    app: FastAPI, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schemathesis.openapi.from_asgi("/openapi.json", app)[path][method]
    if mode is GenerationMode.NEGATIVE and method == "GET":
        return

    @settings(max_examples=30 if method == "POST" else 10, deadline=None, suppress_health_check=list(HealthCheck))
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


def test_the_paths_that_are_fuzzed_are_all_that_there_are(app: FastAPI) -> None:
    described = app.openapi()["paths"]
    assert {(method.upper(), path) for path, methods in described.items() for method in methods} == set(OPERATIONS)
