"""Gas of one inference on chain, and of each act around it: OpenLedger beside the usual designs, all by receipts of a real chain.

Run ``python -m bench.gas``; the rows go to ``bench/results/gas.json`` and to the terminal. Every figure is a transaction's
``gasUsed`` divided by the inferences in it, in a steady state unless the act says "first": a transaction of the same kind
has been made before, so that no slot is written for the first time but those that every such act needs. Receipt hashes are
keccak hashes, hence calldata without zero bytes to speak of. An OP Stack chain adds a fee for the same bytes on L1.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from rich.console import Console
from rich.table import Table

from openledger.chain import Chain, DevChain, GovernanceSettings, Holders, Role, deploy, parameter_key, toolchain
from openledger.primitives import (
    WEI_PER_OPEN,
    Contribution,
    MerkleTree,
    Voucher,
    from_hex,
    keccak,
    sign,
    standard_leaf,
)
from openledger.settlement import receipt_leaf
from openledger.tokenomics import load_allocation

RESULTS = Path(__file__).resolve().parents[1] / "results" / "gas.json"
BATCHES = (1, 100, 1_000, 2_000, 4_000)
EARNERS = 1_000


@dataclass(frozen=True)
class Row:
    """One measurement: ``batch`` inferences in one transaction of ``gas``; acts that no inference needs have batch 1."""

    design: str
    batch: int
    contributors: int | None
    gas: int
    gas_per_inference: float
    on_chain: str


class Bench:
    """A fresh development chain with everything deployed, and accounts that have OPEN."""

    def __init__(self, dev: DevChain) -> None:
        self.dev, self.chain, self._keys = dev, Chain(dev.rpc_url), dev.keys
        self.bank = self._keys.wallet("community")
        deploy(
            self.chain, self._keys.wallet("genesis"), load_allocation(), governance=GovernanceSettings.development(),
            holders=Holders(free={"community": self.bank.address}), settler=self._keys.wallet("settler").address,
        )  # fmt: skip
        self.chain.transfer(self.bank, self._keys.wallet("settler").address, WEI_PER_OPEN)

    def account(self, name: str, amount: int = 100, role: Role | None = None) -> LocalAccount:
        """An account with ``amount`` OPEN left to spend, and a stake of 1,000 more if it has a role."""
        wallet = self._keys.wallet(name)
        self.chain.transfer(self.bank, wallet.address, (amount + 1_000) * WEI_PER_OPEN)
        if role is not None:
            self.gas(wallet, self.functions("StakeManager").stake(role), 1_000 * WEI_PER_OPEN)
        return wallet

    def functions(self, contract: str) -> Any:
        """A deployed contract's functions."""
        return self.chain.contract(contract).functions

    def gas(self, wallet: LocalAccount, call: Any, value: int = 0) -> int:
        """Gas of a call that is sent."""
        return int(self.chain.send(wallet, call, value)["gasUsed"])

    def rows(self) -> Iterator[Row]:
        """Everything that is measured."""
        host = self.account("host", role=Role.HOST)
        yield from self._batches(host)
        yield from _peers(self, host)
        yield from self._vouchers(host)
        yield from self._claims()
        yield from self._review()
        yield from self._governance()

    def _batches(self, host: LocalAccount) -> Iterator[Row]:
        ledger = self.functions("InferenceLedger")
        self.gas(host, ledger.post(0, _leaves(1)))
        for batch in BATCHES:
            first = ledger.nextSequence(host.address).call()
            gas = self.gas(host, ledger.post(first, _leaves(batch)))
            yield Row("openledger", batch, None, gas, gas / batch, "24 bytes of every receipt hash, their Merkle root")

    def _vouchers(self, host: LocalAccount) -> Iterator[Row]:
        escrow, consumer = self.functions("FeeEscrow"), self.account("consumer")
        self.gas(consumer, escrow.deposit(consumer.address), 50 * WEI_PER_OPEN)
        for times, act in enumerate(("first", "later"), start=1):
            voucher = Voucher(consumer.address, host.address, times * 10 * WEI_PER_OPEN)
            signature = sign(voucher, self.chain.domain("FeeEscrow"), consumer)
            yield _act(f"voucher, {act}", self.gas(host, escrow.redeem(voucher.as_tuple(), signature)), "a redemption")

    def _claims(self) -> Iterator[Row]:
        distributor, settler = self.functions("RewardsDistributor"), self._keys.wallet("settler")
        earners = sorted(keccak(bytes([7]), n.to_bytes(4, "big"))[12:] for n in range(EARNERS))
        addresses = [self.chain.w3.to_checksum_address(earner) for earner in earners]
        for times, act in enumerate(("first", "later"), start=1):
            each = times * 10**15
            tree = MerkleTree([standard_leaf(["address", "uint256"], [address, each]) for address in addresses])
            proposal = distributor.proposeRoot(tree.root, each * EARNERS, 0, bytes(32))
            yield _act(f"payout root, {act}", self.gas(settler, proposal), "a root for any number of accounts")
            self.dev.warp(3_601)
            self.gas(settler, distributor.activate(times))
            claim = distributor.claim(addresses[5], each, tree.proof(5))
            yield _act(f"claim, {act}", self.gas(settler, claim), "one account's earnings of any number of answers")

    def _review(self) -> Iterator[Row]:
        registry, owner = self.functions("DatanetRegistry"), self.account("owner")
        reviewers = {w.address: w for w in (self.account(f"reviewer{n}", role=Role.REVIEWER) for n in range(3))}
        self.gas(owner, registry.createDatanet("bench", keccak(b"schema"), keccak(b"policy"), "", (0, 0, 0, 0, 0)))
        contributor = self.account("contributor")
        message = Contribution(1, contributor.address, keccak(b"root"), 100, "CC-BY-4.0", keccak(b"manifest"), 0)
        signature = sign(message, self.chain.domain("DatanetRegistry"), contributor)
        submit = registry.submit(message.as_tuple(), signature)
        yield _act("contribution", self.gas(contributor, submit, 5 * WEI_PER_OPEN), "100 records under one root")
        self.gas(owner, registry.openReview(1))
        verdict = b"\xff" * 12 + b"\x0f"
        jurors = [reviewers[address] for address in registry.jury(1).call()]
        kinds = ["uint256", "address", "bytes", "bytes32"]
        commits = [
            self.gas(juror, registry.commitVerdict(1, keccak(encode(kinds, [1, juror.address, verdict, bytes(32)]))))
            for juror in jurors
        ]
        reveals = [self.gas(juror, registry.revealVerdict(1, verdict, bytes(32))) for juror in jurors]
        yield _act("review vote, commit", commits[1], "one juror's sealed verdict on 100 records")
        yield _act("review vote, reveal", reveals[1], "one juror's verdict on 100 records")

    def _governance(self) -> Iterator[Row]:
        token, governor = self.functions("GOPEN"), self.functions("OpenLedgerGovernor")
        voter, other = self.account("voter", 6_000_000), self.account("other", 200_000)
        for wallet, amount in ((voter, 6_000_000), (other, 200_000)):
            self.gas(wallet, token.deposit(), amount * WEI_PER_OPEN)
            self.gas(wallet, token.delegate(wallet.address))
        self.dev.warp(1)
        parameters = self.chain.contract("RuntimeParameters")
        data = parameters.encode_abi("set", [parameter_key("fee.host"), 100_000])
        propose = governor.propose([parameters.address], [0], [data], "Lower the host's share")
        yield _act("propose", self.gas(voter, propose), "one parameter change")
        number = self.chain.events("OpenLedgerGovernor", "ProposalCreated")[-1]["args"]["proposalId"]
        self.dev.warp(31)
        self.gas(other, governor.castVote(number, 0))
        yield _act("vote", self.gas(voter, governor.castVote(number, 1)), "one vote that is not the first")


