"""The engine for what the fused decoder does not run: any architecture and any LoRA adapter, through transformers and peft.

It answers one request at a time and switches the adapter between requests. Of an uploader's files peft gets nothing but checked
tensors, and a configuration that is written here from checked values: no pattern, no path and no name of a Python module reaches
it, and no tensor that would be copied over the base's own.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from openledger.models import BaseModel, pinned, shared_copy
from openledger.openlora.adapters import WEIGHTS, AdapterLimits, Patterns, open_weights, read_config, scaling_of, short
from openledger.openlora.choosing import Chooser, Chosen
from openledger.primitives import ModelError, to_hex

if TYPE_CHECKING:
    from peft import LoraConfig

_FACTOR = re.compile(
    r"base_model\.model\.(.+)\.(lora_A\.weight|lora_B\.weight|lora_B\.bias|lora_embedding_A|lora_embedding_B"
    r"|lora_magnitude_vector)"
)
_OWN = re.compile(r"base_model\.model\.(.+)\.([a-z_]+)")


class PeftRunner:
    """A base model in transformers, with adapters that peft switches.

    Args:
        digest: the base's.
        base: gives the base model when it is first needed; it stays as it is, and its weights are shared.
        limits: what adapters are accepted.
    """

    def __init__(self, digest: bytes, base: Callable[[], BaseModel], limits: AdapterLimits | None = None) -> None:
        self._digest = digest
        self._give_base = base
        self._limits = limits or AdapterLimits()
        self._model: Any = None
        self._lock = threading.Lock()

    def add(self, name: str, folder: Path) -> None:
        """Checks and loads a peft adapter.

        Raises:
            NotFoundError: a file is missing.
            ModelError: it is not sound, or does not fit this base.
        """
        from peft import PeftModel

        raw = read_config(folder, to_hex(self._digest))
        with open_weights(folder, self._limits) as file:
            for tensor in file.names:
                file.shape(tensor)
            tensors = {tensor: file.read(tensor) for tensor in file.names}
        try:
            config = _config(raw, tensors, dict(self._base.model.named_modules()), self._limits)
            with self._lock:
                try:
                    if self._model is None:
                        model = PeftModel(shared_copy(self._base.model), config, adapter_name=name)
                    else:
                        model = self._model
                        model.add_adapter(name, config)
                    _load(model, name, tensors)
                except Exception as error:
                    if self._model is not None and name in self._model.peft_config:
                        self._model.delete_adapter(name)
                    why = " ".join(str(error).split())[:300]
                    raise ModelError(f"the adapter in {folder} does not fit this base model: {why}") from error
                model.eval()
                model.requires_grad_(False)
                self._model = model
        finally:
            self._let_base_go()

    def remove(self, name: str) -> None:
        """Unloads an adapter, and the base with the last one."""
        with self._lock:
            if len(self._model.peft_config) == 1:
                self._model = None
            else:
                self._model.delete_adapter(name)
        self._let_base_go()

    @cached_property
    def _base(self) -> BaseModel:
        return self._give_base()

    def _let_base_go(self) -> None:
        """Where no adapter is left that needs it, a refused one included."""
        if self._model is None:
            self.__dict__.pop("_base", None)

    def run(self, name: str | None, prompt: Sequence[int], most: int, chooser: Chooser) -> Iterator[Chosen]:
        """At most ``most`` tokens, under the adapter ``name`` or none; closing the iterator ends the generation."""
        with self._lock, pinned(), torch.inference_mode():
            if self._model is None:
                yield from self._run(self._base.model, prompt, most, chooser)
            elif name is None:
                with self._model.disable_adapter():
                    yield from self._run(self._model, prompt, most, chooser)
            else:
                self._model.set_adapter(name, inference_mode=True)
                yield from self._run(self._model, prompt, most, chooser)

    @staticmethod
    def _run(model: Any, prompt: Sequence[int], most: int, chooser: Chooser) -> Iterator[Chosen]:
        inputs, cache = torch.tensor([list(prompt)]), None
        for _ in range(most):
            output = model(input_ids=inputs, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            chosen = chooser(output.logits[0, -1])
            yield chosen
            inputs = torch.tensor([[chosen.token]])


def _load(model: Any, name: str, tensors: Mapping[str, torch.Tensor]) -> None:
    from peft import get_peft_model_state_dict, set_peft_model_state_dict

    found: Any = set_peft_model_state_dict(model, dict(tensors), adapter_name=name)
    missing = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).keys() - tensors.keys()
    if found.unexpected_keys or missing:
        raise ModelError(f"unknown or missing are {', '.join(sorted([*found.unexpected_keys, *missing])[:3])}")


def _config(
    raw: Mapping[str, Any], tensors: Mapping[str, torch.Tensor], modules: Mapping[str, Any], limits: AdapterLimits
) -> LoraConfig:
    """The configuration of an adapter with these tensors, whose own one is ``raw``.

    Raises:
        ModelError: what is wrong with it.
    """
    for field in ("use_qalora", "arrow_config", "alora_invocation_tokens"):
        if raw.get(field):
            raise ModelError(f"the adapter uses {field}, which is not served")
    if raw.get("bias") not in (None, "none"):
        raise ModelError("the adapter changes biases, which is served for the Llama family without whole modules only")
    saved = _list(raw, "modules_to_save", str)
    tokens = _list(raw, "trainable_token_indices", int)
    ranks: dict[str, int] = {}
    for name, tensor in tensors.items():
        factor, own = _FACTOR.fullmatch(name), _OWN.fullmatch(name)
        if factor is not None and factor[1] in modules:
            if factor[2] in ("lora_A.weight", "lora_embedding_A"):
                ranks[factor[1]] = len(tensor) if tensor.dim() == 2 else 0
        elif own is None or not (
            (own[1].split(".")[-1] in saved and own[1] in modules) or (tokens and own[2] == "trainable_tokens_delta")
        ):
            raise ModelError(f"the tensor {short(name)} belongs to nothing that the adapter may change in this base")
    if not ranks:
        raise ModelError(f"{WEIGHTS} holds no factors of this base's modules")
    patterns, alphas = Patterns(raw), {}
    for module, rank in ranks.items():
        if not 1 <= rank <= limits.rank:
            raise ModelError(
                f"the adapter has the rank {rank} at {module}; at least 1, at most {limits.rank} is accepted"
            )
        scaling_of(patterns, module, rank, bool(raw.get("use_rslora")))
        alphas[module] = patterns.alpha(module)
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=max(ranks.values()),
        target_modules=list(ranks),
        rank_pattern={re.escape(module): rank for module, rank in ranks.items()},
        alpha_pattern={re.escape(module): alpha for module, alpha in alphas.items()},
        lora_dropout=0.0,
        fan_in_fan_out=bool(raw.get("fan_in_fan_out")),
        use_rslora=bool(raw.get("use_rslora")),
        use_dora=bool(raw.get("use_dora")),
        lora_bias=bool(raw.get("lora_bias")),
        modules_to_save=saved or None,
        trainable_token_indices=tokens or None,
        inference_mode=True,
    )


def _list(raw: Mapping[str, Any], field: str, kind: type) -> list[Any]:
    values = raw.get(field) or []
    if not isinstance(values, list) or not all(type(value) is kind for value in values):
        raise ModelError(f"{field} is {short(values)}; it must be a list of {kind.__name__}")
    return values
