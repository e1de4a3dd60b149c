"""The OpenAI-compatible API: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions``.

A program that speaks to OpenAI speaks to this with another base URL and an API key that is a capped session key on the
chain (:mod:`openledger.studio.keys`). Every answer carries ``openledger``: the receipt's id, the fee in wei and who shaped it.
Errors have OpenAI's shape; a refused request costs nothing, and neither does one whose caller went away before its end.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException

from openledger.openlora import CancelledError, Finished, Piece, Sampling, TokenLogprob, read_call
from openledger.primitives import (
    InputError,
    NotFoundError,
    OpenLedgerError,
    OverloadedError,
    PaymentError,
    RevertError,
    SignatureError,
    UnavailableError,
)
from openledger.studio.api_types import ChatRequest, CompletionRequest
from openledger.studio.inference import Prompt

_STATUS: tuple[tuple[type[OpenLedgerError], int, str, str], ...] = (
    (InputError, 400, "invalid_request_error", "invalid_value"),
    (SignatureError, 401, "invalid_request_error", "invalid_api_key"),
    (PaymentError, 402, "insufficient_quota", "insufficient_quota"),
    (NotFoundError, 404, "invalid_request_error", "model_not_found"),
    (RevertError, 409, "invalid_request_error", "refused_on_chain"),
    (UnavailableError, 503, "server_error", "engine_restarting"),
    (OverloadedError, 429, "rate_limit_error", "overloaded"),
    (CancelledError, 499, "invalid_request_error", "cancelled"),
)
_LOG = logging.getLogger(__name__)
_THREADS = 1024
"""More than an engine lets in: the engine's own queue is what refuses."""
_LOOK_UP_SECONDS = 0.25


class Listed(Protocol):
    """A model as it is listed."""

    @property
    def name(self) -> str: ...

    @property
    def created(self) -> int: ...

    @property
    def owner(self) -> str: ...


class Done(Protocol):
    """A finished answer."""

    @property
    def finished(self) -> Finished: ...

    @property
    def receipt_id(self) -> str: ...

    @property
    def prompt_tokens(self) -> int: ...

    def account(self) -> dict[str, Any]: ...


class Service(Protocol):
    """What answers; keys are opaque to the gateway."""

    def key(self, token: str) -> Any: ...

    def models(self, key: Any) -> Sequence[Listed]: ...

    def model(self, name: str, key: Any) -> Listed: ...

    def answer(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        key: Any,
        *,
        publish: bool = False,
        cancel: threading.Event | None = None,
    ) -> Iterator[Any]: ...


