"""Each flow of the protocol on a real chain, from the first transaction to the last, with the attacks on it."""

from __future__ import annotations

import pytest
from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from openledger.chain import Role, parameter_key
from openledger.primitives import (
    WEI_PER_OPEN,
    Contribution,
    Domain,
    MerkleTree,
    Receipt,
    RevertError,
    Voucher,
    keccak,
    sign,
    standard_leaf,
)
from tests.chain.conftest import Network, deployed

BOND = WEI_PER_OPEN // 20
SUBMITTED, DECIDED, FINALISED = 1, 4, 6
RECORDS = [keccak(f"record {number}".encode()) for number in range(10)]


class Datanet:
    """A Datanet on the shared chain, with the persons who act on it."""

    def __init__(self, network: Network) -> None:
        self.network, self.chain = network, network.chain
        self.registry = network.chain.contract("DatanetRegistry").functions
        self.owner, self.contributor, self.relayer = network.actor(), network.actor(), network.actor()
        self.chain.send(self.owner, self.registry.createDatanet("exploits", bytes(32), bytes(32), "", (0, 0, 0, 0, 0)))
        created = self.chain.events("DatanetRegistry", "DatanetCreated", owner=self.owner.address)
        self.id = int(created[-1]["args"]["datanet"])

    def message(self, **changes: object) -> Contribution:
        """The contributor's next contribution of ten records."""
        root = MerkleTree([keccak(record) for record in RECORDS]).root
        nonce = self.registry.nonces(self.contributor.address).call()
        fields: dict[str, object] = {
            "datanet": self.id,
            "contributor": self.contributor.address,
            "records_root": root,
            "count": len(RECORDS),
            "licence": "CC-BY-4.0",
            "manifest": keccak(b"manifest"),
            "nonce": nonce,
        }
        return Contribution(**{**fields, **changes})  # type: ignore[arg-type]

    def submit(self, message: Contribution, signature: bytes) -> int:
        """Submits, paid by the relayer; returns the contribution's id."""
        call = self.registry.submit(message.as_tuple(), signature)
        self.chain.send(self.relayer, call, message.count * BOND)
        events = self.chain.events("DatanetRegistry", "ContributionSubmitted", contributor=self.contributor.address)
        return int(events[-1]["args"]["id"])

    def submitted(self) -> int:
        """Submits a properly signed contribution."""
        message = self.message()
        return self.submit(message, sign(message, self.chain.domain("DatanetRegistry"), self.contributor))

    def vote(self, contribution: int, verdicts: dict[str, bytes], jurors: dict[str, LocalAccount]) -> None:
        """Commits and reveals each verdict."""
        for address, verdict in verdicts.items():
            commitment = keccak(
                encode(["uint256", "address", "bytes", "bytes32"], [contribution, address, verdict, bytes(32)])
            )
            self.chain.send(jurors[address], self.registry.commitVerdict(contribution, commitment))
        for address, verdict in verdicts.items():
            self.chain.send(jurors[address], self.registry.revealVerdict(contribution, verdict, bytes(32)))

    def conclude(self, contribution: int) -> None:
        """Ends the round; what it decides is made final when its challenge window is over."""
        self.chain.send(self.relayer, self.registry.endRound(contribution))
        if self.registry.contribution(contribution).call()[4] == DECIDED:
            self.network.dev.warp(86_401)
            self.chain.send(self.relayer, self.registry.finalise(contribution))


@pytest.fixture(scope="module")
def reviewers(network: Network) -> dict[str, LocalAccount]:
    """Four reviewers with stake, by address."""
    accounts = [network.staker(Role.REVIEWER, 2_000) for _ in range(4)]
    return {account.address: account for account in accounts}


