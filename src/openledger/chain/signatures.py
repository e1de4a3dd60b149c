"""Who signed: an account by its key, or a contract by its own rule (ERC-1271), as the contracts themselves decide it."""

from __future__ import annotations

from eth_utils.address import to_checksum_address

from openledger.chain.client import Chain
from openledger.primitives import ChainError, RevertError, SignatureError, UnreachableError, recover_digest

_MAGIC = bytes.fromhex("1626ba7e")
_ERC1271 = [
    {
        "type": "function",
        "name": "isValidSignature",
        "stateMutability": "view",
        "inputs": [{"name": "hash", "type": "bytes32"}, {"name": "signature", "type": "bytes"}],
        "outputs": [{"name": "", "type": "bytes4"}],
    }
]
_LONGEST = 16_384
"""Bytes of a contract's signature; those of many owners are long."""


def is_signed_by(chain: Chain, account: str, digest: bytes, signature: bytes) -> bool:
    """Whether ``account`` signed a 32-byte digest. Its key is tried first: an account with delegated code can sign by key.

    Raises:
        UnreachableError: nothing answers, so that a contract cannot be asked.
    """
    address = to_checksum_address(account)
    if _is_signed_by_key(address, digest, signature):
        return True
    if not 0 < len(signature) <= _LONGEST or not chain.ask(lambda: chain.w3.eth.get_code(address)):
        return False
    wallet = chain.w3.eth.contract(address=address, abi=_ERC1271)
    try:
        return bytes(chain.call(wallet.functions.isValidSignature(digest, signature))) == _MAGIC
    except RevertError:
        return False
    except UnreachableError:
        raise
    except ChainError:
        return False  # code that answers something else than four bytes


def _is_signed_by_key(address: str, digest: bytes, signature: bytes) -> bool:
    try:
        return recover_digest(digest, signature) == address
    except SignatureError:
        return False
