"""OPEN as money: how the fixed supply is allocated and released, and what use of the network demands."""

from openledger.tokenomics.allocation import Allocation, Bucket, load_allocation, parse_allocation
from openledger.tokenomics.bootstrap import (
    Bootstrap,
    claim_grant,
    make_bootstrap,
    read_bootstrap,
    return_remainder,
)
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
    "Bootstrap",
    "Bucket",
    "BucketSupply",
    "Circulation",
    "Demand",
    "Supply",
    "VestingState",
    "circulation",
    "claim_grant",
    "demand",
    "load_allocation",
    "make_bootstrap",
    "parse_allocation",
    "read_bootstrap",
    "release",
    "return_remainder",
    "schedule",
    "supply_at",
]
