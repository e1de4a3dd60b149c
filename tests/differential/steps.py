"""One step in both worlds: the plain model's refusals, and the comparison with what the contract says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.differential.evm import Reverted, World


class Refused(Exception):
    """A step that the protocol does not allow; its argument is the error's name."""


def need(condition: bool, error: str) -> None:
    """Refuses with ``error`` unless the condition holds."""
    if not condition:
        raise Refused(error)


def agree(
    world: World,
    step: Callable[[], object],
    sender: str,
    contract: str,
    function: str,
    given: list[Any],
    value: int = 0,
) -> None:
    """Takes a step in both worlds; both must allow it, or refuse it for the same reason."""
    try:
        step()
        expected = ""
    except Refused as refused:
        expected = str(refused)
    try:
        world.send(sender, contract, function, given, value)
        actual = ""
    except Reverted as reverted:
        actual = str(reverted)
    assert actual == expected, f"{contract}.{function}: the contract says {actual!r}, the model {expected!r}"
