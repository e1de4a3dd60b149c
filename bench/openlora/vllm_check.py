"""The vLLM backend over two real replicas: loading at run time, affinity, health, restart, drain. ``make vllm-check``.

Greedy answers are compared with those of our own engine on the same model and adapters; since the two round differently,
they must
agree on the first tokens, not on all. Ends with 1 if a check fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from bench.openlora.__main__ import _VLLM, vllm_environment
from bench.openlora.common import ADAPTERS, MODEL, prompts
from bench.openlora.make import make
from openledger.openlora import Engine, Grammar, Sampling, read_call, tool_grammar
from openledger.openlora.vllm import VllmBackend, VllmSettings
from openledger.primitives import InputError, ModelError, NotFoundError, OverloadedError

_AGREE = 4


def main() -> int:
    """Runs the checks and prints each."""
    make()
    environment = {**vllm_environment(), "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING")
    settings = VllmSettings(
        python=_VLLM,
        replicas=2,
        max_adapters=4,
        max_rank=16,
        context=256,
        dtype="float32",
        arguments=("--enforce-eager", "--max-num-seqs", "8"),
        environment=tuple(environment.items()),
    )
    failed = []

    def check(what: str, holds: bool) -> None:
        print(f"{'ok    ' if holds else 'FAILED'} {what}", flush=True)
        if not holds:
            failed.append(what)

    names = [str(number) for number in range(6)]
    how, ids = Sampling(max_tokens=12), prompts(1)[0]
    with Engine(MODEL) as ours, tempfile.TemporaryDirectory() as logs:
        backend = VllmBackend(MODEL, settings, Path(logs))
        try:
            for name in names:
                ours.add(name, ADAPTERS / name)
                backend.add(name, ADAPTERS / name)
            for name in (None, *names):
                found, right = backend.complete(name, ids, how), ours.complete(name, ids, how)
                check(f"adapter {name}: the first tokens agree", found.token_ids[:_AGREE] == right.token_ids[:_AGREE])
            how_told = Sampling(max_tokens=6, logprobs=2)
            found, right = backend.complete("1", ids, how_told), ours.complete("1", ids, how_told)
            close = [
                abs(one.logprob - other.logprob) < 1e-3
                for one, other in zip(found.logprobs, right.logprobs, strict=True)
            ]
            check("log-probabilities are ours within 0.001", all(close) and len(close) == 6)
            pieces = list(backend.generate("1", ids, how))
            check("pieces are the text", "".join(one.text for one in pieces[:-1]) == pieces[-1].text)
            schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
            shaped = Sampling(max_tokens=40, grammar=Grammar.json_schema({**schema, "additionalProperties": False}))
            check(
                "an answer follows a JSON schema", list(json.loads(backend.complete("1", ids, shaped).text)) == ["ok"]
            )
            forced = Sampling(max_tokens=80, grammar=tool_grammar({"look": schema}, forced=True))
            check("a tool is called", read_call(backend.complete("1", ids, forced).text) is not None)
            (Path(logs) / "bad").mkdir()
            (Path(logs) / "bad" / "adapter_config.json").write_text("{}")
            try:
                backend.add("bad", Path(logs) / "bad")
                check("a broken adapter is refused", False)
            except (ModelError, NotFoundError):
                check("a broken adapter is refused", True)
            for one in (backend, ours):
                one.combine("mix", {"0": 0.4, "1": 0.6})
            how_told = Sampling(max_tokens=6, logprobs=2)
            found, right = backend.complete("mix", ids, how_told), ours.complete("mix", ids, how_told)
            near = [abs(a.logprob - b.logprob) < 1e-3 for a, b in zip(found.logprobs, right.logprobs, strict=True)]
            check("an ensemble's log-probabilities are ours within 0.001", all(near) and len(near) == 6)
            for what, act in (
                (
                    "an ensemble above the replicas' rank is refused",
                    lambda: backend.combine("x", dict.fromkeys("012", 1.0)),
                ),
                ("a pin is refused", lambda: backend.pin("0")),
            ):
                try:
                    act()
                    check(what, False)
                except InputError as error:
                    check(f"{what}: {error}", "x" not in backend.adapters)
            backend.remove("mix")
            homes = {name: backend.home(name) for name in names}
            check("adapters spread over both replicas", len(set(homes.values())) == 2)
            backend.remove("5")
            try:
                backend.complete("5", ids, how)
                check("a removed adapter is gone", False)
            except NotFoundError:
                check("a removed adapter is gone", True)
            backend._replicas[homes["0"]].process.kill()
            until = time.monotonic() + 60
            while backend.home("0") == homes["0"] and time.monotonic() < until:
                time.sleep(0.2)
            check("while a replica is down, the other answers", len(backend.complete("0", ids, how).token_ids) == 12)
            until = time.monotonic() + settings.start_seconds
            while backend.home("0") != homes["0"] and time.monotonic() < until:
                time.sleep(0.5)
            check("it comes back by itself", len(backend.complete("0", ids, how).token_ids) == 12)
            check("it drains", backend.drain(30))
            try:
                backend.complete("0", ids, how)
                check("a draining backend refuses", False)
            except OverloadedError:
                check("a draining backend refuses", True)
        finally:
            backend.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
