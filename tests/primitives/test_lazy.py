"""Packages whose names are loaded when they are first asked for hand on all that they promise."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest


@pytest.mark.parametrize("name", ["chain", "modelfactory", "models", "openlora", "storage", "studio"])
def test_every_name_that_a_package_hands_on_is_found(name: str) -> None:
    package = importlib.import_module(f"openledger.{name}")
    assert {"__getattr__", "on_first_use"} <= vars(package).keys()
    assert package.__all__
    assert all(not isinstance(getattr(package, one), ModuleType) for one in package.__all__)
    with pytest.raises(AttributeError, match=f"module 'openledger.{name}' has no attribute 'no_such_name'"):
        _ = package.no_such_name
