"""Acts of people whose keys the node does not hold: prepared here, signed and sent by them, checked here again."""

from __future__ import annotations

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from web3.types import TxReceipt

from openledger.datanets import Record, load_records
from openledger.node.people import COMMUNITY
from openledger.node.service import Node
from openledger.node.views import ReceiptRow
from openledger.node.wallets import Offer, Step
from openledger.primitives import ChainError, InputError, NotFoundError, PaymentError, RevertError, to_hex
from openledger.settlement import SessionKey

pytestmark = [pytest.mark.chain, pytest.mark.slow]

OPEN = 10**18
QUESTION = [{"role": "user", "content": "What happened?"}]


@pytest.fixture
def person(node: Node) -> LocalAccount:
    """An account with 200 OPEN that the node knows by its address alone."""
    account: LocalAccount = Account.create()
    node.accounts.send(COMMUNITY, account.address, 200 * OPEN)
    return account


def take(node: Node, person: LocalAccount, step: Step) -> TxReceipt:
    """What the person's wallet does with a step, and the node's check of it."""
    asked = step.transaction.to_json()
    numbers = {key: int(asked[key], 16) for key in ("value", "gas", "maxFeePerGas", "maxPriorityFeePerGas", "chainId")}
    fields = {"to": asked["to"], "data": asked["data"], "type": 2, "nonce": node.chain.nonce(person.address)}
    raw = person.sign_transaction({**fields, **numbers}).raw_transaction
    return node.wallets.finish(step, to_hex(bytes(node.chain.w3.eth.send_raw_transaction(raw))))


def sign(person: LocalAccount, offer: Offer) -> str:
    return person.sign_message(encode_typed_data(full_message=offer.typed_data)).signature.to_0x_hex()


def fresh_records(person: LocalAccount) -> list[Record]:
    """Two records that nobody else has."""
    return [
        Record.from_json({**record.value, "question": f"{record.value['question']} ({person.address})"})
        for record in load_records()[5:7]
    ]


def test_a_step_says_what_it_does_and_costs(node: Node, person: LocalAccount) -> None:
    step = node.wallets.deposit(person.address, 3 * OPEN)
    assert step.sentence.startswith("deposit OPEN for your questions; it costs 3 OPEN and up to 0.0")
    assert step.sentence.endswith(" OPEN for gas")
    take(node, person, step)
    view = node.wallets.view(person.address)
    assert (view.funds.deposit, view.contributions, view.earned) == (3 * OPEN, [], 0)


def test_records_are_submitted_by_their_contributors_signature(node: Node, person: LocalAccount) -> None:
    desk = node.wallets
    offer = desk.offer(person.address, 1, fresh_records(person), "Apache-2.0")
    step = desk.submission(offer, sign(person, offer))
    assert not node.blobs.has(offer.draft.manifest.hash)
    assert desk.publish(offer)
    made = desk.submitted(offer, take(node, person, step))
    datanet, row = desk.view(person.address).contributions[0]
    assert (datanet, row.id, row.count, row.state) == (1, made.id, 2, "submitted")
    node.review(made.id)
    assert desk.view(person.address).contributions[0][1].state == "finalised"


def test_anothers_signature_submits_nothing(node: Node, person: LocalAccount) -> None:
    offer = node.wallets.offer(person.address, 1, fresh_records(person), "Apache-2.0")
    with pytest.raises(RevertError) as refusal:
        node.wallets.submission(offer, sign(Account.create(), offer))
    assert refusal.value.name == "InvalidContributionSignature"
    for broken in ("", "0x", "zz"):
        with pytest.raises((RevertError, InputError)):
            node.wallets.submission(offer, broken)
    assert not node.blobs.has(offer.draft.manifest.hash)


def test_what_was_published_and_not_submitted_is_forgotten(node: Node, person: LocalAccount) -> None:
    offer = node.wallets.offer(person.address, 1, fresh_records(person), "Apache-2.0")
    assert node.wallets.publish(offer)
    assert not node.wallets.publish(offer)
    node.wallets.unpublish(offer)
    assert not node.blobs.has(offer.draft.manifest.hash)


def test_who_cannot_pay_the_bond_is_told_before_anything_is_looked_at(node: Node) -> None:
    poor: LocalAccount = Account.create()
    with pytest.raises(ChainError, match="holds 0 OPEN, and the bond of 3 records is"):
        node.wallets.offer(poor.address, 1, load_records()[:3], "Apache-2.0")


