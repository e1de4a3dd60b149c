"""The public document behind a payout root: who has earned what, computed from which receipts, as of which block.

Its hash stands on chain beside the root (``dataHash``). With the document, the receipts it names and the chain, anyone
recomputes the root; with it alone, an account proves its claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from openledger.primitives import InputError, VerificationError, record_hash, to_hex
from openledger.settlement import _strict
from openledger.settlement.payouts import Held, Hold, Payouts, Role

KIND = "openledger.payouts/1"
_KEYS = (
    "kind", "chain_id", "distributor", "as_of_block", "previous", "batches",
    "last_batch", "root", "total", "fees", "dust", "receipts", "lines", "settled", "held",
)  # fmt: skip


@dataclass(frozen=True)
class PayoutDocument:
    """One settlement.

    Attributes:
        chain_id: the chain it belongs to.
        distributor: RewardsDistributor's address.
        as_of_block: the last block whose events count.
        previous: hash of the document that this one continues; None for the first.
        batches: (batch number, hash of the blob with its receipts) of each newly settled batch, ascending.
        payouts: the cumulative result.
    """

    chain_id: int
    distributor: str
    as_of_block: int
    previous: bytes | None
    batches: tuple[tuple[int, bytes], ...]
    payouts: Payouts

    def digest(self) -> bytes:
        """The document's hash, 32 bytes: ``dataHash`` on chain."""
        return record_hash(self.to_json())

    def to_json(self) -> dict[str, Any]:
        """As JSON; amounts are decimal strings of wei."""
        paid = self.payouts
        return {
            "kind": KIND,
            "chain_id": self.chain_id,
            "distributor": self.distributor,
            "as_of_block": self.as_of_block,
            "previous": None if self.previous is None else to_hex(self.previous),
            "batches": [[number, to_hex(blob)] for number, blob in self.batches],
            "last_batch": paid.last_batch,
            "root": to_hex(paid.root),
            "total": str(paid.total),
            "fees": str(paid.fees),
            "dust": str(paid.dust),
            "receipts": paid.receipts,
            "lines": [[account, role.value, str(wei)] for (account, role), wei in sorted(paid.lines.items())],
            "settled": [[consumer, host, str(wei)] for (consumer, host), wei in sorted(paid.settled.items())],
            "held": [[held.batch, held.host, held.sequence, held.reason.name.lower()] for held in paid.held],
        }

    @classmethod
    def from_json(cls, document: Any) -> PayoutDocument:
        """The settlement that a JSON object describes.

        Raises:
            InputError: a key is missing or unknown, or a value is not of its kind.
            VerificationError: root, total or dust are not those of the lines.
        """
        fields = _strict.members(document, "the payout document", _KEYS)
        if fields["kind"] != KIND:
            raise InputError(f"the payout document is of kind {fields['kind']!r}; this program reads {KIND!r}")
        lines = dict(_line(line) for line in _strict.array(fields["lines"], "lines"))
        settled = dict(_settled(entry) for entry in _strict.array(fields["settled"], "settled"))
        paid = Payouts(
            last_batch=_strict.integer(fields["last_batch"], "last_batch", 53),
            lines=lines,
            fees=_strict.decimal(fields["fees"], "fees", 256),
            settled=settled,
            held=tuple(_held(entry) for entry in _strict.array(fields["held"], "held")),
            receipts=_strict.integer(fields["receipts"], "receipts", 53),
        )
        result = cls(
            chain_id=_strict.integer(fields["chain_id"], "chain_id", 53),
            distributor=_strict.address(fields["distributor"], "distributor"),
            as_of_block=_strict.integer(fields["as_of_block"], "as_of_block", 53),
            previous=None if fields["previous"] is None else _strict.hash32(fields["previous"], "previous"),
            batches=tuple(_batch(entry) for entry in _strict.array(fields["batches"], "batches")),
            payouts=paid,
        )
        for name, value in result.to_json().items():
            if value != fields[name]:
                raise VerificationError(
                    f"the payout document's {name} is {_short(fields[name])}, but its lines make it {_short(value)}; "
                    "do not trust this document"
                )
        return result


def _line(entry: Any) -> tuple[tuple[str, Role], int]:
    account, role, wei = _items(entry, 3, "a line")
    if role not in list(Role):
        raise InputError(f"a line's role is {role!r}; it must be one of {', '.join(Role)}")
    return (_strict.address(account, "a line's account"), Role(role)), _strict.decimal(wei, "a line's wei", 256)


def _settled(entry: Any) -> tuple[tuple[str, str], int]:
    consumer, host, wei = _items(entry, 3, "a settled pair")
    pair = (_strict.address(consumer, "a settled consumer"), _strict.address(host, "a settled host"))
    return pair, _strict.decimal(wei, "a settled amount", 256)


def _held(entry: Any) -> Held:
    batch, host, sequence, reason = _items(entry, 4, "a held receipt")
    if not isinstance(reason, str) or reason.upper() not in Hold.__members__:
        raise InputError(
            f"a held receipt's reason is {reason!r}; it must be one of {', '.join(Hold.__members__).lower()}"
        )
    return Held(
        _strict.integer(batch, "a held receipt's batch", 53),
        _strict.address(host, "a held receipt's host"),
        _strict.integer(sequence, "a held receipt's sequence", 53),
        Hold[reason.upper()],
    )


def _batch(entry: Any) -> tuple[int, bytes]:
    number, blob = _items(entry, 2, "a batch")
    return _strict.integer(number, "a batch's number", 53), _strict.hash32(blob, "a batch's blob")


def _items(entry: Any, count: int, where: str) -> list[Any]:
    items = _strict.array(entry, where)
    if len(items) != count:
        raise InputError(f"{where} has {len(items)} items; it must have {count}")
    return items


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
