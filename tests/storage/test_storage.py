"""What was stored is read back or an error is raised; nothing is half-written."""

import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from openledger.primitives import InputError, NotFoundError, StorageError, canonical_bytes, keccak, to_hex
from openledger.storage import (
    BlobStore,
    CheckpointRecord,
    CreditRecord,
    Database,
    EventRecord,
    ModelRecord,
    PartyRecord,
    ReceiptRecord,
    VerdictRecord,
    VoucherRecord,
)
from openledger.storage.tables import StateRecord, Table


@given(st.binary(max_size=200))
def test_a_blob_is_found_under_the_hash_of_its_bytes(data: bytes) -> None:
    store = BlobStore("memory://blobs")
    assert store.put(data) == keccak(data)
    assert store.get(keccak(data)) == data


def test_changed_bytes_are_an_error_that_names_both_hashes(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"true")
    (tmp_path / digest.hex()[:2] / digest.hex()).write_bytes(b"false")
    with pytest.raises(StorageError, match=f"{to_hex(digest)}.*{to_hex(keccak(b'false'))}"):
        store.get(digest)


def test_a_missing_blob_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=to_hex(keccak(b"?"))):
        BlobStore(tmp_path).get(keccak(b"?"))


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"a")
    (source / "deep" / "b.bin").write_bytes(bytes(range(256)))
    store = BlobStore(tmp_path / "blobs")
    target = store.get_folder(store.put_folder(source), tmp_path / "target")
    assert {p.relative_to(target).as_posix(): p.read_bytes() for p in target.rglob("*") if p.is_file()} == {
        "a.txt": b"a",
        "deep/b.bin": bytes(range(256)),
    }


@pytest.mark.parametrize("name", ["../escape", "/etc/escape", "a/../../escape", "a\\..\\escape"])
def test_a_folder_manifest_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    store = BlobStore(tmp_path / "blobs")
    manifest = store.put(canonical_bytes({"files": {name: to_hex(store.put(b"x"))}}))
    with pytest.raises(InputError, match="outside its folder"):
        store.get_folder(manifest, tmp_path / "target")
    assert not list(tmp_path.rglob("escape"))


def test_a_write_that_the_disk_refuses_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\n"
        "from openledger.storage import BlobStore\n"
        "from openledger.primitives import StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "store = BlobStore(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    store.put(bytes(100_000))\n"
        "except StorageError as error:\n    print(error); sys.exit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, env={**os.environ}, check=False
    )
    assert done.returncode == 3, done.stderr
    assert "free some space" in done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_transaction_that_fails_writes_nothing_and_a_good_one_survives_reopening(database_url: str) -> None:
    database = Database(database_url)

    def receipt(sequence: int) -> ReceiptRecord:
        return ReceiptRecord(
            sequence=sequence, id=f"0x{sequence:064x}", model=1, consumer="0x", time=0, body={}, explanation="0x"
        )

    with database.session() as session:
        session.add(receipt(1))
    with pytest.raises(StorageError, match="nothing was written"), database.session() as session:
        session.add(receipt(2))
        session.flush()
        session.add(receipt(1))
    database.close()
    with Database(database_url).session() as session:
        assert session.get(ReceiptRecord, 1) is not None
        assert session.get(ReceiptRecord, 2) is None


def test_the_migrations_make_exactly_the_tables_of_the_code(database_url: str) -> None:
    database = Database(database_url)
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Table.metadata) == []


def test_every_table_takes_its_largest_values_and_gives_them_back(database_url: str) -> None:
    digest, address, wei = "0x" + "f" * 64, "0x" + "f" * 40, str(2**256 - 1)
    large = 2**63 - 1
    body = {"wei": wei, "list": [1, None, "é"]}
    rows = [
        ReceiptRecord(sequence=large, id=digest, model=large, consumer=address, time=large, body=body, explanation=digest),
        VoucherRecord(consumer=address, host=address, cumulative=wei, signature="0x" + "f" * 130),
        ModelRecord(id=large, name="n" * 100, base="b" * 5_000, datanet=large, version=2**31 - 1, run=digest, meta={"loss": 0.5}),
        VerdictRecord(contribution=large, position=2**31 - 1, reviewer=address, accept=True, reason="r" * 5_000),
        PartyRecord(address=address, label="l" * 100, role="r" * 40),
        CreditRecord(sequence=large, record=digest, ppm=1_000_000),
        EventRecord(block=large, position=2**31 - 1, block_hash=digest, time=large, transaction=digest, contract="c" * 100,
                    address=address, event="e" * 100, arguments={"amount": wei}),
        CheckpointRecord(number=large, hash=digest),
    ]  # fmt: skip
    wanted = {type(row): _values(row) for row in rows}
    database = Database(database_url)
    for row in rows:
        with database.session() as session:
            session.add(row)
    database.set_state("name", [1, {"a": None}])
    database.close()
    again = Database(database_url)
    with again.session() as session:
        for kind, values in wanted.items():
            (found,) = session.scalars(select(kind)).all()
            assert _values(found) == values
    assert again.state("name") == [1, {"a": None}]
    assert again.state("unknown", 7) == 7
    again.close()


def test_two_writers_of_one_state_leave_one_of_both_values(database_url: str) -> None:
    database = Database(database_url)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda value: database.set_state("height", value), range(1)))
        list(pool.map(lambda value: database.set_state("height", value), range(1, 21)))
    assert database.state("height") in range(1, 21)
    database.close()


def test_a_database_that_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="could not open the database"):
        Database(f"sqlite:///{tmp_path / 'missing' / 'node.sqlite'}")


def test_a_blob_that_the_disk_refuses_in_its_middle_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    kept = store.put(b"kept")
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"could not store a blob of 1,000,000 bytes.*free some space"):
            store.put(bytes(1_000_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert store.get(kept) == b"kept"
    assert store.get(store.put(bytes(1_000_000))) == bytes(1_000_000)


def test_what_a_full_database_refuses_is_not_half_written(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'node.sqlite'}")
    database.set_state("before", 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StorageError, match="nothing was written"), database.session() as session:
            session.add(StateRecord(name="first", value="small"))
            session.flush()
            session.add(StateRecord(name="second", value="x" * (4 << 20)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (database.state("before"), database.state("first"), database.state("second")) == (1, None, None)
    database.set_state("second", "y" * (4 << 20))
    assert len(database.state("second")) == 4 << 20
    database.close()


def _values(row: Table) -> dict[str, object]:
    return {column.key: getattr(row, column.key) for column in row.__table__.columns}