def test_a_contribution_is_submitted_reviewed_slashed_and_anchored(
    network: Network, reviewers: dict[str, LocalAccount]
) -> None:
    datanet = Datanet(network)
    chain, registry = datanet.chain, datanet.registry
    before = chain.balance(datanet.contributor.address)
    contribution = datanet.submitted()
    chain.send(datanet.relayer, registry.openReview(contribution))
    jury = registry.jury(contribution).call()
    assert len(set(jury)) == 3
    assert set(jury) <= set(reviewers)
    # Records 0 to 7 pass; 8 passes with one vote only; 9 with none.
    verdicts = dict(zip(jury, (b"\xff\x01", b"\xff\x00", b"\xff\x00"), strict=True))
    datanet.vote(contribution, verdicts, reviewers)
    treasury = chain.balance(chain.address("TimelockController"))
    chain.send(datanet.relayer, registry.endRound(contribution))
    # They disagree on record 8: the one reviewer who is left joins them.
    chain.send(datanet.relayer, registry.openReview(contribution))
    jury = registry.jury(contribution).call()
    assert set(jury) == set(reviewers)
    datanet.vote(contribution, {jury[3]: b"\xff\x00"}, reviewers)
    datanet.conclude(contribution)

    entry = registry.contribution(contribution).call()
    assert (entry[4], entry[3]) == (FINALISED, 8)
    assert registry.acceptedBitmap(contribution).call() == b"\xff\x00"
    assert registry.reviewersOf(contribution).call() == jury
    assert chain.balance(datanet.contributor.address) - before == 8 * BOND
    each = 2 * BOND // 2 // 4
    assert chain.balance(chain.address("TimelockController")) - treasury == 2 * BOND - 4 * each
    (slashed,) = chain.events("DatanetRegistry", "BondSlashed", id=contribution)
    assert slashed["args"]["amount"] == 2 * BOND

    accepted = sorted(RECORDS[:8])
    root = MerkleTree([keccak(record) for record in accepted]).root
    with pytest.raises(RevertError, match="RecordsExceedAccepted"):
        chain.send(datanet.owner, registry.anchorVersion(datanet.id, root, 9, [contribution], bytes(32)))
    with pytest.raises(RevertError, match="NotDatanetOwner"):
        chain.send(datanet.contributor, registry.anchorVersion(datanet.id, root, 8, [contribution], bytes(32)))
    chain.send(datanet.owner, registry.anchorVersion(datanet.id, root, 8, [contribution], keccak(b"version")))
    assert registry.versions(datanet.id, 1).call()[0] == root


def test_absent_jurors_pay_and_a_round_without_a_majority_is_drawn_again(
    network: Network, reviewers: dict[str, LocalAccount]
) -> None:
    datanet = Datanet(network)
    chain, registry = datanet.chain, datanet.registry
    stakes = chain.contract("StakeManager").functions
    contribution = datanet.submitted()
    chain.send(datanet.relayer, registry.openReview(contribution))
    jury = registry.jury(contribution).call()
    held = [stakes.stakeOf(Role.REVIEWER, juror).call() for juror in jury]
    with pytest.raises(RevertError, match="ReviewNotOver"):
        datanet.conclude(contribution)
    network.dev.warp(3_600)
    datanet.conclude(contribution)
    assert registry.contribution(contribution).call()[4] == SUBMITTED
    penalty = chain.contract("RuntimeParameters").functions.get(parameter_key("review.noreveal")).call()
    assert [stakes.stakeOf(Role.REVIEWER, juror).call() for juror in jury] == [stake - penalty for stake in held]
    chain.send(datanet.relayer, registry.openReview(contribution))
    second = registry.jury(contribution).call()
    datanet.vote(contribution, dict.fromkeys(second, b"\xff\x03"), reviewers)
    datanet.conclude(contribution)
    assert registry.contribution(contribution).call()[3] == 10


def test_the_jury_is_the_same_whoever_asks_and_however_late(
    network: Network, reviewers: dict[str, LocalAccount]
) -> None:
    datanet = Datanet(network)
    contribution = datanet.submitted()
    foreseen = datanet.chain.call(datanet.registry.openReview(contribution), block="pending")
    assert foreseen
    # Someone who knows the seed now stakes far more than all others together: it does not help.
    whale = network.staker(Role.REVIEWER, 500_000)
    datanet.chain.send(datanet.relayer, datanet.registry.openReview(contribution))
    jury = datanet.registry.jury(contribution).call()
    assert whale.address not in jury
    assert set(jury) <= set(reviewers)
    stakes = datanet.chain.contract("StakeManager").functions
    datanet.chain.send(whale, stakes.requestUnstake(Role.REVIEWER, 500_000 * WEI_PER_OPEN))


def test_those_without_stake_are_never_drawn(network: Network, reviewers: dict[str, LocalAccount]) -> None:
    datanet = Datanet(network)
    stakes = datanet.chain.contract("StakeManager").functions
    gone = network.staker(Role.REVIEWER, 900_000)
    datanet.chain.send(gone, stakes.requestUnstake(Role.REVIEWER, 900_000 * WEI_PER_OPEN))
    for _ in range(3):
        contribution = datanet.submitted()
        datanet.chain.send(datanet.relayer, datanet.registry.openReview(contribution))
        assert set(datanet.registry.jury(contribution).call()) <= set(reviewers)


