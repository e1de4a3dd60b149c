"""keccak-256, the one hash function of the protocol, and the hex form in which hashes are shown."""

from __future__ import annotations

from pathlib import Path

from Crypto.Hash import keccak as _keccak

from openledger.primitives.errors import InputError

ZERO_HASH = bytes(32)

_CHUNK = 1 << 20


def keccak(*parts: bytes) -> bytes:
    """The 32-byte keccak-256 of the concatenation of ``parts`` (the EVM's hash, not NIST SHA-3)."""
    state = _keccak.new(digest_bits=256)
    for part in parts:
        state.update(part)
    return bytes(state.digest())


def keccak_file(path: Path) -> bytes:
    """The keccak-256 of a file's bytes, read in chunks."""
    state = _keccak.new(digest_bits=256)
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return bytes(state.digest())


def to_hex(value: bytes) -> str:
    """Lower-case hex with the ``0x`` prefix."""
    return "0x" + value.hex()


def from_hex(text: str, length: int | None = None) -> bytes:
    """The bytes of a hex string, with or without ``0x``.

    Raises:
        InputError: not hex, or not ``length`` bytes.
    """
    if not isinstance(text, str):
        raise InputError(f"expected a hex string, got {type(text).__name__}: {text!r}")
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    try:
        value = bytes.fromhex(digits) if " " not in digits else None
    except ValueError:
        value = None
    if value is None:
        raise InputError(f"not a hex string: {text[:80]!r}; use 0x followed by an even number of hex digits")
    if length is not None and len(value) != length:
        raise InputError(f"expected {length} bytes of hex, got {len(value)}: {text[:80]!r}")
    return value
