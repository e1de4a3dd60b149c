"""What a client sends and how it reads the answer, shared by the sync and the async client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from openledger.primitives import (
    ChainError,
    InputError,
    NotFoundError,
    OpenLedgerError,
    PaymentError,
    RevertError,
    SignatureError,
)

T = TypeVar("T")

LONG = 600.0
"""Seconds for a call that trains, judges or recomputes before it answers."""

_ERRORS: Mapping[int, type[OpenLedgerError]] = {
    400: InputError,
    401: SignatureError,
    402: PaymentError,
    404: NotFoundError,
    409: RevertError,
}


@dataclass(frozen=True)
class Call(Generic[T]):
    """One request and the type of its answer."""

    method: str
    path: str
    answer: Any
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    timeout: float = 60.0


def read(call: Call[T], response: httpx.Response) -> T:
    """The typed answer.

    Raises:
        OpenLedgerError: the error that the server tells, as the class that its status stands for.
    """
    raise_for_error(response)
    try:
        answer: T = adapter(call.answer).validate_json(response.content)
    except ValidationError as error:
        raise InputError(
            f"the server at {response.url.host} answered in another shape: {error.errors()[0]['msg']}; "
            "is it another version of OpenLedger?"
        ) from error
    return answer


def raise_for_error(response: httpx.Response) -> None:
    """Raises the error of a refused request."""
    if response.is_success:
        return
    try:
        message = str(json.loads(response.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = response.text[:300] or response.reason_phrase
    raise _ERRORS.get(response.status_code, OpenLedgerError)(message)


def unreachable(url: str, error: httpx.HTTPError) -> OpenLedgerError:
    """The error of a node that does not answer."""
    return ChainError(f"no node answers at {url} ({error}); start one with `openledger up`")


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:
    """The pydantic reader and writer of a view."""
    return TypeAdapter(kind)