def router(
    service: Callable[[], Service], defaults: Callable[[str], Sampling | None] = lambda _name: None
) -> APIRouter:
    """The routes, answered by the service that ``service()`` returns at each request.

    ``defaults`` says how a model's answers are sampled where a request does not say; None for as all are.
    """
    routes = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

    @routes.get("/models")
    async def list_models(request: Request) -> dict[str, Any]:
        """The models that this key may ask."""
        models = service().models(_key(service(), request))
        return {
            "object": "list",
            "data": [
                {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owner}
                for model in models
            ],
        }

    @routes.get("/models/{name:path}")
    async def get_model(name: str, request: Request) -> dict[str, Any]:
        """One model."""
        model = service().model(name, _key(service(), request))
        return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owner}

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> JSONResponse | StreamingResponse:
        """Answers a dialogue."""
        return await _answer(service(), _Chat(bool(body.offered())), body, body.asked(), request, defaults)

    @routes.post("/completions", response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> JSONResponse | StreamingResponse:
        """Continues a text."""
        return await _answer(service(), _Completion(), body, body.asked(), request, defaults)

    return routes


def install_errors(app: FastAPI) -> None:
    """Gives every error of the API OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

    @app.exception_handler(OpenLedgerError)
    async def known(request: Request, error: OpenLedgerError) -> JSONResponse:
        status, body = error_body(error)
        if isinstance(error, NotFoundError) and not request.url.path.startswith("/v1/"):
            body["error"]["code"] = "not_found"
        _log_refusal(request, status, body)
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, OverloadedError) else None
        return JSONResponse(body, status, headers)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if not request.url.path.startswith(("/v1/", "/admin/")):
            return await http_exception_handler(request, error)
        body = _error(
            str(error.detail), "invalid_request_error", None, "not_found" if error.status_code == 404 else None
        )
        return JSONResponse(body, error.status_code, error.headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or None
        message = f"{place or 'the request body'}: {first['msg']}"
        if first.get("type") == "extra_forbidden":
            message = f"{place} is not served here; leave it out"
        body = _error(message, "invalid_request_error", place, "invalid_value")
        _log_refusal(request, 400, body)
        return JSONResponse(body, 400)


def error_body(error: OpenLedgerError) -> tuple[int, dict[str, Any]]:
    """The HTTP status and OpenAI-shaped body of an error."""
    for kind, status, type_, code in _STATUS:
        if isinstance(error, kind):
            return status, _error(str(error), type_, None, code)
    return 500, _error(str(error), "server_error", None, None)


def _error(message: str, type_: str, param: str | None, code: str | None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": param, "code": code}}


def _key(service: Service, request: Request) -> Any:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise SignatureError("no API key was sent; send `Authorization: Bearer olk-…` (see `openledger key create`)")
    return service.key(token)


class _Chat:
    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, calls: bool) -> None:
        self.calls = calls
        """Whether the answer may be a tool call, which is told only once it is whole."""

    def choice(self, finished: Finished) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": finished.text, "refusal": None}
        reason = finished.reason
        if call := self._call(finished.text):
            message |= {"content": None, "tool_calls": [call]}
            reason = "tool_calls"
        return {"index": 0, "message": message, "logprobs": self._told(finished.logprobs), "finish_reason": reason}

    def delta(self, piece: Piece, first: bool) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if call := self._call(piece.text):
            delta["tool_calls"] = [{"index": 0, **call}]
        else:
            delta["content"] = piece.text
        return {"index": 0, "delta": delta, "logprobs": self._told(piece.logprobs), "finish_reason": None}

    def end(self, finished: Finished) -> dict[str, Any]:
        reason = "tool_calls" if self._call(finished.text) else finished.reason
        return {"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}

    def _call(self, text: str) -> dict[str, Any] | None:
        call = read_call(text) if self.calls else None
        if call is None:
            return None
        name, arguments = call
        return {
            "id": f"call_{time.time_ns():x}",
            "type": "function",
            "function": {"name": name, "arguments": arguments},
        }

    @staticmethod
    def _told(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not logprobs:
            return None

        def entry(text: str, logprob: float) -> dict[str, Any]:
            return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

        return {
            "content": [
                {
                    **entry(one.text, one.logprob),
                    "top_logprobs": [
                        entry(text, logprob) for text, (_, logprob) in zip(one.top_texts, one.top, strict=True)
                    ],
                }
                for one in logprobs
            ],
            "refusal": None,
        }


class _Completion:
    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"
    calls = False

    def choice(self, finished: Finished) -> dict[str, Any]:
        told = self._told(finished.logprobs)
        return {"index": 0, "text": finished.text, "logprobs": told, "finish_reason": finished.reason}

    def delta(self, piece: Piece, _first: bool) -> dict[str, Any]:
        return {"index": 0, "text": piece.text, "logprobs": self._told(piece.logprobs), "finish_reason": None}

    def end(self, finished: Finished) -> dict[str, Any]:
        return {"index": 0, "text": "", "logprobs": None, "finish_reason": finished.reason}

    @staticmethod
    def _told(logprobs: Sequence[TokenLogprob]) -> dict[str, Any] | None:
        if not logprobs:
            return None
        offsets, at = [], 0
        for one in logprobs:
            offsets.append(at)
            at += len(one.text)
        return {
            "tokens": [one.text for one in logprobs],
            "token_logprobs": [one.logprob for one in logprobs],
            "top_logprobs": [
                {text: logprob for text, (_, logprob) in zip(one.top_texts, one.top, strict=True)} for one in logprobs
            ],
            "text_offset": offsets,
        }


async def _answer(
    service: Service,
    shape: _Chat | _Completion,
    body: ChatRequest | CompletionRequest,
    prompt: Prompt,
    request: Request,
    defaults: Callable[[str], Sampling | None],
) -> JSONResponse | StreamingResponse:
    started = time.perf_counter()
    key = _key(service, request)
    sampling = body.sampling(await _in_thread(partial(defaults, body.model)))
    cancel = threading.Event()
    # Each choice is an answer of its own, with its own seed: each has its receipt and can be recomputed.
    choices = [
        service.answer(
            body.model,
            prompt,
            replace(sampling, seed=(sampling.seed + number) % (1 << 63)),
            key,
            publish=bool(body.store),
            cancel=cancel,
        )
        for number in range(body.choices())
    ]
    if not body.stream:
        answers = await _whole(choices, cancel, request)
        for answer in answers:
            _log(body.model, answer, started)
        accounts = [answer.account() for answer in answers]
        return JSONResponse(
            {
                **_head(shape.prefix, shape.whole, body.model),
                "choices": [{**shape.choice(one.finished), "index": place} for place, one in enumerate(answers)],
                "usage": _usage(answers),
                "openledger": accounts[0] if len(accounts) == 1 else accounts,
            },
            headers={"X-OpenLedger-Receipt": ", ".join(answer.receipt_id for answer in answers)},
        )
    try:
        firsts = [await _in_thread(partial(next, events, None)) for events in choices]
    except BaseException:
        cancel.set()
        raise
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    stream = _stream(shape, body.model, list(zip(firsts, choices, strict=True)), cancel, include_usage, started)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _whole(choices: Sequence[Iterator[Any]], cancel: threading.Event, request: Request) -> list[Done]:
    """The answers at the end of each choice's events; a caller who goes away ends them."""
    found: dict[int, Done] = {}
    failed: list[Exception] = []

    def work(number: int) -> None:
        try:
            for event in choices[number]:
                if not isinstance(event, Piece):
                    found[number] = event
        except Exception as error:
            failed.append(error)
            cancel.set()

    async def watch() -> None:
        while not await request.is_disconnected():
            await anyio.sleep(_LOOK_UP_SECONDS)
        cancel.set()

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        try:
            async with anyio.create_task_group() as working:
                for number in range(len(choices)):
                    working.start_soon(_in_thread, partial(work, number))
        finally:
            cancel.set()
            watching.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return [found[number] for number in range(len(choices))]


_limiter: list[anyio.CapacityLimiter] = []


async def _in_thread(work: Callable[[], Any]) -> Any:
    if not _limiter:
        _limiter.append(anyio.CapacityLimiter(_THREADS))
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_limiter[0])