def test_a_copied_commitment_is_worthless_to_the_copier(network: Network, reviewers: dict[str, LocalAccount]) -> None:
    datanet = Datanet(network)
    chain, registry = datanet.chain, datanet.registry
    contribution = datanet.submitted()
    chain.send(datanet.relayer, registry.openReview(contribution))
    honest, copier, third = registry.jury(contribution).call()
    verdict, salt = b"\xff\x03", keccak(b"secret")
    types = ["uint256", "address", "bytes", "bytes32"]
    commitment = keccak(encode(types, [contribution, honest, verdict, salt]))
    for juror in (honest, copier, third):
        chain.send(reviewers[juror], registry.commitVerdict(contribution, commitment))
    chain.send(reviewers[honest], registry.revealVerdict(contribution, verdict, salt))
    with pytest.raises(RevertError, match="CommitmentMismatch"):
        chain.send(reviewers[copier], registry.revealVerdict(contribution, verdict, salt))


def test_a_signature_is_worth_nothing_twice_elsewhere_or_changed(network: Network) -> None:
    datanet = Datanet(network)
    message = datanet.message()
    domain = datanet.chain.domain("DatanetRegistry")
    for wrong in (
        Domain(1, domain.verifying_contract),
        Domain(domain.chain_id, datanet.chain.address("FeeEscrow")),
    ):
        with pytest.raises(RevertError, match="InvalidContributionSignature"):
            datanet.submit(message, sign(message, wrong, datanet.contributor))
    with pytest.raises(RevertError, match="InvalidContributionSignature"):
        datanet.submit(datanet.message(licence="MIT"), sign(message, domain, datanet.contributor))
    with pytest.raises(RevertError, match="InvalidContributionSignature"):
        datanet.submit(message, sign(message, domain, datanet.relayer))
    signature = sign(message, domain, datanet.contributor)
    datanet.submit(message, signature)
    with pytest.raises(RevertError, match="WrongNonce"):
        datanet.submit(message, signature)


