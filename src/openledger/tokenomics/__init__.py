"""OPEN as money: how the fixed supply is allocated and released, and what use of the network demands."""

from openledger.tokenomics.allocation import Allocation, Bucket, load_allocation, parse_allocation

__all__ = ["Allocation", "Bucket", "load_allocation", "parse_allocation"]
