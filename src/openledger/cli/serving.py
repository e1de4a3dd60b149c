"""``openledger serve``: one base model and a folder of adapters over the OpenAI-compatible API, without the network."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, errors
from openledger.primitives import ConfigurationError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    base: Annotated[
        str | None, typer.Argument(help="Base model: folder or hub id; the one that ships if left out.")
    ] = None,
    adapters: Annotated[Path | None, typer.Option(help="Folder of folders, each an adapter in peft's format.")] = None,
    host: Annotated[str, typer.Option(help="Address to bind to; loopback by default.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8700,
    keys: Annotated[
        Path | None, typer.Option(help='JSON file: API key → list of model names that it may see, ["*"] for all.')
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=512, help="Most requests decoded together.")] = 32,
    waiting: Annotated[int, typer.Option(min=0, max=100_000, help="Most requests that wait; more get 429.")] = 512,
    cache_mib: Annotated[int, typer.Option(min=1, help="MiB for keys and values of running requests.")] = 1024,
    store: Annotated[
        Path | None, typer.Option(help="Folder for converted adapters; a temporary one if left out.")
    ] = None,
) -> None:
    """Serve a base model and its adapters until Ctrl-C, for whoever has a key: no chain, no fees, no receipts."""
    import uvicorn

    from openledger.openlora import Engine, EngineLimits
    from openledger.studio.standalone import StandaloneService, add_adapters, make_app, read_keys

    if keys is None and host not in _LOOPBACK:
        raise ConfigurationError(f"{host} can be reached from elsewhere: give --keys, or bind to 127.0.0.1")
    if adapters is not None and not adapters.is_dir():
        raise ConfigurationError(f"{adapters} is no folder; give one that holds a folder for each adapter")
    known = None if keys is None else read_keys(keys)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    with errors.status("loading …"):
        engine = Engine(
            base or _shipped(), EngineLimits(batch=batch, waiting=waiting, kv_bytes=cache_mib << 20), store=store
        )
        refused = {} if adapters is None else add_adapters(engine, adapters)
    with engine:
        for name, why in refused.items():
            errors.print(f"[yellow]left out[/] {name}: {why}", highlight=False)
        how = "the fused engine" if engine.fallback is None else f"transformers and peft ({engine.fallback})"
        console.print(f"Serving {engine.base.path.name} and {len(engine.adapters)} adapters with {how}")
        console.print(f"  OpenAI API  http://{host}:{port}/v1\n  metrics     http://{host}:{port}/metrics")
        app = make_app(StandaloneService(engine, int(time.time()), known), engine)
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)


def _shipped() -> Path:
    from openledger.models.base import SHIPPED

    return SHIPPED
