"""Receipts and vouchers in the node's database: what a host must not lose."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import func, select, true

from openledger.primitives import NotFoundError, from_hex, to_hex
from openledger.settlement import PrivateBody, ReceiptBody, SignedVoucher
from openledger.storage import BlobStore, CreditRecord, Database, ReceiptRecord, VoucherRecord
from openledger.studio.explanation import Explanation
from openledger.studio.inference import Entry


class DatabaseVoucherStore:
    """The highest voucher of each consumer; a :class:`~openledger.settlement.VoucherStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def load(self, consumer: str, host: str) -> SignedVoucher | None:
        """The highest voucher of ``consumer`` for ``host``, or None."""
        with self._database.session() as session:
            found = session.get(VoucherRecord, (consumer, host))
            return None if found is None else _voucher(found)

    def save(self, signed: SignedVoucher) -> None:
        """Keeps ``signed`` in place of the one before; it is on the disk when this returns."""
        with self._database.session() as session:
            session.merge(VoucherRecord(**signed.to_json()))

    def all(self, host: str) -> list[SignedVoucher]:
        """The vouchers of every consumer for ``host``."""
        with self._database.session() as session:
            return [_voucher(row) for row in session.scalars(select(VoucherRecord).where(VoucherRecord.host == host))]


def _voucher(row: VoucherRecord) -> SignedVoucher:
    return SignedVoucher.from_json(
        {"consumer": row.consumer, "host": row.host, "cumulative": row.cumulative, "signature": row.signature}
    )


class DatabaseReceiptStore:
    """Receipts with their bodies; a :class:`~openledger.studio.inference.ReceiptStore`.

    Args:
        database: holds the public bodies in order.
        public: gets the public body, and the private one where the consumer agreed to publish it.
        private: gets every private body and explanation.
        first_sequence: the sequence of the first receipt of an empty database.
    """

    def __init__(self, database: Database, public: BlobStore, private: BlobStore, *, first_sequence: int) -> None:
        self._database = database
        self._public = public
        self._private = private
        self._first = first_sequence

    def next_sequence(self) -> int:
        """The sequence that the next receipt must have."""
        with self._database.session() as session:
            last = session.scalar(select(func.max(ReceiptRecord.sequence)))
            return self._first if last is None else last + 1

    def add(self, entry: Entry) -> None:
        """Stores one receipt with all that belongs to it: whole, or not at all."""
        private = entry.private.to_json()
        self._private.put_json(private)
        if entry.publish:
            self._public.put_json(private)
        explanation = self._private.put(
            json.dumps(
                {
                    "explanation": entry.explanation.to_json(),
                    "prompt_ids": list(entry.prompt_ids),
                    "output_ids": list(entry.output_ids),
                }
            ).encode()
        )
        body = entry.body.to_json()
        self._public.put_json(body)
        with self._database.session() as session:
            receipt = entry.body.receipt
            session.add(
                ReceiptRecord(
                    sequence=receipt.sequence,
                    id=entry.receipt_id,
                    model=receipt.model,
                    consumer=receipt.consumer,
                    time=receipt.time,
                    body=body,
                    explanation=to_hex(explanation),
                )
            )
            session.flush()
            session.add_all(
                CreditRecord(sequence=receipt.sequence, record=to_hex(record), ppm=ppm)
                for record, ppm in entry.body.shares
            )

    def find(self, name: str) -> ReceiptRecord:
        """The receipt with that id, unambiguous beginning of an id (6 hex digits or more), or sequence number.

        Raises:
            NotFoundError: there is none, or more than one.
        """
        text = name.strip().lower()
        with self._database.session() as session:
            if text.isdecimal() and len(text) < 16:
                found = list(session.scalars(select(ReceiptRecord).where(ReceiptRecord.sequence == int(text))))
            else:
                digits = text.removeprefix("0x")
                if len(digits) < 6 or any(character not in "0123456789abcdef" for character in digits):
                    raise NotFoundError(
                        f"no receipt {name!r}; name one by its id, its first 6 hex digits, or its number"
                    )
                pattern = ReceiptRecord.id.like(f"0x{digits}%")
                found = list(session.scalars(select(ReceiptRecord).where(pattern).limit(2)))
        if len(found) > 1:
            raise NotFoundError(f"more than one receipt begins with {name!r}; give more digits")
        if not found:
            raise NotFoundError(f"no receipt {name!r} here; `openledger receipt list` shows those that there are")
        return found[0]

    def page(self, offset: int, limit: int, consumer: str = "") -> tuple[list[ReceiptRecord], int]:
        """``limit`` receipts from ``offset`` on, newest first, and how many there are; of all consumers or of one."""
        whose = ReceiptRecord.consumer == consumer if consumer else true()
        with self._database.session() as session:
            total = session.scalar(select(func.count()).select_from(ReceiptRecord).where(whose)) or 0
            rows = (
                select(ReceiptRecord).where(whose).order_by(ReceiptRecord.sequence.desc()).offset(offset).limit(limit)
            )
            return list(session.scalars(rows)), total

    def bodies(self, first: int, count: int | None = None) -> list[ReceiptBody]:
        """Receipts from sequence ``first`` on, in order."""
        with self._database.session() as session:
            rows = select(ReceiptRecord).where(ReceiptRecord.sequence >= first).order_by(ReceiptRecord.sequence)
            return [ReceiptBody.from_json(row.body) for row in session.scalars(rows.limit(count))]

    def of_consumer(self, consumer: str) -> list[ReceiptBody]:
        """A consumer's receipts, newest first."""
        with self._database.session() as session:
            rows = select(ReceiptRecord).where(ReceiptRecord.consumer == consumer)
            found = session.scalars(rows.order_by(ReceiptRecord.sequence.desc()))
            return [ReceiptBody.from_json(row.body) for row in found]

    def private(self, row: ReceiptRecord) -> PrivateBody:
        """The private body of a receipt.

        Raises:
            NotFoundError: it is not on this node.
        """
        return self.private_of(ReceiptBody.from_json(row.body))

    def private_of(self, body: ReceiptBody) -> PrivateBody:
        """The private body that belongs to a public one; errors as in :meth:`private`."""
        store = self._private if self._private.has(body.private_hash) else self._public
        return PrivateBody.from_json(store.get_json(body.private_hash))

    def explanation(self, row: ReceiptRecord) -> tuple[Explanation, list[int], list[int]]:
        """(explanation, prompt ids, output ids) of a receipt."""
        document: dict[str, Any] = self._private.get_json(from_hex(row.explanation, 32))
        return Explanation.from_json(document["explanation"]), document["prompt_ids"], document["output_ids"]

    def credit(self, record: bytes) -> tuple[int, int]:
        """(receipts in which the record has a share, sum of its shares in ppm)."""
        with self._database.session() as session:
            query = select(func.count(), func.sum(CreditRecord.ppm)).where(CreditRecord.record == to_hex(record))
            count, ppm = session.execute(query).one()
            return int(count), int(ppm or 0)
