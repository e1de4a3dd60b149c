"""Vouchers: a host never collects more than it was promised, and never serves what it could not collect."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field, replace

import pytest
from eth_account import Account
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openledger.primitives import Domain, InputError, PaymentError, SignatureError, Voucher, keccak, sign
from openledger.settlement import MemoryVoucherStore, SessionKey, SignedVoucher, VoucherBook, VoucherSigner

CONSUMER, HOST, KEY, STRANGER = (Account.from_key(keccak(name)) for name in (b"consumer", b"host", b"key", b"stranger"))
DOMAIN = Domain(161201, STRANGER.address)
NOW = 1_790_000_000


@dataclass
class Ledger:
    """An escrow with the rules of ``FeeEscrow`` as far as a host sees them, for speed; the real one is in test_cycle."""

    deposit: int = 1000
    collected: int = 0
    keys: dict[str, SessionKey] = field(default_factory=dict)

    def deposit_of(self, consumer: str) -> int:
        return self.deposit if consumer == CONSUMER.address else 0

    def redeemed(self, consumer: str, host: str) -> int:
        return self.collected if (consumer, host) == (CONSUMER.address, HOST.address) else 0

    def session_key(self, consumer: str, key: str) -> SessionKey:
        return self.keys.get(key, SessionKey(0, 0, 0))


def book_on(ledger: Ledger) -> VoucherBook:
    return VoucherBook(HOST.address, DOMAIN, ledger, MemoryVoucherStore(), clock=lambda: NOW)


def signer_with(key: object = CONSUMER, **options: int) -> VoucherSigner:
    return VoucherSigner(key, CONSUMER.address, HOST.address, DOMAIN, **options)


def test_each_request_raises_the_voucher_by_its_price() -> None:
    book, signer = book_on(Ledger()), signer_with()
    assert [book.accept(signer.raise_by(price), price) for price in (10, 1, 300)] == [10, 1, 300]
    assert book.owed(CONSUMER.address) == signer.cumulative == 311


def test_a_voucher_that_does_not_cover_the_price_is_refused() -> None:
    book, signer = book_on(Ledger()), signer_with()
    with pytest.raises(PaymentError, match="must be at least"):
        book.accept(signer.raise_by(9), 10)
    assert book.owed(CONSUMER.address) == 0


def test_a_voucher_is_good_once() -> None:
    book, signed = book_on(Ledger()), signer_with().raise_by(10)
    book.accept(signed, 10)
    for price in (10, 0):
        with pytest.raises(PaymentError):
            book.accept(signed, price)


def test_one_voucher_in_many_requests_at_once_is_accepted_once() -> None:
    book, signed = book_on(Ledger()), signer_with().raise_by(10)
    accepted: list[int] = []

    def attempt() -> None:
        with contextlib.suppress(PaymentError):
            accepted.append(book.accept(signed, 10))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == [10]


def test_a_voucher_for_another_host_is_refused() -> None:
    other = VoucherSigner(CONSUMER, CONSUMER.address, STRANGER.address, DOMAIN).raise_by(10)
    with pytest.raises(PaymentError, match="made out to"):
        book_on(Ledger()).accept(other, 10)


def test_a_strangers_signature_is_refused() -> None:
    with pytest.raises(PaymentError, match="nor one of its session keys"):
        book_on(Ledger()).accept(signer_with(STRANGER).raise_by(10), 10)


def test_a_signature_for_another_chain_is_refused() -> None:
    elsewhere = VoucherSigner(CONSUMER, CONSUMER.address, HOST.address, replace(DOMAIN, chain_id=1)).raise_by(10)
    with pytest.raises(PaymentError, match="nor one of its session keys"):
        book_on(Ledger()).accept(elsewhere, 10)


def test_a_cut_signature_is_refused() -> None:
    signed = signer_with().raise_by(10)
    with pytest.raises(SignatureError, match="65 bytes"):
        book_on(Ledger()).accept(replace(signed, signature=signed.signature[:64]), 10)


def test_a_deposit_must_cover_what_is_not_redeemed_yet() -> None:
    book, signer = book_on(Ledger(deposit=60, collected=40)), signer_with(signed=40)
    book.accept(signer.raise_by(60), 60)
    with pytest.raises(PaymentError, match="deposit the difference"):
        book.accept(signer.raise_by(1), 1)


def test_a_session_key_pays_within_its_cap_and_its_time() -> None:
    ledger = Ledger(keys={KEY.address: SessionKey(cap=100, spent=30, expiry=NOW + 600)})
    book, signer = book_on(ledger), signer_with(KEY)
    book.accept(signer.raise_by(70), 70)
    with pytest.raises(PaymentError, match="raise its cap"):
        book.accept(signer.raise_by(1), 1)


def test_a_session_key_about_to_expire_is_refused() -> None:
    ledger = Ledger(keys={KEY.address: SessionKey(cap=100, spent=0, expiry=NOW + 599)})
    with pytest.raises(PaymentError, match="set a later expiry"):
        book_on(ledger).accept(signer_with(KEY).raise_by(1), 1)


def test_a_signer_stops_at_its_own_limit_and_signs_nothing() -> None:
    signer = signer_with(limit=15)
    signer.raise_by(10)
    with pytest.raises(PaymentError, match="over your limit"):
        signer.raise_by(6)
    assert signer.cumulative == 10
    assert signer.raise_by(5).voucher.cumulative == 15


def test_a_price_is_never_negative() -> None:
    with pytest.raises(InputError, match="cannot be negative"):
        signer_with().raise_by(-1)


def test_unredeemed_vouchers_are_those_above_what_the_chain_paid_out() -> None:
    ledger = Ledger()
    book, signed = book_on(ledger), signer_with().raise_by(10)
    book.accept(signed, 10)
    assert book.unredeemed() == [signed]
    ledger.collected = 10
    assert book.unredeemed() == []


@given(st.integers(0, 2**128 - 1))
@settings(max_examples=10, deadline=None)
def test_a_voucher_survives_json(cumulative: int) -> None:
    voucher = Voucher(CONSUMER.address, HOST.address, cumulative)
    signed = SignedVoucher(voucher, sign(voucher, DOMAIN, CONSUMER))
    assert SignedVoucher.from_json(signed.to_json()) == signed


@pytest.mark.parametrize(
    "change", [{"cumulative": 5}, {"cumulative": "0x5"}, {"signature": "0x00"}, {"host": "me"}, {"more": 1}]
)
def test_a_malformed_voucher_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SignedVoucher.from_json(signer_with().raise_by(1).to_json() | change)


class VoucherMachine(RuleBasedStateMachine):
    """A consumer and a host at work: whatever happens, what the host accepted it can redeem."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(deposit=50)
        self.book = book_on(self.ledger)
        self.signed = 0
        self.served = 0

    @rule(raised=st.integers(0, 30), price=st.integers(0, 30))
    def request(self, raised: int, price: int) -> None:
        signed = signer_with(signed=self.signed).raise_by(raised)
        before = self.book.owed(CONSUMER.address)
        try:
            gained = self.book.accept(signed, price)
        except PaymentError:
            assert self.book.owed(CONSUMER.address) == before
            return
        assert gained >= price
        self.signed = signed.voucher.cumulative
        self.served += price

    @rule(amount=st.integers(1, 40))
    def deposit(self, amount: int) -> None:
        self.ledger.deposit += amount

    @precondition(lambda self: self.book.owed(CONSUMER.address) > self.ledger.collected)
    @rule()
    def redeem(self) -> None:
        delta = self.book.owed(CONSUMER.address) - self.ledger.collected
        self.ledger.collected += delta
        self.ledger.deposit -= delta

    @invariant()
    def everything_served_is_promised_and_covered(self) -> None:
        owed = self.book.owed(CONSUMER.address)
        assert self.served <= owed <= self.signed
        assert owed - self.ledger.collected <= self.ledger.deposit
        assert self.ledger.deposit >= 0


VoucherMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=12, deadline=None)
TestVoucherMachine = VoucherMachine.TestCase
