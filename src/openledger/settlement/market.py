"""``InferenceMarket`` on chain: anybody asks and pays in, a host accepts and answers, the rest of the money goes back.

The rules are in ``contracts/src/interfaces/IInferenceMarket.sol``. Prompt and answer stand on the chain in clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.primitives import InputError, NotFoundError, canonical_bytes, to_hex
from openledger.settlement.receipts import PrivateBody, ReceiptBody

MARKET = "InferenceMarket"
_NOBODY = "0x" + "00" * 20


class MarketState(IntEnum):
    """Where a request stands; the numbers are the contract's."""

    OPEN = 1
    FULFILLED = 2
    REFUNDED = 3


@dataclass(frozen=True)
class MarketRequest:
    """One request as it stands. Amounts in wei, times in Unix seconds.

    Attributes:
        number: its id, from 1.
        requester: who asked; a contract receives the answer by callback.
        model: the model's number.
        prompt: RFC 8785 JSON, as a receipt's prompt hash takes it.
        max_fee: the most that it may cost; paid in already.
        host: who was named or has accepted; None while anybody may accept.
        accepted_until: until when it is that host's alone.
        deadline: last second in which it can be fulfilled; afterwards the money goes back.
        callback_gas: what the requester's callback may use; 0 for none.
        receipt: id of the receipt that fulfilled it; empty before.
    """

    number: int
    requester: str
    model: int
    prompt: bytes
    max_fee: int
    host: str | None
    accepted_until: int
    deadline: int
    callback_gas: int
    state: MarketState
    receipt: str


@dataclass(frozen=True)
class MarketAnswer:
    """How a request was fulfilled; ``delivered`` says whether the requester's callback took the answer."""

    request: int
    host: str
    receipt: str
    fee: int
    output: str
    delivered: bool


def request_inference(
    chain: Chain,
    wallet: LocalAccount,
    model: int,
    prompt: Any,
    max_fee: int,
    *,
    seconds: int = 600,
    host: str | None = None,
    callback_gas: int = 0,
) -> int:
    """Asks a model and pays in ``max_fee`` wei; returns the request's number.

    Args:
        chain: with its deployment.
        wallet: asks and pays.
        model: the model's number.
        prompt: what :meth:`openledger.studio.Prompt.to_json` gives.
        max_fee: the most that the answer may cost.
        seconds: for how long it may take, from a minute to 7 days.
        host: the only host that may answer; None for any.
        callback_gas: for a contract that implements ``onInference``.

    Raises:
        InputError: nothing is paid in.
        RevertError: ``ModelNotServable``, ``DeadlineOutOfBounds``.
    """
    if max_fee <= 0:
        raise InputError(f"a request that may cost {max_fee} wei is answered by nobody; pay something in")
    contract = chain.contract(MARKET)
    call = contract.functions.request(
        model, canonical_bytes(prompt), host or _NOBODY, chain.time() + seconds, callback_gas
    )
    receipt = chain.send(wallet, call, value=max_fee)
    return int(contract.events.InferenceRequested().process_receipt(receipt, errors=DISCARD)[0]["args"]["requestId"])


def request_count(chain: Chain) -> int:
    """How many requests were made so far; they are numbered from 1."""
    return int(chain.call(chain.contract(MARKET).functions.requestCount()))


def market_request(chain: Chain, number: int) -> MarketRequest:
    """One request.

    Raises:
        NotFoundError: there is no such request.
    """
    if not 1 <= number <= request_count(chain):
        raise NotFoundError(
            f"there is no request {number} on chain {chain.chain_id}; `openledger market list` shows them"
        )
    (requester, deadline, callback_gas, host, until, state, max_fee, model, _, receipt) = chain.call(
        chain.contract(MARKET).functions.requestOf(number)
    )
    asked = chain.events(MARKET, "InferenceRequested", requestId=number)[0]["args"]
    return MarketRequest(
        number=number, requester=str(requester), model=int(model), prompt=bytes(asked["prompt"]), max_fee=int(max_fee),
        host=None if int(host, 16) == 0 else str(host), accepted_until=int(until), deadline=int(deadline),
        callback_gas=int(callback_gas), state=MarketState(state), receipt=to_hex(receipt) if any(receipt) else "",
    )  # fmt: skip


def market_answer(chain: Chain, number: int) -> MarketAnswer | None:
    """How a request was fulfilled; None if it was not."""
    for log in chain.events(MARKET, "InferenceFulfilled", requestId=number):
        args = log["args"]
        return MarketAnswer(
            request=number, host=str(args["host"]), receipt=to_hex(args["receiptId"]), fee=int(args["fee"]),
            output=bytes(args["output"]).decode(errors="replace"), delivered=bool(args["delivered"]),
        )  # fmt: skip
    return None


def accept_request(chain: Chain, host: LocalAccount, number: int) -> None:
    """Takes a request on for 10 minutes.

    Raises:
        RevertError: ``TakenByAnother``, ``DeadlineOver``, ``HostNotActive``.
    """
    chain.send(host, chain.contract(MARKET).functions.accept(number))


def fulfil_request(
    chain: Chain, host: LocalAccount, asked: MarketRequest, body: ReceiptBody, private: PrivateBody
) -> MarketAnswer:
    """Answers a request with a receipt whose consumer is the market; its fee is collected in the same transaction.

    Raises:
        RevertError: ``WrongReceipt`` names the field, ``FeeAboveMaximum``, ``NotRequestsHost``, ``DeadlineOver``.
    """
    call = chain.contract(MARKET).functions.fulfil(
        asked.number, asked.prompt, private.prompt_salt, private.output.encode(), private.output_salt,
        body.receipt.as_tuple(),
    )  # fmt: skip
    chain.send(host, call)
    answer = market_answer(chain, asked.number)
    assert answer is not None  # noqa: S101
    return answer


def refund_request(chain: Chain, wallet: LocalAccount, number: int) -> None:
    """Pays a request back after its deadline; anyone may.

    Raises:
        RevertError: ``DeadlineRunning``, ``RequestClosed``.
    """
    chain.send(wallet, chain.contract(MARKET).functions.refund(number))
