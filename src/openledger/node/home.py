"""The folder that a network lives in: one node at a time, and what a command needs to find that node.

home/
  node.sqlite     receipts, vouchers, models, verdicts
  blobs/          public, content-addressed
  private/        prompts, answers and explanations, content-addressed
  chain/          the embedded chain's journal and snapshots
  keys/           the keys that this node holds, readable by the owner alone
  operator.token  lets local commands act with those keys, readable by the owner alone
  wallet.secret   what sessions of people's own wallets are made from, readable by the owner alone
  node.json       where the running node answers
  founded.json    written last when the network was set up; without it the folder is unfinished
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import httpx

from openledger.primitives import ConfigurationError, InputError, StorageError
from openledger.storage import token_in, write_atomically


class Home:
    """A network's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: int | None = None

    @property
    def private(self) -> Path:
        """Folder of the private blobs."""
        return self.path / "private"

    @property
    def work(self) -> Path:
        """Folder of what can be made again: unpacked models, training runs under way."""
        return self.path / "work"

    def acquire(self) -> None:
        """Makes the folder and takes it for this process until :meth:`release` or the process ends.

        Raises:
            ConfigurationError: another process has it.
            StorageError: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot use {self.path}: {error}; name another folder with --home") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise ConfigurationError(
                f"a node already runs on {self.path} ({self.running_url() or 'starting or stopping'}); "
                "use it, stop it, or name another folder with --home"
            ) from None
        self._lock = descriptor

    def release(self) -> None:
        """Gives the folder back."""
        if self._lock is not None:
            (self.path / "node.json").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def founded(self) -> bool:
        """Whether a network was set up here to the end."""
        return (self.path / "founded.json").is_file()

    def mark_founded(self, facts: dict[str, Any]) -> None:
        """Says that the network is set up; the last act of founding."""
        write_atomically(self.path / "founded.json", json.dumps(facts, indent=2).encode())

    def clear(self) -> None:
        """Removes everything of a network from this folder, which this process has acquired.

        Raises:
            InputError: the folder holds what no network wrote; it is left alone.
        """
        ours = {"node.sqlite", "node.sqlite-wal", "node.sqlite-shm", "blobs", "private", "chain", "keys", "work",
                "operator.token", "wallet.secret", "node.json", "founded.json", ".lock", "deployment.json"}  # fmt: skip
        foreign = sorted(entry.name for entry in self.path.iterdir() if entry.name not in ours)
        if foreign:
            raise InputError(
                f"{self.path} holds {', '.join(foreign[:5])}, which is not part of a network; name an empty folder with --home"
            )
        (self.path / "founded.json").unlink(missing_ok=True)
        for entry in self.path.iterdir():
            if entry.name == ".lock":
                continue
            if entry.is_dir():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def operator_token(self) -> str:
        """The operator's token, made on first use.

        Raises:
            ConfigurationError: it cannot be read, as this is not the node's owner.
        """
        return token_in(self.path / "operator.token")

    def wallet_secret(self) -> str:
        """What sessions and session keys of people's own wallets are made from, made on first use; errors as above."""
        return token_in(self.path / "wallet.secret")

    def announce(self, url: str) -> None:
        """Writes where the node answers."""
        write_atomically(self.path / "node.json", json.dumps({"url": url, "pid": os.getpid()}).encode())

    def running_url(self) -> str | None:
        """Where the node on this folder answers; None if none does."""
        try:
            url = str(json.loads((self.path / "node.json").read_text())["url"])
            healthy = httpx.get(f"{url}/api/health", timeout=5).is_success
        except (OSError, ValueError, KeyError, TypeError, httpx.HTTPError):
            return None
        return url if healthy else None
