"""A package's names, each loaded when it is first asked for, so that who needs one of them does not wait for all.

A name must not be that of a module of the package: importing the module would put it in the name's place.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def on_first_use(package: str, source: str) -> Callable[[str], object]:
    """The ``__getattr__`` (PEP 562) of a package.

    Args:
        package: its ``__name__``.
        source: its ``__file__``, whose ``if TYPE_CHECKING:`` imports what the package hands on, for type checkers and for us.
    """
    modules = {
        name.name: statement.module
        for block in ast.parse(Path(source).read_text()).body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom) and statement.module is not None
        for name in statement.names
    }

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = getattr(import_module(modules[name]), name)
        setattr(sys.modules[package], name, found)
        return found

    return find
