"""The contracts on a real EVM (revm, in the process): the same artifacts that are deployed on a chain."""

from __future__ import annotations

from functools import cache
from typing import Any

import pyrevm
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.abi import get_abi_input_types, get_abi_output_types
from eth_utils.address import to_checksum_address

from openledger.chain.artifacts import creation_code, error_types, load_artifact
from openledger.chain.deployment import created_address
from openledger.primitives import keccak

START = 1_800_000_000
RICH = 10**30


def person(name: str) -> LocalAccount:
    """An account with a key that follows from its name."""
    return Account.from_key(keccak(b"differential", name.encode()))


class Reverted(Exception):
    """A call was refused; the argument is the error's name."""


class World:
    """The contracts of Datanets, reviews, stakes, fees and payouts, with an authority that is this test."""

    def __init__(self) -> None:
        self.evm = pyrevm.EVM(gas_limit=2**63)
        self.number, self.time = 1_000, START
        self.authority = person("authority").address
        self.treasury = person("treasury").address
        self.evm.set_balance(self.authority, RICH)
        self._nonce = 0
        self.at: dict[str, str] = {}
        self._block()
        access = self._create("AccessManager", ["address"], [self.authority])
        parameters = self._create("RuntimeParameters", ["address", "bytes32[]", "uint256[]"], [access, [], []])
        stakes = self._create("StakeManager", ["address", "address"], [access, parameters])
        registry = created_address(self.authority, self._nonce + 1)
        appeals = self._create("ReviewAppeals", ["address"] * 4, [parameters, stakes, registry, self.treasury])
        self._create("DatanetRegistry", ["address"] * 4, [parameters, stakes, appeals, self.treasury])
        assert self.at["DatanetRegistry"] == registry
        escrow = created_address(self.authority, self._nonce + 1)
        distributor = self._create("RewardsDistributor", ["address"] * 4, [access, parameters, stakes, escrow])
        self._create("FeeEscrow", ["address", "address"], [parameters, distributor])
        self.allow("StakeManager", ["slash"], registry, 1)

    def allow(self, contract: str, functions: list[str], account: str, role: int) -> None:
        """Gives an account a role, and the role these functions of a contract."""
        selectors = [_signature(contract, name)[0] for name in functions]
        self.send(self.authority, "AccessManager", "setTargetFunctionRole", [self.at[contract], selectors, role])
        self.send(self.authority, "AccessManager", "grantRole", [role, account, 0])

    @property
    def chain_id(self) -> int:
        """What the EVM's CHAINID gives."""
        return 1

    def send(self, sender: str, contract: str, function: str, arguments: list[Any], value: int = 0) -> Any:
        """A call that changes state; returns what the function returns.

        Raises:
            Reverted: it was refused.
        """
        selector, inputs, outputs = _signature(contract, function)
        data = selector + encode(inputs, arguments)
        try:
            result = self.evm.message_call(sender, self.at[contract], calldata=data, value=value, gas=2**40)
        except RuntimeError as error:
            raise Reverted(self._reason(error)) from error
        return decode(outputs, bytes(result)) if outputs else None

    def read(self, contract: str, function: str, *arguments: Any) -> Any:
        """The single value that a view gives."""
        return self.send(self.authority, contract, function, list(arguments))[0]

    def balance(self, account: str) -> int:
        """Wei of an account."""
        return int(self.evm.get_balance(account))

    def block_hash(self, number: int) -> bytes:
        """What BLOCKHASH gives for a block that is over."""
        return bytes(self.evm.block_hash(number))

    def step(self, seconds: int) -> None:
        """Ends the block."""
        self.number, self.time = self.number + 1, self.time + seconds
        self._block()

    def _block(self) -> None:
        self.evm.set_block_env(pyrevm.BlockEnv(number=self.number, timestamp=self.time, gas_limit=2**62))

    def _create(self, name: str, types: list[str], values: list[Any]) -> str:
        code = creation_code(name) + encode(types, values)
        self.at[name] = to_checksum_address(self.evm.deploy(self.authority, code, gas=2**40))
        self._nonce = int(self.evm.basic(self.authority).nonce)
        return self.at[name]

    def _reason(self, error: RuntimeError) -> str:
        output = getattr(self.evm.result, "output", b"") if self.evm.result is not None else b""
        data = bytes(output or b"")
        if not data:
            text = str(error)
            start = text.find("0x")
            digits = "".join(c for c in text[start + 2 :] if c in "0123456789abcdefABCDEF") if start >= 0 else ""
            data = bytes.fromhex(digits[: len(digits) // 2 * 2])
        known = error_types().get(data[:4])
        return known.name if known else f"{error}"


@cache
def _signature(contract: str, name: str) -> tuple[bytes, list[str], list[str]]:
    """Selector and types of what a function takes and gives."""
    entry = next(
        entry for entry in load_artifact(contract).abi if entry["type"] == "function" and entry["name"] == name
    )
    inputs = [get_abi_input_types(entry), get_abi_output_types(entry)]
    return keccak(f"{name}({','.join(inputs[0])})".encode())[:4], inputs[0], inputs[1]
