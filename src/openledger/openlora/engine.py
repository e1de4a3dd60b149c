"""The inference engine: one base model in memory, adapters switched on it, tokens streamed as they are chosen.

Generation is reproducible: the same adapter, prompt ids, sampling and seed give the same token ids on the pinned CPU path,
which is what a validator recomputes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from openledger.models import BaseModel, pinned, shared_copy
from openledger.primitives import InputError, ModelError, NotFoundError


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    ``temperature`` 0 is greedy; ``top_p`` keeps the smallest set of tokens with that much probability; ``max_tokens`` bounds
    the output; generation also ends at the end token or when a stop string appears (which is cut off).

    Raises:
        InputError: a value is out of range.
    """

    max_tokens: int = 96
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.max_tokens <= 1 << 20:
            raise InputError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.temperature <= 2:
            raise InputError(f"temperature is {self.temperature}; it must be from 0 to 2")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; it must be above 0 and at most 1")
        if not 0 <= self.seed < 1 << 63:
            raise InputError(f"seed is {self.seed}; it must be from 0 to 2**63 - 1")
        if len(self.stop) > 4 or any(not isinstance(text, str) or not text for text in self.stop):
            raise InputError(f"stop is {self.stop!r}; give at most 4 non-empty strings")


@dataclass(frozen=True)
class Piece:
    """Text that may be shown now; the pieces of one answer joined are the answer."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The end of one generation.

    ``token_ids`` are the chosen tokens, the end token included when it ended the answer; ``reason`` is ``stop`` or ``length``.
    """

    text: str
    token_ids: tuple[int, ...]
    reason: str


class Engine:
    """Serves every adapter added to it over one base model.

    Args:
        base: the base model; it stays as it is, and its weights are shared.
    """

    def __init__(self, base: BaseModel) -> None:
        self.base = base
        self._model: Any = None
        self._adapters: set[str] = set()
        self._lock = threading.Lock()

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for; ``None`` asks the base model itself."""
        return frozenset(self._adapters)

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, that the base model can attend to."""
        return int(self.base.model.config.max_position_embeddings)

    def add(self, name: str, folder: Path) -> None:
        """Loads a peft adapter (safetensors only) from ``folder`` under ``name``.

        Raises:
            InputError: the name is taken or malformed.
            ModelError: it is no safetensors adapter that fits this base.
        """
        if name in self._adapters or not name or "." in name:
            raise InputError(f"cannot add an adapter named {name!r}: the name is taken, empty or holds a dot")
        if not (folder / "adapter_model.safetensors").is_file():
            raise ModelError(f"{folder} holds no adapter_model.safetensors; only safetensors are loaded")
        with self._lock:
            try:
                if self._model is None:
                    copy = shared_copy(self.base.model)
                    self._model = PeftModel.from_pretrained(copy, str(folder), adapter_name=name)
                else:
                    self._model.load_adapter(str(folder), adapter_name=name)
            except Exception as error:
                raise ModelError(f"the adapter in {folder} does not fit this base model: {error}") from error
            self._model.eval()
            self._model.requires_grad_(False)
            self._adapters.add(name)

    def generate(
        self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling
    ) -> Iterator[Piece | Finished]:
        """Yields pieces of text as they come, then one :class:`Finished`.

        Closing the iterator early stops the generation and frees the engine.

        Raises:
            NotFoundError: no such adapter.
            InputError: the prompt is empty or leaves no room in the context.
        """
        if adapter is not None and adapter not in self._adapters:
            raise NotFoundError(
                f"no adapter {adapter!r} is loaded; loaded: {', '.join(sorted(self._adapters)) or 'none'}"
            )
        room = self.context_length - len(prompt_ids)
        if not prompt_ids or room < 1:
            raise InputError(
                f"the prompt has {len(prompt_ids)} tokens and the context {self.context_length}; "
                "send at least one token and leave room for an answer"
            )
        with self._lock, pinned(), torch.inference_mode():
            if self._model is None:
                yield from self._run(self.base.model, prompt_ids, sampling, room)
            elif adapter is None:
                with self._model.disable_adapter():
                    yield from self._run(self._model, prompt_ids, sampling, room)
            else:
                self._model.set_adapter(adapter, inference_mode=True)
                yield from self._run(self._model, prompt_ids, sampling, room)

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once."""
        for event in self.generate(adapter, prompt_ids, sampling):
            if isinstance(event, Finished):
                return event
        raise ModelError("the generation ended without a result")

    def _run(self, model: Any, prompt_ids: Sequence[int], sampling: Sampling, room: int) -> Iterator[Piece | Finished]:
        tokenizer = self.base.tokenizer
        ends = _end_tokens(self.base)
        choose = _Chooser(sampling)
        chosen: list[int] = []
        text, shown, reason = "", 0, "length"
        inputs, cache = torch.tensor([list(prompt_ids)]), None
        while len(chosen) < min(sampling.max_tokens, room):
            output = model(input_ids=inputs, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = choose(output.logits[0, -1])
            chosen.append(token)
            if token in ends:
                reason = "stop"
                break
            text = str(tokenizer.decode(chosen, skip_special_tokens=True))
            stop = _first(text, sampling.stop)
            if stop is not None:
                text, reason = text[:stop], "stop"
                break
            safe = _settled(text, sampling.stop)
            if safe > shown:
                yield Piece(text[shown:safe])
                shown = safe
            inputs = torch.tensor([[token]])
        if len(text) > shown:
            yield Piece(text[shown:])
        yield Finished(text, tuple(chosen), reason)


class _Chooser:
    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)

    def __call__(self, logits: torch.Tensor) -> int:
        sampling = self._sampling
        if sampling.temperature == 0:
            return int(logits.argmax())
        probabilities = torch.softmax(logits.double() / sampling.temperature, dim=-1)
        ordered, tokens = probabilities.sort(descending=True, stable=True)
        ordered[ordered.cumsum(0) - ordered >= sampling.top_p] = 0
        return int(tokens[torch.multinomial(ordered, 1, generator=self._generator)])


def _end_tokens(base: BaseModel) -> frozenset[int]:
    configured = getattr(base.model.generation_config, "eos_token_id", None) or base.tokenizer.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in ends if token is not None)


def _first(text: str, stops: Sequence[str]) -> int | None:
    found = [place for place in (text.find(stop) for stop in stops) if place >= 0]
    return min(found) if found else None


def _settled(text: str, stops: Sequence[str]) -> int:
    """How much of ``text`` can no longer change: not a half-decoded character, nor the beginning of a stop string."""
    end = len(text)
    while end and text[end - 1] == "\ufffd":
        end -= 1
    for stop in stops:
        for length in range(min(len(stop) - 1, end), 0, -1):
            if text[:end].endswith(stop[:length]):
                end -= length
                break
    return end
