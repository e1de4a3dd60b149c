"""The development chain's memory: every block on disk before anybody hears that it exists.

A journal is a text file of JSON lines, each with a checksum. The first names the chain; each further line is a block: number,
timestamp, base fee, hash and raw transactions. These determine the block fully, so that replaying them gives the same hashes. A
line counts once its newline is on disk; a last line that was cut by a crash was never acknowledged to anyone and is dropped.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

from openledger.chain.files import write_atomic
from openledger.primitives import StorageError

_LOG = logging.getLogger(__name__)
_FORMAT = 2
_LINE = re.compile(rb'(\{[^\n]*?),"c":"([0-9a-f]{8})"\}')
"""A line without its newline: where that byte is damaged, both lines are still found."""


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
        return _sealed(
            {
                "n": self.number,
                "t": self.timestamp,
                "f": self.base_fee,
                "h": self.hash,
                "x": list(self.transactions),
            }
        )

    @classmethod
    def parse(cls, fields: Mapping[str, Any]) -> BlockRecord:
        """The record with the fields of a line."""
        return cls(fields["n"], fields["t"], fields["f"], fields["h"], tuple(fields["x"]))


class Journal:
    """The journal file, open for appending.

    Args:
        path: the file; created with its first line if it is missing.
        chain_id: chain that the journal belongs to.
        genesis: hash of that chain's block 0.

    Raises:
        StorageError: the file belongs to another chain, or nothing in it can be read.
    """

    def __init__(self, path: Path, *, chain_id: int, genesis: str) -> None:
        self._path = path
        self._header = {"format": _FORMAT, "chain_id": chain_id, "genesis": genesis}
        if not path.exists():
            write_atomic(path, _sealed(self._header))
        self._blocks: dict[int, BlockRecord] = {}
        self._height = 0
        self._read()
        # Unbuffered: what was refused must not reach the disk later.
        self._stream = path.open("ab", buffering=0)

    @property
    def height(self) -> int:
        """Number of the last block; 0 if there is none."""
        return self._height

    @property
    def blocks(self) -> Mapping[int, BlockRecord]:
        """The blocks by number as they were read, without those whose lines are damaged."""
        return self._blocks

    def missing(self) -> list[int]:
        """Numbers of the damaged blocks, in order."""
        return [number for number in range(1, self._height) if number not in self._blocks]

    def forget(self) -> None:
        """Gives the memory of :attr:`blocks` back, once they are replayed."""
        self._blocks = {}

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
        self._height = record.number

    def set_aside(self, first: int) -> Path:
        """Ends the journal before block ``first`` and returns the copy, beside it, of how it was.

        Raises:
            StorageError: the disk refused; the journal is as it was.
        """
        self._stream.close()
        aside = self._copy()
        kept = [self._blocks[number] for number in sorted(self._blocks) if number < first]
        write_atomic(self._path, b"".join([_sealed(self._header), *(record.line() for record in kept)]))
        self._blocks = {record.number: record for record in kept}
        self._height = max(self._blocks, default=0)
        self._stream = self._path.open("ab", buffering=0)
        return aside

    def close(self) -> None:
        """Closes the file. The journal cannot be used afterwards."""
        self._stream.close()

    def _copy(self) -> Path:
        number = sum(1 for _ in self._path.parent.glob(f"{self._path.name}.damaged-*")) + 1
        aside = self._path.with_name(f"{self._path.name}.damaged-{number}")
        write_atomic(aside, self._path.read_bytes())
        return aside

    def _read(self) -> None:
        content = self._path.read_bytes()
        header, end = None, 0
        for line in _LINE.finditer(content):
            if crc32(line[1]) != int(line[2], 16):
                continue
            fields, end = json.loads(line[1] + b"}"), line.end()
            if "format" in fields:
                header = fields
            else:
                record = BlockRecord.parse(fields)
                self._blocks[record.number] = record
        self._height = max(self._blocks, default=0)
        if header not in (None, self._header):
            raise StorageError(f"{self._path} belongs to another chain: it says {header}, expected {self._header}")
        if end == 0:
            raise StorageError(f"{self._path} is no journal that this version can read; restore a backup")
        if (tail := content[end:]) != b"\n":
            self._drop(tail.removeprefix(b"\n"), end)
        if header is None:
            # Whose blocks these are shows when they are replayed on this genesis.
            _LOG.warning(
                "%s: its first line is damaged and was written anew; it is kept as %s", self._path, self._copy()
            )
            records = (self._blocks[number].line() for number in sorted(self._blocks))
            write_atomic(self._path, b"".join([_sealed(self._header), *records]))

    def _drop(self, tail: bytes, end: int) -> None:
        """Cuts off what stands after the last good line: a line that a crash cut, or damaged ones."""
        if b"\n" in tail and tail.strip(b"\0\n"):
            lost, aside = tail.strip().count(b"\n") + 1, self._copy()
            _LOG.error(
                "%s: the last %d blocks are damaged and lost; the chain goes on from block %d; the damaged journal is kept as "
                "%s, and a backup of it would bring them back", self._path, lost, self._height, aside,
            )  # fmt: skip
        else:
            _LOG.warning("%s: dropped a last line that was cut off by a crash (%d bytes)", self._path, len(tail))
        with self._path.open("r+b") as stream:
            stream.truncate(end)
            stream.seek(end)
            stream.write(b"\n")
            stream.flush()
            os.fsync(stream.fileno())


def _sealed(content: dict[str, Any]) -> bytes:
    """A line of the file: the content as JSON with a checksum of it at the end."""
    body = json.dumps(content, separators=(",", ":")).encode()[:-1]
    return body + b',"c":"%08x"}\n' % crc32(body)
