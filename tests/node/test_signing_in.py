"""Signing in with a wallet: what is signed, and everything that is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount

from openledger.node.service import Node
from openledger.node.signing_in import MESSAGE_SECONDS, SESSION_SECONDS, SigningIn
from openledger.primitives import InputError, OpenLedgerError, SignatureError

pytestmark = [pytest.mark.chain]

DOMAIN, URI = "127.0.0.1:8600", "http://127.0.0.1:8600/sign-in"


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def desk(node: Node, clock: Clock) -> SigningIn:
    return SigningIn(node.chain, "s" * 43, clock)


@pytest.fixture
def wallet() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def signed(wallet: LocalAccount, text: str) -> str:
    return wallet.sign_message(encode_defunct(text=text)).signature.to_0x_hex()


def enter(desk: SigningIn, wallet: LocalAccount) -> str:
    text, nonce = desk.message(wallet.address, DOMAIN, URI)
    return desk.check(wallet.address, DOMAIN, URI, nonce, signed(wallet, text))


def test_the_message_is_that_of_eip_4361(desk: SigningIn, wallet: LocalAccount, node: Node) -> None:
    text, nonce = desk.message(wallet.address, DOMAIN, URI)
    assert nonce.isalnum()
    assert text.split("\n") == [
        f"{DOMAIN} wants you to sign in with your Ethereum account:",
        wallet.address,
        "",
        "This shows OpenLedger which account is yours. It sends no transaction and costs nothing.",
        "",
        f"URI: {URI}",
        "Version: 1",
        f"Chain ID: {node.chain_id}",
        f"Nonce: {nonce}",
        "Issued At: 2027-01-15T08:00:00Z",
        "Expiration Time: 2027-01-15T08:05:00Z",
    ]


def test_who_signs_is_known_by_the_token_until_it_ends(desk: SigningIn, wallet: LocalAccount, clock: Clock) -> None:
    token = enter(desk, wallet)
    assert desk.account(token) == wallet.address
    clock.now += SESSION_SECONDS - 1
    assert desk.account(token) == wallet.address
    clock.now += 1
    assert desk.account(token) is None


def test_a_message_is_good_once_and_not_for_long(desk: SigningIn, wallet: LocalAccount, clock: Clock) -> None:
    text, nonce = desk.message(wallet.address, DOMAIN, URI)
    signature = signed(wallet, text)
    desk.check(wallet.address, DOMAIN, URI, nonce, signature)
    with pytest.raises(SignatureError, match="used before"):
        desk.check(wallet.address, DOMAIN, URI, nonce, signature)
    text, nonce = desk.message(wallet.address, DOMAIN, URI)
    clock.now += MESSAGE_SECONDS
    with pytest.raises(SignatureError, match="300 s old"):
        desk.check(wallet.address, DOMAIN, URI, nonce, signed(wallet, text))


def test_another_page_chain_account_or_node_is_refused(
    desk: SigningIn, wallet: LocalAccount, node: Node, clock: Clock
) -> None:
    other: LocalAccount = Account.create()
    text, nonce = desk.message(wallet.address, DOMAIN, URI)
    good = signed(wallet, text)
    attempts = [
        (desk, wallet.address, "evil.example", URI, nonce, good),
        (desk, wallet.address, DOMAIN, "http://evil.example/sign-in", nonce, good),
        (desk, other.address, DOMAIN, URI, nonce, signed(other, text)),
        (desk, wallet.address, DOMAIN, URI, nonce, signed(other, text)),
        (desk, wallet.address, DOMAIN, URI, nonce, signed(wallet, text.replace(str(node.chain_id), "1"))),
        (desk, wallet.address, DOMAIN, URI, nonce[:-1] + ("0" if nonce[-1] != "0" else "1"), good),
        (SigningIn(node.chain, "s" * 43, clock), wallet.address, DOMAIN, URI, nonce, good),
    ]
    for one, address, domain, uri, number, signature in attempts:
        with pytest.raises(SignatureError):
            one.check(address, domain, uri, number, signature)
    assert desk.check(wallet.address, DOMAIN, URI, nonce, good)  # a refusal uses nothing up


@pytest.mark.parametrize("address", ["", "ada", "0x12", "0x" + "g" * 40])
def test_what_is_no_address_gets_no_message(desk: SigningIn, address: str) -> None:
    with pytest.raises(InputError, match="no account"):
        desk.message(address, DOMAIN, URI)


@pytest.mark.parametrize("domain", ["", "a b", "a\nb", "x" * 256, "evil.example/path"])
def test_what_is_no_host_gets_no_message(desk: SigningIn, wallet: LocalAccount, domain: str) -> None:
    with pytest.raises(OpenLedgerError):
        desk.message(wallet.address, domain, URI)


def test_nobody_makes_or_changes_a_token(desk: SigningIn, wallet: LocalAccount, node: Node, clock: Clock) -> None:
    token = enter(desk, wallet)
    address, expiry, code = token.split(".")
    other: LocalAccount = Account.create()
    for made in (
        "",
        "x",
        f"{other.address}.{expiry}.{code}",
        f"{address}.{int(expiry) + 1}.{code}",
        f"{address}.{expiry}.{'0' * 64}",
        f"{address}.{expiry}",
        token + "0",
    ):
        assert desk.account(made) is None
    assert SigningIn(node.chain, "t" * 43, clock).account(token) is None
    assert SigningIn(node.chain, "s" * 43, clock).account(token) == wallet.address  # a restart forgets nobody
