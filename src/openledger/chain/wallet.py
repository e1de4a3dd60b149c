"""The keys of one home: named accounts, all derived from one mnemonic phrase.

``home/keys/seed`` holds a BIP-39 phrase of twelve words, readable by its owner only. Account ``i`` is derived at
``m/44'/60'/0'/0/i`` (BIP-44), so that any common wallet shows the same accounts for the phrase; ``home/keys/names.json``
says which name has which ``i``. Nothing here prints a key. The seed is not encrypted: who can read the file owns the money.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from openledger.chain.files import sync_folder, write_atomic
from openledger.primitives import ConfigurationError, InputError, NotFoundError, StorageError

Account.enable_unaudited_hdwallet_features()

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class KeyStore:
    """The named accounts of a home. Safe to use from several threads and processes.

    Args:
        home: the folder that holds ``keys/``; created when the first account is.
    """

    def __init__(self, home: Path) -> None:
        self._folder = Path(home) / "keys"
        self._accounts: dict[str, LocalAccount] = {}
        self._lock = threading.Lock()

    def wallet(self, name: str) -> LocalAccount:
        """The account called ``name``, made when it is first asked for.

        Raises:
            InputError: the name is not lower-case letters, digits, ``.``, ``_`` or ``-``, or is longer than 64.
            ConfigurationError: others can read the seed.
            StorageError: the seed or the names are damaged, or cannot be written.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"{name!r} is no account name; use up to 64 lower-case letters, digits, '.', '_' or '-'")
        with self._lock:
            if name not in self._accounts:
                with self._exclusive():
                    self._accounts[name] = self._derive(name)
            return self._accounts[name]

    def address(self, name: str) -> str:
        """The checksummed address of an account that exists already.

        Raises:
            NotFoundError: there is no account of that name.
        """
        if name not in self.names():
            raise NotFoundError(f"no account {name!r} in {self._folder}; there are {', '.join(self.names()) or 'none'}")
        return str(self.wallet(name).address)

    def find(self, account: str) -> LocalAccount:
        """An account that exists already, by its name or its address.

        Raises:
            NotFoundError: this store does not hold its key.
        """
        for name in self.names():
            if account == name or account.lower() == self.wallet(name).address.lower():
                return self.wallet(name)
        raise NotFoundError(f"the key of {account} is not in {self._folder}; act where it is kept")

    def names(self) -> list[str]:
        """Names of all accounts, in the order they were made."""
        if not self._names_path.is_file():
            return []
        try:
            indices = json.loads(self._names_path.read_text(encoding="utf-8"))
            return [str(name) for name, _ in sorted(indices.items(), key=lambda item: int(item[1]))]
        except (ValueError, AttributeError, TypeError) as error:
            raise StorageError(f"{self._names_path} is damaged: {error}; restore it from a backup") from error

    @property
    def _seed_path(self) -> Path:
        return self._folder / "seed"

    @property
    def _names_path(self) -> Path:
        return self._folder / "names.json"

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise StorageError(f"cannot write to {self._folder}: {error}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _derive(self, name: str) -> LocalAccount:
        phrase = self._phrase()
        names = self.names()
        if name not in names:
            names.append(name)
            indices = {each: index for index, each in enumerate(names)}
            write_atomic(self._names_path, json.dumps(indices, indent=1).encode() + b"\n", mode=0o600)
        try:
            account: LocalAccount = Account.from_mnemonic(phrase, account_path=f"m/44'/60'/0'/0/{names.index(name)}")
        except Exception:
            raise StorageError(f"{self._seed_path} holds no valid BIP-39 phrase; restore it from a backup") from None
        return account

    def _phrase(self) -> str:
        path = self._seed_path
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & 0o077:
                raise ConfigurationError(
                    f"{path} can be read by others (mode {mode:o}); run `chmod 600 {path}`"
                ) from None
            return path.read_text(encoding="ascii").strip()
        if self._names_path.exists():
            os.close(handle)
            path.unlink()
            raise StorageError(f"{path} is missing but {self._names_path} is there; restore the seed from a backup")
        _, phrase = Account.create_with_mnemonic()
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(phrase + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self._folder)
        return str(phrase)
