"""The journal: what was appended is there, whatever a crash cut off."""

from __future__ import annotations

import logging
import subprocess
import sys
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
        assert _read(path) == records

    check()


def test_a_cut_at_any_byte_loses_only_the_blocks_that_it_cuts(tmp_path: Path) -> None:
    records = _records([(time, 7, GENESIS, ["0x1234"]) for time in range(4)])
    whole = tmp_path / "whole.jsonl"
    _write(whole, records[:3])
    content = whole.read_bytes()
    header = content.index(b"\n") + 1
    for cut in range(header, len(content)):
        path = tmp_path / "cut.jsonl"
        path.write_bytes(content[:cut])
        # A line is whole without its newline, since its checksum says so.
        complete = (content[:cut] + b"\n").count(b'"}\n') - 1
        journal = _open(path)
        assert (list(journal.blocks.values()), journal.missing()) == (records[:complete], [])
        journal.append(records[complete])
        journal.close()
        assert _read(path) == records[: complete + 1]


def test_a_changed_byte_anywhere_is_noticed_and_costs_its_own_block_only(tmp_path: Path) -> None:
    records = _records([(time, 7, GENESIS, ["0x1234"]) for time in range(4)])
    whole = tmp_path / "whole.jsonl"
    _write(whole, records)
    content = whole.read_bytes()

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, len(content) - 1), st.integers(1, 255))
    def check(place: int, change: int) -> None:
        path = tmp_path / "changed.jsonl"
        path.write_bytes(content[:place] + bytes([content[place] ^ change]) + content[place + 1 :])
        journal = _open(path)
        hit = content[:place].count(b"\n")
        assert all(journal.blocks[number] == record for number, record in enumerate(records, 1) if number != hit)
        if content[place] == ord("\n"):
            assert len(journal.blocks) == 4
        elif hit > 0:
            assert hit not in journal.blocks
        assert journal.missing() == ([hit] if hit in {1, 2, 3} and content[place] != ord("\n") else [])
        journal.close()

    check()


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
    assert _read(path) == records


def test_damage_before_the_end_is_named_and_can_be_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    records = _records([(time, 1, GENESIS, []) for time in range(5)])
    _write(path, records)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:3], b"garbage\n", *lines[4:]])
    path.write_bytes(damaged)
    journal = _open(path)
    assert (journal.missing(), journal.height) == ([3], 5)
    aside = journal.set_aside(3)
    assert (aside.read_bytes(), journal.height, journal.missing()) == (damaged, 2, [])
    journal.append(records[2])
    journal.close()
    assert _read(path) == records[:3]


def test_damaged_last_blocks_are_reported_and_kept_beside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    records = _records([(time, 1, GENESIS, []) for time in range(3)])
    _write(path, records)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    assert _read(path) == records[:2]
    assert "the last 1 blocks are damaged and lost; the chain goes on from block 2" in caplog.text
    assert (tmp_path / "journal.jsonl.damaged-1").read_bytes() == content


def test_a_damaged_first_line_is_written_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "journal.jsonl"
    records = _records([(1, 1, GENESIS, [])])
    _write(path, records)
    whole = path.read_bytes()
    path.write_bytes(b"x" + whole[1:])
    assert _read(path) == records
    assert "first line is damaged" in caplog.text
    assert path.read_bytes() == whole


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b'{"format": 1, "chain_id": 1}\n')
    with pytest.raises(StorageError, match="no journal that this version can read"):
        _open(path)
    assert path.read_bytes() == b'{"format": 1, "chain_id": 1}\n'


def test_a_full_disk_refuses_the_block_and_leaves_the_others(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    records = _records([(time, 1, GENESIS, []) for time in range(3)])
    _write(path, records[:2])
    code = f"""
import resource
from pathlib import Path
from openledger.chain.journal import BlockRecord, Journal
from openledger.primitives import StorageError
path = Path({str(path)!r})
journal = Journal(path, chain_id=1, genesis={GENESIS!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 50,) * 2)
try:
    journal.append(BlockRecord(3, 3, 1, {GENESIS!r}, ()))
except StorageError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "took only a part of block 3; free some space" in said
    assert _read(path) == records[:2]


def test_a_journal_of_another_chain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    _write(path, [])
    with pytest.raises(StorageError, match="another chain"):
        Journal(path, chain_id=5, genesis=GENESIS)


def _read(path: Path) -> list[BlockRecord]:
    journal = _open(path)
    journal.close()
    assert journal.missing() == []
    return list(journal.blocks.values())


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
