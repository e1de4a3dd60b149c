"""One ``anvil`` process and plain JSON-RPC to it. Internal to the development chain: this RPC can do anything."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from openledger.primitives import ChainError

_START_SECONDS = 30.0

# Ends anvil when this process ends, however it ends: the shell waits for its standard input to close.
_GUARDED = '"$@" </dev/null & child=$!; read -r _; kill "$child" 2>/dev/null; wait "$child"'


class RpcError(Exception):
    """The node answered with a JSON-RPC error; ``error`` is that object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message", error)))
        self.error = error


class Rpc:
    """JSON-RPC over one kept connection. Not for use by two threads at once.

    Args:
        port: loopback port of the node.
        log: file with the node's output, named in errors.
    """

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    @property
    def url(self) -> str:
        """Where the node listens."""
        return f"http://127.0.0.1:{self.port}"

    def call(self, method: str, *parameters: Any) -> Any:
        """The result of one request.

        Raises:
            RpcError: the node answered with an error.
            ChainError: the node does not answer.
        """
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters})
        try:
            self._connection.request("POST", "/", body, {"Content-Type": "application/json"})
            answer = json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._connection.close()
            raise ChainError(f"the development chain does not answer ({error}); see {self._log}") from error
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def another(self) -> Rpc:
        """A further connection to the same node, for another thread."""
        return Rpc(self.port, self._log)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()


class Anvil(Rpc):
    """A running node without accounts that mines only when told to.

    Args:
        genesis: a genesis file.
        log: file for the node's output.
        chain_id: EIP-155 chain id.
        timestamp: time of the genesis block, Unix seconds.
        gas_limit: gas per block.
        history: number of past blocks whose state can be read.

    Raises:
        ChainError: it did not start; the message holds the end of its output.
    """

    def __init__(
        self, genesis: Path, log: Path, *, chain_id: int, timestamp: int, gas_limit: int, history: int
    ) -> None:
        # Imported here so that `python -m openledger.chain.toolchain` finds its module not yet loaded.
        from openledger.chain.toolchain import find_program

        super().__init__(_free_port(), log)
        command = [
            str(find_program("anvil")), "--network", "optimism", "--hardfork", "isthmus",
            "--init", str(genesis), "--accounts", "0", "--chain-id", str(chain_id), "--timestamp", str(timestamp),
            "--gas-limit", str(gas_limit), "--no-mining", "--order", "fifo", "--prune-history", str(history),
            "--disable-min-priority-fee", "--no-cors", "--host", "127.0.0.1", "--port", str(self.port),
        ]  # fmt: skip
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _GUARDED, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._await_start()

    def stop(self) -> None:
        """Ends the process."""
        self.close()
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _await_start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.call("eth_chainId")
                return
            except ChainError:
                if time.monotonic() < deadline and self._log_ends_well():
                    time.sleep(0.01)
                    continue
                self.stop()
                tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise ChainError(f"anvil did not start; its output ends with:\n{tail}") from None

    def _log_ends_well(self) -> bool:
        text = self._log.read_text(encoding="utf-8", errors="replace").lower()
        return self._process.poll() is None and "error" not in text and "panicked" not in text


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
