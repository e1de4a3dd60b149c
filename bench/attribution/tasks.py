"""The tasks on which attribution methods are compared, with their ground truth by real retraining.

Task ``docs``: the documentation strings of the Python standard library. A small Llama is pretrained on most packages;
a LoRA adapter is then trained on 400 documents of 64 tokens by eight contributors (a package each). Queries are 40
held-out documents of the same packages and 40 of the adapter's own generations. The ground truth is the loss of every
query under adapters retrained from the same start, seed and schedule on random halves of the documents.

Everything is written under a work folder and reused: a stopped run goes on where it was.
"""

from __future__ import annotations

import ast
import json
import math
import sysconfig
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from openledger.attribution import Checkpoint, Query, TrainingExample
from openledger.primitives import keccak

CONTRIBUTORS = ("asyncio", "email", "unittest", "http", "concurrent+multiprocessing", "tkinter", "xml", "logging+json")
LENGTH = 64


@dataclass(frozen=True)
class Setting:
    """Sizes of a task; lengths in tokens."""

    name: str = "docs"
    hidden: int = 128
    layers: int = 4
    vocabulary: int = 2048
    pretraining_steps: int = 1200
    documents: int = 400
    held_out: int = 40
    generations: int = 40
    rank: int = 8
    epochs: int = 8
    batch: int = 20
    rate: float = 4e-3
    subsets: int = 64
    prompt: int = 8
    seed: int = 1


@dataclass(frozen=True)
class Task:
    """What a method gets, and the truth that it is measured against.

    Attributes:
        contributor: contributor of each document [documents].
        kept: which documents each retraining kept [subsets, documents].
        document_losses: loss of each held-out document after each retraining, nats [subsets, queries].
        generation_losses: the same for the adapter's own generations.
    """

    name: str
    base: LlamaForCausalLM
    adapted: Callable[[], PeftModel]
    examples: tuple[TrainingExample, ...]
    contributor: np.ndarray
    checkpoints: tuple[Checkpoint, ...]
    documents: tuple[Query, ...]
    generations: tuple[Query, ...]
    kept: np.ndarray
    document_losses: np.ndarray
    generation_losses: np.ndarray
    tokenizer: Tokenizer


