"""The compiled contracts that ship with the package: interface (ABI) and creation code of each.

They are built from ``contracts/`` by :mod:`openledger.chain.build`, which also checks that they still match the source.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from openledger.primitives import NotFoundError, from_hex, keccak

CONTRACTS = (
    "AccessManager",
    "AgentRegistry",
    "CommunityDistributor",
    "DatanetAccess",
    "DatanetRegistry",
    "Disputes",
    "FeeEscrow",
    "GOPEN",
    "HostRegistry",
    "InferenceLedger",
    "InferenceMarket",
    "ModelRegistry",
    "OPEN",
    "OpenLedgerGovernor",
    "OpenLockbox",
    "OpenMinter",
    "ReviewAppeals",
    "RewardsDistributor",
    "RuntimeParameters",
    "StakeManager",
    "TimelockController",
    "Vesting",
)


@dataclass(frozen=True)
class Artifact:
    """A compiled contract: ``abi`` as the compiler gives it, ``bytecode`` as 0x-prefixed hex."""

    name: str
    abi: list[dict[str, Any]]
    bytecode: str


@dataclass(frozen=True)
class ErrorType:
    """A custom error of some contract: its name, and name and type of each argument."""

    name: str
    arguments: tuple[tuple[str, str], ...]

    @property
    def selector(self) -> bytes:
        """The first four bytes of revert data by which the error is known."""
        types = ",".join(kind for _, kind in self.arguments)
        return keccak(f"{self.name}({types})".encode())[:4]


@cache
def load_artifact(name: str) -> Artifact:
    """The artifact of a contract.

    Raises:
        NotFoundError: no contract of that name ships with the package.
    """
    if name not in CONTRACTS:
        raise NotFoundError(f"no contract {name!r}; there are {', '.join(CONTRACTS)}")
    text = resources.files(__package__).joinpath("artifacts", f"{name}.json").read_text(encoding="utf-8")
    content = json.loads(text)
    return Artifact(name, content["abi"], content["bytecode"])


@cache
def error_types() -> dict[bytes, ErrorType]:
    """Every custom error of every contract, by selector."""
    found = {}
    for name in CONTRACTS:
        for entry in load_artifact(name).abi:
            if entry["type"] == "error":
                arguments = tuple((i["name"], _canonical_type(i)) for i in entry["inputs"])
                error = ErrorType(entry["name"], arguments)
                found[error.selector] = error
    return found


def creation_code(name: str) -> bytes:
    """The bytes that create the contract, before its constructor's arguments."""
    return from_hex(load_artifact(name).bytecode)


def _canonical_type(entry: dict[str, Any]) -> str:
    kind = str(entry["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_canonical_type(part) for part in entry["components"])
    return f"({inner}){kind.removeprefix('tuple')}"
