"""The OpenAI-compatible API: ``/v1/models``, ``/v1/chat/completions``, ``/v1/completions``.

A program that speaks to OpenAI speaks to this with another base URL and an API key that is a capped session key on the
chain (:mod:`openledger.studio.keys`). Every answer carries ``openledger``: the receipt's id, the fee in wei and who shaped it.
Errors have OpenAI's shape; a refused request costs nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool

from openledger.openlora import Piece, Sampling
from openledger.primitives import (
    InputError,
    NotFoundError,
    OpenLedgerError,
    PaymentError,
    SignatureError,
    to_hex,
)
from openledger.studio.api_types import ChatRequest, CompletionRequest
from openledger.studio.inference import Answer, InferenceService, Prompt
from openledger.studio.keys import ApiKey

_STATUS: tuple[tuple[type[OpenLedgerError], int, str, str], ...] = (
    (InputError, 400, "invalid_request_error", "invalid_value"),
    (SignatureError, 401, "invalid_request_error", "invalid_api_key"),
    (PaymentError, 402, "insufficient_quota", "insufficient_quota"),
    (NotFoundError, 404, "invalid_request_error", "model_not_found"),
)


def router(service: Callable[[], InferenceService]) -> APIRouter:
    """The routes, answered by the service that ``service()`` returns at each request."""
    routes = APIRouter(prefix="/v1", tags=["OpenAI-compatible"])

    @routes.get("/models")
    async def list_models(request: Request) -> dict[str, Any]:
        """The models that this key may ask."""
        _key(request)
        models = service().models()
        return {
            "object": "list",
            "data": [
                {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owner}
                for model in models
            ],
        }

    @routes.get("/models/{name}")
    async def get_model(name: str, request: Request) -> dict[str, Any]:
        """One model."""
        _key(request)
        model = service().model(name)
        return {"id": model.name, "object": "model", "created": model.created, "owned_by": model.owner}

    @routes.post("/chat/completions", response_model=None)
    async def chat(body: ChatRequest, request: Request) -> JSONResponse | StreamingResponse:
        """Answers a dialogue."""
        return await _answer(service(), _Chat(), body, Prompt.chat(body.dialogue()), request)

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
        return JSONResponse(body, status)

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


def _key(request: Request) -> ApiKey:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise SignatureError("no API key was sent; send `Authorization: Bearer olk-…` (see `openledger key create`)")
    return ApiKey.parse(token)


class _Chat:
    prefix, whole, chunk = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def choice(self, text: str, reason: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": text, "refusal": None}
        return {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}

    def delta(self, text: str | None, reason: str | None, first: bool) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant"} if first else {}
        if text is not None:
            delta["content"] = text
        return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}


class _Completion:
    prefix, whole, chunk = "cmpl", "text_completion", "text_completion"

    def choice(self, text: str, reason: str) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}

    def delta(self, text: str | None, reason: str | None, _first: bool) -> dict[str, Any]:
        return {"index": 0, "text": text or "", "logprobs": None, "finish_reason": reason}


async def _answer(
    service: InferenceService,
    shape: _Chat | _Completion,
    body: ChatRequest | CompletionRequest,
    prompt: Prompt,
    request: Request,
) -> JSONResponse | StreamingResponse:
    key, sampling = _key(request), body.sampling()
    publish = bool(body.store)
    if not body.stream:
        answer = await run_in_threadpool(_whole, service, body.model, prompt, sampling, key, publish)
        head = _head(shape.prefix, shape.whole, body.model)
        return JSONResponse(
            {
                **head,
                "choices": [shape.choice(answer.text, answer.reason)],
                "usage": _usage(answer),
                **_account(answer),
            },
            headers={"X-OpenLedger-Receipt": answer.receipt_id},
        )
    events = service.answer(body.model, prompt, sampling, key, publish=publish)
    first = await run_in_threadpool(next, events)
    include_usage = bool(body.stream_options and body.stream_options.include_usage)
    stream = _stream(shape, body.model, first, events, include_usage)
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


def _whole(
    service: InferenceService, model: str, prompt: Prompt, sampling: Sampling, key: ApiKey, publish: bool
) -> Answer:
    return service.complete(model, prompt, sampling, key, publish=publish)


async def _stream(
    shape: _Chat | _Completion,
    model: str,
    first: Piece | Answer,
    events: Iterator[Piece | Answer],
    include_usage: bool,
) -> AsyncIterator[str]:
    head = _head(shape.prefix, shape.chunk, model)
    opening = True

    def chunk(**fields: Any) -> str:
        return f"data: {json.dumps({**head, **fields}, ensure_ascii=False)}\n\n"

    async def all_events() -> AsyncIterator[Piece | Answer]:
        yield first
        async for event in iterate_in_threadpool(events):
            yield event

    try:
        async for event in all_events():
            if isinstance(event, Piece):
                yield chunk(choices=[shape.delta(event.text, None, opening)])
                opening = False
            else:
                yield chunk(choices=[shape.delta(None, event.reason, opening)], **_account(event))
                if include_usage:
                    yield chunk(choices=[], usage=_usage(event))
        yield "data: [DONE]\n\n"
    except OpenLedgerError as error:
        yield f"data: {json.dumps(error_body(error)[1], ensure_ascii=False)}\n\n"
    finally:
        close = getattr(events, "close", None)
        if close is not None:
            await run_in_threadpool(close)


def _head(prefix: str, kind: str, model: str) -> dict[str, Any]:
    created = time.time_ns()
    return {"id": f"{prefix}-{created:x}", "object": kind, "created": created // 10**9, "model": model}


def _usage(answer: Answer) -> dict[str, int]:
    used = answer.body.receipt
    return {
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.prompt_tokens + used.output_tokens,
    }


def _account(answer: Answer) -> dict[str, Any]:
    return {
        "openledger": {
            "receipt": answer.receipt_id,
            "sequence": answer.body.receipt.sequence,
            "fee_wei": str(answer.body.receipt.fee),
            "contributors": answer.contributors,
            "records": {to_hex(record): ppm for record, ppm in answer.body.shares},
            "residual_ppm": answer.body.residual_ppm,
        }
    }
