"""Content-addressed blobs: what was hashed is what is read, or an error.

A blob's name is the keccak-256 of its bytes. The store sits on fsspec, so a local folder (the default) and an object
store are the same code; a local write goes to a temporary file, is flushed to the disk and renamed: whole or absent.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from openledger.primitives import (
    ConfigurationError,
    InputError,
    NotFoundError,
    StorageError,
    canonical_bytes,
    keccak,
    parse_json,
    to_hex,
)


class BlobStore:
    """Blobs under ``location``: a folder, or any fsspec URL such as ``s3://bucket/prefix`` or ``memory://name``."""

    def __init__(self, location: str | Path) -> None:
        self.location = str(location)
        self._filesystem, self._root = fsspec.core.url_to_fs(self.location)
        self._local = "file" in _protocols(self._filesystem)

    def put(self, data: bytes) -> bytes:
        """Stores ``data`` and returns its 32-byte hash. Storing the same bytes again changes nothing.

        Raises:
            StorageError: the write failed (a full disk, say); the store is unchanged.
        """
        digest = keccak(data)
        path = self._path(digest)
        try:
            if self._filesystem.exists(path):
                return digest
            self._filesystem.makedirs(str(PurePosixPath(path).parent), exist_ok=True)
            if self._local:
                write_atomically(Path(path), data)
            else:
                self._filesystem.pipe_file(path, data)
        except OSError as error:
            raise StorageError(
                f"could not store a blob of {len(data):,} bytes in {self.location}: {error}; "
                "free some space or choose another folder, then try again"
            ) from error
        return digest

    def put_json(self, value: Any) -> bytes:
        """Stores the canonical JSON bytes of ``value``; the hash equals ``record_hash(value)``."""
        return self.put(canonical_bytes(value))

    def put_folder(self, folder: Path) -> bytes:
        """Stores every file below ``folder``, and returns the hash of their manifest ``{"files": {path: hash}}``."""
        files = {
            path.relative_to(folder).as_posix(): to_hex(self.put(path.read_bytes()))
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if not files:
            raise InputError(f"{folder} holds no file; nothing to store")
        return self.put_json({"files": files})

    def has(self, digest: bytes) -> bool:
        """Whether a blob of that hash is stored."""
        return bool(self._filesystem.exists(self._path(digest)))

    def remove(self, digest: bytes) -> None:
        """Forgets a blob of that hash, if there is one.

        Raises:
            StorageError: it cannot be removed.
        """
        try:
            self._filesystem.rm_file(self._path(digest))
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"could not remove blob {to_hex(digest)} from {self.location}: {error}") from error

    def get(self, digest: bytes) -> bytes:
        """The bytes whose keccak-256 is ``digest``.

        Raises:
            NotFoundError: there is no such blob here.
            StorageError: it cannot be read, or its bytes no longer hash to its name.
        """
        try:
            data = bytes(self._filesystem.cat_file(self._path(digest)))
        except FileNotFoundError:
            raise NotFoundError(f"no blob {to_hex(digest)} in {self.location}") from None
        except OSError as error:
            raise StorageError(f"could not read blob {to_hex(digest)} from {self.location}: {error}") from error
        if keccak(data) != digest:
            raise StorageError(
                f"blob {to_hex(digest)} in {self.location} holds other bytes (they hash to {to_hex(keccak(data))}); "
                "delete it and fetch it again"
            )
        return data

    def get_json(self, digest: bytes) -> Any:
        """The JSON value whose canonical bytes hash to ``digest``."""
        return parse_json(self.get(digest))

    def get_folder(self, digest: bytes, destination: Path) -> Path:
        """Writes the files of a stored folder below ``destination`` and returns it.

        Raises:
            InputError: the manifest is malformed or names a path outside the folder.
        """
        manifest = self.get_json(digest)
        files = manifest.get("files") if isinstance(manifest, dict) else None
        if not isinstance(files, dict) or not all(isinstance(value, str) for value in files.values()):
            raise InputError(f"blob {to_hex(digest)} is not a folder manifest")
        for name, value in files.items():
            relative = PurePosixPath(name)
            if relative.is_absolute() or ".." in relative.parts or "\\" in name:
                raise InputError(f"the manifest {to_hex(digest)} names {name!r}, a path outside its folder; refused")
            target = destination / relative
            data = self.get(bytes.fromhex(value.removeprefix("0x")))
            if not (target.is_file() and keccak(target.read_bytes()) == keccak(data)):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(target, data)
        return destination

    def _path(self, digest: bytes) -> str:
        if len(digest) != 32:
            raise InputError(f"a blob's hash has 32 bytes, got {len(digest)}")
        name = digest.hex()
        return f"{self._root}/{name[:2]}/{name}"


def token_in(path: Path) -> str:
    """The random token in a file that only its owner may read; made on first use.

    Raises:
        ConfigurationError: it cannot be read or made.
    """
    try:
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(secrets.token_urlsafe(32))
        token = path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error}; act as the account that owns it") from error
    if len(token) < 32:
        raise ConfigurationError(f"the token in {path} has {len(token)} characters; delete the file to have one made")
    return token


def write_atomically(path: Path, data: bytes) -> None:
    """Writes ``data`` to ``path`` so that after a crash at any moment the old or the new content is there, whole.

    Raises:
        OSError: the write failed; the old content is untouched and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _protocols(filesystem: Any) -> tuple[str, ...]:
    protocol = filesystem.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
