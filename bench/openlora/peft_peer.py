"""transformers and peft over the common workload: a mixed batch by ``adapter_names``, or one adapter after the other."""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bench.openlora.common import ADAPTERS, BATCH, MODEL, adapter_of, answer, prompts


def load() -> Any:
    """The base model."""
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="sdpa").eval()


def main(mode: str) -> None:
    """Answers the parent; ``mode`` is ``mixed`` or ``switch``, and the base is plain transformers in both."""
    torch.set_num_threads(1)
    base, model = load(), PeftModel.from_pretrained(load(), str(ADAPTERS / "0"), adapter_name="0")
    for number in range(1, 32):
        model.load_adapter(str(ADAPTERS / str(number)), adapter_name=str(number))
    model.eval()

    @torch.inference_mode()
    def generate(what: Any, rows: list[list[int]], output: int, **more: Any) -> int:
        ids = torch.tensor(rows)
        settings = {"do_sample": False, "max_new_tokens": output, "min_new_tokens": output, "pad_token_id": 0}
        written = what.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings, **more)
        return int(written.shape[0] * (written.shape[1] - ids.shape[1]))

    def run(count: int, output: int, seed: int) -> int:
        rows = prompts(seed=seed)
        names = [adapter_of(row, count) for row in range(BATCH)]
        if count == 0:
            return generate(base, rows, output)
        if mode == "mixed":
            return generate(model, rows, output, adapter_names=[str(name) for name in names])
        tokens = 0
        for adapter in range(count):
            model.set_adapter(str(adapter))
            mine = [row for row, name in zip(rows, names, strict=True) if name == adapter]
            tokens += generate(model, mine, output)
        return tokens

    answer(run)


if __name__ == "__main__":
    main(sys.argv[1])
