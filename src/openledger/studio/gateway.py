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
from functools import partial
from typing import Any, Protocol

import anyio
import anyio.to_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse

from openledger.openlora import CancelledError, Finished, Piece, Sampling, TokenLogprob, read_call
from openledger.primitives import (
    InputError,
    NotFoundError,
    OpenLedgerError,
    OverloadedError,
    PaymentError,
    SignatureError,
)
from openledger.studio.api_types import ChatRequest, CompletionRequest
from openledger.studio.inference import Prompt

_STATUS: tuple[tuple[type[OpenLedgerError], int, str, str], ...] = (
    (InputError, 400, "invalid_request_error", "invalid_value"),
    (SignatureError, 401, "invalid_request_error", "invalid_api_key"),
    (PaymentError, 402, "insufficient_quota", "insufficient_quota"),
    (NotFoundError, 404, "invalid_request_error", "model_not_found"),
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


def router(service: Callable[[], Service]) -> APIRouter:
    """The routes, answered by the service that ``service()`` returns at each request."""
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
        return await _answer(service(), _Chat(bool(body.offered())), body, Prompt.chat(body.dialogue()), request)

    @routes.post("/completions", response_model=None)
    async def complete(body: CompletionRequest, request: Request) -> JSONResponse | StreamingResponse:
        """Continues a text."""
        return await _answer(service(), _Completion(), body, Prompt.text(body.prompt), request)

    return routes


def install_errors(app: FastAPI) -> None:
    """Gives every error of the API OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``."""

    @app.exception_handler(OpenLedgerError)
    async def known(request: Request, error: OpenLedgerError) -> JSONResponse:
        status, body = error_body(error)
        if isinstance(error, NotFoundError) and not request.url.path.startswith("/v1/"):
            body["error"]["code"] = "not_found"
        headers = {"Retry-After": str(error.retry_after)} if isinstance(error, OverloadedError) else None
        return JSONResponse(body, status, headers)

    @app.exception_handler(RequestValidationError)
    async def malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or None
        message = f"{place or 'the request body'}: {first['msg']}"
        if first.get("type") == "extra_forbidden":
            message = f"{place} is not served here; leave it out"
        return JSONResponse(_error(message, "invalid_request_error", place, "invalid_value"), 400)


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
) -> JSONResponse | StreamingResponse:
    key, sampling = _key(service, request), body.sampling()
    cancel = threading.Event()
    events = service.answer(body.model, prompt, sampling, key, publish=bool(body.store), cancel=cancel)
    if not body.stream:
        answer = await _whole(events, cancel, request)
        _log(body.model, answer)
        return JSONResponse(
            {
                **_head(shape.prefix, shape.whole, body.model),
                "choices": [shape.choice(answer.finished)],
                "usage": _usage(answer),
                "openledger": answer.account(),
            },
            headers={"X-OpenLedger-Receipt": answer.receipt_id},
        )
    try:
        first = await _in_thread(partial(next, events, None))
    except BaseException:
        cancel.set()
        raise
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    stream = _stream(shape, body.model, first, events, cancel, include_usage)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


async def _whole(events: Iterator[Any], cancel: threading.Event, request: Request) -> Done:
    """The answer at the end of the events; a caller who goes away ends them."""
    found: list[Done] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            found.extend(event for event in events if not isinstance(event, Piece))
        except Exception as error:
            failed.append(error)

    async def watch() -> None:
        while not await request.is_disconnected():
            await anyio.sleep(_LOOK_UP_SECONDS)
        cancel.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        try:
            await _in_thread(work)
        finally:
            cancel.set()
            tasks.cancel_scope.cancel()
    if failed:
        raise failed[0]
    return found[0]


_limiter: list[anyio.CapacityLimiter] = []


async def _in_thread(work: Callable[[], Any]) -> Any:
    if not _limiter:
        _limiter.append(anyio.CapacityLimiter(_THREADS))
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True, limiter=_limiter[0])


async def _stream(
    shape: _Chat | _Completion,
    model: str,
    first: Any,
    events: Iterator[Any],
    cancel: threading.Event,
    include_usage: bool,
) -> AsyncIterator[str]:
    head = _head(shape.prefix, shape.chunk, model)
    opening, held = True, ""

    def chunk(**fields: Any) -> str:
        return f"data: {json.dumps({**head, **fields}, ensure_ascii=False)}\n\n"

    try:
        event = first
        while event is not None:
            if isinstance(event, Piece):
                # What may turn out to be a tool call is told whole.
                held = held + event.text if shape.calls else ""
                if not shape.calls or not held.startswith("{"):
                    yield chunk(choices=[shape.delta(event, opening)])
                    opening = False
            else:
                if held.startswith("{"):
                    yield chunk(choices=[shape.delta(Piece(event.finished.text), opening)])
                    opening = False
                if opening:
                    yield chunk(choices=[shape.delta(Piece(""), opening)])
                _log(model, event)
                yield chunk(choices=[shape.end(event.finished)], openledger=event.account())
                if include_usage:
                    yield chunk(choices=[], usage=_usage(event))
            event = await _in_thread(partial(next, events, None))
        yield "data: [DONE]\n\n"
    except OpenLedgerError as error:
        yield f"data: {json.dumps(error_body(error)[1], ensure_ascii=False)}\n\n"
    finally:
        cancel.set()


def _log(model: str, answer: Done) -> None:
    used = _usage(answer)
    _LOG.info(
        "answered",
        extra={
            "model": model,
            "receipt": answer.receipt_id,
            "reason": answer.finished.reason,
            "prompt_tokens": used["prompt_tokens"],
            "completion_tokens": used["completion_tokens"],
        },
    )


def _head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    created = time.time_ns()
    return {"id": f"{prefix}-{created:x}", "object": kind, "created": created // 10**9, "model": model}


def _usage(answer: Done) -> dict[str, Any]:
    output = len(answer.finished.token_ids)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": output,
        "total_tokens": answer.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": answer.finished.cached_tokens},
    }
