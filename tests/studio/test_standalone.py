"""The official OpenAI client against a real server over a real engine with several adapters."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
import uvicorn

from openledger.chain.toolchain import node_folder, npm_command, run
from openledger.openlora import Engine, EngineLimits, Sampling
from openledger.primitives import ConfigurationError
from openledger.studio.inference import Prompt
from openledger.studio.standalone import StandaloneService, add_adapters, make_app, read_keys
from tests.openlora.models import random_adapter, random_base

ALL_KEY, ONE_KEY = "key-that-sees-everything", "key-that-sees-only-law"
CLIENTS = Path(__file__).parent / "clients"
QUESTION = [{"role": "user", "content": "What happened to Uranium?"}]


class Running:
    """A server and its engine."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine = engine
        self.url = url
        self.base = engine.base.path.name

    def client(self, key: str = ALL_KEY) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=120)

    def right(self, adapter: str | None, sampling: Sampling) -> str:
        ids = Prompt.chat(QUESTION).encode(self.engine.base.tokenizer)
        return self.engine.complete(adapter, ids, sampling).text


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("served")
    base = random_base()
    for seed, name in enumerate(("law", "medicine", "exploits")):
        random_adapter(base, folder / name, seed=seed)
    (folder / "broken").mkdir()
    engine = Engine(base, EngineLimits(batch=8, waiting=40, chunk=16))
    assert list(add_adapters(engine, folder)) == ["broken"]
    keys = {ALL_KEY: frozenset({"*"}), ONE_KEY: frozenset({"law"})}
    bound = socket.create_server(("127.0.0.1", 0))
    app = make_app(StandaloneService(engine, 1_700_000_000, keys), engine)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield Running(engine, f"http://127.0.0.1:{bound.getsockname()[1]}")
    server.should_exit = True
    thread.join(timeout=10)
    engine.close()


def test_a_key_sees_only_its_models(running: Running) -> None:
    assert [model.id for model in running.client().models.list()] == [
        running.base,
        *(f"{running.base}:{name}" for name in ("exploits", "law", "medicine")),
    ]
    one = running.client(ONE_KEY)
    assert [model.id for model in one.models.list()] == [f"{running.base}:law"]
    assert one.chat.completions.create(model="law", messages=QUESTION, max_tokens=2).usage is not None
    for name in ("medicine", running.base, f"{running.base}:medicine", "nothing", f"other:{running.base}"):
        with pytest.raises(openai.NotFoundError):
            one.chat.completions.create(model=name, messages=QUESTION)
    with pytest.raises(openai.AuthenticationError):
        running.client("a-key-that-nobody-gave-out").models.list()


@pytest.mark.parametrize("name", ["law", "base:law"])
def test_streamed_and_whole_answers_are_the_engines(running: Running, name: str) -> None:
    model = name.replace("base", running.base)
    sampling = Sampling(max_tokens=30, temperature=0.8, seed=4)
    asked = {"model": model, "messages": QUESTION, "max_tokens": 30, "temperature": 0.8, "seed": 4}
    whole = running.client().chat.completions.create(**asked)
    assert whole.choices[0].message.content == running.right("law", sampling)
    *chunks, last = running.client().chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert text == whole.choices[0].message.content
    assert last.choices == []
    assert last.usage == whole.usage.model_copy(update={"prompt_tokens_details": last.usage.prompt_tokens_details})
    assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


def test_several_choices_are_answers_of_their_own_seeds(running: Running) -> None:
    asked = {"model": "law", "messages": QUESTION, "max_tokens": 20, "temperature": 0.9, "seed": 7, "n": 3}
    right = [running.right("law", Sampling(max_tokens=20, temperature=0.9, seed=7 + number)) for number in range(3)]
    whole = running.client().chat.completions.create(**asked)
    assert [choice.index for choice in whole.choices] == [0, 1, 2]
    assert [choice.message.content for choice in whole.choices] == right
    *chunks, last = running.client().chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == right
    assert last.usage.completion_tokens == whole.usage.completion_tokens
    assert last.usage.prompt_tokens == whole.usage.prompt_tokens


def test_the_javascript_client_is_served_like_the_python_one(running: Running) -> None:
    given = {"baseURL": f"{running.url}/v1", "key": ALL_KEY, "model": "law", "messages": QUESTION}
    if not (CLIENTS / "node_modules" / ".package-lock.json").is_file():
        run([*npm_command(), "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"], CLIENTS)
    result = subprocess.run(
        [str(node_folder() / "node"), str(CLIENTS / "openai.mjs")],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    right = running.right("law", Sampling(max_tokens=20, temperature=0.8, seed=4))
    assert found == {
        "models": [model.id for model in running.client().models.list()],
        "whole": right,
        "streamed": right,
        "tokens": [20, 20],
        "shaped": ["ok"],
        "unknown": {"status": 404, "type": "invalid_request_error", "known": True},
        "wrong": {"status": 400, "type": "invalid_request_error", "known": False},
    }


def test_logprobs_are_told_for_each_token(running: Running) -> None:
    answer = running.client().chat.completions.create(
        model="law", messages=QUESTION, max_tokens=5, logprobs=True, top_logprobs=2
    )
    told = answer.choices[0].logprobs.content
    assert len(told) == answer.usage.completion_tokens
    assert all(len(one.top_logprobs) == 2 and one.logprob == one.top_logprobs[0].logprob <= 0 for one in told)
    text = running.client().completions.create(model="law", prompt="Once", max_tokens=4, logprobs=1)
    assert len(text.choices[0].logprobs.tokens) == text.usage.completion_tokens


TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {
                "type": "object",
                "properties": {"on": {"type": "boolean"}},
                "required": ["on"],
                "additionalProperties": False,
            },
        },
    }
    for name in ("light", "heat")
]


