"""``openledger serve``: one base model and a folder of adapters over the OpenAI-compatible API, without the network."""

from __future__ import annotations

import enum
import logging
import signal
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from openledger.cli.output import console, errors
from openledger.primitives import ConfigurationError

_VLLM_RANKS = (8, 16, 32, 64, 128, 256)


class Answers(enum.StrEnum):
    """What answers requests."""

    OPENLEDGER = "openledger"
    VLLM = "vllm"
    RAY = "ray"


class Precision(enum.StrEnum):
    """How weights are held."""

    FLOAT32 = "float32"
    INT8 = "int8"


class AdapterPrecision(enum.StrEnum):
    """How adapters are held."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    INT8 = "int8"


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
    operator_token: Annotated[
        Path | None,
        typer.Option(
            help="File of the operator's token, made if missing; lets `openledger adapter` act on this server."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, max=512, help="Most requests decoded together.")] = 32,
    waiting: Annotated[int, typer.Option(min=0, max=100_000, help="Most requests that wait; more get 429.")] = 512,
    cache_mib: Annotated[int, typer.Option(min=1, help="MiB for keys and values of running requests.")] = 1024,
    store: Annotated[
        Path | None, typer.Option(help="Folder for converted adapters; a temporary one if left out.")
    ] = None,
    backend: Annotated[
        Answers,
        typer.Option(
            help="What answers: our engine in a process of its own, replicas of it on a Ray cluster, or of vLLM."
        ),
    ] = Answers.OPENLEDGER,
    vllm_python: Annotated[Path | None, typer.Option(help="The interpreter of vLLM's own environment.")] = None,
    replicas: Annotated[int, typer.Option(min=1, max=1024, help="vLLM and Ray: how many processes.")] = 1,
    ray_address: Annotated[
        str,
        typer.Option(
            help="Ray: the cluster's address, `auto` for this machine's, `local` for one of this machine alone."
        ),
    ] = "local",
    vllm_argument: Annotated[
        list[str] | None,
        typer.Option(help="vLLM: an argument more for each replica, such as --enforce-eager; repeat it."),
    ] = None,
    weights: Annotated[
        Precision, typer.Option(help="How our engine holds the base's weights; int8 takes a quarter of the memory.")
    ] = Precision.FLOAT32,
    adapter_precision: Annotated[
        AdapterPrecision,
        typer.Option(help="How our engine holds adapters; only float32 is exact, the others are faster."),
    ] = AdapterPrecision.FLOAT32,
    rank: Annotated[int, typer.Option(min=1, max=256, help="The highest rank of an adapter.")] = 64,
    threads: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            help="Threads of our engine, or of each replica on Ray, up to its processors; any number gives the same bits.",
        ),
    ] = 1,
) -> None:
    """Serve a base model and its adapters until Ctrl-C, for whoever has a key: no chain, no fees, no receipts."""
    from openledger.models import base_folder
    from openledger.openlora import AdapterLimits, Backend, EngineLimits, EngineProcess
    from openledger.storage import token_in
    from openledger.studio.logs import json_handler

    if keys is None and host not in _LOOPBACK:
        raise ConfigurationError(f"{host} can be reached from elsewhere: give --keys, or bind to 127.0.0.1")
    if adapters is not None and not adapters.is_dir():
        raise ConfigurationError(f"{adapters} is no folder; give one that holds a folder for each adapter")
    if backend is Answers.VLLM and vllm_python is None:
        raise ConfigurationError("vLLM needs --vllm-python; bench/openlora/setup.sh makes its environment")
    ours = {
        "--threads": threads != 1,
        "--weights": weights is not Precision.FLOAT32,
        "--adapter-precision": adapter_precision is not AdapterPrecision.FLOAT32,
    }
    if backend is Answers.VLLM and any(ours.values()):
        given = ", ".join(name for name, is_given in ours.items() if is_given)
        raise ConfigurationError(f"{given}: our engine's, not vLLM's; tell vLLM what it knows by --vllm-argument")
    known = None
    if keys is not None:
        from openledger.studio.standalone import read_keys

        known = read_keys(keys)
    token = None if operator_token is None else token_in(operator_token)
    # Left to itself, a SIGTERM ends this process before its engine; like Ctrl-C, it ends both.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    logging.basicConfig(level=logging.INFO, handlers=[json_handler()])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it tells each health check of a replica
    folder = base_folder(base)
    engine: Backend
    limits = EngineLimits(
        batch=batch,
        waiting=waiting,
        kv_bytes=cache_mib << 20,
        weights=weights.value,
        threads=threads,
    )
    accepted = AdapterLimits(rank=rank, precision=adapter_precision.value)
    with errors.status("loading …"):
        if backend is Answers.VLLM and vllm_python is not None:
            from openledger.openlora.vllm import VllmBackend, VllmSettings

            settings = VllmSettings(
                python=vllm_python,
                replicas=replicas,
                max_rank=next(size for size in _VLLM_RANKS if size >= rank),
                arguments=("--max-num-seqs", str(batch), *(vllm_argument or ())),
                environment=(("VLLM_CPU_KVCACHE_SPACE", str(max(1, cache_mib >> 10))),),
            )
            engine = VllmBackend(folder, settings, Path(tempfile.mkdtemp(prefix="openledger-vllm-")))
            how = f"{replicas} replicas of vLLM"
        elif backend is Answers.RAY:
            from openledger.openlora.ray_serve import RayBackend, RaySettings

            cluster = RaySettings(address=ray_address, replicas=replicas)
            engine = RayBackend(base, cluster, limits, adapter_limits=accepted)
            how = f"{replicas} replicas of the engine on Ray"
        else:
            engine = EngineProcess(folder, limits, store=store, adapter_limits=accepted, wait=False)
    try:
        with errors.status("loading …"):
            # Libraries that take seconds, as those of the engine's process do meanwhile.
            import uvicorn

            from openledger.studio import administration
            from openledger.studio.standalone import StandaloneService, add_adapters, make_app

            if isinstance(engine, EngineProcess):
                engine.wait()
                how = "the fused engine" if engine.fallback is None else f"transformers and peft ({engine.fallback})"
        with errors.status("reading adapters …"):
            refused = {} if adapters is None else add_adapters(engine, adapters)
        if refused:
            console.print(
                f"[yellow]left out[/] {len(refused)} adapters; the log says why: {', '.join(sorted(refused)[:8])}"
            )
        console.print(f"Serving {engine.name} and {len(engine.adapters)} adapters with {how}")
        console.print(f"  OpenAI API  http://{host}:{port}/v1\n  metrics     http://{host}:{port}/metrics")
        service = StandaloneService(engine, int(time.time()), known)
        operated = None if token is None else administration.router(service, engine, adapters, token)
        app = make_app(service, engine, operated)
        uvicorn.run(app, host=host, port=port, log_level="warning", access_log=False)
    finally:
        console.print("stopping …")
        engine.close()