def docs_task(work: Path, setting: Setting | None = None, say: Callable[[str], None] = print) -> Task:
    """Build (or reread) the ``docs`` task under ``work``; about half an hour on one core."""
    setting = setting or Setting()
    folder = work / f"{setting.name}-{keccak(json.dumps(asdict(setting)).encode()).hex()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    texts = _docstrings()
    tokenizer = _tokenizer(folder / "tokenizer.json", texts["base"], setting.vocabulary)
    base = _base(folder / "base", tokenizer, texts["base"], setting, say)
    generator = np.random.default_rng(setting.seed)
    windows, owner = [], []
    for number, name in enumerate(CONTRIBUTORS):
        found = _windows(tokenizer, texts[name])
        order = generator.permutation(len(found))[: (setting.documents + setting.held_out) // len(CONTRIBUTORS)]
        windows += [found[place] for place in order]
        owner += [number] * len(order)
    order = generator.permutation(len(windows))
    chosen, held = order[: setting.documents], order[setting.documents :][: setting.held_out]
    examples = tuple(
        TrainingExample(windows[place], 0, record_hash=keccak(np.asarray(windows[place], np.uint16).tobytes()))
        for place in chosen
    )
    trainer = Retrainer(base, examples, setting)
    if not (folder / "run" / "done").exists():
        trainer(np.ones(len(examples)), folder / "run")
        (folder / "run" / "done").touch()
    rates = json.loads((folder / "run" / "rates.json").read_text())
    checkpoints = tuple(Checkpoint(folder / "run" / f"step-{step}", rate, int(step)) for step, rate in rates.items())
    documents = tuple(Query(windows[place], 0) for place in held)
    prompts = [windows[place][: setting.prompt] for place in held[: setting.generations]]
    generations = _generations(folder / "generations.json", trainer, checkpoints[-1].path, prompts)
    subsets = np.random.default_rng(setting.seed + 1)
    kept = np.stack([subsets.permutation(len(examples)) < len(examples) // 2 for _ in range(setting.subsets)])
    losses = []
    for number, mask in enumerate(kept):
        path = folder / f"subset-{number}.json"
        if not path.exists():
            begun = time.monotonic()
            state = trainer(mask.astype(float))
            values = [trainer.losses(state, queries).tolist() for queries in (documents, generations)]
            path.with_suffix(".new").write_text(json.dumps(values))
            path.with_suffix(".new").rename(path)
            say(f"subset {number + 1} of {setting.subsets}: {time.monotonic() - begun:.1f} s")
        losses.append(json.loads(path.read_text()))

    def adapted() -> PeftModel:
        return PeftModel.from_pretrained(_load(folder / "base"), str(checkpoints[-1].path)).eval()

    return Task(
        setting.name, base, adapted, examples, np.asarray(owner)[chosen], checkpoints, documents, generations, kept,
        np.asarray([pair[0] for pair in losses]), np.asarray([pair[1] for pair in losses]), tokenizer,
    )  # fmt: skip


class Retrainer:
    """Trains a LoRA adapter from one start with one schedule; a weight of 0 takes a document out of its batches."""

    def __init__(self, base: LlamaForCausalLM, examples: Sequence[TrainingExample], setting: Setting) -> None:
        torch.manual_seed(setting.seed)
        config = LoraConfig(
            r=setting.rank, lora_alpha=2 * setting.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self.model = get_peft_model(LlamaForCausalLM(base.config), config)
        self.model.base_model.model.load_state_dict(
            _renamed(self.model.base_model.model, base.state_dict()), strict=False
        )
        self._start = {name: value.clone() for name, value in get_peft_model_state_dict(self.model).items()}
        self._tokens = torch.tensor([list(example.token_ids) for example in examples])
        self._setting = setting

    def __call__(self, weights: np.ndarray, save: Path | None = None) -> dict[str, torch.Tensor]:
        setting = self._setting
        set_peft_model_state_dict(self.model, self._start)
        self.model.train()
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=setting.rate, weight_decay=0.0)
        per_epoch = len(self._tokens) // setting.batch
        steps = setting.epochs * per_epoch
        wanted = {round(steps * share) for share in (0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 1.0)}
        rates: dict[int, float] = {}
        weight = torch.as_tensor(weights, dtype=torch.float32)
        for step in range(steps):
            if step % per_epoch == 0:
                order = np.random.default_rng((setting.seed, step)).permutation(len(self._tokens))
            batch = order[(step % per_epoch) * setting.batch :][: setting.batch]
            rate = (
                setting.rate * min(1.0, (step + 1) / 8) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
            optimiser.param_groups[0]["lr"] = rate
            batch = torch.as_tensor(batch)[weight[batch] > 0]
            if len(batch):
                ids = self._tokens[batch]
                logits = self.model(input_ids=ids, use_cache=False).logits[:, :-1]
                losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none").sum(1)
                ((losses * weight[batch]).sum() / (setting.batch * (LENGTH - 1))).backward()
                optimiser.step()
                optimiser.zero_grad()
            if save and step + 1 in wanted:
                self.model.save_pretrained(str(save / f"step-{step + 1}"))
                rates[step + 1] = rate
        if save:
            (save / "rates.json").write_text(json.dumps(rates))
        return {name: value.clone() for name, value in get_peft_model_state_dict(self.model).items()}

    @torch.no_grad()
    def losses(self, state: dict[str, torch.Tensor], queries: Sequence[Query]) -> np.ndarray:
        """Summed loss of each query's output in nats under an adapter."""
        set_peft_model_state_dict(self.model, state)
        self.model.eval()
        found = []
        for query in queries:
            ids = torch.tensor([list(query.token_ids)])
            logits = self.model(input_ids=ids, use_cache=False).logits[0, :-1]
            first = max(query.prompt_length, 1) - 1
            found.append(cross_entropy(logits[first:], ids[0, first + 1 :], reduction="sum").item())
        return np.asarray(found)


def _renamed(model: torch.nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    wanted = model.state_dict()
    return {
        name if name in wanted else name.replace(".weight", ".base_layer.weight"): value
        for name, value in state.items()
    }


def _docstrings() -> dict[str, list[str]]:
    """Documentation strings of at least 200 characters by contributor, and of all other packages as ``base``."""
    owners = {package: name for name in CONTRIBUTORS for package in name.split("+")}
    found: dict[str, list[str]] = {name: [] for name in ("base", *CONTRIBUTORS)}
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if parts[0] in ("site-packages", "test", "idlelib", "lib2to3") or "test" in parts or "tests" in parts:
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= 120:
                    found[owners.get(parts[0].removesuffix(".py"), "base")].append(" ".join(text.split()))
    return found


def _tokenizer(path: Path, texts: list[str], vocabulary: int) -> Tokenizer:
    if not path.exists():
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(
            texts,
            trainers.BpeTrainer(
                vocab_size=vocabulary,
                special_tokens=["<end>"],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        tokenizer.save(str(path))
    return Tokenizer.from_file(str(path))


def _windows(tokenizer: Tokenizer, texts: Sequence[str]) -> list[tuple[int, ...]]:
    flat = [token for text in texts for token in (0, *tokenizer.encode(text).ids)]
    return [tuple(flat[start : start + LENGTH]) for start in range(0, len(flat) - LENGTH, LENGTH)]


def _base(
    folder: Path, tokenizer: Tokenizer, texts: Sequence[str], setting: Setting, say: Callable[[str], None]
) -> LlamaForCausalLM:
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(setting.seed)
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=setting.vocabulary,
                hidden_size=setting.hidden,
                intermediate_size=setting.hidden * 8 // 3,
                num_hidden_layers=setting.layers,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=128,
                tie_word_embeddings=True,
            )
        )
        rows = torch.tensor(_windows(tokenizer, texts))
        say(f"pretraining {sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters on {rows.numel()} tokens")
        optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
        for step in range(setting.pretraining_steps):
            optimiser.param_groups[0]["lr"] = 3e-3 * min(1, (step + 1) / 50) * (1 - step / setting.pretraining_steps)
            ids = rows[torch.randint(0, len(rows), (24,))]
            loss = model(input_ids=ids, labels=ids).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad()
            if step % 100 == 0:
                say(f"pretraining step {step}: loss {loss.item():.3f}")
        folder.mkdir(exist_ok=True)
        model.save_pretrained(str(folder))
    return _load(folder)


def _load(folder: Path) -> LlamaForCausalLM:
    model = LlamaForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager")
    return model.eval()


@torch.no_grad()
def _generations(path: Path, trainer: Retrainer, adapter: Path, prompts: Sequence[Sequence[int]]) -> tuple[Query, ...]:
    """One sampled continuation to 64 tokens of each prompt, at temperature 0.8."""
    if not path.exists():
        set_peft_model_state_dict(trainer.model, load_file(adapter / "adapter_model.safetensors"))
        trainer.model.eval()
        torch.manual_seed(0)
        ids = torch.tensor([list(prompt) for prompt in prompts])
        while ids.shape[1] < LENGTH:
            logits = trainer.model(input_ids=ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, torch.multinomial(torch.softmax(logits / 0.8, -1), 1)], dim=1)
        path.write_text(json.dumps(ids.tolist()))
    return tuple(Query(row, len(prompts[0])) for row in json.loads(path.read_text()))
