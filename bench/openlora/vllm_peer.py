"""vLLM on the CPU over the common workload, in its own environment: ``lora`` serves the adapters, ``base`` runs without LoRA."""

from __future__ import annotations

import sys

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from bench.openlora.common import ADAPTERS, BATCH, MODEL, RANK, adapter_of, answer, prompts


def main(mode: str) -> None:
    """Answers the parent."""
    lora = {"enable_lora": True, "max_loras": 32, "max_cpu_loras": 32, "max_lora_rank": RANK} if mode == "lora" else {}
    engine = LLM(
        model=str(MODEL),
        dtype="float32",
        max_num_seqs=BATCH,
        max_model_len=256,
        enable_prefix_caching=False,
        skip_tokenizer_init=True,
        disable_log_stats=True,
        **lora,
    )

    def run(count: int, output: int, seed: int) -> int:
        sampling = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)
        asked = [{"prompt_token_ids": ids} for ids in prompts(seed=seed)]
        names = [adapter_of(row, count) for row in range(BATCH)]
        requests = [
            None if name is None else LoRARequest(str(name), name + 1, str(ADAPTERS / str(name))) for name in names
        ]
        found = engine.generate(asked, sampling, lora_request=requests if count else None, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in found)

    answer(run)


if __name__ == "__main__":
    main(sys.argv[1])