@dataclass
class _Choice:
    """One choice of a stream: its events, what was held back of it, and whether nothing was told yet."""

    index: int
    event: Any
    events: Iterator[Any]
    held: str = ""
    opening: bool = True


async def _stream(
    shape: _Chat | _Completion,
    model: str,
    choices: Sequence[tuple[Any, Iterator[Any]]],
    cancel: threading.Event,
    include_usage: bool,
    started: float,
) -> AsyncIterator[str]:
    head = _head(shape.prefix, shape.chunk, model)
    running = [_Choice(number, first, events) for number, (first, events) in enumerate(choices)]
    answers: list[Done] = []

    def chunk(choice: _Choice, body: dict[str, Any], **fields: Any) -> str:
        return _event({**head, "choices": [{**body, "index": choice.index}], **fields})

    def tell(choice: _Choice, piece: Piece) -> str:
        opening, choice.opening = choice.opening, False
        return chunk(choice, shape.delta(piece, opening))

    try:
        while running:
            for choice in list(running):
                event = choice.event
                if isinstance(event, Piece):
                    # What may turn out to be a tool call is told whole.
                    choice.held = choice.held + event.text if shape.calls else ""
                    if not shape.calls or not choice.held.startswith("{"):
                        yield tell(choice, event)
                elif event is not None:
                    if choice.held.startswith("{"):
                        yield tell(choice, Piece(event.finished.text))
                    if choice.opening:
                        yield tell(choice, Piece(""))
                    _log(model, event, started)
                    answers.append(event)
                    yield chunk(choice, shape.end(event.finished), openledger=event.account())
                choice.event = await _in_thread(partial(next, choice.events, None))
                if choice.event is None:
                    running.remove(choice)
        if include_usage:
            yield _event({**head, "choices": [], "usage": _usage(answers)})
        yield "data: [DONE]\n\n"
    except OpenLedgerError as error:
        _, told = error_body(error)
        cut = {"model": model, "code": told["error"]["code"], "seconds": _seconds(started)}
        _LOG.warning("a stream ended before its end: %s", error, extra=cut)
        yield _event(told)
    finally:
        cancel.set()


def _event(body: dict[str, Any]) -> str:
    return f"data: {json.dumps(body, ensure_ascii=False)}\n\n"


def _log_refusal(request: Request, status: int, body: dict[str, Any]) -> None:
    told = {"method": request.method, "path": request.url.path[:100], "status": status, "code": body["error"]["code"]}
    level = logging.WARNING if status >= 500 else logging.INFO
    _LOG.log(level, "refused: %s", body["error"]["message"][:300], extra=told)


def _seconds(started: float) -> float:
    return round(time.perf_counter() - started, 3)


def _log(model: str, answer: Done, started: float) -> None:
    used = _usage([answer])
    _LOG.info(
        "answered",
        extra={
            "model": model,
            **({"receipt": answer.receipt_id} if answer.receipt_id else {}),
            "reason": answer.finished.reason,
            "prompt_tokens": used["prompt_tokens"],
            "completion_tokens": used["completion_tokens"],
            "seconds": _seconds(started),
        },
    )


def _head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    created = time.time_ns()
    return {"id": f"{prefix}-{created:x}", "object": kind, "created": created // 10**9, "model": model}


def _usage(answers: Sequence[Done]) -> dict[str, Any]:
    """The prompt counts once, as with OpenAI; each answer's receipt counts it for its own fee."""
    prompt, output = answers[0].prompt_tokens, sum(len(answer.finished.token_ids) for answer in answers)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": answers[0].finished.cached_tokens},
    }
