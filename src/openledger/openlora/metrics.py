"""What the engine tells Prometheus; the node serves it at ``/metrics``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Gauge, Histogram

from openledger.openlora.answers import CancelledError

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

REQUESTS = Counter("openledger_requests", "Requests by how they ended", ["outcome"])
PROMPT_TOKENS = Counter("openledger_prompt_tokens", "Prompt tokens read")
CACHED_TOKENS = Counter("openledger_cached_prompt_tokens", "Prompt tokens taken from the prefix cache")
OUTPUT_TOKENS = Counter("openledger_output_tokens", "Tokens generated")
ACTIVATIONS = Counter("openledger_adapter_activations", "Requests by whether their adapter was in memory", ["state"])
FAILURES = Counter("openledger_engine_failures", "Times that the engine failed and started anew")
RUNNING = Gauge("openledger_requests_running", "Requests being answered")
WAITING = Gauge("openledger_requests_waiting", "Requests waiting for room")
ADAPTERS = Gauge("openledger_adapters", "Adapters that can be asked for")
ADAPTER_BYTES = Gauge("openledger_adapter_bytes", "Bytes of adapters in memory")
CACHE_BYTES = Gauge("openledger_kv_cache_bytes", "Bytes of keys and values held", ["kind"])
FIRST_TOKEN = Histogram(
    "openledger_time_to_first_token_seconds", "From submission to the first token", buckets=_SECONDS
)
BETWEEN_TOKENS = Histogram("openledger_inter_token_seconds", "Between two tokens of one answer", buckets=_SECONDS)


class Pace:
    """How fast one answer comes; made when its request is."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._last: float | None = None

    def observe(self) -> None:
        """Tells of a token, or of a piece of text where tokens are not seen one by one."""
        now = time.perf_counter()
        if self._last is None:
            FIRST_TOKEN.observe(now - self._started)
        else:
            BETWEEN_TOKENS.observe(now - self._last)
        self._last = now


class Answer(Pace):
    """One answer that another process makes and this one hands on.

    Attributes:
        tokens: of the output so far.
        cached_tokens: of the prompt, taken from the prefix cache.
    """

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__()
        self.tokens = 0
        self.cached_tokens = 0
        self._prompt_tokens = prompt_tokens

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts it by how what is done in it ends: finished, cancelled by who asked, or failed."""
        outcome = "failed"
        try:
            yield
            outcome = "finished"
        except (CancelledError, GeneratorExit):
            outcome = "cancelled"
            raise
        finally:
            REQUESTS.labels(outcome).inc()
            PROMPT_TOKENS.inc(self._prompt_tokens)
            CACHED_TOKENS.inc(self.cached_tokens)
            OUTPUT_TOKENS.inc(self.tokens)
