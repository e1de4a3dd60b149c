"""The receipt of one inference: what the host signed, and the attribution that its signature commits to.

A :class:`ReceiptBody` is public. The prompt and the answer are not in it: they are hashed with salts, and the
:class:`PrivateBody` that opens those hashes is shown to the consumer and to validators only.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from openledger.primitives import (
    PPM,
    ZERO_HASH,
    Domain,
    InputError,
    MerkleTree,
    Receipt,
    Signer,
    VerificationError,
    canonical_bytes,
    check_signature,
    keccak,
    record_hash,
    sign,
    standard_leaf,
    to_hex,
)
from openledger.settlement import _strict

_KEYS = ("receipt", "signature", "shares", "residual_ppm", "private_hash")
_PRIVATE_KEYS = ("prompt", "prompt_salt", "output", "output_salt")
_KINDS = {field.name: kind for field, kind in zip(fields(Receipt), Receipt.SOLIDITY, strict=True)}


@dataclass(frozen=True)
class ReceiptBody:
    """A signed receipt with the attribution under its shares root.

    Attributes:
        receipt: the signed message.
        signature: 65 bytes, by the host.
        shares: (record hash, ppm) pairs in ascending order of the hash; every ppm is positive.
        residual_ppm: what belongs to the base model; shares and residual sum to 1,000,000.
        private_hash: the content hash of the :class:`PrivateBody`.

    Raises:
        InputError: the pairs are out of order, double or not positive, the sum is not 1,000,000, or an address lacks its
            checksum.
    """

    receipt: Receipt
    signature: bytes
    shares: tuple[tuple[bytes, int], ...]
    residual_ppm: int
    private_hash: bytes

    def __post_init__(self) -> None:
        _strict.address(self.receipt.consumer, "the receipt's consumer")
        _strict.address(self.receipt.host, "the receipt's host")
        check_shares(self.shares, self.residual_ppm)

    def digest(self, domain: Domain) -> bytes:
        """The receipt's id: the 32 bytes that the host signed, of which the first 24 are its leaf on chain."""
        return self.receipt.digest(domain)

    def to_json(self) -> dict[str, Any]:
        """As JSON; 256- and 128-bit integers are decimal strings."""
        return {
            "receipt": {name: _to_json(_KINDS[name], getattr(self.receipt, name)) for name in _KINDS},
            "signature": to_hex(self.signature),
            "shares": [[to_hex(record), ppm] for record, ppm in self.shares],
            "residual_ppm": self.residual_ppm,
            "private_hash": to_hex(self.private_hash),
        }

    @classmethod
    def from_json(cls, document: Any) -> ReceiptBody:
        """The body that a JSON object describes.

        Raises:
            InputError: a key is missing or unknown, or a value is not of its kind.
        """
        body = _strict.members(document, "the receipt body", _KEYS)
        message = _strict.members(body["receipt"], "the receipt", tuple(_KINDS))
        return cls(
            receipt=Receipt(
                **{name: _from_json(kind, message[name], f"receipt.{name}") for name, kind in _KINDS.items()}
            ),
            signature=_strict.hexbytes(body["signature"], "signature", 65),
            shares=tuple(_share(pair) for pair in _strict.array(body["shares"], "shares")),
            residual_ppm=_strict.integer(body["residual_ppm"], "residual_ppm", 32),
            private_hash=_strict.hash32(body["private_hash"], "private_hash"),
        )


@dataclass(frozen=True)
class PrivateBody:
    """What opens a receipt's prompt and output hashes.

    Attributes:
        prompt: the request's prompt as a JSON value (messages, or a question).
        prompt_salt: 32 random bytes.
        output: the answer's text.
        output_salt: 32 random bytes, others than the prompt's, so that each can be opened alone.
    """

    prompt: Any
    prompt_salt: bytes
    output: str
    output_salt: bytes

    @classmethod
    def seal(cls, prompt: Any, output: str) -> PrivateBody:
        """A private body with fresh salts."""
        return cls(prompt, secrets.token_bytes(32), output, secrets.token_bytes(32))

    @property
    def prompt_hash(self) -> bytes:
        """32 bytes, the receipt's ``promptHash``."""
        return hash_prompt(self.prompt_salt, self.prompt)

    @property
    def output_hash(self) -> bytes:
        """32 bytes, the receipt's ``outputHash``."""
        return hash_output(self.output_salt, self.output)

    def digest(self) -> bytes:
        """The content hash under which the body is kept."""
        return record_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "prompt": self.prompt,
            "prompt_salt": to_hex(self.prompt_salt),
            "output": self.output,
            "output_salt": to_hex(self.output_salt),
        }

    @classmethod
    def from_json(cls, document: Any) -> PrivateBody:
        """The private body that a JSON object describes.

        Raises:
            InputError: a key is missing or unknown, or a value is not of its kind.
        """
        body = _strict.members(document, "the private body", _PRIVATE_KEYS)
        if not isinstance(body["output"], str):
            raise InputError(f"output must be a string, not {type(body['output']).__name__}")
        return cls(
            body["prompt"],
            _strict.hash32(body["prompt_salt"], "prompt_salt"),
            body["output"],
            _strict.hash32(body["output_salt"], "output_salt"),
        )