def measure() -> list[Row]:
    """All rows, on a fresh development chain."""
    with tempfile.TemporaryDirectory() as folder, DevChain(Path(folder)) as dev:
        return list(Bench(dev).rows())


def _peers(bench: Bench, host: LocalAccount) -> Iterator[Row]:
    chain, compiled = bench.chain, _compile()
    address = chain.create(host, from_hex(compiled["evm"]["bytecode"]["object"]))
    peers = chain.w3.eth.contract(address=address, abi=compiled["abi"]).functions  # type: ignore[call-overload]
    listed: tuple[tuple[str, Callable[[list[bytes]], Any], str], ...] = (
        ("one event per inference", peers.record, "every receipt hash, in logs"),
        ("one hash over the batch", peers.hashAll, "every receipt hash, but no short proof of one"),
        ("root only", lambda receipts: peers.rootOnly(receipts[0]), "the root; receipts must be had from elsewhere"),
    )
    for design, function, on_chain in listed:
        bench.gas(host, function(_receipts(1)))
        # A transaction pool takes 128 KiB: 4,000 whole hashes fit just, and so do their events.
        for batch in BATCHES:
            gas = bench.gas(host, function(_receipts(batch)))
            yield Row(design, batch, None, gas, gas / batch, on_chain)
    for design, function in (
        ("token transfer to each contributor", peers.payEach),
        ("credit to each contributor", peers.creditEach),
    ):
        for contributors in (10, 1_000):
            accounts = [
                chain.w3.to_checksum_address(keccak(bytes([9]), n.to_bytes(4, "big"))[12:]) for n in range(contributors)
            ]
            bench.gas(host, function(accounts, 1))
            gas = bench.gas(host, function(accounts, 1))
            yield Row(design, 1, contributors, gas, gas, "every contributor's payment")


def _act(name: str, gas: int, on_chain: str) -> Row:
    return Row(f"openledger: {name}", 1, None, gas, gas, on_chain)


def _receipts(count: int) -> list[bytes]:
    return [keccak(b"receipt", number.to_bytes(4, "big")) for number in range(count)]


def _leaves(count: int) -> bytes:
    return b"".join(receipt_leaf(receipt) for receipt in _receipts(count))


def _compile() -> dict[str, Any]:
    folder = toolchain.contracts_folder()
    assert folder is not None, "the benchmark runs from a checkout of the repository"
    request = {
        "language": "Solidity",
        "sources": {"Peers.sol": {"content": (Path(__file__).parent / "Peers.sol").read_text(encoding="utf-8")}},
        "settings": {
            "remappings": ["@openzeppelin/=node_modules/@openzeppelin/"],
            "optimizer": {"enabled": True, "runs": 800},
            "evmVersion": "cancun",
            "outputSelection": {"Peers.sol": {"Peers": ["abi", "evm.bytecode.object"]}},
        },
    }
    command = [str(toolchain.node_folder() / "node"), "tools/solc", "--standard-json"]
    result = subprocess.run(command, cwd=folder, input=json.dumps(request), capture_output=True, text=True, check=True)
    answer = json.loads(result.stdout)
    assert "contracts" in answer, answer.get("errors")
    contract: dict[str, Any] = answer["contracts"]["Peers.sol"]["Peers"]
    return contract


def main() -> None:
    """Measures, writes the results and shows them."""
    rows = measure()
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    table = Table("design", "batch", "contributors", "gas per inference", "on chain")
    for row in rows:
        people = "" if row.contributors is None else f"{row.contributors:,}"
        table.add_row(row.design, f"{row.batch:,}", people, f"{row.gas_per_inference:,.0f}", row.on_chain)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
