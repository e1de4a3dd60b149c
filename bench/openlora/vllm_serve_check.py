"""``openledger serve --backend vllm`` as its users meet it, over two real replicas and the openai client. ``make vllm-check``.

Ends with 1 if a check fails. A replica holds about 1.5 GiB, of which 1 GiB is for keys and values.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import openai

from bench.openlora.__main__ import _VLLM, vllm_environment
from bench.openlora.common import ADAPTERS, MODEL
from bench.openlora.make import make

NAMES = ["0", "1", "2", "3"]
ALL_KEY, ONE_KEY = "key-that-sees-everything", "key-that-sees-only-one"
QUESTION = [{"role": "user", "content": "What happened to the bridge?"}]
_START_SECONDS = 600


def family(process: int) -> list[int]:
    """A process and all that it started."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        threads = [
            child
            for task in Path(f"/proc/{process}/task").iterdir()
            if task.name != str(process)
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []
    return [process, *(one for child in {*children, *threads} for one in family(int(child)))]


def replicas(process: int) -> list[int]:
    """The replicas' own processes, each the first of its group."""
    return [one for one in family(process) if one != process and leads(one)]


def leads(process: int) -> bool:
    """Whether a process is the first of its group; one that has just ended is not."""
    try:
        return os.getpgid(process) == process
    except ProcessLookupError:
        return False


def healthy(replica: int) -> bool:
    """What a replica says of itself."""
    try:
        command = Path(f"/proc/{replica}/cmdline").read_text().split("\0")
        return httpx.get(f"http://127.0.0.1:{command[command.index('--port') + 1]}/health").is_success
    except (OSError, ValueError, httpx.HTTPError):
        return False


def alive(process: int) -> bool:
    """Whether a process runs; one that nobody waited for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def until(holds: Callable[[], bool], seconds: float) -> bool:
    """Waits until it holds; whether it did."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.5)
    return False


class Checks:
    """Prints each check and remembers which failed."""

    def __init__(self) -> None:
        self.failed: list[str] = []

    def __call__(self, what: str, holds: bool) -> None:
        print(f"{'ok    ' if holds else 'FAILED'} {what}", flush=True)
        if not holds:
            self.failed.append(what)


def ask_and_kill(check: Checks, url: str, server: int, token: dict[str, str]) -> None:
    """What is asked of a server that runs."""

    def client(key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=300)

    def chat(model: str, key: str = ALL_KEY) -> str:
        answer = client(key).chat.completions.create(model=model, messages=QUESTION, max_tokens=12)
        assert answer.usage is not None
        assert answer.usage.completion_tokens <= 12
        return str(answer.choices[0].message.content)

    base = MODEL.name
    listed = [model.id for model in client(ALL_KEY).models.list()]
    check("the base and its adapters are listed", listed == [base, *(f"{base}:{name}" for name in NAMES)])
    check("a key lists its own", [model.id for model in client(ONE_KEY).models.list()] == [f"{base}:1"])
    answers = {name: chat(name) for name in (base, *NAMES)}
    check("adapters change the answer", len(set(answers.values())) > 2)
    check("base:adapter is the adapter", chat(f"{base}:1") == answers["1"])
    *chunks, last = client(ALL_KEY).chat.completions.create(
        model="1", messages=QUESTION, max_tokens=12, stream=True, stream_options={"include_usage": True}
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    check("a stream is the answer, in pieces", text == answers["1"] and len(chunks) > 3)
    check("its usage comes last", last.usage is not None and last.usage.completion_tokens == 12)
    for model, key in (("nobody", ALL_KEY), ("2", ONE_KEY)):
        try:
            chat(model, key)
            check(f"{model} is not served", False)
        except openai.NotFoundError as error:
            check(f"{model} is not served", error.code == "model_not_found")
    try:
        client(ALL_KEY).chat.completions.create(model="1", messages=[{"role": "user", "content": "word " * 9000}])
        check("a prompt over the context is refused", False)
    except openai.BadRequestError:
        check("a prompt over the context is refused", True)

    mix = {"name": "mix", "parts": {"0": 0.4, "1": 0.6}}
    made = httpx.post(f"{url}/admin/ensembles", json=mix, headers=token, timeout=300)
    check("an operator makes an ensemble", made.is_success)
    check("a request makes the same one by its name", chat("0*0.4+1*0.6") == chat("mix") != answers["1"])
    refused = httpx.put(f"{url}/admin/pins/0", headers=token)
    check("a pin is refused and the reason told", refused.status_code == 400 and "takes no pins" in refused.text)
    check("it goes again", httpx.delete(f"{url}/admin/adapters/mix", headers=token).is_success)

    before = replicas(server)
    check("there are two replicas", len(before) == 2)
    for one in before:
        lost = family(one)
        os.kill(one, signal.SIGKILL)

        def answered() -> bool:
            try:
                return all(chat(name) == answers[name] for name in NAMES)
            except openai.InternalServerError:
                return False

        check("after a replica was killed, every adapter is answered", until(answered, 60))
        check("what it had started is gone", until(lambda lost=lost: not any(map(alive, lost)), 60))  # type: ignore[misc]
        back = until(lambda: len(set(replicas(server)) - {one for one in before if not alive(one)}) == 2, 60)
        check("another one is started", back)
        check("both are healthy", until(lambda: all(map(healthy, replicas(server))), _START_SECONDS))
        check("every adapter is answered as before", answered())


def main() -> int:
    """Runs the checks and prints each."""
    make()
    check = Checks()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in NAMES:
            shutil.copytree(ADAPTERS / number, folder / "adapters" / number)
        (folder / "keys.json").write_text(json.dumps({ALL_KEY: ["*"], ONE_KEY: ["1"]}))
        environment = {**os.environ, **vllm_environment(), "OMP_NUM_THREADS": "1"}
        for left in ("VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_CPU_KVCACHE_SPACE"):
            environment.pop(left, None)
        command = [sys.executable, "-m", "openledger.cli", "serve", str(MODEL), "--port", str(port)]
        command += ["--adapters", str(folder / "adapters"), "--keys", str(folder / "keys.json")]
        command += ["--backend", "vllm", "--vllm-python", str(_VLLM), "--replicas", "2", "--rank", "16"]
        command += ["--operator-token", str(folder / "operator.token")]
        command += ["--batch", "8", "--cache-mib", "1024", "--vllm-argument=--enforce-eager"]
        with (folder / "serve.log").open("w") as log:
            server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        url = f"http://127.0.0.1:{port}"

        def up() -> bool:
            try:
                return httpx.get(f"{url}/health").is_success
            except httpx.HTTPError:
                return server.poll() is not None

        try:
            check("it comes up", until(up, _START_SECONDS) and server.poll() is None)
            if server.poll() is None:
                token = (folder / "operator.token").read_text().strip()
                ask_and_kill(check, url, server.pid, {"Authorization": f"Bearer {token}"})
        finally:
            running = family(server.pid)
            server.terminate()
            try:
                check("SIGTERM ends it well", server.wait(timeout=90) == 0)
            except subprocess.TimeoutExpired:
                check("SIGTERM ends it", False)
                server.kill()
            check("no process of it is left", until(lambda: not any(map(alive, running)), 20))
            if check.failed:
                print((folder / "serve.log").read_text()[-4000:])
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