def test_a_tool_is_called_with_arguments_of_its_schema(running: Running) -> None:
    choice = {"type": "function", "function": {"name": "heat"}}
    asked = {"model": "law", "messages": QUESTION, "tools": TOOLS, "tool_choice": choice, "max_tokens": 80}
    answer = running.client().chat.completions.create(**asked)
    assert answer.choices[0].finish_reason == "tool_calls"
    call = answer.choices[0].message.tool_calls[0].function
    assert call.name == "heat"
    assert isinstance(json.loads(call.arguments)["on"], bool)
    chunks = list(running.client().chat.completions.create(**asked, stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [one.function.arguments for one in calls] == [call.arguments]
    free = running.client().chat.completions.create(**{**asked, "tool_choice": "auto"})
    assert free.choices[0].message.tool_calls or not free.choices[0].message.content.startswith("{")


def test_an_answer_follows_a_json_schema(running: Running) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    answer = running.client().chat.completions.create(
        model="medicine",
        messages=QUESTION,
        response_format={"type": "json_schema", "json_schema": {"name": "verdict", "schema": schema, "strict": True}},
        temperature=1,
    )
    assert list(json.loads(answer.choices[0].message.content)) == ["ok"]


def test_wrong_requests_are_refused_in_openais_shape_while_others_are_answered(running: Running) -> None:
    client = running.client()
    wrong: list[dict[str, object]] = [
        {"temperature": 9},
        {"top_p": 0},
        {"stop": 5},
        {"max_tokens": 0},
        {"n": 0},
        {"n": 9},
        {"logit_bias": {"1": 1}},
        {"messages": [{"role": "user", "content": "word " * 2000}]},
        {"messages": [{"role": "user", "content": "<|user|>"}]},
        {"store": True},
    ]
    with ThreadPoolExecutor(4) as pool:
        good = [
            pool.submit(client.chat.completions.create, model="law", messages=QUESTION, max_tokens=20) for _ in range(4)
        ]
        for fields in wrong:
            with pytest.raises(openai.BadRequestError) as caught:
                client.chat.completions.create(**{"model": "law", "messages": QUESTION, **fields})
            assert caught.value.body["message"]
            assert caught.value.body["type"] == "invalid_request_error"
        texts = {one.result().choices[0].message.content for one in good}
    assert texts == {running.right("law", Sampling(max_tokens=20))}


def test_an_operator_reads_what_was_answered_and_refused(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    def refused() -> float:
        lines = httpx.get(f"{running.url}/metrics").text.splitlines()
        found = [line for line in lines if line.startswith('openledger_http_responses_total{api="v1",status="404"}')]
        return float(found[0].split()[1]) if found else 0.0

    before = refused()
    with caplog.at_level(logging.INFO, "openledger.studio.gateway"):
        running.client().chat.completions.create(model="law", messages=QUESTION, max_tokens=3)
        with pytest.raises(openai.NotFoundError):
            running.client().chat.completions.create(model="nobody", messages=QUESTION)
    answered, told = caplog.records
    assert (answered.message, answered.model, answered.completion_tokens) == ("answered", "law", 3)
    assert 0 < answered.seconds < 60
    assert not hasattr(answered, "receipt")
    assert "'nobody'" in told.message
    assert (told.path, told.status, told.code) == ("/v1/chat/completions", 404, "model_not_found")
    assert refused() == before + 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_goes_away_frees_the_engine(running: Running, stream: bool) -> None:
    body = {"model": "law", "messages": QUESTION, "max_tokens": 450, "stream": stream}
    headers = {"Authorization": f"Bearer {ALL_KEY}"}
    with (
        pytest.raises(httpx.ReadTimeout),
        httpx.Client(timeout=0.05) as client,
        client.stream("POST", f"{running.url}/v1/chat/completions", json=body, headers=headers) as response,
    ):
        for _ in response.iter_raw():
            raise httpx.ReadTimeout("gone")
    until = time.monotonic() + 60
    while running.engine.load != (0, 0) and time.monotonic() < until:
        time.sleep(0.02)
    assert running.engine.load == (0, 0)
    metrics = httpx.get(f"{running.url}/metrics").text
    assert 'openledger_requests_total{outcome="cancelled"}' in metrics


def test_more_than_the_queue_takes_is_told_to_come_back(running: Running) -> None:
    def ask(_number: int) -> str | int:
        client = running.client()
        try:
            answer = client.chat.completions.create(model="law", messages=QUESTION, max_tokens=60)
        except openai.RateLimitError as error:
            return int(error.response.headers["Retry-After"])
        return answer.choices[0].message.content

    with ThreadPoolExecutor(100) as pool:
        outcomes = list(pool.map(ask, range(100)))
    refused = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert refused
    assert min(refused) >= 1
    assert {outcome for outcome in outcomes if isinstance(outcome, str)} == {
        running.right("law", Sampling(max_tokens=60))
    }


def test_a_keys_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text('{"long-enough-key-0": ["law"]}')
    assert read_keys(path) == {"long-enough-key-0": frozenset({"law"})}
    for text in ("{}", "[]", '{"short": ["law"]}', '{"long-enough-key-0": "law"}', "{"):
        path.write_text(text)
        with pytest.raises(ConfigurationError):
            read_keys(path)
