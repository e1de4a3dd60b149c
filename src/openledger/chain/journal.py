"""The development chain's memory: every block on disk before anybody hears that it exists.

A journal is a text file of JSON lines. The first names the chain; each further line is a block: number, timestamp, base fee,
hash and raw transactions. These determine the block fully, so that replaying them gives the same hashes. A line counts once
its newline is on disk; a last line that was cut by a crash was never acknowledged to anyone and is dropped.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openledger.chain.files import sync_folder, write_atomic
from openledger.primitives import StorageError

_LOG = logging.getLogger(__name__)
_FORMAT = 1


@dataclass(frozen=True)
class BlockRecord:
    """What determines a block. ``base_fee`` in wei, ``timestamp`` in Unix seconds, ``transactions`` raw in 0x hex."""

    number: int
    timestamp: int
    base_fee: int
    hash: str
    transactions: tuple[str, ...]

    def line(self) -> bytes:
        """The record as it stands in the file."""
        content = {
            "n": self.number,
            "t": self.timestamp,
            "f": self.base_fee,
            "h": self.hash,
            "x": list(self.transactions),
        }
        return json.dumps(content, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> BlockRecord:
        """The record of a line; ValueError, KeyError or TypeError if it is none."""
        content: dict[str, Any] = json.loads(line)
        return cls(int(content["n"]), int(content["t"]), int(content["f"]), str(content["h"]), tuple(content["x"]))


class Journal:
    """The journal file, open for appending.

    Args:
        path: the file; created with its first line if it is missing.
        chain_id: chain that the journal belongs to.
        genesis: hash of that chain's block 0.

    Raises:
        StorageError: the file is damaged before its end, or belongs to another chain.
    """

    def __init__(self, path: Path, *, chain_id: int, genesis: str) -> None:
        self._path = path
        self._header = {"format": _FORMAT, "chain_id": chain_id, "genesis": genesis}
        if not path.exists():
            write_atomic(path, json.dumps(self._header).encode() + b"\n")
        self._repair()
        self._check_header()
        # Unbuffered: what was refused must not reach the disk later.
        self._stream = path.open("ab", buffering=0)

    def records(self) -> Iterator[BlockRecord]:
        """All blocks, from number 1 on.

        Raises:
            StorageError: a line is damaged, or a block is missing.
        """
        with self._path.open("rb") as stream:
            stream.readline()
            for number, line in enumerate(stream, start=1):
                try:
                    record = BlockRecord.parse(line)
                except (ValueError, KeyError, TypeError) as error:
                    raise StorageError(
                        f"{self._path}: block {number} is damaged ({error}); restore a backup"
                    ) from error
                if record.number != number:
                    raise StorageError(f"{self._path}: block {number} is missing; restore a backup")
                yield record

    def append(self, record: BlockRecord) -> None:
        """Adds a block; returns when it is on disk.

        Raises:
            StorageError: the disk refused.
        """
        try:
            line = record.line()
            if self._stream.write(line) != len(line):
                raise StorageError(
                    f"{self._path} took only a part of block {record.number}; free some space, start again"
                )
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise StorageError(f"cannot write to {self._path}: {error}; free some space and start again") from error

    def close(self) -> None:
        """Closes the file. The journal cannot be used afterwards."""
        self._stream.close()

    def _repair(self) -> None:
        """Cuts off a last line that has no newline or is no record."""
        with self._path.open("r+b") as stream:
            content = stream.read()
            end = content.rfind(b"\n") + 1
            start = content.rfind(b"\n", 0, end - 1) + 1
            if start > 0 and not _is_record(content[start:end]):
                end = start
            if end == len(content):
                return
            _LOG.warning(
                "%s: dropped a last line that was cut off by a crash (%d bytes)", self._path, len(content) - end
            )
            stream.truncate(end)
            os.fsync(stream.fileno())
        sync_folder(self._path.parent)

    def _check_header(self) -> None:
        with self._path.open("rb") as stream:
            line = stream.readline()
        try:
            header = json.loads(line)
        except ValueError as error:
            raise StorageError(f"{self._path} is no journal ({error}); restore a backup") from error
        if header != self._header:
            raise StorageError(f"{self._path} belongs to another chain: it says {header}, expected {self._header}")


def _is_record(line: bytes) -> bool:
    try:
        BlockRecord.parse(line)
    except (ValueError, KeyError, TypeError):
        return False
    return True
