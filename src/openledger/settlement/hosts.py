"""``HostRegistry`` on chain: where hosts are found and which models they serve. What a host says of itself is its own word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.signers.local import LocalAccount

from openledger.chain import Chain
from openledger.primitives import ZERO_HASH

HOSTS = "HostRegistry"


@dataclass(frozen=True)
class HostEntry:
    """One host: where it answers, the hash of what it publishes of itself, since when, and the models it says it serves."""

    address: str
    uri: str
    profile: bytes
    since: int
    listed: bool
    models: tuple[int, ...]


def list_host(chain: Chain, wallet: LocalAccount, uri: str, profile: bytes = ZERO_HASH) -> None:
    """Lists the wallet as a host at ``uri`` (1 to 512 bytes), or changes its listing; it needs a host's stake.

    Raises:
        RevertError: ``HostNotActive``, ``UriOutOfBounds``.
    """
    chain.send(wallet, chain.contract(HOSTS).functions.list(uri, profile))


def retire_host(chain: Chain, wallet: LocalAccount) -> None:
    """Takes the wallet off the list; its stake stays.

    Raises:
        RevertError: ``HostNotListed``.
    """
    chain.send(wallet, chain.contract(HOSTS).functions.retire())


def serve_models(chain: Chain, wallet: LocalAccount, models: Sequence[int], served: bool = True) -> None:
    """Says that the wallet serves these models, or no longer does.

    Raises:
        RevertError: ``HostNotListed``, ``ModelNotServable``.
    """
    chain.send(wallet, chain.contract(HOSTS).functions.serve(list(models), served))


def host_entry(chain: Chain, address: str) -> HostEntry:
    """What the registry says of an account; not listed and without a URI if it never was a host."""
    functions = chain.contract(HOSTS).functions
    uri, profile, since, _ = chain.call(functions.hostOf(address))
    named = sorted({log["args"]["model"] for log in chain.events(HOSTS, "ModelServed", host=address)})
    return HostEntry(
        address=address,
        uri=str(uri),
        profile=bytes(profile),
        since=int(since),
        listed=bool(chain.call(functions.isListed(address))),
        models=tuple(model for model in named if chain.call(functions.serves(address, model))),
    )


def host_entries(chain: Chain) -> list[HostEntry]:
    """Every account that was ever listed, in order, as it stands."""
    found = dict.fromkeys(str(log["args"]["host"]) for log in chain.events(HOSTS, "HostListed"))
    return [host_entry(chain, address) for address in found]
