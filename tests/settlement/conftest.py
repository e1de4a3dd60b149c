"""A small real network for the flow tests: a chain, an anchored Datanet version, a registered model, staked people.

It is built once; each test gets its own copy, replayed from the chain's journal in a moment.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, Deployment, DevChain, GovernanceSettings, Holders, Role, deploy
from openledger.datanets import ContributionState, contribution_entry
from openledger.primitives import (
    PPM,
    WEI_PER_OPEN,
    ZERO_HASH,
    Contribution,
    MerkleTree,
    Receipt,
    keccak,
    record_hash,
    sign,
    to_hex,
)
from openledger.settlement import (
    Batch,
    ChainEscrow,
    MemoryVoucherStore,
    Payouts,
    PostedBatch,
    PrivateBody,
    ProposedRoot,
    ReceiptBody,
    Recompute,
    Recomputed,
    Validator,
    VoucherBook,
    VoucherSigner,
    activate,
    active_payouts,
    deposit,
    inference_fee,
    next_sequence,
    post_batch,
    prepare,
    propose_root,
    redeem,
    shares_root,
    sign_receipt,
    sort_shares,
    version_root,
)
from openledger.storage import BlobStore
from openledger.tokenomics import load_allocation

CONTRIBUTORS = ("ada", "ben")
REVIEWERS = ("rosa", "saul", "tess")
VALIDATORS = ("vera", "walt")
PRICE_IN, PRICE_OUT = WEI_PER_OPEN, 2 * WEI_PER_OPEN


def rows(contributor: str, count: int) -> list[dict[str, Any]]:
    """Records of one contributor."""
    return [
        {"question": f"What does {contributor} know about {n}?", "answer": f"{n} squared is {n * n}."}
        for n in range(count)
    ]


@dataclass
class World:
    """The network as a test sees it. Names are account names of the key store."""

    home: Path
    dev: DevChain
    chain: Chain
    blobs: BlobStore
    bodies: dict[int, list[ReceiptBody]] = field(default_factory=dict)
    privates: dict[bytes, PrivateBody] = field(default_factory=dict)
    _book: VoucherBook | None = None

    def wallet(self, name: str) -> LocalAccount:
        return self.dev.keys.wallet(name)

    def address(self, name: str) -> str:
        return self.wallet(name).address

    def send(self, name: str, contract: str, function: str, *arguments: Any, value: int = 0) -> Any:
        call = self.chain.contract(contract).functions[function](*arguments)
        return self.chain.send(self.wallet(name), call, value=value)

    @property
    def book(self) -> VoucherBook:
        if self._book is None:
            self._book = VoucherBook(
                self.address("host"),
                self.chain.domain("FeeEscrow"),
                ChainEscrow(self.chain),
                MemoryVoucherStore(),
                clock=self.chain.time,
            )
        return self._book

    def records(self) -> dict[str, bytes]:
        """Record hashes by "ada0", "ada1", …"""
        return {f"{name}{n}": record_hash(row) for name in CONTRIBUTORS for n, row in enumerate(rows(name, 3))}

    def ask(
        self, shares: Mapping[str, int], sequence: int, *, output: str = "It is so.", fee: int | None = None
    ) -> ReceiptBody:
        """One paid answer: the voucher is raised and accepted, the receipt signed."""
        pairs = sort_shares({self.records()[name]: ppm for name, ppm in shares.items()})
        residual = PPM - sum(ppm for _, ppm in pairs)
        private = PrivateBody.seal([{"role": "user", "content": "Is it so?"}], output)
        self.privates[private.digest()] = private
        tokens = len(output.split())
        price = inference_fee(4, tokens, PRICE_IN, PRICE_OUT) if fee is None else fee
        host, consumer = self.wallet("host"), self.wallet("consumer")
        signer = VoucherSigner(
            consumer, consumer.address, host.address, self.chain.domain("FeeEscrow"),
            signed=self.book.owed(consumer.address),
        )  # fmt: skip
        self.book.accept(signer.raise_by(price), price)
        receipt = Receipt(
            sequence=sequence, model=1, consumer=consumer.address, host=host.address, prompt_hash=private.prompt_hash,
            output_hash=private.output_hash, prompt_tokens=4, output_tokens=tokens, fee=price,
            shares_root=shares_root(pairs, residual), seed=7, time=self.chain.time(),
        )  # fmt: skip
        return sign_receipt(receipt, self.chain.domain("InferenceLedger"), host, pairs, residual, private.digest())

    def answer(self, *asked: Mapping[str, int]) -> PostedBatch:
        """Answers, posts the batch, and redeems the voucher."""
        first = next_sequence(self.chain, self.address("host"))
        posted = self.post([self.ask(shares, first + n) for n, shares in enumerate(asked)])
        self.redeem()
        return posted

    def post(self, bodies: list[ReceiptBody]) -> PostedBatch:
        posted = post_batch(self.chain, self.wallet("host"), bodies)
        self.bodies[posted.number] = bodies
        return posted

    def redeem(self) -> int:
        return sum(redeem(self.chain, self.wallet("host"), signed) for signed in self.book.unredeemed())

    @staticmethod
    def honest(body: ReceiptBody, private: PrivateBody) -> Recomputed:
        """The recomputation of somebody who finds what the host found."""
        tokens = len(private.output.split())
        return Recomputed(body.shares, body.residual_ppm, body.receipt.prompt_tokens, tokens, private.output)

    def submit(self, name: str, records: list[dict[str, Any]], nonce: int) -> None:
        submit(self, name, records, nonce)

    def review(self, number: int, verdicts: Mapping[str, int], **options: Any) -> None:
        review(self, number, verdicts, **options)

    def validator(self, name: str, recompute: Recompute | None = None) -> Validator:
        """A validator that the host shows everything it has published."""

        def shown(number: int) -> list[tuple[ReceiptBody, PrivateBody | None]]:
            return [(body, self.privates.get(body.private_hash)) for body in self.bodies[number]]

        return Validator(self.chain, self.wallet(name), self.blobs, shown, recompute or self.honest)

    def settle(self) -> ProposedRoot:
        """Prepares and proposes the next payout root."""
        return propose_root(self.chain, self.wallet("settler"), prepare(self.chain, self.blobs, self.published))

    def pay(self) -> Payouts:
        """Attests the open batches, settles, attests the root, activates it."""
        attested = self.chain.contract("InferenceLedger").functions.hasAttested
        for number in self.bodies:
            for name in VALIDATORS:
                if not self.chain.call(attested(number, self.address(name))):
                    self.validator(name).attest(number)
        root = self.settle()
        for name in VALIDATORS:
            self.validator(name).attest_root(root)
        activate(self.chain, self.wallet("bank"), root.number)
        return active_payouts(self.chain, self.blobs)

    def published(self, batch: Batch) -> list[ReceiptBody]:
        return self.bodies.get(batch.number, [])


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a network that has just begun."""
    home = tmp_path_factory.mktemp("network") / "home"
    with DevChain(home) as dev:
        chain = Chain(dev.rpc_url)
        bank, keys = dev.keys.wallet("bank"), dev.keys
        deployment = deploy(
            chain, keys.wallet("genesis"), load_allocation(), governance=GovernanceSettings.development(),
            holders=Holders(free={"community": bank.address}),
            settler=keys.wallet("settler").address, guardian=keys.wallet("guardian").address,
        )  # fmt: skip
        deployment.save(home / "deployment.json")
        world = World(home, dev, chain, BlobStore(home / "blobs"))
        staked = (
            {"host": Role.HOST} | dict.fromkeys(REVIEWERS, Role.REVIEWER) | dict.fromkeys(VALIDATORS, Role.VALIDATOR)
        )
        others = [*CONTRIBUTORS, "owner", "builder", "consumer", "settler", "guardian"]
        for name in [*staked, *others]:
            chain.transfer(bank, keys.wallet(name).address, 6_000 * WEI_PER_OPEN)
        for name, role in staked.items():
            amount = 5_000 if role == Role.VALIDATOR else 1_000
            world.send(name, "StakeManager", "stake", role, value=amount * WEI_PER_OPEN)
        world.send(
            "owner",
            "DatanetRegistry",
            "createDatanet",
            "squares",
            keccak(b"schema"),
            keccak(b"policy"),
            "",
            (0, 0, 0, 0, 0),
        )
        for number, name in enumerate(CONTRIBUTORS, start=1):
            contribute(world, number, name)
        anchor(world)
        register(world)
        deposit(chain, world.wallet("consumer"), 100 * WEI_PER_OPEN)
    return home


