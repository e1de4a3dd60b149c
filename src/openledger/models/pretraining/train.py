"""Pretrain the shipped base model: a small Llama on packed text, then annealed towards dialogues.

Optimisers: Muon (Jordan et al., 2024) for the matrices inside the layers, AdamW for embeddings and norms.
Schedule: warm-up, constant, linear decay over the last share of the budget (WSD; Hu et al., 2024, MiniCPM).
The budget is a number of tokens, or minutes of wall clock when that is what is scarce. A run that is stopped
goes on from its last checkpoint. Checkpoints are safetensors and JSON only.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

CAPS = {"package": 0.75, "package facts": 0.45}


@dataclass(frozen=True, slots=True)
class Settings:
    """What a pretraining run is; lengths in tokens, ``minutes`` of wall clock (0: ``tokens`` is the budget)."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    feed_forward: int = 768
    context: int = 512
    batch: int = 16
    tokens: int = 30_000_000
    minutes: float = 0.0
    matrix_rate: float = 0.02
    other_rate: float = 0.004
    warmup: int = 60
    decay: float = 0.3
    dialogue_share: float = 0.22
    decay_dialogue_share: float = 0.45
    seed: int = 7
    checkpoint_minutes: float = 4.0


def tokenise(work: Path, tokenizer_folder: Path, settings: Settings) -> None:
    """Write ``documents.npy`` and ``dialogues.npy`` (uint16 [rows, context]) with every 200th row held out.

    A text becomes bos, tokens, eos; texts are packed end to end. Every tenth dialogue has a system message
    and every tenth a second turn, so that both are known.
    """
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    ids: dict[str, Any] = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("bos", "eos", "system", "user", "assistant")
    }
    system = tokenizer.encode("Answer the question briefly and exactly.", add_special_tokens=False)

    def encoded(texts: list[str]) -> list[list[int]]:
        return [list(row) for row in tokenizer(texts, add_special_tokens=False)["input_ids"]]

    with (work / "documents.jsonl").open(encoding="utf-8") as stream:
        rows = encoded([json.loads(line)["text"] for line in stream])
    _pack(work / "documents.npy", [[ids["bos"], *row, ids["eos"]] for row in rows], settings.context)
    with (work / "dialogues.jsonl").open(encoding="utf-8") as stream:
        pairs = [json.loads(line) for line in stream]
    generator = np.random.default_rng(settings.seed)
    pairs = [pair for pair in pairs if generator.random() < CAPS.get(pair["kind"], 1.0)]
    questions, answers = encoded([pair["question"] for pair in pairs]), encoded([pair["answer"] for pair in pairs])
    turns: list[list[int]] = []
    for number, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        turn = [ids["user"], *question, ids["assistant"], *answer, ids["eos"]]
        if number % 10 == 1:
            turns[-1] += turn
        else:
            turns.append([ids["bos"], *([ids["system"], *system] if number % 10 == 5 else []), *turn])
    _pack(work / "dialogues.npy", turns, settings.context)


def _pack(path: Path, rows: list[list[int]], context: int) -> None:
    flat = np.fromiter((token for row in rows for token in row), dtype=np.uint16)
    usable = len(flat) // context * context
    np.save(path, flat[:usable].reshape(-1, context))
    print(f"{path.name}: {usable / 1e6:.2f} million tokens", flush=True)


