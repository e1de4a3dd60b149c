"""Fine-tune a base model on records with LoRA, in a way that anyone can repeat bit for bit.

The loss is the negative log-likelihood of the answers' tokens. A record can be given weight 0 for a replay
without it: the batches, the schedule and every other record's share of the loss stay the same.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch.nn import functional

from openledger.modelfactory.adapters import adapter_digest, save_adapter
from openledger.modelfactory.optimiser import Soap
from openledger.modelfactory.recipe import ALL_LINEAR, FEED_FORWARD, Recipe
from openledger.models import BaseModel, Dialogue, encode_dialogue, pinned, shared_copy
from openledger.primitives.canonical import parse_json
from openledger.primitives.errors import ConfigurationError, InputError, ModelError, NotFoundError
from openledger.primitives.hashing import from_hex, keccak, to_hex

Progress = Callable[[int, int, float], None]

_FEED_FORWARD_PARENTS = {"mlp", "feed_forward", "ffn", "block_sparse_moe"}
_FEED_FORWARD_LAYERS = {"fc1", "fc2"}


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """One question with its answer.

    Attributes:
        record_hash: 32 bytes, the record's identity in its Datanet.
        question: what a user asks.
        answer: what the model shall say.
        facts: the strings that a correct answer must hold, for evaluation; those that are not in ``answer``
            word for word are left out of account there.
    """

    record_hash: bytes
    question: str
    answer: str
    facts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """An adapter kept during training: its step, the rate at that step, its folder and ``adapter_digest``."""

    step: int
    learning_rate: float
    path: Path
    digest: bytes


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A finished run, as ``run.json`` tells it.

    Attributes:
        path: folder with run.json, adapter/ and checkpoints/step-N/.
        recipe: how it was trained.
        base_digest: 32 bytes, the base model's identity.
        adapter_digest: 32 bytes, the final adapter's identity.
        trained: hashes of the records trained on, in the order that the influence index keeps.
        weights: each one's weight in the loss; 1 unless the run is a replay.
        held_out: hashes of the records left out.
        checkpoints: in rising order of steps; the last has the same weights as adapter/.
        losses: mean negative log-likelihood per answer token, nats, of each step.
        tokens: tokens of the trained records, prompt and answer.
        seconds: wall clock of the training.
    """

    path: Path
    recipe: Recipe
    base_digest: bytes
    adapter_digest: bytes
    trained: tuple[bytes, ...]
    weights: tuple[float, ...]
    held_out: tuple[bytes, ...]
    checkpoints: tuple[CheckpointInfo, ...]
    losses: tuple[float, ...]
    tokens: int
    seconds: float

    @property
    def adapter(self) -> Path:
        """Folder of the final adapter."""
        return self.path / "adapter"

    def to_json(self) -> dict[str, Any]:
        """What ``run.json`` holds; paths are relative to the run's folder."""
        return {
            "format": 1,
            "base": to_hex(self.base_digest),
            "recipe": self.recipe.to_json(),
            "recipe_digest": to_hex(self.recipe.digest()),
            "adapter": to_hex(self.adapter_digest),
            "trained": [to_hex(record) for record in self.trained],
            "weights": list(self.weights),
            "held_out": [to_hex(record) for record in self.held_out],
            "checkpoints": [
                {
                    "step": point.step,
                    "learning_rate": point.learning_rate,
                    "path": point.path.relative_to(self.path).as_posix(),
                    "digest": to_hex(point.digest),
                }
                for point in self.checkpoints
            ],
            "losses": list(self.losses),
            "tokens": self.tokens,
            "seconds": self.seconds,
        }

    @classmethod
    def load(cls, path: Path) -> TrainingRun:
        """Read a run's folder; every adapter in it is checked against its digest.

        Raises:
            NotFoundError: no run.json, or an adapter is missing.
            ModelError: run.json is malformed, or an adapter is not the one that was trained.
        """
        if not (path / "run.json").is_file():
            raise NotFoundError(f"{path} holds no run.json: give the folder that training wrote")
        try:
            value = parse_json((path / "run.json").read_bytes())
            run = cls(
                path=path,
                recipe=Recipe.from_json(value["recipe"]),
                base_digest=from_hex(value["base"], 32),
                adapter_digest=from_hex(value["adapter"], 32),
                trained=tuple(from_hex(record, 32) for record in value["trained"]),
                weights=tuple(float(weight) for weight in value["weights"]),
                held_out=tuple(from_hex(record, 32) for record in value["held_out"]),
                checkpoints=tuple(
                    CheckpointInfo(
                        int(point["step"]),
                        float(point["learning_rate"]),
                        path / "checkpoints" / f"step-{int(point['step'])}",
                        from_hex(point["digest"], 32),
                    )
                    for point in value["checkpoints"]
                ),
                losses=tuple(float(loss) for loss in value["losses"]),
                tokens=int(value["tokens"]),
                seconds=float(value["seconds"]),
            )
        except (KeyError, TypeError, ValueError, InputError) as error:
            raise ModelError(f"{path / 'run.json'} is not a training run: {error!r}") from error
        folders = [(run.adapter, run.adapter_digest), *((point.path, point.digest) for point in run.checkpoints)]
        for folder, digest in folders:
            if adapter_digest(folder) != digest:
                raise ModelError(f"the adapter in {folder} is not the one that this run trained: train again")
        return run


