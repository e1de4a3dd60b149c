"""Deploying to a chain that is not ours to restart: resumable, rehearsed, and written down in a manifest.

:func:`openledger.chain.deploy` sends a fixed sequence of transactions from one account that does nothing else. So step ``k`` has
the nonce ``start + k``, and the chain itself tells how far an interrupted deployment came. The manifest holds what must be the
same on the second attempt, the hash of every transaction (written before it is sent), and at the end addresses and code hashes.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3.types import TxParams, TxReceipt

from openledger.chain.artifacts import CONTRACTS, creation_code, load_artifact
from openledger.chain.client import Chain
from openledger.chain.deployment import (
    AllocationPlan,
    BootstrapPlan,
    Deployment,
    GovernanceSettings,
    Holders,
    deploy,
)
from openledger.chain.devchain import DevChain
from openledger.chain.files import write_atomic
from openledger.primitives import (
    TOTAL_SUPPLY,
    ChainError,
    ConfigurationError,
    InputError,
    NotFoundError,
    UnreachableError,
    VerificationError,
    canonical_bytes,
    format_open,
    from_hex,
    keccak,
    to_hex,
)

_FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """What is deployed. See :func:`openledger.chain.deploy` for the parts."""

    allocation: AllocationPlan
    parameters: Mapping[str, int] = field(default_factory=dict)
    governance: GovernanceSettings = field(default_factory=GovernanceSettings)
    holders: Holders = field(default_factory=Holders)
    settler: str | None = None
    guardian: str | None = None
    bootstrap: BootstrapPlan | None = None

    def digest(self) -> str:
        """A hash of the plan and of the contracts' code: two attempts with the same one send the same transactions."""
        buckets = [
            [part.name, str(part.free), str(part.vesting), part.cliff_months, part.linear_months]
            for part in self.allocation.buckets
        ]
        content = {
            "allocation": [buckets, self.allocation.month_seconds],
            "parameters": {name: str(value) for name, value in self.parameters.items()},
            "governance": {name: str(value) for name, value in asdict(self.governance).items()},
            "holders": [dict(self.holders.free), dict(self.holders.vesting)],
            "accounts": [self.settler, self.guardian],
            "bootstrap": []
            if self.bootstrap is None
            else [to_hex(self.bootstrap.root), str(self.bootstrap.total), self.bootstrap.seconds],
            "code": {name: to_hex(keccak(load_artifact(name).bytecode.encode())) for name in CONTRACTS},
        }
        return to_hex(keccak(canonical_bytes(content)))


