"""What people do with their own wallets: the node prepares and checks, the wallet signs and sends, its key never comes here.

A :class:`Step` is one transaction with a sentence of what it does and costs. It was tried against the chain when it was made,
so that a refusal is told before the wallet is asked. Nothing is stored for a step that is not taken.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from eth_utils.address import is_address, to_checksum_address
from sqlalchemy import select
from web3.contract.contract import ContractFunction
from web3.types import TxReceipt

from openledger import governance
from openledger.chain import Chain, Role, UnsignedTransaction
from openledger.datanets import Record, bond_of, submission_call, submitted_in
from openledger.node import views
from openledger.node.accounts import Accounts, read_role
from openledger.node.curating import Curation, Draft
from openledger.node.reading import Reader
from openledger.openlora import Piece
from openledger.primitives import ChainError, InputError, PaymentError, format_open, from_hex
from openledger.settlement import ChainEscrow, VoucherBook, claim_call, claimed_in
from openledger.storage import BlobStore, Database, VerdictRecord
from openledger.studio import ApiKey, InferenceService, Prompt, Sampling

ESCROW, STAKES, GOPEN = "FeeEscrow", "StakeManager", "GOPEN"
_RECENT = 20
_MOST_DAYS = 3650
_NOBODY = "0x" + "0" * 40


@dataclass(frozen=True)
class Step:
    """One transaction for the account's wallet, and what it does and costs in words."""

    sentence: str
    transaction: UnsignedTransaction


@dataclass(frozen=True)
class Offer:
    """Records that an account wants to contribute: what its wallet is asked to sign (EIP-712), and what the gate noticed."""

    draft: Draft
    typed_data: dict[str, Any]
    findings: list[views.GateFinding]
    sentence: str


