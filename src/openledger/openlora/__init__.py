"""OpenLoRA: very many adapters answered over one shared base model.

:class:`Engine` is the way in; ``docs/openlora.md`` says how it works and what was measured.
"""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.openlora.adapters import AdapterLimits
    from openledger.openlora.answers import CancelledError, Finished, Piece
    from openledger.openlora.backend import Backend
    from openledger.openlora.engine import Engine
    from openledger.openlora.grammar import Grammar, read_call, tool_grammar
    from openledger.openlora.process import EngineProcess
    from openledger.openlora.sampling import Sampling, TokenLogprob
    from openledger.openlora.scheduler import EngineLimits
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "AdapterLimits",
    "Backend",
    "CancelledError",
    "Engine",
    "EngineLimits",
    "EngineProcess",
    "Finished",
    "Grammar",
    "Piece",
    "Sampling",
    "TokenLogprob",
    "read_call",
    "tool_grammar",
]
