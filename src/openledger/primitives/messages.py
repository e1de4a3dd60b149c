"""The typed messages that people sign (EIP-712), under the domain ``OpenLedger`` version ``1``.

The verifying contract is DatanetRegistry for a contribution, FeeEscrow for a voucher, InferenceLedger for a receipt,
RewardsDistributor for a wallet link: a signature is worth nothing on another chain or for another contract.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol

from eth_abi.abi import encode
from eth_keys.constants import SECPK1_N
from eth_utils.address import is_address, to_checksum_address

from openledger.primitives.errors import InputError, SignatureError
from openledger.primitives.hashing import keccak, to_hex

_DOMAIN_NAME, _DOMAIN_VERSION = "OpenLedger", "1"
_DOMAIN_MEMBERS = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
_DOMAIN_TYPE = keccak(f"EIP712Domain({','.join(f'{kind} {name}' for name, kind in _DOMAIN_MEMBERS.items())})".encode())


class Signer(Protocol):
    """An account that can sign a 32-byte digest, such as ``eth_account``'s ``LocalAccount``."""

    @property
    def address(self) -> str: ...

    def unsafe_sign_hash(self, message_hash: Any) -> Any: ...


@dataclass(frozen=True)
class Domain:
    """Where a signature counts: the chain id and the verifying contract's address."""

    chain_id: int
    verifying_contract: str

    def separator(self) -> bytes:
        """The EIP-712 domain separator, 32 bytes."""
        return keccak(
            encode(
                ["bytes32", "bytes32", "bytes32", "uint256", "address"],
                [
                    _DOMAIN_TYPE,
                    keccak(_DOMAIN_NAME.encode()),
                    keccak(_DOMAIN_VERSION.encode()),
                    self.chain_id,
                    self.verifying_contract,
                ],
            )
        )


class _TypedMessage:
    """A frozen dataclass whose fields, in order, are the members of its EIP-712 type."""

    SOLIDITY: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        for field, solidity in zip(fields(self), self.SOLIDITY, strict=True):  # type: ignore[arg-type]
            _check(f"{type(self).__name__}.{field.name}", solidity, getattr(self, field.name))

    @classmethod
    def type_string(cls) -> str:
        """The EIP-712 encodeType, such as ``Voucher(address consumer,address host,uint128 cumulative)``."""
        members = ",".join(
            f"{solidity} {_camel(field.name)}"
            for field, solidity in zip(fields(cls), cls.SOLIDITY, strict=True)  # type: ignore[arg-type]
        )
        return f"{cls.__name__}({members})"

    def struct_hash(self) -> bytes:
        """The EIP-712 hashStruct, 32 bytes."""
        types, values = ["bytes32"], [keccak(self.type_string().encode())]
        for field, solidity in zip(fields(self), self.SOLIDITY, strict=True):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            dynamic = solidity == "string"
            types.append("bytes32" if dynamic else solidity)
            values.append(keccak(value.encode()) if dynamic else value)
        return keccak(encode(types, values))

    def digest(self, domain: Domain) -> bytes:
        """What is signed: ``keccak256(0x1901 ‖ domain separator ‖ struct hash)``, 32 bytes."""
        return keccak(b"\x19\x01", domain.separator(), self.struct_hash())

    def typed_data(self, domain: Domain) -> dict[str, Any]:
        """The message as a wallet's ``eth_signTypedData_v4`` takes it; integers are decimal strings, bytes hex."""
        name = type(self).__name__
        kinds = {_camel(field.name): kind for field, kind in zip(fields(self), self.SOLIDITY, strict=True)}  # type: ignore[arg-type]
        values = (to_hex(value) if isinstance(value, bytes) else str(value) for value in self.as_tuple())
        return {
            "types": {
                "EIP712Domain": [{"name": key, "type": kind} for key, kind in _DOMAIN_MEMBERS.items()],
                name: [{"name": key, "type": kind} for key, kind in kinds.items()],
            },
            "primaryType": name,
            "domain": {
                "name": _DOMAIN_NAME,
                "version": _DOMAIN_VERSION,
                "chainId": str(domain.chain_id),
                "verifyingContract": domain.verifying_contract,
            },
            "message": dict(zip(kinds, values, strict=True)),
        }

    def as_tuple(self) -> tuple[Any, ...]:
        """The members in order, as a contract call takes the struct."""
        return tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Contribution(_TypedMessage):
    """Records that one contributor offers to a Datanet; ``manifest`` is the hash of the blob that holds them."""

    datanet: int
    contributor: str
    records_root: bytes
    count: int
    licence: str
    manifest: bytes
    nonce: int

    SOLIDITY: ClassVar[tuple[str, ...]] = ("uint256", "address", "bytes32", "uint32", "string", "bytes32", "uint256")


