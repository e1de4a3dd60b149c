"""OPEN as money: how the fixed supply is allocated and released, and what use of the network demands."""

from openledger.tokenomics.allocation import Allocation, Bucket, load_allocation, parse_allocation
from openledger.tokenomics.circulation import (
    FEE_VAULTS,
    Circulation,
    Demand,
    VestingState,
    circulation,
    demand,
    release,
)
from openledger.tokenomics.supply import BucketSupply, Supply, schedule, supply_at

__all__ = [
    "FEE_VAULTS",
    "Allocation",
    "Bucket",
    "BucketSupply",
    "Circulation",
    "Demand",
    "Supply",
    "VestingState",
    "circulation",
    "demand",
    "load_allocation",
    "parse_allocation",
    "release",
    "schedule",
    "supply_at",
]