def contribute(world: World, number: int, name: str) -> None:
    """One contribution of three rows from submission to its end. Tess alone rejects the last row of ada; all reject ben2."""
    submit(world, name, rows(name, 3), nonce=0)
    verdicts = {reviewer: 0b011 if name == "ben" or reviewer == "tess" else 0b111 for reviewer in REVIEWERS}
    review(world, number, verdicts)


def submit(world: World, name: str, records: list[dict[str, Any]], nonce: int) -> None:
    """Submits records with their bond."""
    account = world.wallet(name)
    manifest = world.blobs.put_json(
        {"datanet": 1, "contributor": account.address, "licence": "CC-BY-4.0", "records": records,
         "intended_use": "test", "time": 1}
    )  # fmt: skip
    root = MerkleTree([keccak(record_hash(record)) for record in records]).root
    contribution = Contribution(1, account.address, root, len(records), "CC-BY-4.0", manifest, nonce)
    signature = sign(contribution, world.chain.domain("DatanetRegistry"), account)
    bond = len(records) * WEI_PER_OPEN // 20
    world.send(name, "DatanetRegistry", "submit", contribution.as_tuple(), signature, value=bond)


def review(world: World, number: int, verdicts: Mapping[str, int], *, shown: Sequence[str] = REVIEWERS) -> None:
    """One round: everyone commits, those in ``shown`` reveal. If some do not, the windows are waited for."""
    world.send("bank", "DatanetRegistry", "openReview", number)
    salts = {}
    for reviewer, bits in verdicts.items():
        salts[reviewer] = secrets.token_bytes(32)
        ballot = [number, world.address(reviewer), bytes([bits]), salts[reviewer]]
        sealed = keccak(encode(["uint256", "address", "bytes", "bytes32"], ballot))
        world.send(reviewer, "DatanetRegistry", "commitVerdict", number, sealed)
    for reviewer in shown:
        world.send(reviewer, "DatanetRegistry", "revealVerdict", number, bytes([verdicts[reviewer]]), salts[reviewer])
    if set(shown) != set(verdicts):
        world.dev.warp(3_601)
    world.send("bank", "DatanetRegistry", "endRound", number)
    if contribution_entry(world.chain, number).state is ContributionState.DISAGREED:
        world.send("bank", "DatanetRegistry", "openReview", number)  # nobody is left to join: the three decide
    if contribution_entry(world.chain, number).state is ContributionState.DECIDED:
        world.dev.warp(86_401)
        world.send("bank", "DatanetRegistry", "finalise", number)


