"""Payout roots on ``RewardsDistributor``: propose, attest, activate, claim, and what an account has earned."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from eth_account.signers.local import LocalAccount
from web3.contract.contract import ContractFunction
from web3.logs import DISCARD
from web3.types import TxReceipt

from openledger.chain import Chain
from openledger.primitives import (
    InputError,
    NotFoundError,
    PaymentError,
    WalletLink,
    check_signature,
    format_open,
    sign,
)
from openledger.settlement.context import Blobs
from openledger.settlement.documents import PayoutDocument
from openledger.settlement.payouts import Payouts, Role
from openledger.settlement.settlements import DISTRIBUTOR, ProposedRoot, load_document, proposed_roots


class RootState(StrEnum):
    """What has become of a payout root."""

    PENDING = "pending"
    READY = "ready"
    ACTIVE = "active"
    SUPERSEDED = "superseded"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Earnings:
    """What one account has earned and drawn, in wei.

    Attributes:
        by_role: cumulative earnings under the active root, by role.
        earned: their sum.
        claimed: what was paid out already.
        pending: what the newest proposed root adds once it is active.
    """

    by_role: dict[Role, int]
    earned: int
    claimed: int
    pending: int

    @property
    def claimable(self) -> int:
        """What a claim would pay now."""
        return max(0, self.earned - self.claimed)


def propose_root(chain: Chain, wallet: LocalAccount, document: PayoutDocument) -> ProposedRoot:
    """Proposes the document's root; ``wallet`` must be a settler.

    Raises:
        PaymentError: it promises more than was collected so far; the hosts must redeem first. Nothing was sent.
        RevertError: the distributor refused.
    """
    paid = document.payouts
    distributor = chain.contract(DISTRIBUTOR)
    collected = int(chain.call(distributor.functions.totalCollected()))
    if paid.total > collected:
        raise PaymentError(
            f"the payouts come to {format_open(paid.total)} OPEN and only {format_open(collected)} OPEN were collected; "
            "redeem the vouchers first"
        )
    call = distributor.functions.proposeRoot(paid.root, paid.total, paid.last_batch, document.digest())
    receipt = chain.send(wallet, call)
    event = distributor.events.RootProposed().process_receipt(receipt, errors=DISCARD)[0]
    return ProposedRoot(
        number=event["args"]["rootId"],
        root=paid.root,
        total=paid.total,
        last_batch=paid.last_batch,
        data_hash=document.digest(),
        activation_time=event["args"]["activationTime"],
        block_number=receipt["blockNumber"],
    )


def attest_root(chain: Chain, wallet: LocalAccount, number: int) -> None:
    """Attests, as a validator, that the root was recomputed; see :class:`openledger.settlement.validators.Validator`.

    Raises:
        RevertError: ``ValidatorNotActive``, ``AlreadyAttested``, ``RootIsDisabled``.
    """
    chain.send(wallet, chain.contract(DISTRIBUTOR).functions.attestRoot(number))


def activate(chain: Chain, wallet: LocalAccount, number: int) -> None:
    """Makes a root the active one; anyone may, once it is ready.

    Raises:
        RevertError: ``RootNotReady`` while validators have not attested and the delay runs.
    """
    chain.send(wallet, chain.contract(DISTRIBUTOR).functions.activate(number))


def disable(chain: Chain, wallet: LocalAccount, number: int) -> None:
    """Stops a root; ``wallet`` must be a guardian."""
    chain.send(wallet, chain.contract(DISTRIBUTOR).functions.disable(number))


def root_state(chain: Chain, number: int) -> RootState:
    """What has become of root ``number``.

    Raises:
        RevertError: ``UnknownRoot``.
    """
    functions = chain.contract(DISTRIBUTOR).functions
    if chain.events(DISTRIBUTOR, "RootDisabled", rootId=number):
        return RootState.DISABLED
    if chain.call(functions.activeRootId()) == number:
        return RootState.ACTIVE
    activated = [log["args"]["rootId"] for log in chain.events(DISTRIBUTOR, "RootActivated")]
    if number <= max(activated, default=0):
        return RootState.SUPERSEDED
    return RootState.READY if chain.call(functions.isReady(number)) else RootState.PENDING


def active_payouts(chain: Chain, blobs: Blobs) -> Payouts:
    """The payouts under the active root; empty if there is none.

    Raises:
        NotFoundError: the active root's document is not among the blobs.
    """
    active = int(chain.call(chain.contract(DISTRIBUTOR).functions.activeRootId()))
    if active == 0:
        return Payouts()
    root = next(root for root in proposed_roots(chain) if root.number == active)
    return load_document(blobs, root.data_hash).payouts


def claim_call(chain: Chain, account: str, payouts: Payouts, *, to: str | None = None) -> ContractFunction:
    """The call that claims for ``account``; arguments and errors as :func:`claim`.

    Raises:
        InputError: the account has earned nothing.
        NotFoundError: there is nothing more to claim.
    """
    earned = payouts.earned(account)
    if earned == 0:
        raise InputError(f"{account} has earned nothing yet; there is nothing to claim")
    functions = chain.contract(DISTRIBUTOR).functions
    if int(chain.call(functions.claimed(account))) >= earned:
        raise NotFoundError(f"{account} has claimed all of its {format_open(earned)} OPEN; wait for the next payout")
    proof = payouts.proof(account)
    if to is None:
        return functions.claim(account, earned, proof)
    return functions.claimTo(account, to, earned, proof)


def claim(chain: Chain, wallet: LocalAccount, account: str, payouts: Payouts, *, to: str | None = None) -> int:
    """Pays the holder of ``account`` what it has earned under the active root and not drawn; returns wei. ``wallet`` pays
    the gas. With ``to`` the money goes there, and ``wallet`` must be the account's holder or claimer.

    Raises:
        InputError: the account has earned nothing.
        NotFoundError: there is nothing more to claim; nothing was sent.
        RevertError: the distributor refused, for example ``InvalidProof`` for payouts that are not the active root's.
    """
    return claimed_in(chain, chain.send(wallet, claim_call(chain, account, payouts, to=to)))


def claimed_in(chain: Chain, receipt: TxReceipt) -> int:
    """What the transaction of a claim paid, in wei."""
    events = chain.contract(DISTRIBUTOR).events.Claimed().process_receipt(receipt, errors=DISCARD)
    return int(events[0]["args"]["amount"])


def holder_of(chain: Chain, account: str) -> str:
    """The wallet that holds what ``account`` earns: itself, or the last wallet that it was rotated to."""
    return str(chain.call(chain.contract(DISTRIBUTOR).functions.holderOf(account)))


def sign_link(chain: Chain, account: LocalAccount, successor: str, seconds: int = 3_600) -> tuple[WalletLink, bytes]:
    """A link by which ``successor`` can take over all that ``account`` has earned and will earn, and its signature.

    Only ``successor`` can use it, once, for ``seconds``; ``cancelLinks`` on the distributor makes it worthless before.

    Raises:
        InputError: an account cannot follow itself.
    """
    if successor == account.address:
        raise InputError(f"{successor} cannot follow itself; name the new wallet")
    nonce = int(chain.call(chain.contract(DISTRIBUTOR).functions.linkNonces(account.address)))
    link = WalletLink(account.address, successor, nonce, chain.time() + seconds)
    return link, sign(link, chain.domain(DISTRIBUTOR), account)


def rotate(chain: Chain, successor: LocalAccount, link: WalletLink, signature: bytes) -> None:
    """Moves the earnings of the link's account to ``successor``, for good.

    Raises:
        InputError: the link names another successor.
        SignatureError: its account did not sign it; nothing was sent.
        RevertError: ``LinkExpired``, ``AlreadyRotated``, ``InvalidSuccessor``, ``InvalidLinkSignature`` if it was cancelled.
    """
    if link.successor != successor.address:
        raise InputError(f"the link is made out to {link.successor}, not to {successor.address}")
    check_signature(link, chain.domain(DISTRIBUTOR), signature, link.account)
    chain.send(successor, chain.contract(DISTRIBUTOR).functions.rotate(link.account, link.deadline, signature))


def set_claimer(chain: Chain, holder: LocalAccount, account: str, claimer: str) -> None:
    """Lets ``claimer`` claim for ``account``, and strangers no more; the zero address takes it back.

    Raises:
        RevertError: ``NotHolder`` if ``holder`` does not hold the account.
    """
    chain.send(holder, chain.contract(DISTRIBUTOR).functions.setClaimer(account, claimer))


def earnings(chain: Chain, account: str, active: Payouts, newest: Payouts | None = None) -> Earnings:
    """What ``account`` has earned under the active payouts, and what the newest proposed ones add."""
    earned = active.earned(account)
    return Earnings(
        by_role=active.by_role(account),
        earned=earned,
        claimed=int(chain.call(chain.contract(DISTRIBUTOR).functions.claimed(account))),
        pending=max(0, (newest or active).earned(account) - earned),
    )
