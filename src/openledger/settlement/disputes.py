"""Disputes: challenging one receipt or one payout root with a bond, and judging it as a drawn validator.

A challenger names the result that it gets; somebody answers with the same bond, or the challenge is upheld; a jury of validators
drawn afterwards recomputes. See ``contracts/src/interfaces/IDisputes.sol`` for the rules and who is paid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain, parameter_key
from openledger.primitives import (
    ZERO_HASH,
    InputError,
    NotFoundError,
    PaymentError,
    Signer,
    format_open,
    keccak,
    to_hex,
)
from openledger.settlement.batches import LEDGER, proof_from_chain
from openledger.settlement.receipts import ReceiptBody, check_shares, shares_root
from openledger.settlement.settlements import ProposedRoot, WritableBlobs, proposed_roots
from openledger.settlement.validators import Validator

COURT = "Disputes"


class DisputeKind(IntEnum):
    """What is disputed; the numbers are the contract's."""

    RECEIPT = 0
    ROOT = 1


class DisputeState(IntEnum):
    """Where a dispute stands; the numbers are the contract's."""

    OPEN = 1
    ANSWERED = 2
    VOTING = 3
    UPHELD = 4
    REJECTED = 5
    VOID = 6

    @property
    def decided(self) -> bool:
        """Whether nothing more can happen."""
        return self >= DisputeState.UPHELD


@dataclass(frozen=True)
class Dispute:
    """One dispute as it stands. Amounts in wei, times in Unix seconds.

    Attributes:
        number: its id, from 1.
        kind: what is disputed.
        state: where it stands.
        round: juries drawn so far.
        challenger: who says that it is wrong.
        accused: who posted the receipt, or proposed the root.
        defender: who answered; None while nobody has.
        bond: what each side has put up.
        subject: the batch, or the payout root.
        sequence: the receipt's sequence; 0 for a root.
        claim: 32 bytes, the shares root or payout root that the challenger gets; zero if none.
        evidence: hash of what the challenger published.
        answer_end: until when it can be answered.
        commit_end: until when jurors can commit.
        reveal_end: until when they can reveal.
        upholds: revealed verdicts for the challenger in this round.
        rejects: revealed verdicts against.
        jury: the jurors of this round.
    """

    number: int
    kind: DisputeKind
    state: DisputeState
    round: int
    challenger: str
    accused: str
    defender: str | None
    bond: int
    subject: int
    sequence: int
    claim: bytes
    evidence: bytes
    answer_end: int
    commit_end: int
    reveal_end: int
    upholds: int
    rejects: int
    jury: tuple[str, ...]


def bond(chain: Chain) -> int:
    """What each side of a new dispute must put up, in wei."""
    return int(chain.call(chain.contract("RuntimeParameters").functions.get(parameter_key("dispute.bond"))))


def dispute(chain: Chain, number: int) -> Dispute:
    """One dispute.

    Raises:
        NotFoundError: there is no such dispute.
    """
    functions = chain.contract(COURT).functions
    if not 1 <= number <= int(chain.call(functions.disputeCount())):
        raise NotFoundError(f"there is no dispute {number} on chain {chain.chain_id}")
    (kind, state, round_, challenger, accused, defender, put, subject, sequence, claim, evidence,
     answer_end, _, commit_end, reveal_end, _, upholds, rejects, _) = chain.call(functions.dispute(number))  # fmt: skip
    return Dispute(
        number=number, kind=DisputeKind(kind), state=DisputeState(state), round=round_, challenger=challenger,
        accused=accused, defender=None if int(defender, 16) == 0 else defender, bond=put, subject=subject,
        sequence=sequence, claim=bytes(claim), evidence=bytes(evidence), answer_end=answer_end, commit_end=commit_end,
        reveal_end=reveal_end, upholds=upholds, rejects=rejects, jury=tuple(chain.call(functions.jury(number))),
    )  # fmt: skip


def disputes(chain: Chain) -> list[Dispute]:
    """All disputes, in the order in which they were opened."""
    count = int(chain.call(chain.contract(COURT).functions.disputeCount()))
    return [dispute(chain, number) for number in range(1, count + 1)]


def challenge_receipt(
    chain: Chain,
    blobs: WritableBlobs,
    wallet: LocalAccount,
    body: ReceiptBody,
    why: str,
    shares: Sequence[tuple[bytes, int]] | None = None,
    residual_ppm: int = 0,
) -> Dispute:
    """Challenges a posted receipt by naming the shares that ``wallet`` gets, and publishes why.

    Args:
        chain: with its deployment.
        blobs: receives the evidence.
        wallet: pays the bond, which is lost if the challenge is rejected.
        body: the receipt as its host published it.
        why: what is wrong, in words.
        shares: (record hash, ppm) pairs in the receipt's order; None if the answer cannot be recomputed, or something else
            than the shares is wrong.
        residual_ppm: the base model's part; shares and residual sum to 1,000,000.

    Raises:
        InputError: the shares do not sum to a million, or are the receipt's own.
        NotFoundError: the receipt is not posted.
        PaymentError: the account cannot pay the bond; nothing was sent.
        RevertError: ``WindowOver``, ``BatchAlreadyDisabled``, ``AlreadyDisputed``.
    """
    claim = ZERO_HASH
    if shares is not None:
        check_shares(shares, residual_ppm)
        claim = shares_root(tuple(shares), residual_ppm)
        if claim == body.receipt.shares_root:
            raise InputError("these are the receipt's own shares; there is nothing to dispute")
    proof = proof_from_chain(chain, body.receipt.host, body.receipt.sequence)
    put = _affordable_bond(chain, wallet)
    digest = body.digest(chain.domain(LEDGER))
    evidence = blobs.put_json(
        {
            "kind": "openledger.challenge/1",
            "chain_id": chain.chain_id,
            "receipt": to_hex(digest),
            "shares": None if shares is None else [[to_hex(record), ppm] for record, ppm in shares],
            "residual_ppm": residual_ppm,
            "why": why,
        }
    )
    call = chain.contract(COURT).functions.challengeReceipt(
        proof.batch, body.receipt.as_tuple(), list(proof.siblings), claim, evidence
    )
    return _opened(chain, chain.send(wallet, call, put))