@dataclass
class Manifest:
    """The record of one deployment, kept in a file and rewritten at each step.

    Attributes:
        chain_id: EIP-155 chain id.
        genesis: hash of block 0.
        deployer: the account that deploys.
        plan: :meth:`Plan.digest`.
        nonce: the deployer's nonce at the start.
        balance: what it held then, wei.
        launch: time from which vesting counts, Unix seconds.
        block: the first block that can hold an event.
        transactions: hash of each step's transaction, in order; an attempt that was sent twice keeps the last.
        contracts: address, creation-code hash and deployed-code hash by contract name; empty until all is done.
        deployment: the finished deployment's file content; None until all is done.
    """

    chain_id: int
    genesis: str
    deployer: str
    plan: str
    nonce: int
    balance: int
    launch: int
    block: int
    transactions: list[str] = field(default_factory=list)
    contracts: dict[str, dict[str, str]] = field(default_factory=dict)
    deployment: dict[str, Any] | None = None

    def save(self, path: Path) -> None:
        """Writes it, whole or not at all."""
        write_atomic(path, json.dumps({"format": _FORMAT, **asdict(self)}, indent=1).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Reads a manifest.

        Raises:
            NotFoundError: the file is missing.
            InputError: it is none.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content.pop("format") != _FORMAT:
                raise ValueError("another format")
            return cls(**content)
        except FileNotFoundError as error:
            raise NotFoundError(f"{path} is missing; `openledger chain deploy` writes it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is no deployment manifest ({error})") from error

    def finished(self) -> Deployment:
        """The deployment.

        Raises:
            ConfigurationError: it is not finished.
        """
        if self.deployment is None:
            raise ConfigurationError(
                f"the deployment stopped after {len(self.transactions)} transactions; run `openledger chain deploy` again"
            )
        return Deployment(**self.deployment)


class _Resuming(Chain):
    """A connection that passes over the steps that were taken before: the deployer's transactions, in order."""

    def __init__(self, rpc_url: str, deployer: LocalAccount, manifest: Manifest, path: Path, **options: Any) -> None:
        super().__init__(rpc_url, **options)
        self._deployer = deployer.address
        self._manifest = manifest
        self._path = path
        self._step = 0
        self._taken = super().nonce(deployer.address) - manifest.nonce
        if self._taken < 0 or self._taken > len(manifest.transactions):
            raise ConfigurationError(
                f"{deployer.address} has sent {self._taken} transactions since the deployment began, of which "
                f"{len(manifest.transactions)} are in {path}; it must do nothing else meanwhile"
            )

    def nonce(self, address: str) -> int:
        """The nonce that the deployer's next step has or had."""
        return self._manifest.nonce + self._step if address == self._deployer else super().nonce(address)

    def balance(self, address: str) -> int:
        """The balance; the deployer's from the start while steps of an earlier attempt are passed over."""
        return self._manifest.balance if address == self._deployer and self._passing else super().balance(address)

    def transfer_all(self, wallet: LocalAccount, to: str) -> TxReceipt:
        """Sends all, or passes over having done so."""
        return self._transact(wallet, {}, 0) if self._passing else super().transfer_all(wallet, to)

    @property
    def _passing(self) -> bool:
        return self._step < self._taken

    def _transact(self, wallet: LocalAccount, fields: TxParams, value: int) -> TxReceipt:
        if self._passing:
            receipt = self._receipt(self._manifest.transactions[self._step])
        else:
            receipt = super()._transact(wallet, fields, value)
        self._step += 1
        return receipt

    def _receipt(self, name: str) -> TxReceipt:
        try:
            receipt = self._await(from_hex(name))
        except UnreachableError:
            raise
        except ChainError as error:
            raise ConfigurationError(
                f"step {self._step} was sent as {name}, which is in no block, though its nonce is used; was it replaced?"
            ) from error
        if receipt["status"] != 1:
            raise ChainError(
                f"step {self._step} of the deployment, {name}, failed in its block; start anew from another account"
            )
        return receipt

    def _deliver(self, raw: bytes) -> None:
        # Written down first: what is sent and not written down could not be found again.
        del self._manifest.transactions[self._step :]
        self._manifest.transactions.append(to_hex(keccak(raw)))
        self._manifest.save(self._path)
        super()._deliver(raw)


def roll_out(
    rpc_url: str,
    deployer: LocalAccount,
    plan: Plan,
    path: Path,
    *,
    launch: int | None = None,
    **options: Any,
) -> Manifest:
    """Deploys to the chain behind ``rpc_url``, or goes on where an earlier attempt with the same manifest stopped, and verifies.

    Args:
        rpc_url: any Ethereum JSON-RPC endpoint.
        deployer: the account that pays; see :func:`openledger.chain.deploy`.
        plan: what is deployed.
        path: the manifest.
        launch: time from which vesting counts, Unix seconds; the latest block's time if none is given.
        options: of :class:`openledger.chain.Chain`, such as ``timeout`` and ``confirmations``.

    Raises:
        ConfigurationError: the manifest is of another chain, account or plan, or the account sent something else meanwhile.
        VerificationError: the chain's code is not ours.
        ChainError: the chain refused or could not be reached; run it again.
    """
    plain = Chain(rpc_url, **options)
    manifest = Manifest.load(path) if path.exists() else _begin(plain, deployer, plan, launch)
    expected = (plain.chain_id, plain.genesis, deployer.address, plan.digest())
    if (manifest.chain_id, manifest.genesis, manifest.deployer, manifest.plan) != expected:
        raise ConfigurationError(
            f"{path} is of another chain, deployer, plan or version of the contracts; choose another file"
        )
    if manifest.deployment is None:
        manifest.save(path)
        chain = _Resuming(rpc_url, deployer, manifest, path, **options)
        deployment = chain.ask(
            lambda: deploy(
                chain,
                deployer,
                plan.allocation,
                plan.parameters,
                governance=plan.governance,
                holders=plan.holders,
                settler=plan.settler,
                guardian=plan.guardian,
                launch=manifest.launch,
                bootstrap=plan.bootstrap,
            )
        )
        manifest.deployment = {**asdict(deployment), "addresses": dict(deployment.addresses), "block": manifest.block}
        manifest.contracts = {name: _recorded(plain, name, at) for name, at in deployment.addresses.items()}
        manifest.save(path)
    verify(plain, manifest)
    return manifest


def verify(chain: Chain, manifest: Manifest) -> int:
    """Checks that each contract was created from our code and still has the code that it had; returns how many there are.

    Raises:
        ConfigurationError: the deployment is not finished.
        VerificationError: a contract is not as it should be.
    """
    wrong = []
    created = _created(chain, manifest)
    for name, address in manifest.finished().addresses.items():
        code = creation_code(name.partition(".")[0])
        if not created.get(address, b"").startswith(code):
            wrong.append(f"{name} at {address} was not created from this version's code")
        elif manifest.contracts[name] != _recorded(chain, name, address):
            wrong.append(f"{name} at {address} has other code than after its deployment")
    if wrong:
        raise VerificationError("; ".join(wrong))
    return len(manifest.contracts)


def rehearse(chain: Chain, deployer: LocalAccount, plan: Plan) -> dict[str, Any]:
    """Deploys to an embedded chain that is thrown away, and says what it took; sends nothing to ``chain``.

    Returns:
        ``transactions``, ``gas``, ``contracts`` (bytes of code by name), and of the real chain: ``chain_id``, ``balance`` of the
        deployer in wei, ``cost`` in wei at the present gas price, and ``obstacles``, a list of sentences.
    """
    with tempfile.TemporaryDirectory(prefix="openledger-rehearsal-") as folder, DevChain(Path(folder)) as dev:
        local = Chain(dev.rpc_url)
        account = dev.keys.wallet("genesis")
        deployment = deploy(
            local, account, plan.allocation, plan.parameters, governance=plan.governance, holders=plan.holders,
            settler=plan.settler, guardian=plan.guardian, bootstrap=plan.bootstrap,
        )  # fmt: skip
        sizes = {
            name: len(local.w3.eth.get_code(to_checksum_address(address)))
            for name, address in deployment.addresses.items()
        }
        blocks = [local.w3.eth.get_block(number) for number in range(1, local.w3.eth.block_number + 1)]
        gas, count = sum(int(block["gasUsed"]) for block in blocks), local.nonce(account.address)
    held = chain.balance(deployer.address)
    price = chain.ask(lambda: int(chain.w3.eth.gas_price))
    obstacles = []
    if not TOTAL_SUPPLY - 1_000 * 10**18 <= held <= TOTAL_SUPPLY:
        wanted = format_open(TOTAL_SUPPLY)
        obstacles.append(
            f"{deployer.address} holds {format_open(held)} OPEN; it must hold the supply of {wanted} OPEN, less gas"
        )
    return {
        "transactions": count,
        "gas": gas,
        "contracts": sizes,
        "chain_id": chain.chain_id,
        "balance": held,
        "cost": gas * price,
        "obstacles": obstacles,
    }


def _begin(chain: Chain, deployer: LocalAccount, plan: Plan, launch: int | None) -> Manifest:
    head = chain.ask(lambda: chain.w3.eth.get_block("latest"))
    return Manifest(
        chain_id=chain.chain_id,
        genesis=chain.genesis,
        deployer=deployer.address,
        plan=plan.digest(),
        nonce=chain.nonce(deployer.address),
        balance=chain.balance(deployer.address),
        launch=int(head["timestamp"]) if launch is None else launch,
        block=int(head["number"]) + 1,
    )


def _recorded(chain: Chain, name: str, address: str) -> dict[str, str]:
    deployed = bytes(chain.ask(lambda: chain.w3.eth.get_code(to_checksum_address(address))))
    return {
        "address": address,
        "creation_code": to_hex(keccak(creation_code(name.partition(".")[0]))),
        "deployed_code": to_hex(keccak(deployed)),
    }


def _created(chain: Chain, manifest: Manifest) -> dict[str, bytes]:
    """What each contract was created from: the transaction's data, by address."""
    found: dict[str, bytes] = {}
    for name in manifest.transactions:
        receipt = chain.ask(lambda name=name: chain.w3.eth.get_transaction_receipt(name))  # type: ignore[misc]
        if receipt.get("contractAddress"):
            data = chain.ask(lambda name=name: chain.w3.eth.get_transaction(name)["input"])  # type: ignore[misc]
            found[to_checksum_address(str(receipt["contractAddress"]))] = bytes(data)
    return found
