"""Serving without the network: a base model and a folder of adapters over the same API, with no chain, fees or receipts.

Keys are what the operator says: a JSON file that maps each API key to the models that it may see, ``["*"]`` for all.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, generate_latest
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openledger.openlora import Backend, Finished, Piece, Sampling
from openledger.primitives import (
    ConfigurationError,
    InputError,
    NotFoundError,
    OpenLedgerError,
    SignatureError,
    parse_json,
)
from openledger.studio import gateway
from openledger.studio.ensembles import Ensembles, read_ensemble
from openledger.studio.inference import Prompt

_LOG = logging.getLogger(__name__)
ANYONE = "*"


@dataclass(frozen=True)
class HostedModel:
    """The base or one adapter; ``adapter`` is None for the base."""

    name: str
    adapter: str | None
    created: int
    owner: str = "openledger"


@dataclass(frozen=True)
class PlainAnswer:
    """A finished answer without an account."""

    finished: Finished
    prompt_tokens: int
    receipt_id: str = ""

    def account(self) -> dict[str, Any]:
        """Nothing: there is no receipt."""
        return {}


class StandaloneService:
    """Answers for an engine.

    Args:
        engine: with its adapters.
        created: Unix seconds to list the models with.
        keys: API key → names that it may see; None lets anyone see all.
    """

    def __init__(self, engine: Backend, created: int, keys: Mapping[str, frozenset[str]] | None = None) -> None:
        self._engine = engine
        self._created = created
        self._keys = None if keys is None else {_hashed(key): names for key, names in keys.items()}
        self._base = engine.name
        self._ensembles = Ensembles(engine)

    def key(self, token: str) -> frozenset[str]:
        """The names that a key may see.

        Raises:
            SignatureError: the key is unknown.
        """
        if self._keys is None:
            return frozenset({ANYONE})
        names = self._keys.get(_hashed(token))
        if names is None:
            raise SignatureError("the API key is not known here; ask the operator for one")
        return names

    @property
    def adapters(self) -> frozenset[str]:
        """The adapters by name, without the ensembles that requests asked for."""
        return frozenset(name for name in self._engine.adapters if not self._ensembles.hides(name))

    def forget(self, adapter: str) -> None:
        """Drops the ensembles that an adapter is a part of."""
        self._ensembles.forget(adapter)

    def models(self, key: frozenset[str]) -> list[HostedModel]:
        """The models that the key may see: the base, then the adapters by name."""
        found = [HostedModel(self._base, None, self._created)]
        found += [HostedModel(f"{self._base}:{name}", name, self._created) for name in sorted(self.adapters)]
        return [model for model in found if {ANYONE, model.name, model.adapter} & key]

    def model(self, name: str, key: frozenset[str]) -> HostedModel:
        """A model by ``base``, ``base:adapter`` or the adapter's plain name.

        Raises:
            NotFoundError: there is none that the key may see.
        """
        adapter = self._adapter(name)
        for model in self.models(key) if adapter in self.adapters or name == self._base else ():
            if name in (model.name, model.adapter):
                return model
        if (parts := self._parts(name, key)) is not None:
            return HostedModel(name, "+".join(parts), self._created)
        raise NotFoundError(f"no model {name!r} is served to this key; `GET /v1/models` lists those that are")

    def _adapter(self, name: str) -> str:
        base, colon, rest = name.partition(":")
        return rest if colon and base == self._base else name

    def _parts(self, name: str, key: frozenset[str]) -> dict[str, float] | None:
        """The parts of an ensemble, each of which the key may see; None if the name is an adapter's, or none at all."""
        adapter = self._adapter(name)
        parts = None if adapter in self.adapters or name == self._base else read_ensemble(adapter)
        for part in parts or ():
            self.model(f"{self._base}:{part}", key)
        return parts

    def answer(
        self,
        name: str,
        prompt: Prompt,
        sampling: Sampling,
        key: frozenset[str],
        *,
        publish: bool = False,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | PlainAnswer]:
        """Yields pieces of text as they come, then the answer.

        Raises:
            NotFoundError: no such model, or a part of an ensemble that the key may not see.
            InputError: the prompt or the ensemble does not fit, or it asks for a receipt to be published.
            OverloadedError: too many requests are waiting.
        """
        if publish:
            raise InputError("store is true, and this server makes no receipts that could be published; leave it out")
        if prompt.top_k:
            raise InputError("this server has no Datanet in which records could be looked up; leave retrieval out")
        ids = prompt.encode(self._engine.tokenizer)
        parts = self._parts(name, key)
        if parts is None:
            events = self._engine.generate(self.model(name, key).adapter, ids, sampling, cancel=cancel)
        else:
            with self._ensembles.holding(parts) as ensemble:
                events = self._engine.generate(ensemble, ids, sampling, cancel=cancel)
        for event in events:
            yield PlainAnswer(event, len(ids)) if isinstance(event, Finished) else event


def read_keys(path: Path) -> dict[str, frozenset[str]]:
    """The keys of a JSON file ``{key: [names]}``.

    Raises:
        ConfigurationError: it cannot be read, or is of another form.
    """
    try:
        document = parse_json(path.read_bytes())
        if not isinstance(document, dict) or not document:
            raise InputError("it must map API keys to lists of model names")
        for key, names in document.items():
            if len(key) < 16 or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise InputError("each key needs 16 characters or more, and a list of model names")
        return {key: frozenset(names) for key, names in document.items()}
    except (OSError, InputError) as error:
        raise ConfigurationError(f"the keys in {path} cannot be used: {error}") from error


def add_adapters(engine: Backend, folder: Path) -> dict[str, str]:
    """Adds every peft adapter that is a folder inside ``folder``, under the folder's name; returns those left out and why."""
    refused = {}
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            engine.add(each.name, each)
        except OpenLedgerError as error:
            refused[each.name] = str(error)
            _LOG.warning("the adapter %s is left out: %s", each.name, error)
    return refused


def make_app(service: StandaloneService, engine: Backend, administration: APIRouter | None = None) -> FastAPI:
    """The API alone: ``/v1``, ``/health`` and ``/metrics``, and ``/admin`` where there is an operator."""
    app = FastAPI(title="OpenLoRA", docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    gateway.install_errors(app)
    responses = CollectorRegistry()
    app.add_middleware(_Counted, registry=responses)
    app.include_router(gateway.router(lambda: service))
    if administration is not None:
        app.include_router(administration)

    @app.get("/health", include_in_schema=False)
    def health() -> JSONResponse:
        running, waiting = engine.load
        return JSONResponse({"status": "ok", "running": running, "waiting": waiting})

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(engine.exposition() + generate_latest(responses), media_type=CONTENT_TYPE_LATEST)

    return app


class _Counted:
    """Counts the answers by their status: what is refused before the engine is seen nowhere else."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self._app = app
        labels = ("api", "status")
        self._told = Counter("openledger_http_responses", "Answers by their HTTP status", labels, registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                api = scope["path"].split("/")[1]
                self._told.labels(api if api in ("v1", "admin") else "other", message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted)


def _hashed(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
