"""Signing in with one's own wallet (EIP-4361), and the token that a browser holds afterwards.

The node writes the whole message and takes nothing but a signature over exactly that text, so that no message is parsed. A
message is good for one address, one page and a few minutes, and once. The token names the address and its end and carries a
code by this node's secret: nothing is stored, and nobody else can make one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from eth_account.messages import defunct_hash_message
from eth_utils.address import is_address, to_checksum_address

from openledger.chain import Chain, is_signed_by
from openledger.primitives import InputError, SignatureError, from_hex

MESSAGE_SECONDS = 300
"""How long a message can be answered."""
SESSION_SECONDS = 7 * 86_400
"""How long a browser stays signed in."""
_STATEMENT = "This shows OpenLedger which account is yours. It sends no transaction and costs nothing."
_NONCE = re.compile(r"([0-9a-f]{8})([0-9a-f]{16})([0-9a-f]{32})", re.ASCII)
_TOKEN = re.compile(r"(0x[0-9a-fA-F]{40})\.([0-9]{1,12})\.([0-9a-f]{64})", re.ASCII)
_DOMAIN = re.compile(r"[A-Za-z0-9.\-:\[\]]{1,255}", re.ASCII)


class SigningIn:
    """Writes the messages, checks the answers, and makes and reads the tokens.

    Args:
        chain: whose id stands in the message, and which is asked for the rule of a wallet that is a contract.
        secret: this node's, from which the tokens' codes are made.
        clock: Unix seconds, of this machine: a wallet compares them with its own.
    """

    def __init__(self, chain: Chain, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._chain = chain
        self._secret = secret.encode()
        self._clock = clock
        self._nonce_key = secrets.token_bytes(32)
        self._used: dict[str, int] = {}
        self._lock = threading.Lock()

    def message(self, address: str, domain: str, uri: str) -> tuple[str, str]:
        """The text that ``address`` is to sign on the page at ``uri`` of the host ``domain``, and its nonce.

        Raises:
            InputError: the address or the domain is malformed.
        """
        account = _account(address)
        issued = int(self._clock())
        head = f"{issued:08x}{secrets.token_hex(8)}"
        nonce = head + self._nonce_code(head, account)
        return self._text(account, domain, uri, nonce, issued), nonce

    def check(self, address: str, domain: str, uri: str, nonce: str, signature: str) -> str:
        """The token of whoever signed the message with that nonce; arguments as :meth:`message`.

        Raises:
            InputError: the address, the nonce or the signature is malformed.
            SignatureError: the message is not of this node, too old, used before, or signed by another account.
        """
        account = _account(address)
        parts = _NONCE.fullmatch(nonce)
        if parts is None or not hmac.compare_digest(parts[3], self._nonce_code(parts[1] + parts[2], account)):
            raise SignatureError(f"the message was not written by this node for {account}; connect the wallet again")
        issued, now = int(parts[1], 16), int(self._clock())
        if not issued <= now < issued + MESSAGE_SECONDS:
            raise SignatureError(
                f"the message was good for {MESSAGE_SECONDS} s and is {now - issued} s old; connect the wallet again"
            )
        digest = bytes(defunct_hash_message(text=self._text(account, domain, uri, nonce, issued)))
        if not is_signed_by(self._chain, account, digest, from_hex(signature)):
            raise SignatureError(
                f"the message was not signed by {account} on {domain}; choose that account in the wallet"
            )
        self._use(nonce, issued, now)
        expiry = now + SESSION_SECONDS
        return f"{account}.{expiry}.{self._token_code(account, expiry)}"

    def account(self, token: str) -> str | None:
        """The checksummed address that a token signs in; None if it is none of this node's, or has ended."""
        parts = _TOKEN.fullmatch(token)
        if parts is None:
            return None
        expiry = int(parts[2])
        if not hmac.compare_digest(parts[3], self._token_code(parts[1], expiry)) or self._clock() >= expiry:
            return None
        return parts[1]

    def _text(self, account: str, domain: str, uri: str, nonce: str, issued: int) -> str:
        if _DOMAIN.fullmatch(domain) is None or any(character.isspace() for character in uri):
            raise InputError(f"{domain!r} is no host that one can sign in to")
        return (
            f"{domain} wants you to sign in with your Ethereum account:\n{account}\n\n{_STATEMENT}\n\n"
            f"URI: {uri}\nVersion: 1\nChain ID: {self._chain.chain_id}\nNonce: {nonce}\n"
            f"Issued At: {_moment(issued)}\nExpiration Time: {_moment(issued + MESSAGE_SECONDS)}"
        )

    def _use(self, nonce: str, issued: int, now: int) -> None:
        with self._lock:
            self._used = {used: at for used, at in self._used.items() if at + MESSAGE_SECONDS > now}
            if nonce in self._used:
                raise SignatureError("the message was used before; connect the wallet again")
            self._used[nonce] = issued

    def _nonce_code(self, head: str, account: str) -> str:
        return hmac.new(self._nonce_key, f"{head} {account}".encode(), hashlib.sha256).hexdigest()[:32]

    def _token_code(self, account: str, expiry: int) -> str:
        text = f"OpenLedger wallet session {self._chain.genesis} {account} {expiry}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()


def _account(address: str) -> str:
    if not is_address(address):
        raise InputError(f"{address[:60]!r} is no account; a wallet gives 20 bytes in hex")
    return to_checksum_address(address)


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
