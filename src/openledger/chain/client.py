"""Talking to the chain: contracts by name, transactions by wallet, events, and errors in the contract's own words.

Works with any Ethereum JSON-RPC endpoint: the development chain's front or a real OP Stack node.
"""

from __future__ import annotations

import logging
import random
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from http.client import RemoteDisconnected
from typing import Any, TypeVar

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError
from eth_account.signers.local import LocalAccount
from eth_typing import ChecksumAddress
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction
from web3.exceptions import ContractLogicError, TransactionNotFound, Web3Exception, Web3RPCError
from web3.types import EventData, TxParams, TxReceipt, Wei

from openledger.chain.artifacts import Artifact, error_types, load_artifact
from openledger.chain.deployment import Deployment
from openledger.chain.unsigned import UnsignedTransaction
from openledger.primitives import (
    TOTAL_SUPPLY,
    ChainError,
    ConfigurationError,
    Domain,
    InputError,
    NotFoundError,
    RevertError,
    UnreachableError,
    format_open,
    from_hex,
    keccak,
    to_hex,
)

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

_EVENT_SPAN = 10_000
_GAS_MARGIN_PERCENT = 20
_GAS_MARGIN = 250_000
"""Added to every estimate: a checkpoint in the estimate's own second is updated, one second later it is a new one. What is
not used is not paid."""
_FEES_SECONDS = 2.0
_NONCE_TRIES = 10
_KNOWN = ("already known", "already imported", "known transaction")
_PANICS = {
    0x01: "an assertion failed",
    0x11: "an amount overflowed or went below zero",
    0x12: "division by zero",
    0x21: "a value is not of its enum",
    0x32: "an index is out of range",
    0x41: "too much memory was asked for",
}


