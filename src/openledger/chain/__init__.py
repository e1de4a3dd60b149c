"""The L2: contract artifacts and bindings, deployment, wallet, and the embedded development chain.

Without a chain at hand, :class:`DevChain` runs one; with one, :class:`Chain` needs nothing but its RPC address and the
:class:`Deployment`. See docs/chain.md and docs/contracts.md.
"""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.chain.artifacts import CONTRACTS, Artifact, load_artifact
    from openledger.chain.chain_id import DEFAULT_CHAIN_ID
    from openledger.chain.client import Chain, decode_revert
    from openledger.chain.deployment import (
        AllocationPlan,
        BucketPlan,
        Deployment,
        GovernanceSettings,
        Holders,
        deploy,
        parameter_key,
    )
    from openledger.chain.devchain import DevChain
    from openledger.chain.front import Front
    from openledger.chain.indexer import ChainEvent, Indexer
    from openledger.chain.roles import Role
    from openledger.chain.signatures import is_signed_by
    from openledger.chain.unsigned import UnsignedTransaction
    from openledger.chain.wallet import KeyStore
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "CONTRACTS",
    "DEFAULT_CHAIN_ID",
    "AllocationPlan",
    "Artifact",
    "BucketPlan",
    "Chain",
    "ChainEvent",
    "Deployment",
    "DevChain",
    "Front",
    "GovernanceSettings",
    "Holders",
    "Indexer",
    "KeyStore",
    "Role",
    "UnsignedTransaction",
    "decode_revert",
    "deploy",
    "is_signed_by",
    "load_artifact",
    "parameter_key",
]
