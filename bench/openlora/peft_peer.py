"""transformers and peft over the common workload: a mixed batch by ``adapter_names``, or one adapter after the other."""

from __future__ import annotations

import sys
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from bench.openlora.common import (
    ADAPTERS,
    BATCH,
    MODEL,
    OUTPUT,
    adapter_of,
    chosen_counts,
    cpu_seconds,
    prompts,
    report,
)


def main(mode: str) -> None:
    """One row for each number of adapters; ``mode`` is ``mixed`` or ``switch``."""
    torch.set_num_threads(1)
    model: Any = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="sdpa").eval()
    counts = chosen_counts()
    if max(counts):
        model = PeftModel.from_pretrained(model, str(ADAPTERS / "0"), adapter_name="0")
        for number in range(1, max(counts)):
            model.load_adapter(str(ADAPTERS / str(number)), adapter_name=str(number))
        model.eval()

    @torch.inference_mode()
    def generate(rows: list[list[int]], output: int, **more: Any) -> int:
        ids = torch.tensor(rows)
        settings = {"do_sample": False, "max_new_tokens": output, "min_new_tokens": output, "pad_token_id": 0}
        written = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **settings, **more)
        return int(written.shape[0] * (written.shape[1] - ids.shape[1]))

    def run(count: int, output: int, seed: int) -> tuple[int, float]:
        rows = prompts(seed=seed)
        names = [adapter_of(row, count) for row in range(BATCH)]
        before = cpu_seconds()
        if count == 0:
            if isinstance(model, PeftModel):
                with model.disable_adapter():
                    tokens = generate(rows, output)
            else:
                tokens = generate(rows, output)
        elif mode == "mixed":
            tokens = generate(rows, output, adapter_names=[str(name) for name in names])
        else:
            tokens = 0
            for adapter in range(count):
                model.set_adapter(str(adapter))
                mine = [row for row, name in zip(rows, names, strict=True) if name == adapter]
                tokens += generate(mine, output)
        return tokens, cpu_seconds() - before

    for count in counts:
        run(count, 2, 9)
        _, first = run(count, 1, 1)
        tokens, seconds = run(count, OUTPUT, 0)
        name = "peft adapter_names" if mode == "mixed" else "peft set_adapter"
        report(engine=name, adapters=count, batch=BATCH, tokens_per_cpu_s=tokens / seconds, ttft_ms=1000 * first)


if __name__ == "__main__":
    main(sys.argv[1])
