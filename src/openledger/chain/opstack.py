"""The files of a real OP Stack deployment of the L2: an op-deployer intent with OPEN as custom gas token, and a compose file.

Nothing here runs anything. Secrets never stand in a file that is written here: services read them from files under ``secrets/``.
Field names of the intent are those of op-deployer's ``ChainIntent`` (ethereum-optimism/optimism, op-deployer/pkg/deployer/state).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from string import Template

from eth_account import Account
from eth_utils.address import is_checksum_address

from openledger.chain.devchain import GAS_LIMIT, MINIMUM_BASE_FEE
from openledger.chain.files import write_atomic
from openledger.primitives import TOTAL_SUPPLY, ConfigurationError, InputError

HOT_ROLES = ("sequencer", "batcher", "proposer", "challenger")
"""Accounts whose keys the services hold."""


@dataclass(frozen=True)
class OpStackAccounts:
    """Who holds which role, by address.

    Attributes:
        owner: upgrades the contracts, owns the system configuration and the LiquidityController; a multisig.
        fees: receives what the fee vaults collect.
        sequencer: signs unsafe blocks.
        batcher: posts batches to L1.
        proposer: proposes output roots.
        challenger: disputes wrong ones.
    """

    owner: str
    fees: str
    sequencer: str
    batcher: str
    proposer: str
    challenger: str

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            if not is_checksum_address(value) or int(value, 16) == 0:
                raise InputError(
                    f"the account for {part.name} is {value!r}; give a checksummed address that is not zero"
                )


@dataclass(frozen=True)
class OpStackSettings:
    """What distinguishes one deployment.

    Attributes:
        chain_id: EIP-155 id of the L2.
        l1_chain_id: id of the L1, such as 1 or 11155111 (Sepolia).
        block_seconds: time between L2 blocks.
        gas_limit: gas of an L2 block.
        minimum_base_fee: least base fee in wei of OPEN per gas.
        contracts: release of the OP Stack's contracts that op-deployer deploys.
    """

    chain_id: int
    l1_chain_id: int
    block_seconds: int = 2
    gas_limit: int = GAS_LIMIT
    minimum_base_fee: int = MINIMUM_BASE_FEE
    contracts: str = "tag://op-contracts/v6.0.0"

    def __post_init__(self) -> None:
        for name in ("chain_id", "l1_chain_id", "block_seconds", "gas_limit"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}; it must be positive")
        if self.chain_id == self.l1_chain_id:
            raise InputError(f"the L2 cannot have the L1's chain id {self.chain_id}")


def make_accounts(folder: Path, given: Mapping[str, str]) -> OpStackAccounts:
    """The accounts of a deployment: those given by role, and new keys under ``folder/secrets`` for hot roles that are not.

    A key that is there already is used again, so that writing the files anew changes nothing.

    Raises:
        ConfigurationError: no owner is given.
        InputError: an address is malformed or a role is unknown.
    """
    if unknown := set(given) - {part.name for part in fields(OpStackAccounts)}:
        raise InputError(f"there is no role {', '.join(sorted(unknown))}")
    if "owner" not in given:
        raise ConfigurationError("give the owner's address (--owner): it must not be a key on this machine")
    addresses = {"fees": given["owner"], **given}
    for role in HOT_ROLES:
        if role not in addresses:
            addresses[role] = str(Account.from_key(_secret(folder, f"{role}.key")).address)
    return OpStackAccounts(**addresses)


def write_opstack(folder: Path, settings: OpStackSettings, accounts: OpStackAccounts) -> list[Path]:
    """Writes the deployment's files and returns them; secrets that are there stay as they are.

    Raises:
        StorageError: a file cannot be written.
    """
    values = {
        **{part.name: getattr(accounts, part.name) for part in fields(accounts)},
        **{part.name: getattr(settings, part.name) for part in fields(settings)},
        "chain_id_hash": f"0x{settings.chain_id:064x}",
        "supply": hex(TOTAL_SUPPLY),
    }
    _prepare(folder)
    _secret(folder, "jwt.txt")
    written = []
    for name in ("intent.toml", "compose.yaml", "README.md", ".env"):
        template = (
            resources.files(__package__)
            .joinpath("opstack_files", name.lstrip(".") + ".template")
            .read_text(encoding="utf-8")
        )
        path = folder / name
        write_atomic(path, Template(template).substitute(values).encode())
        written.append(path)
    return written


def _prepare(folder: Path) -> None:
    secret = folder / "secrets"
    secret.mkdir(parents=True, exist_ok=True)
    secret.chmod(0o700)
    write_atomic(secret / ".gitignore", b"*\n!.gitignore\n")


def _secret(folder: Path, name: str) -> str:
    """A secret of 32 random bytes in hex, made if it is not there; only its owner can read it."""
    path = folder / "secrets" / name
    if not path.exists():
        _prepare(folder)
        write_atomic(path, secrets.token_hex(32).encode() + b"\n", mode=0o600)
    return path.read_text(encoding="ascii").strip()
