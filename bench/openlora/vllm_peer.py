"""vLLM on the CPU over the common workload, in its own environment; run with BENCH_COUNTS=0 for its base without LoRA."""

from __future__ import annotations

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from bench.openlora.common import (
    ADAPTERS,
    BATCH,
    MODEL,
    OUTPUT,
    RANK,
    adapter_of,
    chosen_counts,
    cpu_seconds,
    prompts,
    report,
)


def main() -> None:
    """One row for each number of adapters."""
    counts = chosen_counts()
    lora = (
        {"enable_lora": True, "max_loras": max(counts), "max_cpu_loras": 32, "max_lora_rank": RANK}
        if max(counts)
        else {}
    )
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

    def run(count: int, output: int, seed: int) -> tuple[int, float]:
        sampling = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True, detokenize=False)
        asked = [{"prompt_token_ids": ids} for ids in prompts(seed=seed)]
        names = [adapter_of(row, count) for row in range(BATCH)]
        requests = [
            None if name is None else LoRARequest(str(name), name + 1, str(ADAPTERS / str(name))) for name in names
        ]
        before = cpu_seconds()
        found = engine.generate(asked, sampling, lora_request=requests if count else None, use_tqdm=False)
        return sum(len(one.outputs[0].token_ids) for one in found), cpu_seconds() - before

    for count in counts:
        run(count, 4, 9)
        run(count, OUTPUT, 8)
        _, first = run(count, 1, 1)
        tokens, seconds = run(count, OUTPUT, 0)
        report(engine="vllm", adapters=count, batch=BATCH, tokens_per_cpu_s=tokens / seconds, ttft_ms=1000 * first)


if __name__ == "__main__":
    main()