class Chain:
    """A connection to one chain. Safe to share between threads.

    Args:
        rpc_url: a JSON-RPC endpoint.
        deployment: where the contracts are; without it only plain transfers and reads work.
        timeout: seconds to wait for an answer, for a transaction to be taken, or for its block.
        confirmations: blocks that must lie on a transaction's block before it counts; 0 where blocks are final.

    Raises:
        ChainError: nothing answers there.
        ConfigurationError: the deployment is of another chain.
    """

    def __init__(
        self, rpc_url: str, deployment: Deployment | None = None, *, timeout: float = 60.0, confirmations: int = 0
    ) -> None:
        self.rpc_url = rpc_url
        self.timeout = timeout
        self.confirmations = confirmations
        self.w3 = Web3(Web3.HTTPProvider(rpc_url, request_kwargs={"timeout": timeout}))
        # It asks for the chain id before every transaction, which this class knows and always sets itself.
        self.w3.middleware_onion.remove("validation")
        self.chain_id = self.ask(lambda: int(self.w3.eth.chain_id))
        self.genesis = to_hex(bytes(self.ask(lambda: self.w3.eth.get_block(0))["hash"]))
        self.deployment = deployment
        if deployment is not None and (deployment.chain_id, deployment.genesis) != (self.chain_id, self.genesis):
            raise ConfigurationError(
                f"the deployment is of chain {deployment.chain_id} with genesis {deployment.genesis}, but {rpc_url} is chain "
                f"{self.chain_id} with genesis {self.genesis}"
            )
        self._account_locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
        self._next_nonce: dict[str, int] = {}
        self._on_their_way: defaultdict[str, int] = defaultdict(int)
        self._known_fees: tuple[float, tuple[int, int]] | None = None
        self._contracts: dict[str, Contract] = {}

    def address(self, name: str) -> str:
        """Checksummed address of a deployed contract, such as ``FeeEscrow`` or ``Vesting.team``.

        Raises:
            NotFoundError: it is not deployed.
        """
        if self.deployment is None:
            raise NotFoundError(f"{name} is not known: no deployment was given for {self.rpc_url}")
        return self.deployment.address(name)

    def contract(self, name: str) -> Contract:
        """A deployed contract with its ABI, as a web3 contract.

        Raises:
            NotFoundError: it is not deployed.
        """
        address = self.address(name)
        known = self._contracts.get(address)
        if known is None:
            known = self.w3.eth.contract(address=to_checksum_address(address), abi=_artifact(name).abi)
            self._contracts[address] = known
        return known

    def domain(self, name: str) -> Domain:
        """The EIP-712 domain of messages for a contract."""
        return Domain(self.chain_id, self.address(name))

    def balance(self, address: str) -> int:
        """Native OPEN of an account, in wei."""
        return self.ask(lambda: int(self.w3.eth.get_balance(to_checksum_address(address))))

    def nonce(self, address: str) -> int:
        """Number of the account's next transaction."""
        return self.ask(lambda: int(self.w3.eth.get_transaction_count(to_checksum_address(address), "pending")))

    def time(self) -> int:
        """Timestamp of the last block, Unix seconds."""
        return self.ask(lambda: int(self.w3.eth.get_block("latest")["timestamp"]))

    def call(self, function: ContractFunction, *, sender: str | None = None, block: int | str = "latest") -> Any:
        """What a contract function returns, without a transaction.

        Raises:
            RevertError: the contract reverts.
        """
        params: TxParams = {"from": to_checksum_address(sender)} if sender else {}
        return self.ask(lambda: function.call(params, block_identifier=block))  # type: ignore[arg-type]

    def send(self, wallet: LocalAccount, call: ContractFunction, value: int = 0) -> TxReceipt:
        """Sends a contract call with ``value`` wei and waits for its block.

        Raises:
            RevertError: the contract refuses; nothing was sent unless it refused only in its block.
            ChainError: the node refused, or the block did not come in time.
        """
        return self._transact(wallet, {"to": call.address, "data": call._encode_transaction_data()}, value)

    def create(self, wallet: LocalAccount, code: bytes, value: int = 0) -> str:
        """Creates a contract from its creation code with arguments; returns its address."""
        receipt = self._transact(wallet, {"data": to_hex(code)}, value)  # type: ignore[typeddict-item]
        return to_checksum_address(str(receipt["contractAddress"]))

    def transfer(self, wallet: LocalAccount, to: str, wei: int) -> TxReceipt:
        """Sends native OPEN and waits for its block.

        Raises:
            InputError: the amount is not positive.
            ChainError: the account cannot pay it.
        """
        if wei <= 0:
            raise InputError(f"a transfer of {wei} wei is not possible; the amount must be positive")
        return self._transact(wallet, {"to": to_checksum_address(to)}, wei)

    def transfer_all(self, wallet: LocalAccount, to: str) -> TxReceipt:
        """Sends all native OPEN of the account but the transaction's own cost; gas estimated too high stays behind.

        Raises:
            ChainError: the account cannot pay the transaction.
        """
        held = self.balance(wallet.address)
        target: TxParams = {"to": to_checksum_address(to)}
        probe: TxParams = {**target, "from": wallet.address, "value": Wei(held // 2)}
        gas = self.ask(lambda: self.w3.eth.estimate_gas(probe))
        base_fee = self._next_base_fee()
        fees: TxParams = {"gas": gas, "maxFeePerGas": Wei(base_fee), "maxPriorityFeePerGas": Wei(0)}
        return self._transact(wallet, {**target, **fees}, held - gas * base_fee)

    def events(
        self, name: str, event: str, from_block: int = 0, to_block: int | None = None, **arguments: Any
    ) -> list[EventData]:
        """Events of a contract from ``from_block`` to ``to_block`` (the last block if None), in order.

        Args:
            name: the contract.
            event: the event's name.
            from_block: first block.
            to_block: last block, inclusive.
            arguments: values that indexed arguments must have.

        Raises:
            NotFoundError: the contract is not deployed or has no such event.
        """
        contract = self.contract(name)
        if not any(entry["type"] == "event" and entry["name"] == event for entry in _artifact(name).abi):
            raise NotFoundError(f"{name} has no event {event!r}")
        start = max(from_block, self.deployment.block if self.deployment else 0)
        end = self.ask(lambda: int(self.w3.eth.block_number)) if to_block is None else to_block
        found: list[EventData] = []
        for first in range(start, end + 1, _EVENT_SPAN):
            last = min(first + _EVENT_SPAN - 1, end)
            found += self.ask(
                lambda first=first, last=last: contract.events[event]().get_logs(  # type: ignore[misc]
                    from_block=first, to_block=last, argument_filters=arguments or None
                )
            )
        return found

    def prepare(self, sender: str, call: ContractFunction, value: int = 0) -> UnsignedTransaction:
        """A contract call with ``value`` wei for the sender's own wallet to sign and send; nothing is sent here.

        Raises:
            RevertError: the contract would refuse.
            ChainError: the sender cannot pay value and gas.
        """
        target: TxParams = {"to": call.address, "data": call._encode_transaction_data()}
        params = self._params(to_checksum_address(sender), target, value)
        try:
            self._price(params)
        except ChainError as error:
            raise self._told(error, params) from error
        gas, fee = int(params["gas"]), int(params["maxFeePerGas"])
        if self.balance(sender) < value + gas * fee:
            raise ChainError(self._short_of_funds(params))
        return UnsignedTransaction(
            chain_id=self.chain_id,
            sender=str(params["from"]),
            to=str(params["to"]),
            data=from_hex(str(params["data"])),
            value=value,
            gas=gas,
            max_fee_per_gas=fee,
            max_priority_fee_per_gas=int(params["maxPriorityFeePerGas"]),
        )

    def outcome(self, transaction: UnsignedTransaction, name: str) -> TxReceipt:
        """Waits for the block of a prepared transaction that a wallet says it sent as ``name`` (its hash).

        Raises:
            InputError: the name is no hash, or that of another transaction than the prepared one.
            RevertError: the contract refused in its block.
            ChainError: it is in no block in time.
        """
        digest = from_hex(name, 32)
        receipt = self._await(digest)
        sent = self.ask(lambda: self.w3.eth.get_transaction(to_hex(digest)))  # type: ignore[arg-type]
        found = (sent["from"], sent["to"], bytes(sent["input"]), int(sent["value"]))
        if found != (transaction.sender, transaction.to, transaction.data, transaction.value):
            raise InputError(f"transaction {name} is another one than was prepared; look at it in your wallet")
        if receipt["status"] != 1:
            keys = ("from", "to", "input", "value", "gas")
            params = {("data" if key == "input" else key): sent[key] for key in keys}  # type: ignore[literal-required]
            self._explain(params, receipt)  # type: ignore[arg-type]
        return receipt

    def _params(self, sender: ChecksumAddress, fields: TxParams, value: int) -> TxParams:
        return {**fields, "from": sender, "value": Wei(value), "chainId": self.chain_id, "type": 2}

    def _price(self, params: TxParams) -> None:
        """Adds gas and fees that are not set yet."""
        if "gas" not in params:
            estimate = self.ask(lambda: self.w3.eth.estimate_gas(params, "pending"))
            params["gas"] = estimate + estimate * _GAS_MARGIN_PERCENT // 100 + _GAS_MARGIN
        if "maxFeePerGas" not in params:
            base_fee, tip = self._fees()
            params["maxPriorityFeePerGas"] = Wei(tip)
            params["maxFeePerGas"] = Wei(2 * base_fee + tip)

    def _told(self, error: ChainError, params: TxParams) -> ChainError:
        """The error with both amounts where the sender cannot pay."""
        if not isinstance(error, RevertError) and "insufficient funds" in str(error).lower():
            return ChainError(self._short_of_funds(params))
        return error

    def _transact(self, wallet: LocalAccount, fields: TxParams, value: int) -> TxReceipt:
        params = self._params(to_checksum_address(wallet.address), fields, value)
        try:
            self._price(params)
            name = self._submit(wallet, params)
        except ChainError as error:
            told = self._told(error, params)
            if told is error:
                raise
            raise told from error
        try:
            receipt = self._await(name)
        finally:
            self._settled(wallet.address)
        if receipt["status"] != 1:
            self._explain(params, receipt)
        return receipt

    def _submit(self, wallet: LocalAccount, params: TxParams) -> bytes:
        """Signs and sends with the account's next nonce. Of one account one at a time, of many accounts at once."""
        address = wallet.address
        unsigned: dict[str, Any] = {key: item for key, item in params.items() if key != "from"}
        with self._account_locks[address]:
            for attempt in range(_NONCE_TRIES):
                # While a transaction of ours is on its way, the node may not count it yet; otherwise the node knows best.
                nonce = self._next_nonce.get(address) or self.nonce(address)
                raw = wallet.sign_transaction({**unsigned, "nonce": nonce}).raw_transaction
                try:
                    self._deliver(raw)
                except ChainError as error:
                    # Somebody else used this account: ask for the nonce again.
                    self._next_nonce.pop(address, None)
                    if attempt + 1 < _NONCE_TRIES and _says(error, "nonce", "underpriced", *_KNOWN):
                        time.sleep(random.uniform(0.0, 0.02 * (attempt + 1)))  # noqa: S311 (so that rivals do not meet again)
                        continue
                    raise
                self._next_nonce[address] = nonce + 1
                self._on_their_way[address] += 1
                return keccak(raw)
        raise AssertionError("unreachable")

    def _deliver(self, raw: bytes) -> None:
        """Sends a transaction until the node has it. The same bytes can be sent again at will: they count once."""
        name, deadline, pause = to_hex(keccak(raw)), time.monotonic() + self.timeout, 0.1
        unsure = False
        while True:
            try:
                self._ask_once(lambda: self.w3.eth.send_raw_transaction(raw))
                return
            except ChainError as error:
                full = _says(error, "pool is full", "mempool is full", "pool full", "too many requests", "429")
                if not (full or isinstance(error, UnreachableError)):
                    # What was sent before an interruption may have arrived, and then the second time is refused. Without one, the
                    # same bytes are another process's: it has the same account and the same wish, and takes the nonce.
                    if unsure and (_says(error, *_KNOWN) or self._knows(name)):
                        return
                    raise
                if time.monotonic() + pause > deadline:
                    raise type(error)(f"{error}; transaction {name} was tried for {self.timeout:g} s") from error
                unsure = unsure or isinstance(error, UnreachableError)
            _LOG.info("transaction %s is sent again in %.1f s", name, pause)
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def _knows(self, name: str) -> bool:
        try:
            self.ask(lambda: self.w3.eth.get_transaction(name))  # type: ignore[arg-type]
        except UnreachableError:
            raise
        except ChainError:
            return False
        return True

    def _settled(self, address: str) -> None:
        """One transaction of the account is no longer on its way; after the last, the node's own count is right again."""
        with self._account_locks[address]:
            self._on_their_way[address] -= 1
            if self._on_their_way[address] <= 0:
                self._next_nonce.pop(address, None)
                self._on_their_way.pop(address)

    def _await(self, name: bytes) -> TxReceipt:
        """The receipt, once so many blocks as :attr:`confirmations` lie on its block, which is then still there."""
        deadline = time.monotonic() + self.timeout
        pause, seen, trouble = 0.002, None, None
        while True:
            try:
                receipt = self.w3.eth.get_transaction_receipt(to_hex(name))  # type: ignore[arg-type]
                seen = receipt["blockNumber"]
                if self.confirmations == 0 or self.w3.eth.block_number >= seen + self.confirmations:
                    return receipt
            except TransactionNotFound:
                pass
            except (Web3Exception, OSError) as error:
                # It may be in a block all the same: ask again while there is time.
                trouble = _chain_error(error, self.rpc_url)
                if not isinstance(trouble, UnreachableError):
                    raise trouble from error
            if time.monotonic() > deadline:
                where = (
                    "in no block" if seen is None else f"in block {seen}, which is gone or has too few blocks on it,"
                )
                reason = f" ({trouble})" if trouble else ""
                message = f"transaction {to_hex(name)} is {where} after {self.timeout:g} s{reason}; it may still come"
                raise (UnreachableError if trouble else ChainError)(message)
            time.sleep(pause)
            pause = min(2 * pause, 0.5)

    def _short_of_funds(self, params: TxParams) -> str:
        gas = int(params.get("gas", 0)) * int(params.get("maxFeePerGas", 0))
        fee = f"up to {format_open(gas)} OPEN for gas" if gas else "gas"
        sender, value = str(params["from"]), format_open(int(params["value"]))
        held = format_open(self.balance(sender))
        return f"insufficient funds: {sender} holds {held} OPEN, and the transaction costs {value} OPEN and {fee}"

    def _explain(self, params: TxParams, receipt: TxReceipt) -> None:
        """Raises why a transaction failed in its block, by repeating it on the state before."""
        if receipt["gasUsed"] == params.get("gas"):
            raise RevertError(
                f"transaction {to_hex(bytes(receipt['transactionHash']))} ran out of gas in block {receipt['blockNumber']}: "
                f"it used all of its {receipt['gasUsed']}"
            )
        self.ask(lambda: self.w3.eth.call(params, block_identifier=receipt["blockNumber"]))
        raise RevertError(
            f"transaction {to_hex(bytes(receipt['transactionHash']))} failed in block {receipt['blockNumber']} "
            f"after using {receipt['gasUsed']} of {params.get('gas')} gas"
        )

    def _fees(self) -> tuple[int, int]:
        """Base fee of the next block and the suggested tip, wei per gas; asked for again when older than two seconds."""
        known = self._known_fees
        if known is None or time.monotonic() - known[0] > _FEES_SECONDS:
            tip = self.ask(lambda: int(self.w3.eth.max_priority_fee))
            known = self._known_fees = (time.monotonic(), (self._next_base_fee(), tip))
        return known[1]

    def _next_base_fee(self) -> int:
        history = self.ask(lambda: self.w3.eth.fee_history(1, "latest"))
        return int(history["baseFeePerGas"][-1])

    def ask(self, question: Callable[[], _T]) -> _T:
        """What a call of :attr:`w3` gives, with its failure as an error of this project. ``question`` only reads: it is asked
        once more where the connection was cut, as when a server closes one that was idle.

        Raises:
            RevertError: a contract reverted.
            UnreachableError: nothing answered, or not in time.
            ChainError: the node refused.
        """
        try:
            return question()
        except (Web3Exception, OSError) as error:
            if not _was_cut(error):
                raise _chain_error(error, self.rpc_url) from error
        return self._ask_once(question)

    def _ask_once(self, question: Callable[[], _T]) -> _T:
        try:
            return question()
        except (Web3Exception, OSError) as error:
            raise _chain_error(error, self.rpc_url) from error


def _artifact(name: str) -> Artifact:
    """The artifact of a deployed contract; what follows a dot names one of several."""
    return load_artifact(name.partition(".")[0])


def decode_revert(data: bytes) -> RevertError:
    """The error that a contract's revert data stands for."""
    if not data:
        return RevertError("the contract refused without giving a reason")
    known = error_types().get(data[:4])
    try:
        if known is not None:
            values = decode([kind for _, kind in known.arguments], data[4:])
            arguments = {name: _plain(value) for (name, _), value in zip(known.arguments, values, strict=True)}
            return RevertError(_sentence(known.name, arguments), name=known.name, arguments=arguments)
        if data[:4] == bytes.fromhex("08c379a0"):
            (reason,) = decode(["string"], data[4:])
            return RevertError(str(reason), name="Error", arguments={"reason": reason})
        if data[:4] == bytes.fromhex("4e487b71"):
            (code,) = decode(["uint256"], data[4:])
            return RevertError(_PANICS.get(code, f"panic {code:#x}"), name="Panic", arguments={"code": code})
    except DecodingError:
        pass
    return RevertError(f"the contract refused with unknown data {to_hex(data[:68])}", arguments={"data": to_hex(data)})


def _chain_error(error: Exception, rpc_url: str) -> ChainError:
    """The project's error for one of web3's or of the connection."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return UnreachableError(
            f"{rpc_url} answers with HTTP {status}" + (": too many requests" if status == 429 else "")
        )
    if isinstance(error, OSError):
        return UnreachableError(f"nothing answers at {rpc_url} ({type(error).__name__}); is the chain running?")
    if isinstance(error, ContractLogicError):
        data = error.data
        if isinstance(data, str) and data.startswith("0x"):
            return decode_revert(from_hex(data))
        return RevertError(str(error.message or "the contract refused without giving a reason"))
    if isinstance(error, Web3RPCError):
        answer = (error.rpc_response or {}).get("error", {})
        data = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(data, str) and data.startswith("0x") and len(data) > 2:
            return decode_revert(from_hex(data))
        message = answer.get("message") if isinstance(answer, dict) else None
        return ChainError(f"the chain refused: {message or error}")
    return ChainError(f"the chain's answer cannot be used: {error}")


def _was_cut(error: BaseException | None) -> bool:
    """Whether a connection that stood was closed by the other side before its answer."""
    while error is not None:
        if isinstance(error, ConnectionResetError | RemoteDisconnected):
            return True
        error = error.__cause__ or error.__context__
    return False


def _says(error: Exception, *words: str) -> bool:
    text = str(error).lower()
    return any(word in text for word in words)


def _plain(value: Any) -> Any:
    return to_hex(value) if isinstance(value, bytes) else value


def _sentence(name: str, arguments: Mapping[str, Any]) -> str:
    """A contract's error in words, with its values, and its name for those who look it up."""
    values = [f"{_words(key)} {_shown(key, value)}" for key, value in arguments.items()]
    told = " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else values)
    return f"the contract refused: {_words(name)}{f', with {told}' if told else ''} ({name})"


def _words(name: str) -> str:
    """``StakeBelowMinimum`` as ``stake below minimum``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name).lower()


def _shown(name: str, value: Any) -> str:
    """Amounts from a thousandth of an OPEN to the whole supply are wei and shown in OPEN; larger numbers are ids."""
    amount = isinstance(value, int) and 10**15 <= value <= TOTAL_SUPPLY and name != "value"
    return f"{format_open(value)} OPEN" if amount else str(value)