def test_questions_are_paid_by_a_session_key_within_what_was_allowed(node: Node, person: LocalAccount) -> None:
    desk = node.wallets
    with pytest.raises(PaymentError, match="your deposit is 0 OPEN"):
        list(desk.chat(person.address, "tiny", QUESTION, 0, False))
    take(node, person, desk.deposit(person.address, 5 * OPEN))
    take(node, person, desk.allow(person.address, 2 * OPEN, 1))
    answer = list(desk.chat(person.address, "tiny", QUESTION, 0, False))
    row = answer[-1]
    assert isinstance(row, ReceiptRow)
    assert row.prompt == "What happened?"
    funds = desk.funds(person.address)
    assert (funds.session.cap, funds.session.left) == (2 * OPEN, 2 * OPEN - row.fee)
    assert node.escrow.session_key(person.address, funds.session.address) == SessionKey(
        2 * OPEN, 0, funds.session.expiry
    )
    take(node, person, desk.allow(person.address, 2 * OPEN, 1))
    assert desk.funds(person.address).session.left == 2 * OPEN
    take(node, person, desk.disallow(person.address))


def test_what_was_asked_in_private_is_shown_to_its_consumer_alone(node: Node, person: LocalAccount) -> None:
    desk = node.wallets
    take(node, person, desk.deposit(person.address, OPEN))
    take(node, person, desk.allow(person.address, OPEN, 1))
    row = list(desk.chat(person.address, "tiny", QUESTION, 0, False))[-1]
    assert isinstance(row, ReceiptRow)
    assert node.receipt(row.id, person.address).row.prompt == "What happened?"
    for viewer in ("", Account.create().address, node.host.address):
        seen = node.receipt(row.id, viewer)
        assert (seen.row.prompt, seen.row.output, seen.tokens) == ("(private)", "(private)", [])
    assert [one.id for one in desk.view(person.address).receipts] == [row.id]
    assert desk.view(Account.create().address).receipts == []
    public = list(desk.chat(person.address, "tiny", QUESTION, 0, True))[-1]
    assert isinstance(public, ReceiptRow)
    assert node.receipt(public.id).row.prompt == "What happened?"


def test_votes_and_stakes_are_the_persons_own(node: Node, person: LocalAccount) -> None:
    desk = node.wallets
    take(node, person, desk.wrap(person.address, 40 * OPEN))
    take(node, person, desk.delegate(person.address, person.address))
    take(node, person, desk.unwrap(person.address, 10 * OPEN))
    take(node, person, desk.stake(person.address, "agent", 100 * OPEN))
    take(node, person, desk.unstake(person.address, "agent", 100 * OPEN))
    view = desk.view(person.address)
    assert (view.gopen, view.votes) == (30 * OPEN, 30 * OPEN)
    assert view.delegate is not None
    assert view.delegate.address == person.address
    assert [(row.role, row.leaving) for row in view.stakes] == [("agent", 100 * OPEN)]
    with pytest.raises(RevertError, match="still unbonding"):
        desk.withdraw_stake(person.address, "agent")


@pytest.mark.parametrize("amount", [0, -1])
def test_no_amount_is_no_step(node: Node, person: LocalAccount, amount: int) -> None:
    for prepare in (node.wallets.deposit, node.wallets.wrap, node.wallets.unwrap, node.wallets.take_back):
        with pytest.raises(InputError, match="is no amount"):
            prepare(person.address, amount)


def test_what_does_not_exist_is_no_step(node: Node, person: LocalAccount) -> None:
    desk, account = node.wallets, person.address
    with pytest.raises(InputError, match="has earned nothing"):
        desk.claim(account)
    with pytest.raises(InputError, match="is no role"):
        desk.stake(account, "king", OPEN)
    with pytest.raises(InputError, match="has to vote in time"):
        desk.stake(account, "reviewer", OPEN)
    with pytest.raises(InputError, match="is no vote"):
        desk.vote(account, "1", "maybe")
    with pytest.raises(NotFoundError):
        desk.vote(account, "1", "for")
    with pytest.raises(InputError, match="is no address"):
        desk.delegate(account, "ada")
    with pytest.raises(InputError, match="permission of 0 days"):
        desk.allow(account, OPEN, 0)
