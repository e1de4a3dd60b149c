"""What every room stands on: canonical JSON, hashing, Merkle trees, OPEN amounts, typed messages, errors.

Pure functions and frozen data: no clock, no network, and no file but the one that ``keccak_file`` is given.
"""

from openledger.primitives.amounts import (
    PPM,
    TOTAL_SUPPLY,
    WEI_PER_OPEN,
    apportion,
    format_open,
    mul_ppm,
    parse_open,
)
from openledger.primitives.canonical import canonical_bytes, parse_json, record_hash
from openledger.primitives.errors import (
    ChainError,
    ConfigurationError,
    InputError,
    ModelError,
    NotFoundError,
    OpenLedgerError,
    OverloadedError,
    PaymentError,
    RevertError,
    SignatureError,
    StorageError,
    UnavailableError,
    UnreachableError,
    VerificationError,
)
from openledger.primitives.hashing import ZERO_HASH, from_hex, keccak, keccak_file, to_hex
from openledger.primitives.merkle import MerkleTree, hash_pair, standard_leaf
from openledger.primitives.merkle import verify as verify_proof
from openledger.primitives.messages import (
    Contribution,
    Domain,
    Receipt,
    Signer,
    Voucher,
    WalletLink,
    check_signature,
    recover,
    recover_digest,
    sign,
)

__all__ = [
    "PPM",
    "TOTAL_SUPPLY",
    "WEI_PER_OPEN",
    "ZERO_HASH",
    "ChainError",
    "ConfigurationError",
    "Contribution",
    "Domain",
    "InputError",
    "MerkleTree",
    "ModelError",
    "NotFoundError",
    "OpenLedgerError",
    "OverloadedError",
    "PaymentError",
    "Receipt",
    "RevertError",
    "SignatureError",
    "Signer",
    "StorageError",
    "UnavailableError",
    "UnreachableError",
    "VerificationError",
    "Voucher",
    "WalletLink",
    "apportion",
    "canonical_bytes",
    "check_signature",
    "format_open",
    "from_hex",
    "hash_pair",
    "keccak",
    "keccak_file",
    "mul_ppm",
    "parse_json",
    "parse_open",
    "record_hash",
    "recover",
    "recover_digest",
    "sign",
    "standard_leaf",
    "to_hex",
    "verify_proof",
]
