"""The engine for what the fused decoder does not run: any architecture and any LoRA adapter, through transformers and peft.

It answers one request at a time and switches the adapter between requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from openledger.models import BaseModel, pinned, shared_copy
from openledger.openlora.sampling import Chooser, Chosen
from openledger.primitives import ModelError


class PeftRunner:
    """A base model in transformers, with adapters that peft switches.

    Args:
        base: the base model; it stays as it is, and its weights are shared.
    """

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._model: Any = None
        self._lock = threading.Lock()

    def add(self, name: str, folder: Path) -> None:
        """Loads a peft adapter, whose files were checked before.

        Raises:
            ModelError: it does not fit this base.
        """
        with self._lock:
            try:
                if self._model is None:
                    self._model = PeftModel.from_pretrained(
                        shared_copy(self._base.model), str(folder), adapter_name=name, use_safetensors=True
                    )
                else:
                    self._model.load_adapter(str(folder), adapter_name=name, use_safetensors=True)
            except Exception as error:
                raise ModelError(f"the adapter in {folder} does not fit this base model: {error}") from error
            self._model.eval()
            self._model.requires_grad_(False)

    def remove(self, name: str) -> None:
        """Unloads an adapter."""
        with self._lock:
            if len(self._model.peft_config) == 1:
                self._model = None
            else:
                self._model.delete_adapter(name)

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