def hash_prompt(salt: bytes, prompt: Any) -> bytes:
    """``keccak256(salt ‖ RFC 8785 bytes of the prompt)``, 32 bytes; ``salt`` has 32.

    Raises:
        InputError: the salt has another length, or the prompt is not JSON.
    """
    return keccak(_salt(salt), canonical_bytes(prompt))


def hash_output(salt: bytes, output: str) -> bytes:
    """``keccak256(salt ‖ UTF-8 bytes of the output)``, 32 bytes; ``salt`` has 32."""
    return keccak(_salt(salt), output.encode())


def inference_fee(prompt_tokens: int, output_tokens: int, input_price: int, output_price: int) -> int:
    """Wei for one inference: tokens times the price in wei per 1,000 tokens, rounded up to a wei."""
    return -(-(prompt_tokens * input_price + output_tokens * output_price) // 1000)


def sort_shares(ppm: Mapping[bytes, int] | Iterable[tuple[bytes, int]]) -> tuple[tuple[bytes, int], ...]:
    """The pairs with a positive ppm, in the receipt's order."""
    pairs = ppm.items() if isinstance(ppm, Mapping) else ppm
    return tuple(sorted((record, parts) for record, parts in pairs if parts))


def check_shares(shares: Iterable[tuple[bytes, int]], residual_ppm: int) -> None:
    """Checks that shares are 32-byte hashes in strictly ascending order, positive, and 1,000,000 with the residual.

    Raises:
        InputError: they are not; the message says where.
    """
    previous, total = ZERO_HASH, residual_ppm
    if residual_ppm < 0:
        raise InputError(f"the residual is {residual_ppm} ppm; it cannot be negative")
    for position, (record, ppm) in enumerate(shares):
        if len(record) != 32:
            raise InputError(f"share {position} names a record of {len(record)} bytes; a record hash has 32")
        if record <= previous:
            raise InputError(
                f"share {position}, record {to_hex(record)}, is out of order or double; sort by record hash"
            )
        if ppm <= 0:
            raise InputError(f"share {position}, record {to_hex(record)}, is {ppm} ppm; leave out what has no share")
        previous, total = record, total + ppm
    if total != PPM:
        raise InputError(f"shares and residual sum to {total:,} ppm; they must sum to exactly {PPM:,}")


def shares_tree(shares: Iterable[tuple[bytes, int]], residual_ppm: int) -> MerkleTree:
    """The tree that a receipt commits to: leaf 0 is the residual under the zero hash, then one leaf for each share."""
    pairs = [(ZERO_HASH, residual_ppm), *shares]
    return MerkleTree([standard_leaf(["bytes32", "uint32"], pair) for pair in pairs])


def shares_root(shares: Iterable[tuple[bytes, int]], residual_ppm: int) -> bytes:
    """The receipt's ``sharesRoot``, 32 bytes."""
    return shares_tree(shares, residual_ppm).root


def sign_receipt(
    receipt: Receipt,
    domain: Domain,
    host: Signer,
    shares: tuple[tuple[bytes, int], ...],
    residual_ppm: int,
    private_hash: bytes,
) -> ReceiptBody:
    """The body of ``receipt`` signed by ``host``.

    Raises:
        InputError: the shares are malformed.
        VerificationError: the receipt's shares root is not that of the shares.
        SignatureError: ``host`` is not the receipt's host.
    """
    body = ReceiptBody(receipt, sign(receipt, domain, host), shares, residual_ppm, private_hash)
    check(body, domain)
    return body


def check(body: ReceiptBody, domain: Domain) -> None:
    """Checks that the host signed the receipt for ``domain`` and that the shares are those it committed to.

    Raises:
        SignatureError: the signature is malformed or another account's.
        VerificationError: the shares do not lead to the signed root.
    """
    check_signature(body.receipt, domain, body.signature, body.receipt.host)
    check_shares_root(body)


def check_shares_root(body: ReceiptBody) -> None:
    """Checks that the shares are those under the receipt's shares root.

    Raises:
        VerificationError: they are not.
    """
    root = shares_root(body.shares, body.residual_ppm)
    if root != body.receipt.shares_root:
        raise VerificationError(
            f"receipt {body.receipt.sequence}: its shares lead to the root {to_hex(root)}, "
            f"but the host signed {to_hex(body.receipt.shares_root)}; the shares were changed after signing"
        )


def _salt(salt: bytes) -> bytes:
    if len(salt) != 32:
        raise InputError(f"a salt has 32 bytes, got {len(salt)}")
    return salt


def _share(pair: Any) -> tuple[bytes, int]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise InputError(f"a share is {pair!r}; it must be [record hash, ppm]")
    return _strict.hash32(pair[0], "a share's record"), _strict.integer(pair[1], "a share's ppm", 32)


def _to_json(kind: str, value: Any) -> Any:
    if kind == "bytes32":
        return to_hex(value)
    return str(value) if kind in ("uint256", "uint128") else value


def _from_json(kind: str, value: Any, where: str) -> Any:
    if kind == "bytes32":
        return _strict.hash32(value, where)
    if kind == "address":
        return _strict.address(value, where)
    bits = int(kind.removeprefix("uint"))
    return _strict.decimal(value, where, bits) if bits > 64 else _strict.integer(value, where, min(bits, 53))