@dataclass(frozen=True)
class Voucher(_TypedMessage):
    """All that ``consumer`` has agreed to pay ``host`` so far, in wei; only ever rises."""

    consumer: str
    host: str
    cumulative: int

    SOLIDITY: ClassVar[tuple[str, ...]] = ("address", "address", "uint128")


@dataclass(frozen=True)
class Receipt(_TypedMessage):
    """One inference, signed by the host that answered. ``fee`` in wei, ``time`` in Unix seconds, hashes of 32 bytes."""

    sequence: int
    model: int
    consumer: str
    host: str
    prompt_hash: bytes
    output_hash: bytes
    prompt_tokens: int
    output_tokens: int
    fee: int
    shares_root: bytes
    seed: int
    time: int

    SOLIDITY: ClassVar[tuple[str, ...]] = (
        "uint256", "uint256", "address", "address", "bytes32", "bytes32",
        "uint32", "uint32", "uint128", "bytes32", "uint256", "uint64",
    )  # fmt: skip


@dataclass(frozen=True)
class WalletLink(_TypedMessage):
    """That all earnings of ``account`` belong to ``successor`` from now on; ``deadline`` in Unix seconds."""

    account: str
    successor: str
    nonce: int
    deadline: int

    SOLIDITY: ClassVar[tuple[str, ...]] = ("address", "address", "uint256", "uint64")


def sign(message: _TypedMessage, domain: Domain, account: Signer) -> bytes:
    """The 65-byte signature ``r ‖ s ‖ v`` of ``account`` over ``message``."""
    return bytes(account.unsafe_sign_hash(message.digest(domain)).signature)


def recover(message: _TypedMessage, domain: Domain, signature: bytes) -> str:
    """The checksummed address that signed ``message``; see :func:`recover_digest`."""
    return recover_digest(message.digest(domain), signature)


def recover_digest(digest: bytes, signature: bytes) -> str:
    """The checksummed address whose key signed a 32-byte digest.

    Raises:
        SignatureError: not 65 bytes, ``s`` in the upper half (malleable, EIP-2), ``v`` not 27 or 28, or no such point.
    """
    if len(signature) != 65:
        raise SignatureError(f"a signature has 65 bytes, this one has {len(signature)}; sign again")
    if int.from_bytes(signature[32:64], "big") > SECPK1_N // 2:
        raise SignatureError("the signature's s value is in the upper half (malleable, EIP-2); sign again with a low s")
    if signature[64] not in (27, 28):
        raise SignatureError(f"the signature's v is {signature[64]}; it must be 27 or 28")
    from eth_account import Account

    try:
        return str(Account._recover_hash(digest, signature=signature))
    except Exception as error:
        raise SignatureError(f"the signature fits no account: {error}; sign again") from error


def check_signature(message: _TypedMessage, domain: Domain, signature: bytes, expected: str) -> None:
    """Raises SignatureError unless ``expected`` signed ``message``; the error names both addresses."""
    signer = recover(message, domain, signature)
    if signer.lower() != expected.lower():
        raise SignatureError(
            f"{type(message).__name__} was signed by {signer}, not by {to_checksum_address(expected)}; "
            "sign with that account's key"
        )


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def _check(name: str, solidity: str, value: object) -> None:
    if solidity.startswith("uint"):
        bits = int(solidity[4:])
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
            raise InputError(f"{name} is {value!r}; it must be an integer from 0 to 2**{bits} - 1")
    elif solidity == "bytes32":
        if not isinstance(value, bytes) or len(value) != 32:
            raise InputError(f"{name} is {value!r}; it must be 32 bytes")
    elif solidity == "address":
        if not isinstance(value, str) or not is_address(value):
            raise InputError(f"{name} is {value!r}; it must be an address of 20 bytes in hex with a valid checksum")
    elif not isinstance(value, str):
        raise InputError(f"{name} is {value!r}; it must be a string")
