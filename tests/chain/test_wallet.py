"""The key store: one phrase, many names, nothing shown."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest
from eth_account import Account

from openledger.chain import KeyStore
from openledger.primitives import ConfigurationError, InputError, NotFoundError, StorageError


def test_a_name_always_means_the_same_account(tmp_path: Path) -> None:
    first = KeyStore(tmp_path).wallet("alice").address
    KeyStore(tmp_path).wallet("bob")
    assert KeyStore(tmp_path).wallet("alice").address == first
    assert KeyStore(tmp_path).names() == ["alice", "bob"]


def test_the_seed_is_a_common_phrase_that_any_wallet_can_restore(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    keys.wallet("alice")
    bob = keys.wallet("bob").address
    phrase = (tmp_path / "keys" / "seed").read_text().strip()
    assert len(phrase.split()) == 12
    assert Account.from_mnemonic(phrase, account_path="m/44'/60'/0'/0/1").address == bob


def test_only_the_owner_can_read_the_seed(tmp_path: Path) -> None:
    KeyStore(tmp_path).wallet("alice")
    seed = tmp_path / "keys" / "seed"
    assert stat.S_IMODE(seed.stat().st_mode) == 0o600
    seed.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        KeyStore(tmp_path).wallet("alice")


def test_nothing_that_is_printed_holds_a_key(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path)
    account = keys.wallet("alice")
    shown = f"{keys!r} {account!r} {account} {vars(keys)}"
    phrase = (tmp_path / "keys" / "seed").read_text().strip()
    assert account.key.hex() not in shown
    assert phrase not in shown


def test_a_lost_seed_is_never_replaced_silently(tmp_path: Path) -> None:
    KeyStore(tmp_path).wallet("alice")
    (tmp_path / "keys" / "seed").unlink()
    with pytest.raises(StorageError, match="restore the seed"):
        KeyStore(tmp_path).wallet("alice")


def test_a_damaged_seed_is_named_but_not_shown(tmp_path: Path) -> None:
    KeyStore(tmp_path).wallet("alice")
    (tmp_path / "keys" / "seed").write_text("these are not the words\n")
    with pytest.raises(StorageError, match="no valid BIP-39") as caught:
        KeyStore(tmp_path).wallet("alice")
    assert "these are not" not in str(caught.value)


def test_damaged_names_are_refused(tmp_path: Path) -> None:
    KeyStore(tmp_path).wallet("alice")
    (tmp_path / "keys" / "names.json").write_text("{")
    with pytest.raises(StorageError, match="damaged"):
        KeyStore(tmp_path).names()


@pytest.mark.parametrize("name", ["", "Alice", "a/b", "../x", "-a", "a" * 65, "a b"])
def test_strange_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="account name"):
        KeyStore(tmp_path).wallet(name)


def test_asking_for_an_address_makes_no_account(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no account 'alice'"):
        KeyStore(tmp_path).address("alice")
    assert KeyStore(tmp_path).names() == []


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        found = pool.starmap(_addresses, [(str(tmp_path), order) for order in ("abc", "cba")])
    assert found[0] == found[1]
    indices = json.loads((tmp_path / "keys" / "names.json").read_text())
    assert sorted(indices.values()) == [0, 1, 2]


def _addresses(home: str, order: str) -> dict[str, str]:
    keys = KeyStore(Path(home))
    return dict(sorted((name, keys.wallet(name).address) for name in order))
