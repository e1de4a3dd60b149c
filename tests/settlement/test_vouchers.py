"""Vouchers: a host never collects more than it was promised, and never serves what it could not collect.

Against the real escrow on a real chain. Amounts are a few wei: rules do not depend on size.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from openledger.chain import Chain, Deployment, DevChain
from openledger.primitives import Domain, InputError, PaymentError, SignatureError, Voucher, keccak, sign
from openledger.settlement import (
    ChainEscrow,
    MemoryVoucherStore,
    SignedVoucher,
    VoucherBook,
    VoucherSigner,
    deposit,
    redeem,
    set_session_key,
)

pytestmark = pytest.mark.chain

STRANGER = Account.from_key(keccak(b"stranger"))
DOMAIN = Domain(161201, STRANGER.address)
_numbers = itertools.count()


@dataclass
class Till:
    """One consumer with a deposit, and a host with its book, on a chain shared by all tests here."""

    chain: Chain
    dev: DevChain
    deposited: int = 1000
    consumer: LocalAccount = field(init=False)
    host: LocalAccount = field(init=False)
    key: LocalAccount = field(init=False)
    book: VoucherBook = field(init=False)

    def __post_init__(self) -> None:
        number = next(_numbers)
        self.consumer, self.key = (self.dev.keys.wallet(f"{name}-{number}") for name in ("consumer", "key"))
        self.host = self.dev.keys.wallet("host")
        bank = self.dev.keys.wallet("bank")
        self.chain.transfer(bank, self.consumer.address, 10**17)
        deposit(self.chain, bank, self.deposited, consumer=self.consumer.address)
        self.book = VoucherBook(
            self.host.address, self.domain, ChainEscrow(self.chain), MemoryVoucherStore(), clock=self.chain.time
        )

    @property
    def domain(self) -> Domain:
        return self.chain.domain("FeeEscrow")

    def signer(self, key: LocalAccount | None = None, **options: int) -> VoucherSigner:
        return VoucherSigner(key or self.consumer, self.consumer.address, self.host.address, self.domain, **options)

    def owed(self) -> int:
        return self.book.owed(self.consumer.address)

    def session(self, cap: int, seconds: int) -> None:
        set_session_key(self.chain, self.consumer, self.key.address, cap, self.chain.time() + seconds)


@pytest.fixture(scope="module")
def market(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Chain, DevChain]]:
    """A running copy of the network for this module."""
    home = tmp_path_factory.mktemp("market") / "home"
    shutil.copytree(built, home)
    with DevChain(home) as dev:
        yield Chain(dev.rpc_url, Deployment.load(home / "deployment.json")), dev


@pytest.fixture
def till(market: tuple[Chain, DevChain]) -> Till:
    """A fresh consumer with 1,000 wei in escrow."""
    return Till(*market)


def test_each_request_raises_the_voucher_by_its_price(till: Till) -> None:
    signer = till.signer()
    assert [till.book.accept(signer.raise_by(price), price) for price in (10, 1, 300)] == [10, 1, 300]
    assert till.owed() == signer.cumulative == 311


def test_a_voucher_that_does_not_cover_the_price_is_refused(till: Till) -> None:
    with pytest.raises(PaymentError, match="must be at least"):
        till.book.accept(till.signer().raise_by(9), 10)
    assert till.owed() == 0


def test_a_voucher_is_good_once(till: Till) -> None:
    signed = till.signer().raise_by(10)
    till.book.accept(signed, 10)
    for price in (10, 0):
        with pytest.raises(PaymentError):
            till.book.accept(signed, price)


def test_one_voucher_in_many_requests_at_once_is_accepted_once(till: Till) -> None:
    signed = till.signer().raise_by(10)
    accepted: list[int] = []

    def attempt() -> None:
        with contextlib.suppress(PaymentError):
            accepted.append(till.book.accept(signed, 10))

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert accepted == [10]


def test_a_voucher_for_another_host_is_refused(till: Till) -> None:
    other = VoucherSigner(till.consumer, till.consumer.address, STRANGER.address, till.domain).raise_by(10)
    with pytest.raises(PaymentError, match="made out to"):
        till.book.accept(other, 10)


def test_a_strangers_signature_is_refused(till: Till) -> None:
    with pytest.raises(PaymentError, match="nor one of its session keys"):
        till.book.accept(till.signer(STRANGER).raise_by(10), 10)


def test_a_cut_signature_is_refused(till: Till) -> None:
    signed = till.signer().raise_by(10)
    with pytest.raises(SignatureError, match="65 bytes"):
        till.book.accept(replace(signed, signature=signed.signature[:64]), 10)


def test_a_deposit_must_cover_what_is_not_redeemed_yet(till: Till) -> None:
    signer = till.signer()
    first = signer.raise_by(400)
    till.book.accept(first, 400)
    redeem(till.chain, till.host, first)
    till.book.accept(signer.raise_by(600), 600)
    with pytest.raises(PaymentError, match="deposit the difference"):
        till.book.accept(signer.raise_by(1), 1)


def test_a_session_key_pays_within_its_cap_over_its_whole_life(till: Till) -> None:
    till.session(100, 10_000)
    signer = till.signer(till.key)
    first = signer.raise_by(30)
    till.book.accept(first, 30)
    redeem(till.chain, till.host, first)
    till.book.accept(signer.raise_by(70), 70)
    with pytest.raises(PaymentError, match="raise its cap"):
        till.book.accept(signer.raise_by(1), 1)


def test_a_session_key_about_to_expire_is_refused(till: Till) -> None:
    till.session(100, 500)
    with pytest.raises(PaymentError, match="set a later expiry"):
        till.book.accept(till.signer(till.key).raise_by(1), 1)


def test_a_signer_stops_at_its_own_limit_and_signs_nothing(till: Till) -> None:
    signer = till.signer(limit=15)
    signer.raise_by(10)
    with pytest.raises(PaymentError, match="over your limit"):
        signer.raise_by(6)
    assert signer.cumulative == 10
    assert signer.raise_by(5).voucher.cumulative == 15


def test_a_price_is_never_negative(till: Till) -> None:
    with pytest.raises(InputError, match="cannot be negative"):
        till.signer().raise_by(-1)


def test_unredeemed_vouchers_are_those_above_what_the_chain_paid_out(till: Till) -> None:
    signed = till.signer().raise_by(10)
    till.book.accept(signed, 10)
    assert till.book.unredeemed() == [signed]
    redeem(till.chain, till.host, signed)
    assert till.book.unredeemed() == []


def test_answers_of_the_chain_can_be_kept_for_a_while_and_forgotten(till: Till) -> None:
    now = [0.0]
    escrow = ChainEscrow(till.chain, keep=5.0, clock=lambda: now[0])
    assert escrow.deposit_of(till.consumer.address) == 1000
    deposit(till.chain, till.dev.keys.wallet("bank"), 1, consumer=till.consumer.address)
    assert escrow.deposit_of(till.consumer.address) == 1000
    now[0] = 5.0
    assert escrow.deposit_of(till.consumer.address) == 1001
    deposit(till.chain, till.dev.keys.wallet("bank"), 1, consumer=till.consumer.address)
    escrow.forget()
    assert escrow.deposit_of(till.consumer.address) == 1002


@given(st.integers(0, 2**128 - 1))
@settings(max_examples=10, deadline=None)
def test_a_voucher_survives_json(cumulative: int) -> None:
    voucher = Voucher(STRANGER.address, STRANGER.address, cumulative)
    signed = SignedVoucher(voucher, sign(voucher, DOMAIN, STRANGER))
    assert SignedVoucher.from_json(signed.to_json()) == signed


@pytest.mark.parametrize(
    "change", [{"cumulative": 5}, {"cumulative": "0x5"}, {"signature": "0x00"}, {"host": "me"}, {"more": 1}]
)
def test_a_malformed_voucher_is_refused(change: dict[str, object]) -> None:
    voucher = Voucher(STRANGER.address, STRANGER.address, 1)
    document = SignedVoucher(voucher, sign(voucher, DOMAIN, STRANGER)).to_json() | change
    with pytest.raises(InputError):
        SignedVoucher.from_json(document)


class VoucherMachine(RuleBasedStateMachine):
    """A consumer and a host at work: whatever happens, what the host accepted it can redeem."""

    market: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.till = Till(*self.market, deposited=50)
        self.signed = self.served = self.collected = 0
        self.last: SignedVoucher | None = None

    @rule(raised=st.integers(0, 30), price=st.integers(0, 30))
    def request(self, raised: int, price: int) -> None:
        signed = self.till.signer(signed=self.signed).raise_by(raised)
        before = self.till.owed()
        try:
            gained = self.till.book.accept(signed, price)
        except PaymentError:
            assert self.till.owed() == before
            return
        assert gained >= price
        self.last, self.signed = signed, signed.voucher.cumulative
        self.served += price

    @rule(amount=st.integers(1, 40))
    def deposit(self, amount: int) -> None:
        deposit(self.till.chain, self.till.dev.keys.wallet("bank"), amount, consumer=self.till.consumer.address)

    @precondition(lambda self: self.signed > self.collected)
    @rule()
    def redeem(self) -> None:
        assert self.last is not None
        assert redeem(self.till.chain, self.till.host, self.last) == self.signed - self.collected
        self.collected = self.signed

    @invariant()
    def everything_served_is_promised_and_covered(self) -> None:
        escrow, owed = ChainEscrow(self.till.chain), self.till.owed()
        assert self.served <= owed == self.signed
        assert escrow.redeemed(self.till.consumer.address, self.till.host.address) == self.collected
        assert owed - self.collected <= escrow.deposit_of(self.till.consumer.address)


@pytest.fixture(scope="module", autouse=True)
def _machine_at_market(market: tuple[Chain, DevChain]) -> None:
    VoucherMachine.market = market


VoucherMachine.TestCase.settings = settings(
    max_examples=6, stateful_step_count=10, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestVoucherMachine = VoucherMachine.TestCase
