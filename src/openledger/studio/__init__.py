"""AI Studio: the OpenAI-compatible gateway, API keys that are capped session keys, metering, and receipts."""

from openledger.openlora import Piece, Sampling
from openledger.studio.explanation import Explanation, RecordInfluence, VerbatimSpan
from openledger.studio.inference import Answer, Entry, InferenceService, Prompt, ReceiptStore, ServedModel
from openledger.studio.keys import ApiKey
from openledger.studio.store import DatabaseReceiptStore, DatabaseVoucherStore

__all__ = [
    "Answer",
    "ApiKey",
    "DatabaseReceiptStore",
    "DatabaseVoucherStore",
    "Entry",
    "Explanation",
    "InferenceService",
    "Piece",
    "Prompt",
    "ReceiptStore",
    "RecordInfluence",
    "Sampling",
    "ServedModel",
    "VerbatimSpan",
]
