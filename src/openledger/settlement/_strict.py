"""Reading JSON from outside, strictly: every key known, none missing, every value of the right kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.address import is_address, to_checksum_address

from openledger.primitives import InputError, from_hex


def members(value: Any, where: str, keys: tuple[str, ...]) -> Mapping[str, Any]:
    """``value`` as an object with exactly ``keys``.

    Raises:
        InputError: not an object, or a key is missing or unknown.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a JSON object, not {type(value).__name__}")
    if missing := [key for key in keys if key not in value]:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    if unknown := sorted(str(key) for key in value if key not in keys):
        raise InputError(f"{where} has unknown keys: {', '.join(unknown)}")
    return value


def array(value: Any, where: str) -> list[Any]:
    """``value`` as a list."""
    if not isinstance(value, list):
        raise InputError(f"{where} must be a JSON array, not {type(value).__name__}")
    return value


def integer(value: Any, where: str, bits: int) -> int:
    """A JSON number that is an unsigned integer of at most ``bits`` bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise InputError(f"{where} is {value!r}; it must be an integer from 0 to 2**{bits} - 1")
    return value


def decimal(value: Any, where: str, bits: int) -> int:
    """A string of decimal digits, without leading zeros, of an unsigned integer of at most ``bits`` bits."""
    canonical = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 78
    if not canonical or (len(value) > 1 and value[0] == "0") or int(value) >> bits:
        raise InputError(f"{where} is {value!r}; it must be a string of decimal digits below 2**{bits}")
    return int(value)


def hash32(value: Any, where: str) -> bytes:
    """32 bytes written as 0x and 64 lower-case hex digits."""
    return hexbytes(value, where, 32)


def hexbytes(value: Any, where: str, length: int) -> bytes:
    """``length`` bytes written as 0x and lower-case hex digits."""
    if not isinstance(value, str) or not value.startswith("0x") or value != value.lower():
        raise InputError(f"{where} is {value!r}; it must be 0x followed by {2 * length} lower-case hex digits")
    try:
        return from_hex(value, length)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def address(value: Any, where: str) -> str:
    """A checksummed address."""
    if not isinstance(value, str) or not is_address(value) or value != to_checksum_address(value):
        raise InputError(f"{where} is {value!r}; it must be an address of 20 bytes in hex with its checksum (EIP-55)")
    return value
