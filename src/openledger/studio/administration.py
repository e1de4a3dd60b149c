"""What an operator does on ``openledger serve`` while it runs: adapters come, go, are pinned and combined, under ``/admin``.

The operator's token is good for this and nothing else: it asks no model, and no API key administers. Adapters are added from the
folder that the server was started with, and from nowhere else.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from openledger.openlora import Backend
from openledger.primitives import InputError, NotFoundError, SignatureError
from openledger.studio.standalone import StandaloneService


class NewAdapter(BaseModel):
    """An adapter in peft's format; ``folder`` is its place inside the adapters' folder, ``name`` if left out."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=100)]
    folder: str = ""


class NewEnsemble(BaseModel):
    """An ensemble that is listed as an adapter of its own."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(min_length=1, max_length=100)]
    parts: Annotated[dict[str, float], Field(min_length=1, max_length=8)]


def router(service: StandaloneService, engine: Backend, folder: Path | None, token: str) -> APIRouter:
    """The routes.

    Args:
        folder: adapters may be added from there; None for none.
        token: the operator's.
    """

    def operator(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            raise SignatureError("that is not the operator's token; it is in the file that --operator-token names")

    routes = APIRouter(prefix="/admin", tags=["Administration"], dependencies=[Depends(operator)])
    pinned: set[str] = set()

    def rows() -> dict[str, Any]:
        pinned.intersection_update(service.adapters)
        return {"data": [{"name": name, "pinned": name in pinned} for name in sorted(service.adapters)]}

    @routes.get("/adapters")
    def list_adapters() -> dict[str, Any]:
        """Every adapter, and whether it is pinned."""
        return rows()

    @routes.post("/adapters")
    def add(body: NewAdapter) -> dict[str, Any]:
        """Adds an adapter from the adapters' folder."""
        engine.add(body.name, _inside(folder, body.folder or body.name))
        return rows()

    @routes.delete("/adapters/{name}")
    def remove(name: str) -> dict[str, Any]:
        """Takes an adapter away; requests that run keep it to their end."""
        _known(service, name)
        engine.remove(name)
        service.forget(name)
        return rows()

    @routes.post("/ensembles")
    def combine(body: NewEnsemble) -> dict[str, Any]:
        """Makes an ensemble that stays and is listed."""
        for part in body.parts:
            _known(service, part)
        engine.combine(body.name, body.parts)
        return rows()

    @routes.put("/pins/{name}")
    def pin(name: str) -> dict[str, Any]:
        """Keeps an adapter in memory."""
        _known(service, name)
        engine.pin(name)
        pinned.add(name)
        return rows()

    @routes.delete("/pins/{name}")
    def unpin(name: str) -> dict[str, Any]:
        """Lets it go again."""
        _known(service, name)
        engine.unpin(name)
        pinned.discard(name)
        return rows()

    return routes


def _known(service: StandaloneService, name: str) -> None:
    if name not in service.adapters:
        raise NotFoundError(f"no adapter {name!r}; `openledger adapter list` shows them")


def _inside(folder: Path | None, name: str) -> Path:
    if folder is None:
        raise InputError("the server was started without --adapters, so there is no folder to add from")
    try:
        path: Path | None = (folder / name).resolve()
    except (ValueError, RuntimeError):  # of a zero byte, half a character, or links in a circle
        path = None
    if path is None or path.parent != folder.resolve():
        raise InputError(f"{name!r} is no folder right inside the adapters' folder; copy the adapter there first")
    return path