def split(records: Sequence[TrainingRecord], recipe: Recipe) -> tuple[list[int], list[int]]:
    """Positions of the trained and of the held-out records, by each record's hash and the seed alone."""
    trained: list[int] = []
    held_out: list[int] = []
    for position, record in enumerate(records):
        drawn = int.from_bytes(keccak(recipe.seed.to_bytes(8), record.record_hash)[:8]) / 2**64
        (held_out if drawn < recipe.holdout else trained).append(position)
    return trained, held_out


def train(
    base: BaseModel,
    records: Sequence[TrainingRecord],
    recipe: Recipe,
    output: Path,
    progress: Progress | None = None,
    weights: Sequence[float] | None = None,
) -> TrainingRun:
    """Train an adapter and write the run's folder, whole or not at all.

    The same base, records, recipe and weights give the same adapter bit for bit on the same kind of processor.

    Args:
        base: what to fine-tune; it stays as it is.
        records: each hash once.
        recipe: how.
        output: the run's folder; it must not exist.
        progress: called after each step with (step, steps in all, the step's loss).
        weights: one per record, 0 or more: its share in the loss (default 1 each). Held-out records ignore it.

    Raises:
        InputError: no records, one twice or too long, weights that do not fit, an output that exists.
        ConfigurationError: QLoRA without a CUDA GPU or without bitsandbytes.
        ModelError: the loss stopped being finite, or no layer has a name in ``target_modules``.
    """
    if output.exists():
        raise InputError(f"{output} exists: give a folder that does not, or remove it")
    given = _checked_weights(records, weights)
    trained, held_out = split(records, recipe)
    examples = _encode(base, records, recipe)
    if not trained:
        raise InputError(f"none of {len(records)} records is left to train on: give more, or a smaller holdout")
    device = _device(recipe)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.parent / f".{output.name}.partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    begun = time.monotonic()
    try:
        with pinned(), ThreadPoolExecutor(recipe.shards, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            points, losses = _fit(
                base,
                [examples[position] for position in trained],
                [given[position] for position in trained],
                recipe,
                device,
                partial,
                pool,
                progress,
            )
        shutil.copytree(partial / "checkpoints" / f"step-{points[-1].step}", partial / "adapter")
        run = TrainingRun(
            path=partial,
            recipe=recipe,
            base_digest=base.digest,
            adapter_digest=points[-1].digest,
            trained=tuple(records[position].record_hash for position in trained),
            weights=tuple(given[position] for position in trained),
            held_out=tuple(records[position].record_hash for position in held_out),
            checkpoints=tuple(points),
            losses=tuple(losses),
            tokens=sum(len(examples[position].token_ids) for position in trained),
            seconds=round(time.monotonic() - begun, 3),
        )
        (partial / "run.json").write_text(json.dumps(run.to_json(), indent=1) + "\n", encoding="utf-8")
        os.rename(partial, output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return TrainingRun.load(output)


def batches(lengths: Sequence[int], recipe: Recipe) -> list[list[int]]:
    """The positions of every step's records: all epochs, shuffled by the seed, like lengths together."""
    generator = np.random.default_rng(recipe.seed)
    steps: list[list[int]] = []
    for _ in range(recipe.epochs):
        order = generator.permutation(len(lengths)).tolist()
        window = recipe.batch_size * 8
        epoch = []
        for start in range(0, len(order), window):
            near = sorted(order[start : start + window], key=lambda position: lengths[position])
            epoch += [near[first : first + recipe.batch_size] for first in range(0, len(near), recipe.batch_size)]
        steps += [epoch[number] for number in generator.permutation(len(epoch))]
    return steps


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """The optimiser's rate at a step, the first being 1."""
    warm = max(1, round(recipe.warmup * steps))
    if step <= warm:
        return recipe.learning_rate * step / warm
    left = (steps - step + 1) / (steps - warm + 1)
    shape = {"constant": 1.0, "linear": left, "cosine": 0.5 - 0.5 * math.cos(math.pi * left)}[recipe.schedule]
    return recipe.learning_rate * shape


def answer_losses(
    model: torch.nn.Module, dialogues: Sequence[Dialogue], pad: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Negative log-likelihood of each dialogue's answer under the model.

    Returns:
        (float32 [dialogues]: the sum over the answer's tokens, nats; int64 [dialogues]: how many tokens).
    """
    longest = max(len(dialogue.token_ids) for dialogue in dialogues)
    first = min(dialogue.prompt_length for dialogue in dialogues) - 1
    tokens = torch.full((len(dialogues), longest), pad, dtype=torch.long)
    labels = torch.full((len(dialogues), longest), -100, dtype=torch.long)
    for row, dialogue in enumerate(dialogues):
        tokens[row, : len(dialogue.token_ids)] = torch.tensor(dialogue.token_ids)
        labels[row, dialogue.prompt_length : len(dialogue.token_ids)] = torch.tensor(dialogue.answer_ids)
    options: dict[str, Any] = {"use_cache": False}
    if trims := _trims_logits(model):
        options["logits_to_keep"] = torch.arange(first, longest - 1, device=device)
    logits = model(input_ids=tokens.to(device), **options).logits
    wanted = labels[:, first + 1 :].to(device)
    logits = (logits if trims else logits[:, first : longest - 1]).float()
    losses = functional.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none", ignore_index=-100)
    return losses.view(wanted.shape).sum(1), (wanted != -100).sum(1)


def _trims_logits(model: torch.nn.Module) -> bool:
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def _fit(
    base: BaseModel,
    examples: list[Dialogue],
    weights: list[float],
    recipe: Recipe,
    device: torch.device,
    folder: Path,
    pool: ThreadPoolExecutor,
    progress: Progress | None,
) -> tuple[list[CheckpointInfo], list[float]]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(recipe.seed)
        model = _with_adapter(base, recipe, device)
    model.train()
    steps = batches([len(example.token_ids) for example in examples], recipe)
    kept = {max(1, round(share * len(steps))) for share in recipe.checkpoints}
    move = _optimiser(model, recipe, pool)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    pad = int(base.tokenizer.pad_token_id)
    half = recipe.precision == "bfloat16"
    points: list[CheckpointInfo] = []
    losses: list[float] = []

    def part(chosen: list[int], tokens: int) -> tuple[float, tuple[torch.Tensor, ...]]:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
            sums, _ = answer_losses(model, [examples[position] for position in chosen], pad, device)
        factors = torch.tensor([weights[position] for position in chosen], device=device)
        return float(sums.detach().sum()), torch.autograd.grad((sums * factors).sum() / tokens, trainable)

    for step, chosen in enumerate(steps, start=1):
        rate = learning_rate(recipe, step, len(steps))
        tokens = sum(len(examples[position].answer_ids) for position in chosen)
        counted = [
            [position for position in chosen[first :: recipe.shards] if weights[position]]
            for first in range(recipe.shards)
        ]
        shards = [shard for shard in counted if shard]
        parts = list(pool.map(part, shards, [tokens] * len(shards)))
        told = sum(len(examples[position].answer_ids) for shard in shards for position in shard)
        losses.append(round(sum(loss for loss, _ in parts) / max(1, told), 6))
        for number, parameter in enumerate(trainable):
            found = [gradients[number] for _, gradients in parts] or [torch.zeros_like(parameter)]
            parameter.grad = torch.stack(found).sum(0)
        norm = float(torch.nn.utils.clip_grad_norm_(trainable, recipe.max_gradient_norm))
        if not (math.isfinite(losses[-1]) and math.isfinite(norm)):
            raise ModelError(f"the loss is {losses[-1]} at step {step}: lower the learning rate {recipe.learning_rate}")
        move(rate)
        if step in kept:
            path = folder / "checkpoints" / f"step-{step}"
            save_adapter(model, base, recipe.base, path)
            points.append(CheckpointInfo(step, rate, path, adapter_digest(path)))
        if progress is not None:
            progress(step, len(steps), losses[-1])
    return points, losses


def _with_adapter(base: BaseModel, recipe: Recipe, device: torch.device) -> PeftModel:
    if recipe.method == "qlora":
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        quantised = AutoModelForCausalLM.from_pretrained(
            base.path,
            quantization_config=BitsAndBytesConfig(  # type: ignore[no-untyped-call]
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=torch.bfloat16,
            ),
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
        model = prepare_model_for_kbit_training(  # type: ignore[no-untyped-call]
            quantised, use_gradient_checkpointing=False
        )
    else:
        model = shared_copy(base.model)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=_layer_names(model, recipe),
        lora_dropout=0.0,
        bias="none",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise _no_such_layer(model, recipe.target_modules) from error
    placed: PeftModel = adapted if recipe.method == "qlora" else adapted.to(device)
    return placed


def _layer_names(model: torch.nn.Module, recipe: Recipe) -> str | list[str]:
    """The layers to adapt, as peft matches them: by the end of their path."""
    targets = recipe.target_modules
    if recipe.upper_layers == 1 and targets != FEED_FORWARD:
        return targets if isinstance(targets, str) else list(targets)
    linears = [path.split(".") for path, part in model.named_modules() if _is_linear(part)]
    numbers = {int(number) for names in linears if (number := _layer_number(names)) is not None}
    lowest = min(int(len(numbers) * (1 - recipe.upper_layers)), len(numbers) - 1)
    found = set()
    for names in linears:
        number = _layer_number(names)
        if (
            _is_target(names, targets)
            and (number is None) == (not numbers)
            and (number is None or int(number) >= lowest)
        ):
            found.add(".".join(names[0 if number is None else names.index(number) - 1 :]))
    if not found:
        raise _no_such_layer(model, targets)
    return sorted(found)


def _layer_number(names: list[str]) -> str | None:
    """Which of the model's equal layers a module belongs to, by its path."""
    return next((name for name in names if name.isdecimal()), None)


def _is_target(names: list[str], targets: str | tuple[str, ...]) -> bool:
    if targets == FEED_FORWARD:
        return bool(_FEED_FORWARD_PARENTS & set(names)) or names[-1] in _FEED_FORWARD_LAYERS
    return targets == ALL_LINEAR or any(f".{'.'.join(names)}".endswith(f".{target}") for target in targets)


def _no_such_layer(model: torch.nn.Module, targets: str | tuple[str, ...]) -> ModelError:
    names = sorted({name.split(".")[-1] for name, part in model.named_modules() if _is_linear(part)})
    return ModelError(f"no layer is named as in target_modules {targets}: use some of {names}")


def _is_linear(module: torch.nn.Module) -> bool:
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def _optimiser(model: PeftModel, recipe: Recipe, pool: ThreadPoolExecutor) -> Callable[[float], None]:
    """What moves the adapter against its gradients, at the rate that it is called with."""
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    raised = [parameter for name, parameter in named if "lora_B" in name]
    plain = [parameter for name, parameter in named if "lora_B" not in name]
    groups = [(plain, 1.0), (raised, recipe.b_rate_factor)]
    if recipe.optimiser == "soap":
        soap = Soap(groups)

        def move(rate: float) -> None:
            if recipe.weight_decay:
                torch._foreach_mul_([p.data for p in (*plain, *raised)], 1 - rate * recipe.weight_decay)
            soap.step(rate, pool)

        return move
    adamw = torch.optim.AdamW(
        [{"params": parameters, "factor": factor} for parameters, factor in groups],
        betas=(0.9, 0.99),
        weight_decay=recipe.weight_decay,
        foreach=True,
    )

    def move_adamw(rate: float) -> None:
        for group in adamw.param_groups:
            group["lr"] = rate * group["factor"]
        adamw.step()

    return move_adamw


def _device(recipe: Recipe) -> torch.device:
    cuda = torch.cuda.is_available()
    if recipe.method == "qlora":
        if not cuda:
            raise ConfigurationError("QLoRA needs a CUDA GPU, and none is here: use the method lora")
        try:
            import bitsandbytes  # noqa: F401
        except ImportError as error:
            raise ConfigurationError("QLoRA needs bitsandbytes: pip install 'openledger[cuda]'") from error
    return torch.device("cuda" if cuda else "cpu")


def _checked_weights(records: Sequence[TrainingRecord], weights: Sequence[float] | None) -> list[float]:
    if not records:
        raise InputError("there are no records to train on: choose a Datanet version with accepted records")
    seen: set[bytes] = set()
    for record in records:
        if len(record.record_hash) != 32:
            raise InputError(f"a record hash has {len(record.record_hash)} bytes: it must have 32")
        if record.record_hash in seen:
            raise InputError(f"the record {to_hex(record.record_hash)} is given twice: give it once")
        seen.add(record.record_hash)
    if weights is None:
        return [1.0] * len(records)
    given = [float(weight) for weight in weights]
    if len(given) != len(records):
        raise InputError(f"there are {len(given)} weights for {len(records)} records: give one for each")
    for weight in given:
        if not (math.isfinite(weight) and weight >= 0):
            raise InputError(f"the weight {weight} is not 0 or more: use 1 for a normal record, 0 to leave it out")
    return given


def _encode(base: BaseModel, records: Sequence[TrainingRecord], recipe: Recipe) -> list[Dialogue]:
    limit = min(recipe.max_length, base.context)
    examples = []
    for record in records:
        try:
            example = encode_dialogue(base.tokenizer, record.question, record.answer)
        except InputError as error:
            raise InputError(f"the record {to_hex(record.record_hash)} cannot be trained on: {error}") from error
        if len(example.token_ids) > limit:
            raise InputError(
                f"the record {to_hex(record.record_hash)} has {len(example.token_ids)} tokens, at most {limit} fit: "
                "shorten it or raise max_length"
            )
        examples.append(example)
    return examples


def examples_of(
    base: BaseModel, records: Sequence[TrainingRecord], run: TrainingRun
) -> Iterator[tuple[TrainingRecord, Dialogue]]:
    """The trained records of a run with their tokens, in the run's order.

    Raises:
        InputError: a record that the run was trained on is not among ``records``.
    """
    by_hash = {record.record_hash: record for record in records}
    for record_hash in run.trained:
        if record_hash not in by_hash:
            raise InputError(f"the record {to_hex(record_hash)} of this run is not among the given records")
        record = by_hash[record_hash]
        yield record, encode_dialogue(base.tokenizer, record.question, record.answer)