class WalletDesk:
    """Prepares and checks the acts of accounts whose keys this node does not hold.

    Args:
        chain: with its deployment.
        blobs: the public blobs.
        database: the reviewers' reasons.
        reader: views of the network.
        curation: drafts contributions.
        accounts: reads stakes.
        escrow: deposits and session keys.
        book: what is promised to this node's host.
        inference: answers questions.
        secret: this node's, from which each account's session key is made.
    """

    def __init__(
        self,
        chain: Chain,
        blobs: BlobStore,
        database: Database,
        reader: Reader,
        curation: Curation,
        accounts: Accounts,
        escrow: ChainEscrow,
        book: VoucherBook,
        inference: Callable[[], InferenceService],
        secret: str,
        host: str,
    ) -> None:
        self._chain = chain
        self._blobs = blobs
        self._database = database
        self._reader = reader
        self._curation = curation
        self._accounts = accounts
        self._escrow = escrow
        self._book = book
        self._inference = inference
        self._secret = secret.encode()
        self._host = host

    # ---- reading ---------------------------------------------------------------------------------------------

    def view(self, account: str) -> views.AccountView:
        """What the account holds, is owed and has done."""
        power = governance.voting_power(self._chain, account)
        payouts = self._reader.active_payouts()
        distributor = self._chain.contract("RewardsDistributor").functions
        stakes = [self._accounts.stake_of(account, role.name.lower()) for role in Role]
        return views.AccountView(
            party=self._reader.party(account),
            balance=self._chain.balance(account),
            funds=self.funds(account),
            gopen=power.balance,
            votes=power.votes,
            delegate=None if power.delegate == _NOBODY else self._reader.party(power.delegate),
            earned=payouts.earned(account),
            claimed=int(self._chain.call(distributor.claimed(account))),
            stakes=[row for row in stakes if row.staked or row.leaving],
            contributions=self._reader.contributions_of(account),
            reviews=self._reviews(account),
            receipts=self._reader.receipts_of(account, 0, _RECENT)[0],
        )

    def funds(self, account: str) -> views.FundsView:
        """What pays the account's questions, as the chain has it now."""
        self._escrow.forget()
        return views.FundsView(self._escrow.deposit_of(account), self._session(account))

    def _session(self, account: str) -> views.SessionKeyRow:
        address = self._key(account).signer.address
        key = self._escrow.session_key(account, address)
        owed = self._book.owed(account) - self._escrow.redeemed(account, self._host)
        return views.SessionKeyRow(address, key.cap, key.spent, owed, key.expiry)

    def _reviews(self, account: str) -> list[tuple[int, views.VerdictRow]]:
        party = self._reader.party(account)
        with self._database.session() as session:
            rows = select(VerdictRecord).where(VerdictRecord.reviewer == account)
            rows = rows.order_by(VerdictRecord.contribution.desc(), VerdictRecord.position).limit(_RECENT)
            return [
                (row.contribution, views.VerdictRow(party, row.accept, row.reason)) for row in session.scalars(rows)
            ]

    # ---- steps -----------------------------------------------------------------------------------------------

    def claim(self, account: str) -> Step:
        """Claims what the account has earned.

        Raises:
            InputError: it has earned nothing.
            NotFoundError: there is nothing more to claim.
        """
        payouts = self._reader.active_payouts()
        call = claim_call(self._chain, account, payouts)
        drawn = int(self._chain.call(self._chain.contract("RewardsDistributor").functions.claimed(account)))
        return self._step(account, f"claim {format_open(payouts.earned(account) - drawn)} OPEN", call)

    def vote(self, account: str, proposal: str, support: str) -> Step:
        """Votes ``for``, ``against`` or ``abstain``.

        Raises:
            InputError: the support is no such word, or the proposal's id is no number.
        """
        if support.upper() not in governance.Support.__members__:
            raise InputError(f"{support!r} is no vote; say for, against or abstain")
        number = governance.proposal_number(proposal)
        call = governance.vote_call(self._chain, number, governance.Support[support.upper()])
        word = "abstain" if support.lower() == "abstain" else f"vote {support.lower()}"
        return self._step(account, f"{word} on {governance.proposal(self._chain, number).title!r}", call)

    def wrap(self, account: str, amount: int) -> Step:
        """Wraps wei of OPEN into gOPEN, which has the votes."""
        call = self._chain.contract(GOPEN).functions.deposit()
        return self._step(account, "wrap OPEN into as much gOPEN", call, _positive(amount))

    def unwrap(self, account: str, amount: int) -> Step:
        """Turns wei of gOPEN back into OPEN."""
        call = self._chain.contract(GOPEN).functions.withdraw(_positive(amount))
        return self._step(account, f"turn {format_open(amount)} gOPEN back into OPEN", call)

    def delegate(self, account: str, to: str) -> Step:
        """Gives the account's votes to an address, its own included.

        Raises:
            InputError: that is no address.
        """
        if not is_address(to):
            raise InputError(f"{to[:60]!r} is no address; give 20 bytes in hex")
        call = self._chain.contract(GOPEN).functions.delegate(to_checksum_address(to))
        whom = "yourself" if to.lower() == account.lower() else to
        return self._step(account, f"give the votes of your gOPEN to {whom}", call)

    def stake(self, account: str, role: str, amount: int) -> Step:
        """Adds wei to the account's stake in a role.

        Raises:
            InputError: there is no such role, or it is that of reviewers: one who is drawn has to vote in time, for which these
                pages have nothing yet, and others' contributions would wait for it.
        """
        chosen = read_role(role)
        if chosen is Role.REVIEWER:
            raise InputError(
                "a reviewer who is drawn has to vote in time, which a wallet cannot do here; stake as reviewer with an account "
                "of a node of your own: `openledger account stake`"
            )
        call = self._chain.contract(STAKES).functions.stake(int(chosen))
        return self._step(account, f"stake OPEN as {role}", call, _positive(amount))

    def unstake(self, account: str, role: str, amount: int) -> Step:
        """Asks wei of a stake back; they can be withdrawn after the unbonding time."""
        call = self._chain.contract(STAKES).functions.requestUnstake(int(read_role(role)), _positive(amount))
        return self._step(account, f"ask {format_open(amount)} OPEN of your stake as {role} back", call)

    def withdraw_stake(self, account: str, role: str) -> Step:
        """Takes out what was asked back and has waited."""
        call = self._chain.contract(STAKES).functions.withdraw(int(read_role(role)))
        return self._step(account, f"withdraw what you asked back of your stake as {role}", call)

    def deposit(self, account: str, amount: int) -> Step:
        """Adds wei to the account's deposit, from which its questions are paid."""
        call = self._chain.contract(ESCROW).functions.deposit(account)
        return self._step(account, "deposit OPEN for your questions", call, _positive(amount))

    def take_back(self, account: str, amount: int) -> Step:
        """Asks wei of the deposit back; they can be withdrawn after the withdrawal delay."""
        call = self._chain.contract(ESCROW).functions.requestWithdrawal(_positive(amount))
        return self._step(account, f"ask {format_open(amount)} OPEN of your deposit back", call)

    def withdraw_deposit(self, account: str) -> Step:
        """Takes out what was asked back of the deposit and has waited."""
        call = self._chain.contract(ESCROW).functions.withdraw()
        return self._step(account, "withdraw what you asked back of your deposit", call)

    def allow(self, account: str, amount: int, days: float) -> Step:
        """Lets the session key that this node holds for the account spend ``amount`` wei from now on, for some days.

        Raises:
            InputError: the lifetime is not positive.
        """
        if not 0 < days <= _MOST_DAYS:
            raise InputError(f"a permission of {days} days; it must be more than 0 and at most {_MOST_DAYS}")
        now = self.funds(account).session
        cap = now.cap + max(0, _positive(amount) - now.left)
        expiry = max(now.expiry, int(self._chain.time() + days * 86_400))
        call = self._chain.contract(ESCROW).functions.setSessionKey(now.address, cap, expiry)
        spend = format_open(cap - now.spent - now.owed)
        return self._step(account, f"let this node pay your questions with up to {spend} OPEN of your deposit", call)

    def disallow(self, account: str) -> Step:
        """Takes that permission back; it ends after the withdrawal delay."""
        call = self._chain.contract(ESCROW).functions.revokeSessionKey(self._key(account).signer.address)
        return self._step(account, "end this node's permission to pay your questions", call)

    def finish(self, step: Step, name: str) -> TxReceipt:
        """Waits until the transaction of a step is in its block, by the hash that the wallet gave.

        Raises:
            InputError: the hash is none, or that of another transaction.
            RevertError: the contract refused in its block.
            ChainError: it is in no block in time.
        """
        return self._chain.outcome(step.transaction, name)

    def claimed(self, receipt: TxReceipt) -> int:
        """What the transaction of a claim paid, in wei."""
        return claimed_in(self._chain, receipt)

    # ---- contributing ----------------------------------------------------------------------------------------

    def offer(self, account: str, datanet: int, records: Sequence[Record], licence: str) -> Offer:
        """What the account's wallet has to sign to contribute the records; nothing is stored.

        Raises:
            InputError: a row is malformed or the licence not allowed.
            ChainError: the account cannot pay the bond.
        """
        bond, held = bond_of(self._chain, len(records)), self._chain.balance(account)
        if held < bond:
            raise ChainError(
                f"{account} holds {format_open(held)} OPEN, and the bond of {len(records)} records is {format_open(bond)} OPEN"
            )
        draft = self._curation.draft(datanet, account, records, licence)
        findings = views.gate_findings(draft.report)
        typed = draft.message.typed_data(self._chain.domain("DatanetRegistry"))
        return Offer(
            draft, typed, findings, f"sign that you contribute {len(records):,} records; signing costs nothing"
        )

    def submission(self, offer: Offer, signature: str) -> Step:
        """The transaction that submits signed records with their bond; the chain was asked whether the signature is right.

        Raises:
            InputError: the signature is not hex.
            RevertError: the chain would refuse, for example ``InvalidContributionSignature``.
        """
        message = offer.draft.message
        call = submission_call(self._chain, message, from_hex(signature))
        deed = f"submit {message.count:,} records with their bond, which you lose for rows that are rejected"
        return self._step(message.contributor, deed, call, bond_of(self._chain, message.count))

    def publish(self, offer: Offer) -> bool:
        """Keeps the records where reviewers find them, before they are submitted; whether they were not there before."""
        fresh = not self._blobs.has(offer.draft.manifest.hash)
        self._blobs.put(offer.draft.manifest.canonical)
        return fresh

    def unpublish(self, offer: Offer) -> None:
        """Forgets the records of an offer that was not submitted."""
        self._blobs.remove(offer.draft.manifest.hash)

    def submitted(self, offer: Offer, receipt: TxReceipt) -> views.Submission:
        """The contribution that a transaction put on the chain."""
        return views.Submission(submitted_in(self._chain, receipt), offer.draft.message.count, offer.findings)

    # ---- asking ----------------------------------------------------------------------------------------------

    def chat(
        self, account: str, model_name: str, messages: list[dict[str, str]], top_k: int, publish: bool
    ) -> Iterator[str | views.ReceiptRow]:
        """Answers a question that the account's deposit pays by its session key: pieces of text, then the receipt.

        Raises:
            PaymentError: permission or deposit do not cover the answer.
        """
        funds = self.funds(account)
        if not funds.deposit or not funds.session.left:
            deposit, left = format_open(funds.deposit), format_open(funds.session.left)
            raise PaymentError(
                f"your deposit is {deposit} OPEN, and this node may spend {left} OPEN of it; deposit and allow some first"
            )
        events = self._inference().answer(
            model_name, Prompt.chat(messages, top_k), Sampling(), self._key(account), publish=publish
        )
        for event in events:
            if isinstance(event, Piece):
                yield event.text
            else:
                yield self._reader.receipt(event.receipt_id, account).row

    def _key(self, account: str) -> ApiKey:
        """The session key for an account: made anew each time, from this node's secret."""
        text = f"OpenLedger session key {self._chain.genesis} {account}"
        return ApiKey(account, hmac.new(self._secret, text.encode(), hashlib.sha256).digest())

    def _step(self, account: str, deed: str, call: ContractFunction, value: int = 0) -> Step:
        transaction = self._chain.prepare(account, call, value)
        gas = f"{format_open(transaction.gas_cost)} OPEN for gas"
        cost = f"it costs {format_open(value)} OPEN and up to {gas}" if value else f"it costs up to {gas}"
        return Step(f"{deed}; {cost}", transaction)


def _positive(amount: int) -> int:
    if amount <= 0:
        raise InputError(f"{format_open(amount)} OPEN is no amount; give more than 0")
    return amount
