"""Compiled loops are compiled again when what they are made of changes."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from openledger.openlora import adapter_kernel, kernels, product_kernel, shapes, vectors


@pytest.mark.parametrize("module", [adapter_kernel, kernels, product_kernel])
def test_a_file_of_compiled_loops_changes_with_the_vectors_that_it_is_made_of(module: object) -> None:
    """Numba's cache looks at the file of a loop alone: write the digest that is asked for here into its comment."""
    made_of = Path(vectors.__file__).read_bytes() + f"{shapes.LINE} {shapes.TILE_RANKS}".encode()
    source = Path(str(module.__file__)).read_text()  # type: ignore[attr-defined]
    assert f"# Made of vectors {hashlib.sha256(made_of).hexdigest()[:16]}.\n" in source
