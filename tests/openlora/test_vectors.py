"""Compiled loops are compiled again when what they are made of changes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from openledger.openlora import adapter_kernel, kernels, product_kernel, shapes, turn_kernel, vectors

MADE_OF = {
    adapter_kernel: (vectors,),
    kernels: (vectors,),
    product_kernel: (vectors,),
    turn_kernel: (adapter_kernel, kernels, product_kernel, vectors),
}


def digest(module: ModuleType) -> str:
    """Of a file and of the numbers that it takes from elsewhere."""
    numbers = f"{shapes.LINE} {shapes.TILE_RANKS}"
    return hashlib.sha256(Path(str(module.__file__)).read_bytes() + numbers.encode()).hexdigest()[:16]


@pytest.mark.parametrize("module", MADE_OF)
def test_a_file_of_compiled_loops_changes_with_what_it_is_made_of(module: ModuleType) -> None:
    """Numba's cache looks at the file of a loop alone: write what is asked for here into its comment."""
    found = re.search(r"^# Made of (.+)\.$", Path(str(module.__file__)).read_text(), re.MULTILINE)
    assert found is not None
    assert found[1] == ", ".join(f"{one.__name__.rpartition('.')[2]} {digest(one)}" for one in MADE_OF[module])