def challenge_root(
    chain: Chain, blobs: WritableBlobs, wallet: LocalAccount, number: int, why: str, claim: bytes = ZERO_HASH
) -> Dispute:
    """Challenges a payout root that is not active yet; ``claim`` is the root that ``wallet`` gets, if any.

    Raises:
        PaymentError: the account cannot pay the bond; nothing was sent.
        RevertError: ``UnknownRoot``, ``RootSuperseded``, ``RootIsDisabled``, ``AlreadyDisputed``, ``NothingToDispute``.
    """
    put = _affordable_bond(chain, wallet)
    evidence = blobs.put_json(
        {
            "kind": "openledger.challenge/1",
            "chain_id": chain.chain_id,
            "root": number,
            "claim": to_hex(claim),
            "why": why,
        }
    )
    return _opened(
        chain, chain.send(wallet, chain.contract(COURT).functions.challengeRoot(number, claim, evidence), put)
    )


def answer(chain: Chain, wallet: LocalAccount, number: int) -> Dispute:
    """Stands up for what was challenged, with the same bond.

    Raises:
        RevertError: ``AnswerTimeOver``, ``ChallengerCannotAnswer``, ``WrongState``.
    """
    put = dispute(chain, number).bond
    chain.send(wallet, chain.contract(COURT).functions.answer(number), put)
    return dispute(chain, number)


def draw_jury(chain: Chain, wallet: LocalAccount, number: int) -> tuple[str, ...]:
    """Draws the jury of an answered dispute; empty if nobody could be drawn and another block was fixed.

    Raises:
        RevertError: ``DrawNotReady``, ``WrongState``.
    """
    chain.send(wallet, chain.contract(COURT).functions.drawJury(number))
    found = dispute(chain, number)
    return found.jury if found.state is DisputeState.VOTING else ()


def resolve(chain: Chain, wallet: LocalAccount, number: int) -> Dispute:
    """Ends a challenge that nobody answered, or a round whose verdicts are in.

    Raises:
        RevertError: ``AnswerTimeRunning``, ``VotingNotOver``, ``WrongState``.
    """
    chain.send(wallet, chain.contract(COURT).functions.resolve(number))
    return dispute(chain, number)


class Juror:
    """A validator in a jury. Its verdict is what it recomputes; its salt follows from its key, so nothing is kept.

    Args:
        chain: with its deployment.
        wallet: the drawn account.
        validator: the same account as validator; it recomputes.
    """

    def __init__(self, chain: Chain, wallet: LocalAccount, validator: Validator) -> None:
        self._chain = chain
        self._wallet = wallet
        self._validator = validator

    def problems(self, found: Dispute) -> list[str]:
        """What is wrong with what is disputed; empty if nothing, and then the challenge is to be rejected."""
        if found.kind is DisputeKind.RECEIPT:
            return self._validator.examine(found.subject, found.sequence)
        return self._validator.examine_root(_root(self._chain, found.subject))

    def commit(self, number: int, upheld: bool) -> None:
        """Commits to a verdict.

        Raises:
            RevertError: ``NotJuror``, ``CommitWindowOver``, ``AlreadyCommitted``.
        """
        found = dispute(self._chain, number)
        ballot = [number, found.round, self._wallet.address, upheld, self._salt(found)]
        sealed = keccak(encode(["uint256", "uint256", "address", "bool", "bytes32"], ballot))
        self._chain.send(self._wallet, self._chain.contract(COURT).functions.commitVerdict(number, sealed))

    def reveal(self, number: int, upheld: bool) -> None:
        """Reveals the verdict that was committed to.

        Raises:
            RevertError: ``CommitWindowOpen``, ``RevealWindowOver``, ``CommitmentMismatch``.
        """
        salt = self._salt(dispute(self._chain, number))
        self._chain.send(self._wallet, self._chain.contract(COURT).functions.revealVerdict(number, upheld, salt))

    def _salt(self, found: Dispute) -> bytes:
        """Hash of a signature that only this key can make (RFC 6979), over what names this verdict."""
        domain = self._chain.domain(COURT).separator()
        place = keccak(b"openledger dispute salt", domain, encode(["uint256", "uint256"], [found.number, found.round]))
        signer: Signer = self._wallet
        return keccak(bytes(signer.unsafe_sign_hash(place).signature))


def _root(chain: Chain, number: int) -> ProposedRoot:
    for root in proposed_roots(chain):
        if root.number == number:
            return root
    raise NotFoundError(f"there is no payout root {number} on chain {chain.chain_id}")


def _affordable_bond(chain: Chain, wallet: LocalAccount) -> int:
    put, held = bond(chain), chain.balance(wallet.address)
    if held <= put:
        raise PaymentError(
            f"a challenge needs a bond of {format_open(put)} OPEN and {wallet.address} has {format_open(held)}; pay it in first"
        )
    return put


def _opened(chain: Chain, receipt: Any) -> Dispute:
    event = chain.contract(COURT).events.DisputeOpened().process_receipt(receipt, errors=DISCARD)[0]
    return dispute(chain, int(event["args"]["id"]))