def test_fees_go_from_deposit_to_claim_and_not_a_wei_is_lost(network: Network) -> None:
    chain, dev = network.chain, network.dev
    escrow, distributor = chain.contract("FeeEscrow").functions, chain.contract("RewardsDistributor").functions
    ledger = chain.contract("InferenceLedger").functions
    consumer, session, host = network.actor(1_000), network.actor(1), network.staker(Role.HOST, 1_000)
    validators = [network.staker(Role.VALIDATOR, 5_000) for _ in range(3)]
    settler, guardian = dev.keys.wallet("settler"), dev.keys.wallet("guardian")

    chain.send(consumer, escrow.deposit(consumer.address), 500 * WEI_PER_OPEN)
    cap = 10 * WEI_PER_OPEN
    chain.send(consumer, escrow.setSessionKey(session.address, cap, chain.time() + 86_400))
    over = Voucher(consumer.address, host.address, cap + 1)
    domain = chain.domain("FeeEscrow")
    with pytest.raises(RevertError, match="SessionKeyCapExceeded"):
        chain.send(host, escrow.redeem(over.as_tuple(), sign(over, domain, session)))
    with pytest.raises(RevertError, match="VoucherSignerNotAuthorised"):
        chain.send(host, escrow.redeem(over.as_tuple(), sign(over, domain, host)))
    beyond = Voucher(consumer.address, host.address, 501 * WEI_PER_OPEN)
    with pytest.raises(RevertError, match="InsufficientDeposit"):
        chain.send(host, escrow.redeem(beyond.as_tuple(), sign(beyond, domain, consumer)))
    collected = distributor.totalCollected().call()
    voucher = Voucher(consumer.address, host.address, cap)
    chain.send(host, escrow.redeem(voucher.as_tuple(), sign(voucher, domain, session)))
    with pytest.raises(RevertError, match="VoucherNotHigher"):
        chain.send(host, escrow.redeem(voucher.as_tuple(), sign(voucher, domain, session)))
    assert distributor.totalCollected().call() == collected + cap

    receipt = Receipt(0, 1, consumer.address, host.address, *[bytes(32)] * 2, 3, 4, cap, bytes(32), 5, chain.time())
    digest = receipt.digest(chain.domain("InferenceLedger"))
    leaves = [digest[:24], keccak(b"other")[:24]]
    chain.send(host, ledger.post(0, b"".join(leaves)))
    batch = ledger.batchCount().call()
    tree = MerkleTree([leaf + bytes(8) for leaf in leaves])
    assert ledger.verifyReceipt(batch, receipt.as_tuple(), tree.proof(0)).call()
    for validator in validators:
        chain.send(validator, ledger.attest(batch, True, keccak(b"report")))
    with pytest.raises(RevertError, match="AlreadyAttested"):
        chain.send(validators[0], ledger.attest(batch, False, bytes(32)))

    alice, bob = network.actor(1), network.actor(1)
    # Other tests may have left fees; the root's total must not be below an earlier one, so it takes all collected.
    total = distributor.totalCollected().call()
    amounts = {alice.address: total - total // 3, bob.address: total // 3}
    order = sorted(amounts, key=lambda address: int(address, 16))
    leaves = [standard_leaf(["address", "uint256"], [address, amounts[address]]) for address in order]
    payouts = MerkleTree(leaves)
    with pytest.raises(RevertError, match="AccessManagedUnauthorized"):
        chain.send(alice, distributor.proposeRoot(payouts.root, total, batch, bytes(32)))
    with pytest.raises(RevertError, match="TotalOutOfBounds"):
        chain.send(settler, distributor.proposeRoot(payouts.root, total + 1, batch, bytes(32)))
    chain.send(settler, distributor.proposeRoot(payouts.root, total, batch, bytes(32)))
    root = distributor.rootCount().call()
    with pytest.raises(RevertError, match="RootNotReady"):
        chain.send(alice, distributor.activate(root))
    for validator in validators:
        chain.send(validator, distributor.attestRoot(root))
    chain.send(alice, distributor.activate(root))

    proof = payouts.proof(order.index(alice.address))
    before = chain.balance(alice.address)
    with pytest.raises(RevertError, match="InvalidProof"):
        chain.send(bob, distributor.claim(alice.address, amounts[alice.address] + 1, proof))
    with pytest.raises(RevertError, match="InvalidProof"):
        chain.send(bob, distributor.claim(bob.address, amounts[alice.address], proof))
    chain.send(bob, distributor.claim(alice.address, amounts[alice.address], proof))
    assert chain.balance(alice.address) == before + amounts[alice.address]
    with pytest.raises(RevertError, match="NothingToClaim"):
        chain.send(bob, distributor.claim(alice.address, amounts[alice.address], proof))
    assert chain.balance(chain.address("RewardsDistributor")) == total - amounts[alice.address]

    chain.send(guardian, distributor.disable(root))
    with pytest.raises(RevertError, match="NoActiveRoot"):
        chain.send(bob, distributor.claim(bob.address, amounts[bob.address], payouts.proof(order.index(bob.address))))
    for validator in validators:
        stakes = chain.contract("StakeManager").functions
        chain.send(validator, stakes.requestUnstake(Role.VALIDATOR, 5_000 * WEI_PER_OPEN))


def test_a_withdrawal_waits_for_its_delay(network: Network) -> None:
    chain = network.chain
    escrow = chain.contract("FeeEscrow").functions
    consumer = network.actor(100)
    chain.send(consumer, escrow.deposit(consumer.address), 50 * WEI_PER_OPEN)
    chain.send(consumer, escrow.requestWithdrawal(50 * WEI_PER_OPEN))
    with pytest.raises(RevertError, match="WithdrawalNotReady"):
        chain.send(consumer, escrow.withdraw())
    network.dev.warp(3_600)
    chain.send(consumer, escrow.withdraw())
    assert escrow.depositOf(consumer.address).call() == 0
    assert chain.balance(consumer.address) > 99 * WEI_PER_OPEN


def test_a_vote_changes_a_parameter_and_the_next_batch_carries_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    network = deployed(tmp_path_factory.mktemp("governance"))
    try:
        chain, dev = network.chain, network.dev
        governor, token = chain.contract("OpenLedgerGovernor"), chain.contract("GOPEN").functions
        parameters = chain.contract("RuntimeParameters")
        host = network.staker(Role.HOST, 1_000)
        voter = network.actor(6_000_100)
        chain.send(voter, token.deposit(), 6_000_000 * WEI_PER_OPEN)
        chain.send(voter, token.delegate(voter.address))
        dev.warp(1)
        data = parameters.encode_abi("set", [parameter_key("fee.host"), 100_000])
        action = ([parameters.address], [0], [data])
        why = "Lower the host's share"
        chain.send(voter, governor.functions.propose(*action, why))
        proposal = chain.events("OpenLedgerGovernor", "ProposalCreated")[-1]["args"]["proposalId"]
        dev.warp(31)
        chain.send(voter, governor.functions.castVote(proposal, 1))
        dev.warp(301)
        queued = (*action, keccak(why.encode()))
        chain.send(host, governor.functions.queue(*queued))
        with pytest.raises(RevertError):
            chain.send(host, governor.functions.execute(*queued))
        dev.warp(61)
        chain.send(host, governor.functions.execute(*queued))
        assert parameters.functions.get(parameter_key("fee.host")).call() == 100_000
        chain.send(host, chain.contract("InferenceLedger").functions.post(0, keccak(b"x")[:24]))
        (batch,) = chain.events("InferenceLedger", "BatchPosted")
        assert batch["args"]["split"] == [600_000, 150_000, 100_000, 50_000, 50_000]
    finally:
        network.dev.stop()
