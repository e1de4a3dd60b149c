"""Content-addressed blobs and the node's database. What is on the chain is not here."""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.storage.blobs import BlobStore, token_in, write_atomically
    from openledger.storage.database import Database
    from openledger.storage.tables import (
        AgentRunRecord,
        CheckpointRecord,
        CreditRecord,
        EventRecord,
        ModelRecord,
        PartyRecord,
        ReceiptRecord,
        StateRecord,
        VerdictRecord,
        VoucherRecord,
    )
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "AgentRunRecord",
    "BlobStore",
    "CheckpointRecord",
    "CreditRecord",
    "Database",
    "EventRecord",
    "ModelRecord",
    "PartyRecord",
    "ReceiptRecord",
    "StateRecord",
    "VerdictRecord",
    "VoucherRecord",
    "token_in",
    "write_atomically",
]
