"""Paying for inference without a transaction each: cumulative vouchers against a deposit in ``FeeEscrow``.

The consumer's :class:`VoucherSigner` raises what it owes one host by at most a request's price. The host's
:class:`VoucherBook` serves only against a voucher that it could redeem at once. A host can never collect more than the
last voucher; a consumer never loses more than it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from openledger.primitives import (
    Domain,
    InputError,
    PaymentError,
    Signer,
    Voucher,
    format_open,
    recover,
    sign,
    to_hex,
)
from openledger.settlement import _strict

_LOCKS = 64
"""Vouchers of one consumer are taken one after another; those of different consumers mostly at the same time."""

_KEYS = ("consumer", "host", "cumulative", "signature")


@dataclass(frozen=True)
class SignedVoucher:
    """A voucher with its 65-byte signature, by the consumer or one of its session keys."""

    voucher: Voucher
    signature: bytes

    def to_json(self) -> dict[str, Any]:
        """As JSON; the amount is a decimal string of wei."""
        return {
            "consumer": self.voucher.consumer,
            "host": self.voucher.host,
            "cumulative": str(self.voucher.cumulative),
            "signature": to_hex(self.signature),
        }

    @classmethod
    def from_json(cls, document: Any) -> SignedVoucher:
        """The voucher that a JSON object describes.

        Raises:
            InputError: a key is missing or unknown, or a value is not of its kind.
        """
        fields = _strict.members(document, "the voucher", _KEYS)
        voucher = Voucher(
            _strict.address(fields["consumer"], "consumer"),
            _strict.address(fields["host"], "host"),
            _strict.decimal(fields["cumulative"], "cumulative", 128),
        )
        return cls(voucher, _strict.hexbytes(fields["signature"], "signature", 65))


class VoucherSigner:
    """The consumer's side towards one host.

    Args:
        key: the consumer's own account or one of its session keys.
        consumer: whose deposit pays.
        host: who is paid.
        domain: FeeEscrow's.
        signed: what was already promised to this host, in wei; read it back after a restart.
        limit: the most that may ever be promised to this host, in wei; None for no limit of its own.
    """

    def __init__(
        self, key: Signer, consumer: str, host: str, domain: Domain, *, signed: int = 0, limit: int | None = None
    ) -> None:
        self._key = key
        self._domain = domain
        self._limit = limit
        self._last = Voucher(consumer, host, signed)
        self._lock = threading.Lock()

    @property
    def cumulative(self) -> int:
        """Wei promised to the host so far."""
        return self._last.cumulative

    def raise_by(self, price: int) -> SignedVoucher:
        """Promises ``price`` wei more.

        Raises:
            InputError: the price is negative.
            PaymentError: it would exceed the limit; nothing was signed.
        """
        if price < 0:
            raise InputError(f"a price of {price} wei; it cannot be negative")
        with self._lock:
            cumulative = self._last.cumulative + price
            if self._limit is not None and cumulative > self._limit:
                raise PaymentError(
                    f"{format_open(price)} OPEN more would make {format_open(cumulative)} OPEN for host {self._last.host}, "
                    f"over your limit of {format_open(self._limit)} OPEN; raise the limit or stop"
                )
            self._last = replace(self._last, cumulative=cumulative)
            return SignedVoucher(self._last, sign(self._last, self._domain, self._key))


class VoucherStore(Protocol):
    """Where a host keeps the highest voucher of each consumer; ``save`` returns only once it would survive a crash."""

    def load(self, consumer: str, host: str) -> SignedVoucher | None: ...

    def save(self, signed: SignedVoucher) -> None: ...

    def all(self, host: str) -> list[SignedVoucher]: ...


class MemoryVoucherStore:
    """Vouchers for as long as the process runs; for a client, a trial or a test."""

    def __init__(self) -> None:
        self._vouchers: dict[tuple[str, str], SignedVoucher] = {}

    def load(self, consumer: str, host: str) -> SignedVoucher | None:
        """The highest voucher of ``consumer`` for ``host``, or None."""
        return self._vouchers.get((consumer, host))

    def save(self, signed: SignedVoucher) -> None:
        """Keeps ``signed`` in place of the one before."""
        self._vouchers[signed.voucher.consumer, signed.voucher.host] = signed

    def all(self, host: str) -> list[SignedVoucher]:
        """The vouchers of every consumer for ``host``."""
        return [signed for (_, to), signed in self._vouchers.items() if to == host]


@dataclass(frozen=True)
class SessionKey:
    """What a session key may spend of its consumer's deposit.

    Attributes:
        cap: wei over the key's whole life; 0 for a key that was never set or is revoked.
        spent: wei already redeemed with it.
        expiry: Unix seconds from which it is worth nothing.
    """

    cap: int
    spent: int
    expiry: int


class Escrow(Protocol):
    """What a host needs to know of ``FeeEscrow``; amounts in wei."""

    def deposit_of(self, consumer: str) -> int:
        """What the consumer still has in escrow and has not asked back."""
        ...

    def redeemed(self, consumer: str, host: str) -> int:
        """What the host has collected of the consumer so far."""
        ...

    def session_key(self, consumer: str, key: str) -> SessionKey: ...


class VoucherBook:
    """The host's side: takes vouchers that it could redeem, and nothing else.

    Args:
        host: the account that vouchers must be made out to.
        domain: FeeEscrow's.
        escrow: the chain's view of deposits and session keys.
        store: where accepted vouchers are kept.
        margin: seconds that a session key must still be valid, so that there is time to redeem.
        clock: Unix seconds now, on the chain's time.
    """

    def __init__(
        self,
        host: str,
        domain: Domain,
        escrow: Escrow,
        store: VoucherStore,
        *,
        margin: int = 600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._domain = domain
        self._escrow = escrow
        self._store = store
        self._margin = margin
        self._clock = clock
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def owed(self, consumer: str) -> int:
        """Wei that ``consumer`` has promised this host so far."""
        signed = self._store.load(consumer, self._host)
        return 0 if signed is None else signed.voucher.cumulative

    def unredeemed(self) -> list[SignedVoucher]:
        """The vouchers that are worth more than what was redeemed of them."""
        return [
            signed
            for signed in self._store.all(self._host)
            if signed.voucher.cumulative > self._escrow.redeemed(signed.voucher.consumer, self._host)
        ]

    def accept(self, signed: SignedVoucher, price: int) -> int:
        """Takes a voucher that pays ``price`` wei more than the last one, and returns by how much it is higher.

        It is stored before this returns. Two requests that carry the same voucher cannot both be accepted.

        Raises:
            SignatureError: the signature is malformed.
            PaymentError: made out to another host, not higher by the price, signed by nobody who may, or not covered by
                the deposit or the session key.
        """
        voucher = signed.voucher
        if voucher.host != self._host:
            raise PaymentError(f"the voucher is made out to {voucher.host}; this host is {self._host}")
        signer = recover(voucher, self._domain, signed.signature)
        with self._locks[int(voucher.consumer, 16) % _LOCKS]:
            owed = self.owed(voucher.consumer)
            if voucher.cumulative < owed + price or voucher.cumulative <= owed:
                least = owed + max(price, 1)
                raise PaymentError(
                    f"the voucher stands at {format_open(voucher.cumulative)} OPEN; with {format_open(owed)} OPEN promised "
                    f"before and a price of {format_open(price)} OPEN it must be at least {format_open(least)} OPEN"
                )
            redeemed = self._escrow.redeemed(voucher.consumer, self._host)
            due = voucher.cumulative - redeemed
            if signer != voucher.consumer:
                self._check_session_key(voucher.consumer, signer, due)
            deposit = self._escrow.deposit_of(voucher.consumer)
            if due > deposit:
                raise PaymentError(
                    f"{voucher.consumer} owes {format_open(due)} OPEN with this voucher and has {format_open(deposit)} OPEN "
                    "in escrow; deposit the difference in FeeEscrow"
                )
            self._store.save(signed)
            return voucher.cumulative - owed

    def _check_session_key(self, consumer: str, signer: str, due: int) -> None:
        key = self._escrow.session_key(consumer, signer)
        if key.cap == 0:
            raise PaymentError(
                f"the voucher is signed by {signer}, neither {consumer} nor one of its session keys; sign with one"
            )
        now = int(self._clock())
        if key.expiry < now + self._margin:
            raise PaymentError(
                f"session key {signer} expires at {key.expiry}, and it is {now}; it must be valid for {self._margin} s more: "
                "set a later expiry"
            )
        if key.spent + due > key.cap:
            raise PaymentError(
                f"session key {signer} has spent {format_open(key.spent)} OPEN of {format_open(key.cap)} OPEN and this voucher "
                f"asks {format_open(due)} OPEN more; raise its cap"
            )