def anchor(world: World) -> None:
    """Version 1: everything accepted but ada1, which its contributor took back."""
    accepted = [record_hash(row) for name, count in (("ada", 3), ("ben", 2)) for row in rows(name, count)]
    removed = world.records()["ada1"]
    kept = [record for record in accepted if record != removed]
    manifest = world.blobs.put_json({"removed": [to_hex(removed)]})
    world.send("owner", "DatanetRegistry", "anchorVersion", 1, version_root(kept), len(kept), [1, 2], manifest)


EVALUATION = {"attribution": {"contributors": {"lds": 0.8, "interval": [0.7, 0.9]}}}
"""What model 1's audit found: sure enough for all that the parameter allows."""


def register(world: World) -> None:
    """Model 1, trained on version 1."""
    root = bytes(world.chain.call(world.chain.contract("DatanetRegistry").functions.versions(1, 1))[0])
    hashes = [keccak(part) for part in (b"base", b"adapter")]
    rest = [keccak(b"recipe"), keccak(b"index"), world.blobs.put_json(EVALUATION)]
    world.send("builder", "ModelRegistry", "recordTraining", 1, 1, hashes[0], rest[0])
    model = (*hashes, root, *rest, 1, 1, PRICE_IN, PRICE_OUT, "", 0, 0, 1)
    world.send("builder", "ModelRegistry", "register", model)
    assert root != ZERO_HASH


@pytest.fixture
def world(built: Path, tmp_path: Path) -> Iterator[World]:
    """A copy of the network, running."""
    home = tmp_path / "home"
    shutil.copytree(built, home)
    with DevChain(home) as dev:
        chain = Chain(dev.rpc_url, Deployment.load(home / "deployment.json"))
        yield World(home, dev, chain, BlobStore(home / "blobs"))
