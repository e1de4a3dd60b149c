"""Writing files so that a crash leaves either the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from openledger.primitives import StorageError


def write_atomic(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replaces ``path`` by a file with ``content``: written beside it, flushed to disk, then renamed over it.

    Raises:
        StorageError: it cannot be written; the old file is as it was.
    """
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def sync_folder(folder: Path) -> None:
    """Flushes a folder's entries to disk, so that a new or renamed file is found after a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
