"""What the engine tells Prometheus; the node serves it at ``/metrics``."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
