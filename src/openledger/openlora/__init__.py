"""OpenLoRA: many adapters answered over one shared base model.

This first engine runs transformers and peft in this process, one request at a time, and switches the adapter between
requests. It does not batch requests of several adapters together yet.
"""

from openledger.openlora.engine import Engine, Finished, Piece, Sampling

__all__ = ["Engine", "Finished", "Piece", "Sampling"]
