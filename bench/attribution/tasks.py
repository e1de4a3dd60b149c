"""The tasks on which attribution methods are compared, with their ground truth by real retraining.

- ``docs``: documentation strings of the Python standard library. A small Llama is pretrained on most packages; a
  rank-8 LoRA adapter is then trained on 400 documents of 64 tokens by eight contributors (a package each).
- ``long``: the same records, trained on for longer and at a higher rate, until the adapter overfits.
- ``code``: source code of the standard library by ten contributors, of uneven length, each with a prompt that is not
  trained on; a small GPT-2 (Conv1D layers, biases, learned positions), rank 4, another schedule and seed.
- ``exploits``: the Datanet and base model that ship with OpenLedger, fine-tuned by the recipe below (the shipped one
  when this was written) with modelfactory itself.

Queries are held-out documents and the adapter's own generations. The ground truth is the loss of every query under
adapters retrained from the same start, seed and schedule on random halves of the documents: weight 0 for the rest.

Everything is written under a work folder and reused: a stopped run goes on where it was.
"""

from __future__ import annotations

import ast
import json
import math
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PretrainedConfig, PreTrainedModel

from openledger.attribution import Checkpoint, Query, TrainingExample, subsets
from openledger.attribution.gradients import AdapterModel
from openledger.datanets import load_records, partition
from openledger.modelfactory import Recipe, TrainingRecord, TrainingRun, examples_of, train
from openledger.models import BaseModel, encode_dialogue, load_base
from openledger.openlora import Engine, Sampling
from openledger.primitives import keccak

LENGTH = 64
_REORDERED = 32
_ANOTHER = 1000


@dataclass(frozen=True)
class Setting:
    """Sizes of a task of text windows; lengths in tokens.

    Attributes:
        contributors: packages of the standard library, joined by ``+`` where they are one contributor.
        shortest: windows are cut to a length between this and ``LENGTH``.
        prompt: tokens of a generation's prompt.
        masked: tokens at the start of each document that are not trained on.
    """

    name: str
    architecture: str
    contributors: tuple[str, ...]
    hidden: int = 128
    layers: int = 4
    vocabulary: int = 2048
    pretraining_steps: int = 1200
    documents: int = 400
    held_out: int = 40
    generations: int = 40
    shortest: int = LENGTH
    rank: int = 8
    epochs: int = 3
    batch: int = 20
    rate: float = 2e-3
    schedule: str = "cosine"
    checkpoints: tuple[float, ...] = (0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 1.0)
    subsets: int = 64
    prompt: int = 8
    masked: int = 0
    seed: int = 1


DOCS = Setting(
    name="docs",
    architecture="llama",
    contributors=(
        "asyncio", "email", "unittest", "http", "concurrent+multiprocessing", "tkinter", "xml", "logging+json",
    ),
)  # fmt: skip
LONG = replace(DOCS, name="long", epochs=8, rate=4e-3, subsets=48)
CODE = Setting(
    name="code",
    architecture="gpt2",
    contributors=(
        "asyncio", "email", "tkinter", "xml", "multiprocessing", "importlib", "json+html+csv", "urllib+http",
        "ctypes+curses", "distutils+ensurepip+venv",
    ),
    hidden=96,
    layers=5,
    pretraining_steps=900,
    documents=300,
    shortest=32,
    rank=4,
    epochs=6,
    batch=12,
    rate=6e-3,
    schedule="linear",
    checkpoints=(0.05, 0.1, 0.2, 0.4, 0.7, 1.0),
    subsets=32,
    prompt=12,
    masked=8,
    seed=5,
)  # fmt: skip
EXPLOITS = Recipe(
    rank=128,
    alpha=256,
    upper_layers=0.5,
    epochs=10,
    learning_rate=4e-3,
    b_rate_factor=4.0,
    batch_size=16,
    warmup=0.05,
    seed=1,
    holdout=0.05,
    checkpoints=(0.03, 0.07, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0),
    precision="float32",
)
"""The recipe that was shipped when this was written, with more checkpoints to choose from."""
_EXPLOITS_SUBSETS = 12
_EXPLOITS_QUERIES = 30
_EXPLOITS_PEOPLE = ("ada", "boris", "chidi", "dana", "emre", "fen")


