"""A package's names, each loaded when it is first asked for, so that who needs one of them does not wait for all.

A name must not be that of a module of the package: importing the module would put it in the name's place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def on_first_use(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], object]:
    """The ``__getattr__`` (PEP 562) of a package.

    Args:
        package: its ``__name__``.
        names: what the package hands on, by the module that it comes from; a leading dot is the package itself.
    """
    modules = {name: module for module, listed in names.items() for name in listed}

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(modules[name], package), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
