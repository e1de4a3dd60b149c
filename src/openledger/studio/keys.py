"""API keys. An API key *is* a session key of the consumer: its cap and expiry are on the chain, in FeeEscrow.

Whoever holds the key can spend up to the cap until the expiry and not a wei more; the consumer's own key is never sent
anywhere. A gateway uses the key to sign the voucher for exactly the fee of each answer and does not store it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from openledger.primitives import SignatureError

_FORM = re.compile(r"olk-([0-9a-f]{40})-([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class ApiKey:
    """The consumer who pays and the session key that may sign vouchers for them; ``repr`` does not show the key."""

    consumer: str
    signer: LocalAccount = field(repr=False)

    @classmethod
    def create(cls, consumer: str) -> ApiKey:
        """A new random session key for ``consumer``; it is worth nothing until FeeEscrow knows its cap."""
        return cls(to_checksum_address(consumer), Account.create())

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """Reads ``olk-<consumer address>-<session private key>``.

        Raises:
            SignatureError: another form. The message does not repeat what was given.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise SignatureError(
                "the API key is not of the form olk-<40 hex digits>-<64 hex digits>; make one with `openledger key create`"
            )
        try:
            return cls(to_checksum_address("0x" + match.group(1)), Account.from_key("0x" + match.group(2)))
        except ValueError:
            raise SignatureError(
                "the API key holds no valid private key; make one with `openledger key create`"
            ) from None

    def reveal(self) -> str:
        """The key as text, for the consumer alone."""
        return f"olk-{self.consumer[2:].lower()}-{bytes(self.signer.key).hex()}"