@dataclass(frozen=True)
class Task:
    """What a method gets, and the truth that it is measured against.

    Attributes:
        base: the base model, float32.
        examples: the records, as they were trained on.
        texts: the same as text, for methods that read words.
        contributor: contributor of each document [documents].
        checkpoints: of the run on all records.
        served: those that an index of this model is built from; the same where nothing else is said.
        documents: held-out queries.
        generations: the adapter's own outputs.
        query_texts: outputs of ``documents`` and then of ``generations`` as text.
        kept: which documents each retraining kept [subsets, documents].
        document_losses: loss of each held-out document after each retraining, nats [subsets, queries].
        generation_losses: the same for the adapter's own generations.
        reordered: trains on the first of these subsets again, with the records in another order, and gives the losses of
            all queries [subsets, queries]; None where that takes too long.
    """

    name: str
    base: PreTrainedModel
    examples: tuple[TrainingExample, ...]
    texts: tuple[str, ...]
    contributor: np.ndarray
    checkpoints: tuple[Checkpoint, ...]
    documents: tuple[Query, ...]
    generations: tuple[Query, ...]
    query_texts: tuple[str, ...]
    kept: np.ndarray
    document_losses: np.ndarray
    generation_losses: np.ndarray
    reordered: Callable[[], np.ndarray] | None = None
    served: tuple[Checkpoint, ...] = ()

    def adapted(self) -> PeftModel:
        """The base with the final adapter, fresh."""
        base = AutoModelForCausalLM.from_config(self.base.config, attn_implementation="eager")
        base.load_state_dict(self.base.state_dict())
        return PeftModel.from_pretrained(base, str(self.checkpoints[-1].path)).eval()


