"""The journal: what was appended is there, whatever a crash cut off."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openledger.chain.journal import BlockRecord, Journal
from openledger.primitives import StorageError

GENESIS = "0x" + "ab" * 32
HEX = st.binary(min_size=1, max_size=40).map(lambda raw: "0x" + raw.hex())
BLOCKS = st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**60), HEX, st.lists(HEX, max_size=3)), max_size=8)


def test_appended_blocks_are_read_back_in_order(tmp_path_factory: pytest.TempPathFactory) -> None:
    @settings(max_examples=40, deadline=None)
    @given(BLOCKS)
    def check(blocks: list[tuple[int, int, str, list[str]]]) -> None:
        path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
        records = _records(blocks)
        _write(path, records)
        assert list(_open(path).records()) == records

    check()


def test_a_cut_at_any_byte_loses_at_most_the_blocks_after_it(tmp_path: Path) -> None:
    records = _records([(time, 7, GENESIS, ["0x1234"]) for time in range(4)])
    whole = tmp_path / "whole.jsonl"
    _write(whole, records)
    content = whole.read_bytes()
    header = content.index(b"\n") + 1
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    cuts = {place + shift for place in ends for shift in (-1, 0, 1)} | set(range(header, len(content), 29))
    for cut in sorted(cut for cut in cuts if header <= cut < len(content)):
        path = tmp_path / f"{cut}.jsonl"
        path.write_bytes(content[:cut])
        complete = content[:cut].count(b"\n") - 1
        journal = _open(path)
        assert list(journal.records()) == records[:complete]
        journal.append(records[complete])
        assert list(journal.records()) == records[: complete + 1]
        journal.close()


def test_a_dropped_line_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, _records([(1, 1, GENESIS, [])]))
    with path.open("ab") as stream:
        stream.write(b'{"n":2,"t"')
    with caplog.at_level(logging.WARNING):
        _open(path)
    assert "cut off by a crash (10 bytes)" in caplog.text


def test_a_last_line_of_zeros_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    records = _records([(1, 1, GENESIS, [])])
    _write(path, records)
    with path.open("ab") as stream:
        stream.write(b"\0" * 30 + b"\n")
    assert list(_open(path).records()) == records


def test_damage_before_the_end_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, _records([(time, 1, GENESIS, []) for time in range(3)]))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1], b"garbage\n", lines[3]]))
    with pytest.raises(StorageError, match="block 2 is damaged"):
        list(_open(path).records())
    path.write_bytes(b"".join([lines[0], lines[1], lines[3]]))
    with pytest.raises(StorageError, match="block 2 is missing"):
        list(_open(path).records())


def test_a_journal_of_another_chain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, [])
    with pytest.raises(StorageError, match="another chain"):
        Journal(path, chain_id=5, genesis=GENESIS)


def _open(path: Path) -> Journal:
    return Journal(path, chain_id=1, genesis=GENESIS)


def _write(path: Path, records: list[BlockRecord]) -> None:
    journal = _open(path)
    for record in records:
        journal.append(record)
    journal.close()


def _records(blocks: list[tuple[int, int, str, list[str]]]) -> list[BlockRecord]:
    return [
        BlockRecord(number, time, fee, name, tuple(raws))
        for number, (time, fee, name, raws) in enumerate(blocks, start=1)
    ]
