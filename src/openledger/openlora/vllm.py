"""vLLM behind the engine's interface, for models and loads that one process cannot carry.

vLLM runs in processes and an environment of its own, since it pins other versions than this project. An adapter is checked as
our own engine checks it, copied, and loaded into a replica at run time when it is first asked for there. A request goes to the
replica to which its adapter belongs (rendezvous hashing, so that an adapter stays warm in one place and few move when a replica
comes or goes), or to the next healthy one. A replica that dies is started again. Never expose a replica's own port: its model
list shows every adapter to anyone. An ensemble is one adapter to it, whose rank is that of its parts together.

What it does not do: its answers are not fixed bit by bit, so receipts of it are not recomputed so; no adapters that are more than
low-rank factors; no pins of adapters, since its server has no request for them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import generate_latest
from transformers import AutoConfig

from openledger.models import load_tokenizer, model_digest
from openledger.openlora import metrics
from openledger.openlora.adapters import (
    CONFIG,
    WEIGHTS,
    AdapterLimits,
    Factors,
    NeedsMerging,
    read_factors,
    weighted_sum,
    write_factors,
)
from openledger.openlora.answers import CancelledError, Finished, Piece
from openledger.openlora.engine import check_name
from openledger.openlora.grammar import Grammar
from openledger.openlora.sampling import Sampling, TokenLogprob
from openledger.openlora.shapes import Dimensions
from openledger.primitives import ConfigurationError, InputError, ModelError, NotFoundError, UnavailableError, to_hex

_LOG = logging.getLogger(__name__)
_BASE = "openledger-base"
_HEALTH_SECONDS = 2.0
_DIES_WITH_US = ("setpriv", "--pdeathsig", "TERM") if shutil.which("setpriv") else ()
"""Where the system has it (util-linux), a replica ends even if this process is killed."""


@dataclass(frozen=True)
class VllmSettings:
    """How replicas are started.

    Attributes:
        python: the interpreter of vLLM's own environment.
        replicas: how many processes.
        max_adapters: adapters that one replica keeps in memory.
        max_rank: the highest rank, one of vLLM's own steps (8, 16, 32, …).
        context: most tokens of one request, where the base's own context is not shorter.
        dtype: of the base.
        arguments: more arguments of ``vllm serve``.
        environment: more environment variables, such as a preloaded allocator.
        start_seconds: how long a replica may take to answer.
    """

    python: Path
    replicas: int = 1
    max_adapters: int = 32
    max_rank: int = 16
    context: int = 2048
    dtype: str = "auto"
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    start_seconds: float = 600.0


@dataclass(eq=False)
class _Replica:
    number: int
    process: subprocess.Popen[bytes]
    url: str
    loaded: set[str] = field(default_factory=set)
    healthy: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class VllmBackend:
    """Replicas of one base model.

    Args:
        model: the base model's folder, of the Llama family.
        settings: how to start them.
        logs: folder for their logs.

    Attributes:
        name: the base model's.
        tokenizer: the base model's.

    Raises:
        ConfigurationError: the interpreter is missing, or no replica came up.
    """

    def __init__(self, model: Path, settings: VllmSettings, logs: Path) -> None:
        if not settings.python.is_file():
            raise ConfigurationError(
                f"{settings.python} does not exist; bench/openlora/setup.sh makes vLLM's environment"
            )
        self._model = model
        self.name = model.resolve().name
        self.tokenizer = load_tokenizer(model)
        config = AutoConfig.from_pretrained(model, trust_remote_code=False, local_files_only=True)
        self._dimensions = Dimensions.of(config)
        self._digest = to_hex(model_digest(model))
        self._context = min(settings.context, int(getattr(config, "max_position_embeddings", settings.context)))
        self._copies = tempfile.TemporaryDirectory(prefix="openlora-vllm-")
        self._settings = settings
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._http = httpx.Client(timeout=httpx.Timeout(10.0, read=None))
        self._adapters: dict[str, Path] = {}
        self._running = 0
        self._changed = threading.Condition()
        self._draining = False
        self._stop = threading.Event()
        self._replicas = [self._start(number) for number in range(settings.replicas)]
        self._watcher = threading.Thread(target=self._watch, name="vllm-health", daemon=True)
        self._watcher.start()
        try:
            self._come_up()
        except BaseException:
            self.close()
            raise

    def _come_up(self) -> None:
        until = time.monotonic() + self._settings.start_seconds
        while not all(replica.healthy for replica in self._replicas):
            if time.monotonic() > until:
                raise ConfigurationError(f"a vLLM replica did not come up; see the logs in {self._logs}")
            time.sleep(0.2)

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for."""
        return frozenset(self._adapters)

    @property
    def context_length(self) -> int:
        """Most tokens of one request."""
        return self._context

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, 0): vLLM queues them itself."""
        return self._running, 0

    def exposition(self) -> bytes:
        """What this process tells Prometheus; a replica's own metrics are at its own address."""
        return generate_latest()

    def add(self, name: str, folder: Path) -> None:
        """Makes an adapter available; a replica loads it when it is first asked for it.

        Raises:
            InputError: the name is taken or malformed.
            NotFoundError: a file is missing.
            ModelError: it is no sound adapter for this base, or more than low-rank factors.
        """
        with self._new(name) as copy:
            for file in (CONFIG, WEIGHTS):
                if (folder / file).is_file():
                    shutil.copyfile(folder / file, copy / file, follow_symlinks=False)
            try:
                self._read(copy)
            except NeedsMerging as reason:
                raise ModelError(f"vLLM serves low-rank factors only, and {reason}") from reason

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """Makes an ensemble, an adapter of its own whose factors are those of its parts one after the other.

        Raises:
            InputError: the name is taken, no part, a weight that is not finite, or ranks that sum to too much.
            NotFoundError: a part does not exist.
        """
        check_name(name, self._adapters)
        chosen = [(self._read(self._folder(part)), float(weight)) for part, weight in parts.items()]
        with self._new(name) as copy:
            write_factors(copy, weighted_sum(chosen, self._settings.max_rank))

    def pin(self, name: str) -> None:
        """Always refused.

        Raises:
            NotFoundError: there is none of that name.
            InputError: vLLM's server has no request for it.
        """
        self._folder(name)
        raise InputError(
            f"vLLM's server takes no pins, such as one of {name!r}: it keeps the {self._settings.max_adapters} adapters "
            "that were asked for last; serve with --backend openledger or ray to pin"
        )

    unpin = pin

    def remove(self, name: str) -> None:
        """Takes an adapter away from every replica.

        Raises:
            NotFoundError: there is none of that name.
        """
        copy = self._folder(name)
        del self._adapters[name]
        metrics.ADAPTERS.set(len(self._adapters))
        for replica in self._replicas:
            with replica.lock, suppress(httpx.HTTPError):
                if name in replica.loaded:
                    self._http.post(f"{replica.url}/v1/unload_lora_adapter", json={"lora_name": name})
                    replica.loaded.discard(name)
        shutil.rmtree(copy)

    def generate(
        self,
        adapter: str | None,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Finished]:
        """Yields pieces of text as they come, then one :class:`Finished`; closing it or ``cancel`` stops the request.

        Raises:
            NotFoundError: no such adapter.
            InputError: the prompt does not fit.
            UnavailableError: no replica is healthy, the one that answered went away, or the backend drains.
            ModelError: a replica failed.
        """
        if not prompt_ids or len(prompt_ids) >= self._context:
            raise InputError(f"the prompt has {len(prompt_ids)} tokens and the context {self._context}")
        if adapter is not None:
            self._folder(adapter)
        replica = self._choose(adapter)
        self._load(replica, adapter)
        return self._stream(replica, adapter, list(prompt_ids), sampling, cancel or threading.Event())

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once."""
        *_, finished = self.generate(adapter, prompt_ids, sampling)
        assert isinstance(finished, Finished)  # noqa: S101
        return finished

    def home(self, adapter: str | None) -> int:
        """The number of the replica to which an adapter belongs among the healthy ones."""
        return self._choose(adapter).number

    def drain(self, seconds: float) -> bool:
        """Takes no more requests, and waits for those that run; whether all ended in time."""
        self._draining = True
        with self._changed:
            return self._changed.wait_for(lambda: self._running == 0, timeout=seconds)

    def close(self) -> None:
        """Ends the replicas."""
        self._stop.set()
        self._watcher.join()
        for replica in self._replicas:
            replica.process.terminate()
        for replica in self._replicas:
            try:
                replica.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                _LOG.warning("vLLM replica %d does not end and is killed", replica.number)
            _end_group(replica.process)
        self._http.close()
        self._copies.cleanup()

    def _start(self, number: int) -> _Replica:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        settings = self._settings
        command = [
            *(str(settings.python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(self._model)),
            *("--host", "127.0.0.1", "--port", str(port), "--served-model-name", _BASE, "--dtype", settings.dtype),
            *("--max-model-len", str(self._context), "--enable-lora", "--max-loras", str(settings.max_adapters)),
            *("--max-lora-rank", str(settings.max_rank)),
            *("--structured-outputs-config", '{"backend": "guidance", "disable_any_whitespace": true}'),
            *settings.arguments,
        ]
        environment = {
            **os.environ,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            **dict(settings.environment),
        }
        environment.pop("PYTHONPATH", None)
        with (self._logs / f"replica-{number}.log").open("ab") as log:
            process = subprocess.Popen(
                [*_DIES_WITH_US, *command], env=environment, stdout=log, stderr=subprocess.STDOUT, process_group=0
            )
        return _Replica(number, process, f"http://127.0.0.1:{port}")

    def _watch(self) -> None:
        """Asks each replica for its health, and starts those again that died."""
        while not self._stop.wait(_HEALTH_SECONDS):
            for place, replica in enumerate(self._replicas):
                if replica.process.poll() is not None and not self._stop.is_set():
                    _LOG.warning("vLLM replica %d ended with %s; starting it again", place, replica.process.returncode)
                    _end_group(replica.process)
                    self._replicas[place] = self._start(place)
                    continue
                try:
                    replica.healthy = self._http.get(f"{replica.url}/health", timeout=10.0).is_success
                except httpx.HTTPError:
                    replica.healthy = False

    @contextmanager
    def _new(self, name: str) -> Iterator[Path]:
        """The folder of a new adapter, which can be asked for if the block ends well and is deleted else."""
        check_name(name, self._adapters)
        copy = Path(tempfile.mkdtemp(dir=self._copies.name))
        try:
            yield copy
            with self._changed:
                check_name(name, self._adapters)
                self._adapters[name] = copy
        except BaseException:
            shutil.rmtree(copy)
            raise
        metrics.ADAPTERS.set(len(self._adapters))

    def _read(self, folder: Path) -> Factors:
        return read_factors(folder, self._dimensions, self._digest, AdapterLimits(rank=self._settings.max_rank))

    def _folder(self, name: str) -> Path:
        if name not in self._adapters:
            raise NotFoundError(
                f"no adapter {name!r} is loaded; loaded: {', '.join(sorted(self._adapters)[:8]) or 'none'}"
            )
        return self._adapters[name]

    def _choose(self, adapter: str | None) -> _Replica:
        healthy = [replica for replica in self._replicas if replica.healthy]
        if self._draining or not healthy:
            raise UnavailableError("no vLLM replica takes requests now; send it again later", retry_after=5)
        key = (adapter or _BASE).encode()
        return max(
            healthy, key=lambda replica: hashlib.blake2b(key, salt=replica.number.to_bytes(16, "little")).digest()
        )

    def _load(self, replica: _Replica, adapter: str | None) -> None:
        if adapter is None:
            return
        with replica.lock:
            if adapter in replica.loaded:
                return
            body = {"lora_name": adapter, "lora_path": str(self._folder(adapter))}
            answer = self._post(replica, "/v1/load_lora_adapter", body)
            if not answer.is_success:
                raise ModelError(f"vLLM refused the adapter {adapter!r}: {answer.text[:300]}")
            replica.loaded.add(adapter)

    def _post(self, replica: _Replica, path: str, body: dict[str, Any]) -> httpx.Response:
        try:
            return self._http.post(replica.url + path, json=body)
        except httpx.HTTPError as error:
            replica.healthy = False
            raise _gone(replica, error) from error

    def _stream(
        self, replica: _Replica, adapter: str | None, prompt: list[int], sampling: Sampling, cancel: threading.Event
    ) -> Iterator[Piece | Finished]:
        body = {
            "model": adapter or _BASE,
            "prompt": prompt,
            "stream": True,
            "return_token_ids": True,
            "max_tokens": min(sampling.max_tokens, self._context - len(prompt)),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": sampling.repetition_penalty,
            "presence_penalty": sampling.presence_penalty,
            "frequency_penalty": sampling.frequency_penalty,
            "seed": sampling.seed,
            "stop": list(sampling.stop),
            **_shaped(sampling.grammar),
            **(
                {} if sampling.logprobs is None else {"logprobs": sampling.logprobs, "return_tokens_as_token_ids": True}
            ),
        }
        text, reason = "", "length"
        tokens: list[int] = []
        told: list[TokenLogprob] = []
        answer = metrics.Answer(len(prompt))
        self._count(1)
        try:
            with answer.counted(), self._http.stream("POST", f"{replica.url}/v1/completions", json=body) as response:
                if not response.is_success:
                    response.read()
                    raise ModelError(f"vLLM answered {response.status_code}: {response.text[:300]}")
                for line in response.iter_lines():
                    if cancel.is_set():
                        raise CancelledError
                    if not line.startswith("data: ") or line == "data: [DONE]":
                        continue
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        raise ModelError(f"vLLM failed: {chunk['error']}")
                    for choice in chunk["choices"]:
                        tokens += choice.get("token_ids") or []
                        reason = choice["finish_reason"] or reason
                        found = self._told(choice.get("logprobs"))
                        told += found
                        answer.tokens = len(tokens)
                        answer.observe()
                        if choice["text"] or found:
                            text += choice["text"]
                            yield Piece(choice["text"], found)
        except httpx.HTTPError as error:
            replica.healthy = False
            raise _gone(replica, error) from error
        finally:
            self._count(-1)
        yield Finished(text, tuple(tokens), reason, tuple(told))

    def _count(self, more: int) -> None:
        with self._changed:
            self._running += more
            metrics.RUNNING.set(self._running)
            self._changed.notify_all()

    def _told(self, logprobs: dict[str, Any] | None) -> tuple[TokenLogprob, ...]:
        """vLLM's log-probabilities, whose tokens are written ``token_id:5``."""
        if not logprobs:
            return ()
        found = []
        for token, logprob, top in zip(
            logprobs["tokens"], logprobs["token_logprobs"], logprobs["top_logprobs"] or (), strict=False
        ):
            likeliest = tuple((_number(one), float(value)) for one, value in (top or {}).items())
            texts = tuple(str(self.tokenizer.decode([one])) for one, _ in likeliest)
            number = _number(token)
            found.append(TokenLogprob(number, float(logprob), likeliest, str(self.tokenizer.decode([number])), texts))
        return tuple(found)


def _gone(replica: _Replica, error: Exception) -> UnavailableError:
    return UnavailableError(
        f"vLLM replica {replica.number} does not answer ({error}); send the request again", retry_after=5
    )


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends what is left of a replica: its workers are processes of their own, which outlive it when it is killed."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _number(token: str) -> int:
    return int(token.removeprefix("token_id:"))


def _shaped(grammar: Grammar | None) -> dict[str, Any]:
    """What vLLM is told of a grammar: its parts, which it compiles itself."""
    if grammar is None:
        return {}
    parts = json.loads(grammar.source)["grammars"]
    first = parts[0]
    if len(parts) == 1 and first.get("json_schema") is not None:
        schema = {name: value for name, value in first["json_schema"].items() if name != "x-guidance"}
        return {"structured_outputs": {"json": schema}}
    if len(parts) == 1 and first.get("lark_grammar"):
        return {"structured_outputs": {"grammar": first["lark_grammar"]}}
    raise InputError("vLLM cannot follow this form of output; ask for one JSON schema")
