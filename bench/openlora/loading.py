"""What it takes to load a base from an ordinary folder: memory at the worst moment, memory kept, CPU seconds to the first token.

The table ``loading`` of ``python -m bench.openlora --growth``: our engine beside transformers (as
:func:`openledger.models.load_base` loads with it), each in a process of its own, on the large models of
:mod:`bench.openlora.sizes` in files of bfloat16 and of float32. Memory is the process's own (RssAnon, looked at a hundred times
a second), less what it has once the libraries are imported; mapped files, which the system can drop, are not counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file

from bench.openlora.common import cpu_seconds, prompts
from bench.openlora.growth import resident_mib
from bench.openlora.sizes import LARGE, random_model
from openledger.models import load_base
from openledger.models.base import SHIPPED
from openledger.openlora import Engine, EngineLimits, Sampling

STORED = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WAYS = (("openledger", "float32"), ("openledger", "int8"), ("transformers", "float32"))
"""Engines and how they hold weights."""


def loading() -> Iterator[dict[str, object]]:
    """The table."""
    for name in LARGE:
        model = name.split(",")[0]
        for stored, dtype in STORED.items():
            with tempfile.TemporaryDirectory() as folder:
                _save(name, Path(folder), dtype)
                for engine, weights in WAYS:
                    ran = subprocess.run(
                        [sys.executable, "-m", __name__, engine, weights, folder],
                        stdout=subprocess.PIPE,
                        check=True,
                        text=True,
                    )
                    yield {
                        "engine": engine,
                        "model": f"{model}, random weights, {stored} files",
                        "adapters": 0,
                        "batch": 1,
                        "weights": weights,
                        **json.loads(ran.stdout),
                    }


def _save(name: str, folder: Path, dtype: torch.dtype) -> None:
    """A folder as people get them. Layers are alike, which no loader knows; each is written."""
    model = random_model(name, alike=True)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((SHIPPED / file).read_bytes())
    model.config.dtype = dtype
    model.config.save_pretrained(folder)
    weights = {key: value.to(dtype) for key, value in model.state_dict().items() if key != "lm_head.weight"}
    shared = {key: value.clone() if dtype == torch.float32 else value for key, value in weights.items()}
    save_file(shared, folder / "model.safetensors", {"format": "pt"})


def main(engine: str, weights: str, folder: str) -> None:
    """Loads and writes one token in this process."""
    torch.set_num_threads(1)
    before, used, seen, done = resident_mib(), cpu_seconds(), [0.0], threading.Event()

    def look() -> None:
        while not done.wait(0.01):
            seen.append(resident_mib())

    watcher = threading.Thread(target=look)
    watcher.start()
    ids = prompts(1)[0]
    if engine == "openledger":
        limits = EngineLimits(batch=1, prefix_bytes=0, weights="int8" if weights == "int8" else "float32")
        loaded = Engine(Path(folder), limits)
        loaded.complete(None, ids, Sampling(max_tokens=1))
    else:
        base = load_base(folder)
        with torch.inference_mode():
            base.model(torch.tensor([ids]))
    used = cpu_seconds() - used
    done.set()
    watcher.join()
    kept = resident_mib()
    print(json.dumps({"peak_mib": max(*seen, kept) - before, "kept_mib": kept - before, "cpu_s": used}))


if __name__ == "__main__":
    main(*sys.argv[1:])
