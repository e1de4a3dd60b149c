"""What a wallet is given to sign hashes to what the contracts check, by the reference library's own reading."""

from __future__ import annotations

import json

from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given
from hypothesis import strategies as st

from openledger.primitives import Contribution, Domain, Receipt, Voucher, WalletLink, recover

ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex())
WORDS = st.binary(min_size=32, max_size=32)
SIGNER = Account.from_key(b"\x11" * 32)


def uint(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


MESSAGES = st.one_of(
    st.builds(Contribution, uint(256), ADDRESSES, WORDS, uint(32), st.text(max_size=40), WORDS, uint(256)),
    st.builds(Voucher, ADDRESSES, ADDRESSES, uint(128)),
    st.builds(WalletLink, ADDRESSES, ADDRESSES, uint(256), uint(64)),
    st.builds(
        Receipt,
        *(uint(256), uint(256), ADDRESSES, ADDRESSES, WORDS, WORDS),
        *(uint(32), uint(32), uint(128), WORDS, uint(256), uint(64)),
    ),
)


@given(MESSAGES, uint(64), ADDRESSES)
def test_a_signature_over_the_typed_data_is_one_over_the_message(
    message: Contribution | Voucher | WalletLink | Receipt, chain: int, contract: str
) -> None:
    domain = Domain(chain, contract)
    document = json.loads(json.dumps(message.typed_data(domain)))
    signature = SIGNER.sign_message(encode_typed_data(full_message=document)).signature
    assert recover(message, domain, bytes(signature)) == SIGNER.address