def window_task(work: Path, setting: Setting, say: Callable[[str], None] = print) -> Task:
    """Build (or reread) a task of text windows under ``work``; a quarter to half an hour on one core."""
    folder = work / setting.name
    folder.mkdir(parents=True, exist_ok=True)
    texts = _texts(setting)
    tokenizer = _tokenizer(folder / "tokenizer.json", texts["base"], setting.vocabulary)
    base = _base(folder / "base", tokenizer, texts["base"], setting, say)
    generator = np.random.default_rng(setting.seed)
    windows, owner = [], []
    for number, name in enumerate(setting.contributors):
        found = _windows(tokenizer, texts[name])
        order = generator.permutation(len(found))[: (setting.documents + setting.held_out) // len(setting.contributors)]
        windows += [found[place] for place in order]
        owner += [number] * len(order)
    if setting.shortest < LENGTH:
        lengths = generator.integers(setting.shortest, LENGTH + 1, len(windows))
        windows = [window[:length] for window, length in zip(windows, lengths, strict=True)]
    order = generator.permutation(len(windows))
    chosen, held = order[: setting.documents], order[setting.documents :][: setting.held_out]
    examples = tuple(
        TrainingExample(
            windows[place], setting.masked, record_hash=keccak(np.asarray(windows[place], np.uint16).tobytes())
        )
        for place in chosen
    )
    trainer = Retrainer(base, examples, setting)
    if not (folder / "run" / "done").exists():
        trainer(np.ones(len(examples)), folder / "run")
        (folder / "run" / "done").touch()
    rates = json.loads((folder / "run" / "rates.json").read_text())
    checkpoints = tuple(Checkpoint(folder / "run" / f"step-{step}", rate, int(step)) for step, rate in rates.items())
    documents = tuple(Query(windows[place], setting.masked) for place in held)
    prompts = [windows[place][: setting.prompt] for place in held[: setting.generations]]
    generations = _generations(folder / "generations.json", trainer, checkpoints[-1].path, prompts)
    queries = (*documents, *generations)
    kept = subsets(len(examples), setting.subsets, setting.seed + 1)
    losses = _losses(folder, kept, lambda mask: trainer.losses(trainer(mask), queries), say)
    return Task(
        name=setting.name,
        base=base,
        examples=examples,
        texts=tuple(tokenizer.decode(list(example.token_ids)) for example in examples),
        contributor=np.asarray(owner)[chosen],
        checkpoints=checkpoints,
        documents=documents,
        generations=generations,
        query_texts=tuple(tokenizer.decode(list(query.token_ids[query.prompt_length :])) for query in queries),
        kept=kept,
        document_losses=losses[:, : len(documents)],
        generation_losses=losses[:, len(documents) :],
        reordered=lambda: _losses(
            folder / "reordered",
            kept[:_REORDERED],
            lambda mask: trainer.losses(trainer(mask, order=setting.seed + _ANOTHER), queries),
            say,
        ),
    )


def exploits_run(work: Path) -> tuple[BaseModel, TrainingRun, list[Checkpoint], list[TrainingExample]]:
    """The run of the ``exploits`` task with the checkpoints that the shipped recipe keeps, for other benchmarks."""
    task = exploits_task(work, subsets_wanted=0)
    run = TrainingRun.load(work / "exploits" / "run")
    return load_base(), run, list(task.served), list(task.examples)


def exploits_task(work: Path, say: Callable[[str], None] = print, subsets_wanted: int = _EXPLOITS_SUBSETS) -> Task:
    """Build (or reread) the task of the shipped Datanet under ``work``; three quarters of an hour on one core."""
    folder = work / "exploits"
    folder.mkdir(parents=True, exist_ok=True)
    base = load_base()
    shipped = sorted(load_records(), key=lambda record: record.hash)
    owners = {
        record.hash: number
        for number, rows in enumerate(partition(shipped, _EXPLOITS_PEOPLE).values())
        for record in rows
    }
    records = [
        TrainingRecord(record.hash, record.question, record.answer, tuple(record.facts.values())) for record in shipped
    ]
    if not (folder / "run").exists():
        train(base, records, EXPLOITS, folder / "run")
    run = TrainingRun.load(folder / "run")
    pairs = list(examples_of(base, records, run))
    examples = tuple(
        TrainingExample(dialogue.token_ids, dialogue.prompt_length, 1.0, record.record_hash, place)
        for place, (record, dialogue) in enumerate(pairs)
    )
    held_out = [record for record in records if record.record_hash in set(run.held_out)]
    trained = [pairs[place][0] for place in np.random.default_rng(0).permutation(len(pairs))]
    documents = [encode_dialogue(base.tokenizer, record.question, record.answer) for record in held_out]
    asked = [*trained[:_EXPLOITS_QUERIES], *held_out[: _EXPLOITS_QUERIES // 3]]
    answers = _answers(folder / "generations.json", base, run, asked)
    queries = [Query(dialogue.token_ids, dialogue.prompt_length) for dialogue in documents[:_EXPLOITS_QUERIES]]
    kept = subsets(len(examples), _EXPLOITS_SUBSETS, 0)[:subsets_wanted]
    places = {record.record_hash: place for place, record in enumerate(records)}

    def retrained(mask: np.ndarray) -> np.ndarray:
        weights = np.ones(len(records))
        for example, keep in zip(examples, mask, strict=True):
            weights[places[example.record_hash]] = keep
        with tempfile.TemporaryDirectory() as scratch:
            again = train(base, records, replace(EXPLOITS, checkpoints=(1.0,)), Path(scratch) / "run", weights=weights)
            return AdapterModel.from_folder(base.model, again.adapter).losses([*queries, *answers]).numpy()

    losses = _losses(folder, kept, retrained, say)
    points = tuple(Checkpoint(point.path, point.learning_rate, point.step) for point in run.checkpoints)
    decode = base.tokenizer.decode
    return Task(
        name="exploits",
        base=base.model,
        examples=examples,
        texts=tuple(decode(list(example.token_ids[example.prompt_length :])) for example in examples),
        contributor=np.asarray([owners[example.record_hash] for example in examples]),
        checkpoints=points,
        documents=tuple(queries),
        generations=tuple(answers),
        query_texts=tuple(decode(list(query.token_ids[query.prompt_length :])) for query in (*queries, *answers)),
        kept=kept,
        document_losses=losses[:, : len(queries)],
        generation_losses=losses[:, len(queries) :],
        served=_shipped(points, len(run.losses)),
    )


def _shipped(points: Sequence[Checkpoint], steps: int) -> tuple[Checkpoint, ...]:
    """Those checkpoints that the shipped recipe keeps."""
    wanted = {max(1, round(share * steps)) for share in Recipe().checkpoints}
    return tuple(point for point in points if point.step in wanted)


def _losses(
    folder: Path, kept: np.ndarray, retrained: Callable[[np.ndarray], np.ndarray], say: Callable[[str], None]
) -> np.ndarray:
    """The queries' losses after each retraining [subsets, queries], taken up where it was stopped."""
    folder.mkdir(exist_ok=True)
    found = []
    for number, mask in enumerate(kept):
        path = folder / f"subset-{number}.json"
        if not path.exists():
            begun = time.process_time()
            path.with_suffix(".new").write_text(json.dumps(retrained(mask.astype(float)).tolist()))
            path.with_suffix(".new").rename(path)
            say(f"{folder.name}: subset {number + 1} of {len(kept)}, {time.process_time() - begun:.1f} CPU-s")
        found.append(json.loads(path.read_text()))
    return np.asarray(found) if found else np.zeros((0, 0))


def _answers(path: Path, base: BaseModel, run: TrainingRun, asked: Sequence[TrainingRecord]) -> list[Query]:
    """The tuned model's own answer to each record's question, as it is served."""
    if not path.exists():
        engine = Engine(base)
        engine.add("run", run.adapter)
        rows = []
        for record in asked:
            prompt = encode_dialogue(base.tokenizer, record.question).token_ids
            answer = engine.complete("run", prompt, Sampling()).token_ids
            rows.append([[*prompt, *answer], len(prompt)])
        path.write_text(json.dumps(rows))
    return [Query(tuple(tokens), length) for tokens, length in json.loads(path.read_text())]


class Retrainer:
    """Trains a LoRA adapter from one start with one schedule; a weight of 0 takes a document out of its batches."""

    def __init__(self, base: PreTrainedModel, examples: Sequence[TrainingExample], setting: Setting) -> None:
        torch.manual_seed(setting.seed)
        config = LoraConfig(
            r=setting.rank, lora_alpha=2 * setting.rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        plain = AutoModelForCausalLM.from_config(base.config)
        plain.load_state_dict(base.state_dict())
        self.model = get_peft_model(plain, config)
        self._start = {name: value.clone() for name, value in get_peft_model_state_dict(self.model).items()}
        self._tokens = torch.zeros(len(examples), LENGTH, dtype=torch.long)
        self._targets = torch.full((len(examples), LENGTH), -100)
        for row, example in enumerate(examples):
            tokens = torch.tensor(list(example.token_ids))
            self._tokens[row, : len(tokens)] = tokens
            self._targets[row, max(1, example.prompt_length) : len(tokens)] = tokens[max(1, example.prompt_length) :]
        self._setting = setting

    def __call__(
        self, weights: np.ndarray, save: Path | None = None, order: int | None = None
    ) -> dict[str, torch.Tensor]:
        """The adapter's matrices after training; ``order`` is the seed of the records' order, the task's own if None."""
        setting = self._setting
        seed = setting.seed if order is None else order
        set_peft_model_state_dict(self.model, self._start)
        self.model.train()
        parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=setting.rate, weight_decay=0.0)
        per_epoch = len(self._tokens) // setting.batch
        steps = setting.epochs * per_epoch
        wanted = {round(steps * share) for share in setting.checkpoints}
        rates: dict[int, float] = {}
        weight = torch.as_tensor(weights, dtype=torch.float32)
        for step in range(steps):
            if step % per_epoch == 0:
                drawn = np.random.default_rng((seed, step)).permutation(len(self._tokens))
            batch = drawn[(step % per_epoch) * setting.batch :][: setting.batch]
            rate = setting.rate * min(1.0, (step + 1) / 8) * _schedule(setting.schedule, step / steps)
            optimiser.param_groups[0]["lr"] = rate
            batch = torch.as_tensor(batch)[weight[batch] > 0]
            if len(batch):
                logits = self.model(input_ids=self._tokens[batch], use_cache=False).logits[:, :-1]
                losses = cross_entropy(logits.transpose(1, 2), self._targets[batch, 1:], reduction="none").sum(1)
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


def _schedule(name: str, done: float) -> float:
    shape = 0.5 * (1 + math.cos(math.pi * done)) if name == "cosine" else 1 - done
    return 0.05 + 0.95 * shape


def _texts(setting: Setting) -> dict[str, list[str]]:
    """Texts by contributor, and of all other packages as ``base``: documentation strings, or for ``code`` sources."""
    owners = {package: name for name in setting.contributors for package in name.split("+")}
    found: dict[str, list[str]] = {name: [] for name in ("base", *setting.contributors)}
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root).parts
        if parts[0] in ("site-packages", "test", "idlelib", "lib2to3") or "test" in parts or "tests" in parts:
            continue
        owner = owners.get(parts[0].removesuffix(".py"), "base")
        try:
            source = path.read_text(encoding="utf-8")
            tree = ast.parse(source)
        except (SyntaxError, UnicodeDecodeError):
            continue
        if setting.name == "code":
            found[owner].append(source)
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                text = ast.get_docstring(node)
                if text and len(text) >= 120:
                    found[owner].append(" ".join(text.split()))
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
    folder: Path, tokenizer: Tokenizer, texts: list[str], setting: Setting, say: Callable[[str], None]
) -> PreTrainedModel:
    if not (folder / "model.safetensors").exists():
        torch.manual_seed(setting.seed)
        model: Any = AutoModelForCausalLM.from_config(_shape(setting))
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
    loaded: Any = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="eager")
    return loaded.eval()


def _shape(setting: Setting) -> PretrainedConfig:
    if setting.architecture == "gpt2":
        return GPT2Config(
            vocab_size=setting.vocabulary,
            n_embd=setting.hidden,
            n_layer=setting.layers,
            n_head=4,
            n_positions=128,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    return LlamaConfig(
        vocab_size=setting.vocabulary,
        hidden_size=setting.hidden,
        intermediate_size=setting.hidden * 8 // 3,
        num_hidden_layers=setting.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=128,
        tie_word_embeddings=True,
    )


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
