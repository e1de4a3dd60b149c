"""An answer has the same bits on every kind of processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from openledger.openlora.product_kernel import COLUMNS
from tests.openlora.processors import CASES, digests, write

_ON_ANOTHER = """
import json, sys
from pathlib import Path
from llvmlite import binding

here = binding.get_host_cpu_features()
binding.get_host_cpu_features = lambda: {**here, "avx512f": not here.get("avx512f")}

import torch
from openledger.openlora import product_kernel
from tests.openlora.processors import digests

assert torch.backends.cpu.get_cpu_capability() == "DEFAULT"
print(json.dumps([product_kernel.COLUMNS, digests(Path(sys.argv[1]))]))
"""


def test_another_kind_of_processor_computes_the_same_bits(tmp_path: Path) -> None:
    """One without AVX or fused multiplication, for which both Numba and torch then make or take other code, and whose products
    take as many rows and columns at once as this one's do not.
    """
    write(tmp_path)
    plainest = {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CACHE_DIR": str(tmp_path / "loops"),
        "ATEN_CPU_CAPABILITY": "default",
    }
    ran = subprocess.run(
        [sys.executable, "-c", _ON_ANOTHER, str(tmp_path)],
        env={**os.environ, **plainest},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert ran.returncode == 0, ran.stderr
    columns, found = json.loads(ran.stdout)
    assert {columns, COLUMNS} == {16, 32}
    assert len(set(found)) == 5 * len(CASES)
    assert found == digests(tmp_path)
