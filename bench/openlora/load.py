"""Load on `openledger serve`: 200 streams at once over 20 adapters stay correct, fair and bounded in memory; more get 429.

Run ``python -m bench.openlora.load`` (``make load``); findings go to ``bench/results/openlora_load.json``. The server runs
on loopback, its engine in another process, with the shipped base and random adapters. Every answer is compared with the same
request answered alone. Ends with 1 if an answer differs, if a stream was starved (its last token came later than three times the
median's), if memory grew beyond the budget, or if nobody was refused.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import torch
from peft import LoraConfig, get_peft_model

from bench.openlora.common import ROOT
from bench.openlora.make import ALL
from openledger.models import load_base, shared_copy
from openledger.openlora import Engine, Sampling
from openledger.studio import Prompt

RESULTS = ROOT / "bench" / "results" / "openlora_load.json"
STREAMS, ADAPTERS, TOKENS = 200, 20, 48
CACHE_MIB = 64
GROWTH_MIB = CACHE_MIB + 256


def question(number: int) -> list[dict[str, str]]:
    """A dialogue of its own for each stream."""
    return [{"role": "user", "content": f"What happened on day {number} to the bridge number {number * 7 % 31}?"}]


def resident(process: int) -> float:
    """MiB of a process and those that it started."""
    kib = int(re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())[0])
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return kib / 1024 + sum(resident(int(child)) for child in children)


def make_adapters(folder: Path) -> None:
    """Random adapters of the shipped base."""
    base = load_base()
    model = get_peft_model(shared_copy(base.model), LoraConfig(r=8, lora_alpha=16, target_modules=ALL))
    for number in range(ADAPTERS):
        torch.manual_seed(number)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.normal_(0, 0.05)
        model.save_pretrained(str(folder / f"a{number}"), save_embedding_layers=False)


async def stream(client: httpx.AsyncClient, number: int) -> dict[str, Any]:
    """One streamed answer: status, text, seconds to the first and last token."""
    started = time.monotonic()
    body = {"model": f"a{number % ADAPTERS}", "messages": question(number), "max_tokens": TOKENS, "stream": True}
    text, first, last = "", 0.0, 0.0
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            return {"status": response.status_code, "retry": response.headers.get("Retry-After")}
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                chunk = json.loads(line[6:])
                if "error" in chunk:
                    return {"status": 500, "retry": None}
                text += "".join(choice["delta"].get("content") or "" for choice in chunk["choices"])
                last = time.monotonic() - started
                first = first or last
    return {"status": 200, "text": text, "first": first, "last": last}


async def drive(url: str, process: int) -> dict[str, Any]:
    """A warm-up, the streams, and then more than the queue takes."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)  # as many clients, each with its own
    headers = {"Authorization": "Bearer anyone"}
    async with httpx.AsyncClient(base_url=url, timeout=900, limits=limits, headers=headers) as client:
        await asyncio.gather(*(stream(client, number) for number in range(8)))
        before = resident(process)
        answers = await asyncio.gather(*(stream(client, number) for number in range(STREAMS)))
        after = resident(process)
        crowd = await asyncio.gather(*(stream(client, number) for number in range(2 * STREAMS)))
        return {"answers": answers, "crowd": crowd, "before": before, "after": max(after, resident(process))}


def main() -> int:
    """Runs it and prints what was found as JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_adapters(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "openledger.cli", "serve", "--adapters", name, "--port", str(port)]
        command += ["--batch", "32", "--waiting", str(STREAMS), "--cache-mib", str(CACHE_MIB)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
            try:
                url = f"http://127.0.0.1:{port}"
                until = time.monotonic() + 300
                while time.monotonic() < until:
                    try:
                        httpx.get(f"{url}/health")
                        break
                    except httpx.HTTPError:
                        time.sleep(0.3)
                found = asyncio.run(drive(url, server.pid))
            finally:
                server.terminate()
        with Engine(load_base()) as alone:
            for number in range(ADAPTERS):
                alone.add(f"a{number}", folder / f"a{number}")
            tokenizer, how = alone.base.tokenizer, Sampling(max_tokens=TOKENS)
            right = [
                alone.complete(f"a{number % ADAPTERS}", Prompt.chat(question(number)).encode(tokenizer), how).text
                for number in range(STREAMS)
            ]
    answers, crowd = found["answers"], found["crowd"]
    lasts = sorted(answer["last"] for answer in answers if answer["status"] == 200)
    refused = [answer for answer in crowd if answer["status"] == 429]
    served = [(number, answer) for number, answer in enumerate(crowd[:STREAMS]) if answer["status"] == 200]
    result = {
        "streams": STREAMS,
        "correct": sum(answer.get("text") == text for answer, text in zip(answers, right, strict=True)),
        "first_token_s": [
            round(statistics.median(a["first"] for a in answers), 2),
            round(max(a["first"] for a in answers), 2),
        ],
        "last_token_s": [round(statistics.median(lasts), 2), round(lasts[-1], 2)],
        "memory_mib": [round(found["before"]), round(found["after"])],
        "crowd": len(crowd),
        "refused": len(refused),
        "refused_without_retry_after": sum(not answer["retry"] for answer in refused),
        "served_wrongly": sum(answer["text"] != right[number] for number, answer in served),
        "failed": sum(answer["status"] not in (200, 429) for answer in (*answers, *crowd)),
    }
    print(json.dumps(result))
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    good = (
        result["correct"] == STREAMS
        and not (result["served_wrongly"] or result["failed"] or result["refused_without_retry_after"])
        and refused
        and lasts[-1] <= 3 * statistics.median(lasts)
        and found["after"] - found["before"] <= GROWTH_MIB
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
