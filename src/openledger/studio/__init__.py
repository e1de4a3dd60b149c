"""AI Studio: the OpenAI-compatible gateway, API keys that are capped session keys, metering, and receipts."""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.openlora import Piece, Sampling
    from openledger.studio.agent_runs import AgentAnswer, ModelStep, ToolStep
    from openledger.studio.agent_service import AgentService
    from openledger.studio.agents import AgentDefinition, DeployedAgent, read_definition
    from openledger.studio.explanation import Explanation, RecordInfluence, RetrievedRecord, VerbatimSpan
    from openledger.studio.inference import (
        AgentReference,
        Answer,
        Entry,
        InferenceService,
        Prompt,
        ReceiptStore,
        ServedModel,
    )
    from openledger.studio.keys import ApiKey
    from openledger.studio.mcp_servers import McpServers
    from openledger.studio.mcp_settings import McpServer
    from openledger.studio.passages import MAX_LOOKED_UP, Passage
    from openledger.studio.retrieval import Retriever
    from openledger.studio.store import DatabaseReceiptStore, DatabaseVoucherStore
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "MAX_LOOKED_UP",
    "AgentAnswer",
    "AgentDefinition",
    "AgentReference",
    "AgentService",
    "Answer",
    "ApiKey",
    "DatabaseReceiptStore",
    "DatabaseVoucherStore",
    "DeployedAgent",
    "Entry",
    "Explanation",
    "InferenceService",
    "McpServer",
    "McpServers",
    "ModelStep",
    "Passage",
    "Piece",
    "Prompt",
    "ReceiptStore",
    "RecordInfluence",
    "RetrievedRecord",
    "Retriever",
    "Sampling",
    "ServedModel",
    "ToolStep",
    "VerbatimSpan",
    "read_definition",
]
