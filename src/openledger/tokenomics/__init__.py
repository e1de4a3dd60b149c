"""OPEN as money: how the fixed supply is allocated and released, and what use of the network demands."""

from openledger.tokenomics.allocation import Allocation, Bucket, load_allocation, parse_allocation
from openledger.tokenomics.supply import BucketSupply, Supply, schedule, supply_at

__all__ = [
    "Allocation",
    "Bucket",
    "BucketSupply",
    "Supply",
    "load_allocation",
    "parse_allocation",
    "schedule",
    "supply_at",
]
