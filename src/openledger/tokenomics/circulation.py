"""OPEN on chain: what vesting has released, what circulates, is staked or wrapped, and what use of the network pays.

Figures are read, never assumed: the vesting contracts' own accounts, the balances of contracts, and the fee vaults.
"""

from __future__ import annotations

from dataclasses import dataclass

from eth_account.signers.local import LocalAccount
from web3.logs import DISCARD

from openledger.chain import Chain
from openledger.primitives import TOTAL_SUPPLY

_PREFIX = "Vesting."

FEE_VAULTS = (
    "0x4200000000000000000000000000000000000011",
    "0x4200000000000000000000000000000000000019",
    "0x420000000000000000000000000000000000001A",
)
"""The OP Stack's vaults for priority fees, base fees and L1 data fees."""


@dataclass(frozen=True)
class VestingState:
    """One bucket's vesting contract, in wei and Unix seconds.

    Attributes:
        bucket: the bucket's name.
        address: the contract.
        beneficiary: who is paid.
        start, end: the linear release runs between these.
        total: what it vests in all.
        vested: what the schedule has released by now.
        paid: what the beneficiary has taken of it.
    """

    bucket: str
    address: str
    beneficiary: str
    start: int
    end: int
    total: int
    vested: int
    paid: int

    @property
    def releasable(self) -> int:
        """What the beneficiary could take now."""
        return self.vested - self.paid

    @property
    def locked(self) -> int:
        """What the schedule still holds back."""
        return self.total - self.vested


@dataclass(frozen=True)
class Circulation:
    """Where the fixed supply is, in wei, as of one block.

    Attributes:
        time: the block's Unix second.
        block_number: the block.
        vesting: each vesting contract.
        treasury: balance of the treasury.
        staked: balance of StakeManager, leaving stake included.
        wrapped: gOPEN in existence.
        escrowed: consumers' deposits.
        undistributed: fees collected and not yet claimed, dust included.
    """

    time: int
    block_number: int
    vesting: tuple[VestingState, ...]
    treasury: int
    staked: int
    wrapped: int
    escrowed: int
    undistributed: int

    @property
    def total(self) -> int:
        """The fixed supply."""
        return TOTAL_SUPPLY

    @property
    def locked(self) -> int:
        """What no schedule has released yet."""
        return sum(contract.locked for contract in self.vesting)

    @property
    def circulating(self) -> int:
        """The supply without what is locked. Staked and wrapped OPEN circulates: its owner can take it back."""
        return self.total - self.locked


@dataclass(frozen=True)
class Demand:
    """What use has paid so far, in wei.

    Attributes:
        fees_collected: inference fees that hosts redeemed.
        fees_claimed: of it, what the earners have drawn.
        gas_paid: gas fees, as they lie in the fee vaults.
        inferences: receipts posted.
        batches: batches posted.
    """

    fees_collected: int
    fees_claimed: int
    gas_paid: int
    inferences: int
    batches: int


def circulation(chain: Chain) -> Circulation:
    """Where the supply is now."""
    block = chain.w3.eth.get_block("latest")
    time = int(block["timestamp"])
    return Circulation(
        time=time,
        block_number=int(block["number"]),
        vesting=tuple(_vesting(chain, name, time) for name in _vesting_names(chain)),
        treasury=chain.balance(chain.address("TimelockController")),
        staked=chain.balance(chain.address("StakeManager")),
        wrapped=int(chain.call(chain.contract("GOPEN").functions.totalSupply())),
        escrowed=chain.balance(chain.address("FeeEscrow")),
        undistributed=chain.balance(chain.address("RewardsDistributor")),
    )


def demand(chain: Chain) -> Demand:
    """What use has paid so far."""
    distributor = chain.contract("RewardsDistributor").functions
    posted = chain.events("InferenceLedger", "BatchPosted")
    return Demand(
        fees_collected=int(chain.call(distributor.totalCollected())),
        fees_claimed=int(chain.call(distributor.totalClaimed())),
        gas_paid=sum(chain.balance(vault) for vault in FEE_VAULTS),
        inferences=sum(log["args"]["count"] for log in posted),
        batches=len(posted),
    )


def release(chain: Chain, wallet: LocalAccount, bucket: str) -> int:
    """Pays a bucket's beneficiary what has vested; returns wei. Anyone may send it.

    Raises:
        NotFoundError: the bucket has no vesting contract.
    """
    contract = chain.contract(f"{_PREFIX}{bucket}")
    receipt = chain.send(wallet, contract.functions["release()"]())
    events = contract.events.EtherReleased().process_receipt(receipt, errors=DISCARD)
    return sum(int(event["args"]["amount"]) for event in events)


def _vesting_names(chain: Chain) -> list[str]:
    addresses = chain.deployment.addresses if chain.deployment else {}
    return [name for name in addresses if name.startswith(_PREFIX)]


def _vesting(chain: Chain, name: str, time: int) -> VestingState:
    functions = chain.contract(name).functions
    paid = int(chain.call(functions["released()"]()))
    return VestingState(
        bucket=name.removeprefix(_PREFIX),
        address=chain.address(name),
        beneficiary=str(chain.call(functions.owner())),
        start=int(chain.call(functions.start())),
        end=int(chain.call(functions.end())),
        total=chain.balance(chain.address(name)) + paid,
        vested=int(chain.call(functions["vestedAmount(uint64)"](time))),
        paid=paid,
    )
