"""Chains of a test's own: a plain ``anvil`` that can be made to reorganise, and a proxy that can delay or cut what passes."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from web3 import Web3

from openledger.chain.toolchain import find_program

RICH: LocalAccount = Account.from_key(0xAC0974BEC39A17E36BA4A6B4D238FF944BACB478CBED5EFCAE784D7BF4F2FF80)
"""The first account of a plain ``anvil``."""


@contextmanager
def plain_anvil(*options: str) -> Iterator[str]:
    """An ``anvil`` as anybody starts it, with further options; yields its URL."""
    port = _free_port()
    process = subprocess.Popen(
        [str(find_program("anvil")), "--port", str(port), "--silent", *options], stdout=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while not Web3(Web3.HTTPProvider(url)).is_connected():
            assert process.poll() is None, "anvil ended"
            assert time.monotonic() < deadline, "anvil did not start in time"
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()


def rpc(url: str, method: str, *parameters: Any) -> Any:
    """The result of one request, of whatever method."""
    answer = Web3(Web3.HTTPProvider(url)).provider.make_request(method, list(parameters))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer["result"]


class Proxy:
    """Passes TCP connections on to a port; can cut, swallow or delay what the server says.

    Attributes:
        delay: seconds before an answer is passed on.
        deaf: whether answers are swallowed, so that the client waits.
        cut_next: connections to cut once the request has been passed on and before its answer.
    """

    def __init__(self, url: str) -> None:
        self.delay = 0.0
        self.deaf = False
        self.cut_next = 0
        self._target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Takes no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        finally:
            _shut(sink)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                if self.cut_next > 0:
                    self.cut_next -= 1
                    break
                time.sleep(self.delay)
                if not self.deaf:
                    client.sendall(data)
        except OSError:
            pass
        finally:
            _shut(client)
            _shut(server)


def _shut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
