"""A transaction that is ready for somebody else's wallet: what to send, and what it can cost at most."""

from __future__ import annotations

from dataclasses import dataclass

from openledger.primitives import to_hex


@dataclass(frozen=True)
class UnsignedTransaction:
    """One contract call of ``sender``; amounts in wei, fees in wei per gas. The wallet that signs it sets the nonce."""

    chain_id: int
    sender: str
    to: str
    data: bytes
    value: int
    gas: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int

    @property
    def gas_cost(self) -> int:
        """Wei that its gas costs at most."""
        return self.gas * self.max_fee_per_gas

    def to_json(self) -> dict[str, str]:
        """The parameter of a wallet's ``eth_sendTransaction`` (EIP-1193, EIP-1474)."""
        return {
            "from": self.sender,
            "to": self.to,
            "data": to_hex(self.data),
            "value": hex(self.value),
            "gas": hex(self.gas),
            "maxFeePerGas": hex(self.max_fee_per_gas),
            "maxPriorityFeePerGas": hex(self.max_priority_fee_per_gas),
            "chainId": hex(self.chain_id),
        }
