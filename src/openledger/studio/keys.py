"""API keys. An API key *is* a session key of the consumer: its cap and expiry are on the chain, in FeeEscrow.

Whoever holds the key can spend up to the cap until the expiry and not a wei more; the consumer's own key is never sent
anywhere. A gateway uses the key to sign the voucher for exactly the fee of each answer and does not store it.

A key may be good for some models only. What it says of them is part of what the session key is made from, so that every gateway
knows it without asking anybody, and nobody who has the key can widen it: with other models, or none, it is another session
key, which the chain does not know.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from openledger.primitives import InputError, SignatureError, keccak

_FORM = re.compile(r"olk-([0-9a-f]{40})-([0-9a-f]{64})(?:-([1-9][0-9]{0,19}(?:\.[1-9][0-9]{0,19})*))?", re.ASCII)
_DOMAIN = b"OpenLedger API key 1"


@dataclass(frozen=True)
class ApiKey:
    """The consumer who pays, and what the session key that may sign vouchers for them is made from; ``repr`` does not show it.

    Attributes:
        consumer: address of who pays.
        secret: 32 random bytes.
        models: numbers of the models that may be asked with it; None for all.
    """

    consumer: str
    secret: bytes = field(repr=False)
    models: frozenset[int] | None = None
    signer: LocalAccount = field(init=False, repr=False, compare=False)
    """Signs vouchers: its private key is keccak-256 of the secret and the models."""

    def __post_init__(self) -> None:
        if self.models is not None and not self.models:
            raise InputError("a key for no model at all is good for nothing; name models, or none for all of them")
        private = keccak(_DOMAIN + self.secret + self._scope().encode())
        object.__setattr__(self, "signer", Account.from_key(private))

    @classmethod
    def create(cls, consumer: str, models: Iterable[int] | None = None) -> ApiKey:
        """A new random session key for ``consumer``; it is worth nothing until FeeEscrow knows its cap.

        Raises:
            InputError: ``models`` is empty.
        """
        return cls(
            to_checksum_address(consumer), secrets.token_bytes(32), None if models is None else frozenset(models)
        )

    @classmethod
    def parse(cls, text: str) -> ApiKey:
        """Reads ``olk-<consumer address>-<secret>``, with ``-<model>.<model>…`` behind it if it is for those only.

        Raises:
            SignatureError: another form. The message does not repeat what was given.
        """
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise SignatureError(
                "the API key is not of the form olk-<40 hex digits>-<64 hex digits>, with the numbers of models behind it if "
                "it is for those only; make one with `openledger key create`"
            )
        consumer, secret, models = match.groups()
        found = None if models is None else frozenset(map(int, models.split(".")))
        return cls(to_checksum_address("0x" + consumer), bytes.fromhex(secret), found)

    def may_ask(self, model: int) -> bool:
        """Whether the key is good for a model, by its number."""
        return self.models is None or model in self.models

    def reveal(self) -> str:
        """The key as text, for the consumer alone."""
        scope = self._scope()
        return f"olk-{self.consumer[2:].lower()}-{self.secret.hex()}" + (f"-{scope}" if scope else "")

    def _scope(self) -> str:
        return "" if self.models is None else ".".join(map(str, sorted(self.models)))
