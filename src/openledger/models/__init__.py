"""Base models and tokenizers: load them, identify them by hash, turn dialogues into tokens, pin the arithmetic."""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.models.allocator import keep_freed_memory, release_freed_memory
    from openledger.models.base import (
        BaseModel,
        base_folder,
        load_base,
        load_tokenizer,
        model_digest,
        model_files,
        shared_copy,
    )
    from openledger.models.determinism import pinned
    from openledger.models.dialogue import (
        Dialogue,
        control_tokens,
        decode_answer,
        encode_dialogue,
        encode_messages,
        encode_text,
    )
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "BaseModel",
    "Dialogue",
    "base_folder",
    "control_tokens",
    "decode_answer",
    "encode_dialogue",
    "encode_messages",
    "encode_text",
    "keep_freed_memory",
    "load_base",
    "load_tokenizer",
    "model_digest",
    "model_files",
    "pinned",
    "release_freed_memory",
    "shared_copy",
]
