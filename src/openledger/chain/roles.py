"""The roles in which OPEN can be staked."""

from __future__ import annotations

from enum import IntEnum


class Role(IntEnum):
    """A role of StakeManager; the numbers are the contract's."""

    REVIEWER = 1
    VALIDATOR = 2
    HOST = 3
    OPERATOR = 4
    AGENT = 5
