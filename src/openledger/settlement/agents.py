"""``AgentRegistry`` on chain: agents' identities in the shape of ERC-8004, with model, price and stake."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.primitives import NotFoundError, Signer

AGENTS = "AgentRegistry"
REGISTRATION = "https://eips.ethereum.org/EIPS/eip-8004#registration-v1"
_SIGNATURE_SECONDS = 240


@dataclass(frozen=True)
class Agent:
    """One agent. ``price`` in wei a call, ``model`` 0 for none; ``active`` if its wallet has an agent's stake behind it."""

    number: int
    owner: str
    uri: str
    wallet: str | None
    model: int
    price: int
    active: bool


def registration_file(name: str, description: str, endpoint: str, definition: str = "") -> dict[str, Any]:
    """What an agent's URI leads to (ERC-8004): what it is called, what it does, where it answers.

    ``definition`` is where the definition is that this network's nodes run, if there is one: a field of ours.
    """
    services = [{"name": "openai", "endpoint": endpoint}] if endpoint else []
    return {
        "type": REGISTRATION, "name": name, "description": description, "image": "", "services": services,
        "x402Support": False, "active": True, "supportedTrust": ["crypto-economic"],
        **({"definition": definition} if definition else {}),
    }  # fmt: skip


def register_agent(chain: Chain, owner: LocalAccount, uri: str) -> int:
    """Registers an agent that belongs to ``owner``, who is its wallet at first; returns its number."""
    contract = chain.contract(AGENTS)
    receipt = chain.send(owner, contract.get_function_by_signature("register(string)")(uri))
    return int(contract.events.Registered().process_receipt(receipt, errors=DISCARD)[0]["args"]["agentId"])


def set_agent_terms(chain: Chain, owner: LocalAccount, number: int, model: int, price: int) -> None:
    """Sets which model stands behind an agent and what a call costs in wei.

    Raises:
        RevertError: ``NotAgentsOperator``, ``UnknownModel``.
    """
    chain.send(owner, chain.contract(AGENTS).functions.setTerms(number, model, price))


def set_agent_uri(chain: Chain, owner: LocalAccount, number: int, uri: str) -> None:
    """Changes where an agent's registration file is.

    Raises:
        RevertError: ``NotAgentsOperator``.
    """
    chain.send(owner, chain.contract(AGENTS).functions.setAgentURI(number, uri))


def set_agent_wallet(chain: Chain, owner: LocalAccount, number: int, wallet: LocalAccount) -> None:
    """Pays an agent at ``wallet`` from now on, which consents by its signature.

    Raises:
        RevertError: ``NotAgentsOperator``.
    """
    functions = chain.contract(AGENTS).functions
    deadline = chain.time() + _SIGNATURE_SECONDS
    holder = str(chain.call(functions.ownerOf(number)))
    digest = bytes(chain.call(functions.walletDigest(number, wallet.address, holder, deadline)))
    signer: Signer = wallet
    signature = bytes(signer.unsafe_sign_hash(digest).signature)
    chain.send(owner, functions.setAgentWallet(number, wallet.address, deadline, signature))


def agent(chain: Chain, number: int) -> Agent:
    """One agent.

    Raises:
        NotFoundError: there is none of that number.
    """
    functions = chain.contract(AGENTS).functions
    if not 1 <= number <= int(chain.call(functions.agentCount())):
        raise NotFoundError(f"there is no agent {number} on chain {chain.chain_id}; `openledger agent list` shows them")
    wallet = str(chain.call(functions.getAgentWallet(number)))
    model, price = chain.call(functions.termsOf(number))
    return Agent(
        number=number, owner=str(chain.call(functions.ownerOf(number))), uri=str(chain.call(functions.tokenURI(number))),
        wallet=None if int(wallet, 16) == 0 else wallet, model=int(model), price=int(price),
        active=bool(chain.call(functions.isActive(number))),
    )  # fmt: skip


def agents(chain: Chain) -> list[Agent]:
    """Every agent, in order."""
    count = int(chain.call(chain.contract(AGENTS).functions.agentCount()))
    return [agent(chain, number) for number in range(1, count + 1)]