class _Stream:
    """Rows of one packed file in a seeded order, epoch after epoch; ``position`` is all of its state."""

    def __init__(self, path: Path, seed: int) -> None:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
        held = np.arange(len(rows)) % 200 == 199
        self.held_out = np.asarray(rows[held][:64], dtype=np.int64)
        self._rows = rows
        self._train = np.flatnonzero(~held)
        self._order = self._train
        self._epoch = -1
        self._seed = seed
        self.position = 0

    def take(self, count: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The next ``count`` rows, int64 [count, context]."""
        found = []
        for _ in range(count):
            epoch, place = divmod(self.position, len(self._train))
            if epoch != self._epoch:
                self._epoch = epoch
                self._order = np.random.default_rng((self._seed, epoch)).permutation(self._train)
            found.append(self._rows[self._order[place]])
            self.position += 1
        return np.asarray(found, dtype=np.int64).reshape(count, self._rows.shape[1])


def pretrain(work: Path, tokenizer_folder: Path, settings: Settings, compiled: bool = True) -> Path:
    """Train until the budget is spent and give the folder with the final model.

    Args:
        work: folder with the packed tokens; checkpoints go to ``work/run``.
        tokenizer_folder: folder with the tokenizer.
        settings: the run; a run in ``work/run`` with the same settings is resumed.
        compiled: let torch.compile fuse the step (needs a C++ compiler on a CPU); the arithmetic is the same
            up to rounding.
    """
    run = work / "run"
    run.mkdir(exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(settings.seed)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    model: Any = LlamaForCausalLM(configuration(settings, tokenizer))
    model.to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "layers" in name]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and "layers" in name)]
    muon = torch.optim.Muon(matrices, lr=settings.matrix_rate, weight_decay=0.01, momentum=0.95)
    adam = torch.optim.AdamW(others, lr=settings.other_rate, betas=(0.9, 0.95), weight_decay=0.0)
    streams = {name: _Stream(work / f"{name}.npy", settings.seed) for name in ("documents", "dialogues")}
    state: dict[str, Any] = {"step": 0, "seconds": 0.0, "curve": [], "settings": asdict(settings)}
    if (run / "checkpoint" / "state.json").exists():
        state = _resume(run / "checkpoint", model, {"muon": muon, "adam": adam}, streams, settings)

    def loss_of(batch: torch.Tensor) -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16):
            logits = model(input_ids=batch, use_cache=False).logits
        return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), batch[:, 1:].flatten())

    step_loss: Callable[[torch.Tensor], torch.Tensor] = torch.compile(loss_of) if compiled else loss_of
    begun = time.monotonic() - state["seconds"]
    saved = time.monotonic()
    recent: list[float] = []
    model.train()
    while (progress := _progress(settings, state["step"], time.monotonic() - begun)) < 1.0:
        decaying = progress > 1 - settings.decay
        scale = min(1.0, (state["step"] + 1) / settings.warmup, (1 - progress) / settings.decay)
        for optimiser, rate in ((muon, settings.matrix_rate), (adam, settings.other_rate)):
            for group in optimiser.param_groups:
                group["lr"] = rate * scale
        share = settings.decay_dialogue_share if decaying else settings.dialogue_share
        wanted = share * settings.batch
        chosen = int(wanted) + (np.random.default_rng((settings.seed, state["step"])).random() < wanted % 1)
        rows = np.concatenate([streams["documents"].take(settings.batch - chosen), streams["dialogues"].take(chosen)])
        loss = step_loss(torch.from_numpy(rows).to(device))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in (muon, adam):
            optimiser.step()  # type: ignore[no-untyped-call]
            optimiser.zero_grad(set_to_none=True)
        recent.append(loss.item())
        state["step"] += 1
        state["seconds"] = time.monotonic() - begun
        if state["step"] % 25 == 0:
            tokens = state["step"] * settings.batch * settings.context
            print(
                f"step {state['step']} tokens {tokens / 1e6:.2f}M loss {np.mean(recent):.4f} rate {scale:.3f} "
                f"{tokens / state['seconds']:.0f} tokens/s progress {progress:.3f}",
                flush=True,
            )
        if time.monotonic() - saved > 60 * settings.checkpoint_minutes:
            _record(state, model, streams, recent, settings, device)
            recent = []
            _save(run / "checkpoint", model, tokenizer_folder, {"muon": muon, "adam": adam}, streams, state)
            saved = time.monotonic()
    _record(state, model, streams, recent, settings, device)
    _save(run / "checkpoint", model, tokenizer_folder, {"muon": muon, "adam": adam}, streams, state)
    return run / "checkpoint"


def configuration(settings: Settings, tokenizer: Any) -> LlamaConfig:
    """The model's shape: pre-norm Llama with grouped queries, SwiGLU and tied embeddings."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=settings.feed_forward,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.key_value_heads,
        head_dim=settings.hidden // settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _progress(settings: Settings, step: int, seconds: float) -> float:
    if settings.minutes:
        return seconds / (60 * settings.minutes)
    return step * settings.batch * settings.context / settings.tokens


@torch.no_grad()
def _record(
    state: dict[str, Any],
    model: LlamaForCausalLM,
    streams: dict[str, _Stream],
    recent: list[float],
    settings: Settings,
    device: torch.device,
) -> None:
    """Append to the curve: training loss, and held-out loss (nats per token, float32) on both streams."""
    model.train(False)
    entry: dict[str, float] = {
        "step": state["step"],
        "tokens": state["step"] * settings.batch * settings.context,
        "seconds": round(state["seconds"], 1),
        "training_loss": round(float(np.mean(recent)) if recent else 0.0, 4),
    }
    for name, stream in streams.items():
        losses = []
        for start in range(0, len(stream.held_out), 8):
            batch = torch.from_numpy(stream.held_out[start : start + 8]).to(device)
            logits = model(input_ids=batch, use_cache=False).logits
            losses.append(functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).item())
        entry[f"held_out_{name}"] = round(float(np.mean(losses)), 4)
    state["curve"].append(entry)
    print(json.dumps(entry), flush=True)
    model.train()


def _save(
    folder: Path,
    model: LlamaForCausalLM,
    tokenizer_folder: Path,
    optimisers: dict[str, torch.optim.Optimizer],
    streams: dict[str, _Stream],
    state: dict[str, Any],
) -> None:
    """Write a whole checkpoint beside the old one, then swap: a kill leaves one of the two."""
    fresh = folder.with_name("checkpoint.new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        max_new_tokens=128,
        do_sample=False,
    ).save_pretrained(fresh)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer_folder / name, fresh / name)
    tensors: dict[str, torch.Tensor] = {}
    for name, optimiser in optimisers.items():
        for index, slots in optimiser.state_dict()["state"].items():
            for slot, value in slots.items():
                tensors[f"{name}.{index}.{slot}"] = torch.as_tensor(value).contiguous()
    save_file(tensors, fresh / "optimisers.safetensors")
    positions = {name: stream.position for name, stream in streams.items()}
    (fresh / "state.json").write_text(json.dumps({**state, "positions": positions}, indent=1) + "\n")
    if folder.exists():
        old = folder.with_name("checkpoint.old")
        shutil.rmtree(old, ignore_errors=True)
        os.rename(folder, old)
    os.rename(fresh, folder)


def _resume(
    folder: Path,
    model: LlamaForCausalLM,
    optimisers: dict[str, torch.optim.Optimizer],
    streams: dict[str, _Stream],
    settings: Settings,
) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    shape = ("hidden", "layers", "heads", "key_value_heads", "feed_forward", "context")
    for name in shape:
        if state["settings"][name] != asdict(settings)[name]:
            raise ValueError(f"the run in {folder} has {name} {state['settings'][name]}: use another working folder")
    model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
    model.tie_weights()
    tensors = load_file(folder / "optimisers.safetensors")
    for name, optimiser in optimisers.items():
        saved: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            owner, index, slot = key.split(".")
            if owner == name:
                saved.setdefault(int(index), {})[slot] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": saved})
    for name, stream in streams.items():
        stream.position = state["positions"][name]
    state["settings"] = asdict(settings)
    return state
