"""The inference engine: one base model in memory, any number of adapters, requests of all of them answered together.

Generation is reproducible: the same adapter, prompt ids, sampling and seed give the same token ids on the pinned CPU path,
alone or in any batch, which is what a validator recomputes.
"""

from __future__ import annotations

import logging
import re
import tempfile
import threading
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from prometheus_client import generate_latest

from openledger.models import BaseModel, load_base
from openledger.openlora import metrics
from openledger.openlora.adapters import AdapterLimits, AdapterStore, NeedsMerging, StoredAdapter, short
from openledger.openlora.answers import Finished, Piece
from openledger.openlora.choosing import Chooser, Chosen
from openledger.openlora.decoder import Decoder, unsupported
from openledger.openlora.device import DeviceDecoder
from openledger.openlora.fallback import PeftRunner
from openledger.openlora.grammar import GrammarState
from openledger.openlora.sampling import Sampling, TokenLogprob
from openledger.openlora.scheduler import EngineLimits, Scheduler, Ticket
from openledger.openlora.team import processors
from openledger.openlora.text import TextStream
from openledger.primitives import InputError, ModelError, NotFoundError, to_hex

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"[\w -]{1,100}")


class Engine:
    """Answers for a base model and every adapter added to it.

    Usable alone::

        engine = Engine("path/to/model")              # config.json, *.safetensors, tokenizer: an ordinary folder
        engine.add("law", Path("path/to/adapter"))    # adapter_config.json, adapter_model.safetensors: peft's format
        engine.generate_many([("law", [1, 15, 9]), (None, [1, 15, 9])], Sampling(max_tokens=32))

    The Llama family (Llama, SmolLM, Mistral, Qwen 2 and 3) runs on the fused decoder with continuous batching; another
    architecture, and an adapter that replaces more than linear layers' outputs (whole modules, embeddings), runs through
    transformers and peft, one request at a time. Every method may be called from any thread. Adapters come and go while
    requests run.

    Args:
        base: a loaded base model, or a folder or hub id to load.
        limits: memory, batch and queue.
        store: folder for converted adapters; None keeps them in a temporary folder until the engine is closed.
        adapter_limits: what adapters are accepted.

    Attributes:
        base: the base model; where the engine loaded it itself and runs it on the fused decoder, its ``model`` has let its
            weights go.
        fallback: why the base runs through transformers; None if it runs on the fused decoder.
    """

    def __init__(
        self,
        base: BaseModel | Path | str,
        limits: EngineLimits | None = None,
        *,
        store: Path | None = None,
        adapter_limits: AdapterLimits | None = None,
    ) -> None:
        self._limits = limits or EngineLimits()
        self.base = base if isinstance(base, BaseModel) else _load(base, self._limits)
        self.fallback = unsupported(self.base.model)
        self._released = self.fallback is None and not isinstance(base, BaseModel)
        """Whether transformers' own copy of the weights is let go."""
        self._adapters: dict[str, StoredAdapter | None] = {}
        self._lock = threading.Lock()
        self._peft = PeftRunner(self.base.digest, self._whole_base, adapter_limits)
        self._ends = _end_tokens(self.base)
        self._temporary = tempfile.TemporaryDirectory(prefix="openlora-") if store is None else None
        self._scheduler: Scheduler | None = None
        self._store: AdapterStore | None = None
        if self.fallback is None:
            decoder = _decoder(self.base.model, self._limits, keep=not self._released)
            self._vocabulary = decoder.dimensions.vocabulary
            self._scheduler = Scheduler(decoder, self._limits)
            folder = store if store is not None else Path(self._temporary.name if self._temporary else "")
            digest = to_hex(self.base.digest)
            self._store = AdapterStore(folder, decoder.dimensions, digest, adapter_limits, decoder.linear)
        else:
            self._vocabulary = int(self.base.model.config.vocab_size)

    def close(self) -> None:
        """Ends the worker and deletes the temporary store."""
        if self._scheduler is not None:
            self._scheduler.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """The base model's."""
        return self.base.path.name

    @property
    def tokenizer(self) -> Any:
        """The base model's."""
        return self.base.tokenizer

    @property
    def adapters(self) -> frozenset[str]:
        """The names that can be asked for; ``None`` asks the base model itself."""
        return frozenset(self._adapters)

    @property
    def context_length(self) -> int:
        """The most tokens, prompt and output together, of one request."""
        return self._scheduler.longest if self._scheduler else self.base.context

    @property
    def load(self) -> tuple[int, int]:
        """(requests running, requests waiting)."""
        return self._scheduler.load if self._scheduler else (0, 0)

    @property
    def failed(self) -> bool:
        """Whether it has stopped to answer, which only a new engine mends."""
        return self._scheduler is not None and self._scheduler.failed

    def exposition(self) -> bytes:
        """What this process tells Prometheus."""
        return generate_latest()

    def add(self, name: str, folder: Path) -> None:
        """Makes a peft adapter (safetensors only) in ``folder`` available under ``name``.

        Raises:
            InputError: the name is taken or malformed.
            NotFoundError: a file is missing.
            ModelError: it is no sound adapter for this base.
        """
        self._check_name(name)
        stored: StoredAdapter | None = None
        if self._store is not None:
            try:
                stored = self._store.take(folder)
            except NeedsMerging as reason:
                _LOG.info("adapter %s runs through peft: %s", name, reason)
        if stored is None:
            if self._released and self._limits.weights == "int8":
                raise ModelError(
                    f"the adapter in {folder} needs the base in float32 once more, which int8 is to save: use float32"
                )
            self._peft.add(name, folder)
        self._publish(name, stored)

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        """Makes an ensemble: its change to the base is the weighted sum of the changes of other adapters.

        Raises:
            InputError: the name is taken, no part, a weight that is not finite, or ranks that sum to too much.
            NotFoundError: a part does not exist.
            ModelError: a part is not served by the fused decoder.
        """
        self._check_name(name)
        chosen = []
        for part, weight in parts.items():
            stored = self._find(part)
            if stored is None or self._store is None:
                raise ModelError(f"the adapter {part!r} runs through peft and cannot be a part of an ensemble")
            chosen.append((stored, float(weight)))
        if self._store is None:
            raise ModelError(f"ensembles need the fused decoder, and {self.fallback}")
        self._publish(name, self._store.combine(chosen))

    def pin(self, name: str) -> None:
        """Keeps an adapter in memory, whoever asks for others, until it is unpinned or removed.

        Raises:
            NotFoundError: there is none of that name.
            InputError: it would leave no room for others.
            ModelError: it runs through peft, which keeps every adapter in memory anyway.
        """
        stored = self._find(name)
        if stored is None or self._scheduler is None:
            raise ModelError(f"the adapter {name!r} runs through peft and stays in memory anyway")
        self._scheduler.pin(stored)

    def unpin(self, name: str) -> None:
        """Lets a pinned adapter go again.

        Raises:
            NotFoundError: there is none of that name.
        """
        stored = self._find(name)
        if stored is not None and self._scheduler is not None:
            self._scheduler.unpin(stored.digest)

    def remove(self, name: str) -> None:
        """Takes an adapter away; requests that run keep it to their end.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self._lock:
            stored = self._find(name)
            del self._adapters[name]
            if stored is None:
                self._peft.remove(name)
            elif self._store is not None and all(
                other is None or other.digest != stored.digest for other in self._adapters.values()
            ):
                self._store.remove(stored)
                if self._scheduler is not None:
                    self._scheduler.unpin(stored.digest)
            metrics.ADAPTERS.set(len(self._adapters))

    def generate(
        self,
        adapter: str | None,
        prompt_ids: Sequence[int],
        sampling: Sampling,
        *,
        cancel: threading.Event | None = None,
    ) -> Iterator[Piece | Finished]:
        """Yields pieces of text as they come, then one :class:`Finished`.

        Closing the iterator early stops the generation; so does ``cancel`` once it is set, from any thread, and the
        iterator then raises :class:`CancelledError`.

        Raises:
            NotFoundError: no such adapter.
            InputError: the prompt is empty, holds unknown tokens, or leaves no room in the context.
            OverloadedError: too many requests are waiting.
        """
        ticket = self._submit([(adapter, prompt_ids)], sampling, cancel=cancel)[0]
        return self._stream(ticket, sampling, pieces=True)

    def complete(self, adapter: str | None, prompt_ids: Sequence[int], sampling: Sampling) -> Finished:
        """The whole answer at once; raises what :meth:`generate` does."""
        return self.generate_many([(adapter, prompt_ids)], sampling)[0]

    def generate_many(
        self, requests: Sequence[tuple[str | None, Sequence[int]]], sampling: Sampling | Sequence[Sampling]
    ) -> list[Finished]:
        """Answers a list of (adapter, prompt ids) together; the answers are in the order of the requests.

        Args:
            requests: each with the name of an adapter, or None for the base, and the prompt's token ids.
            sampling: one for all, or one for each.

        Raises:
            InputError, NotFoundError, OverloadedError: one of the requests cannot be taken; then none is.
        """
        each = [sampling] * len(requests) if isinstance(sampling, Sampling) else list(sampling)
        if len(each) != len(requests):
            raise InputError(f"{len(requests)} requests came with {len(each)} samplings; give one, or one for each")
        tickets = self._submit(requests, *each)
        return [_last(self._stream(ticket, how, pieces=False)) for ticket, how in zip(tickets, each, strict=True)]

    def _submit(
        self,
        requests: Sequence[tuple[str | None, Sequence[int]]],
        *sampling: Sampling,
        cancel: threading.Event | None = None,
    ) -> list[Ticket | Iterator[Chosen]]:
        made: list[Ticket | Iterator[Chosen]] = []
        for (adapter, prompt), how in zip(requests, sampling, strict=True):
            stored = None if adapter is None else self._find(adapter)
            ticket = self._ticket(stored, prompt, how, cancel)
            if self._scheduler is not None and (adapter is None or stored is not None):
                made.append(ticket)
            else:
                made.append(self._peft.run(adapter, ticket.prompt, ticket.most, ticket.chooser))
        fused = [ticket for ticket in made if isinstance(ticket, Ticket)]
        if self._scheduler is not None and fused:
            self._scheduler.submit(*fused)
        return made

    def _ticket(
        self, stored: StoredAdapter | None, prompt: Sequence[int], sampling: Sampling, cancel: threading.Event | None
    ) -> Ticket:
        room = self.context_length - len(prompt)
        if not prompt or room < 1:
            raise InputError(
                f"the prompt has {len(prompt)} tokens and the context {self.context_length}; "
                "send at least one token and leave room for an answer"
            )
        if not all(0 <= token < self._vocabulary for token in prompt):
            raise InputError(f"the prompt holds a token that is not among the model's {self._vocabulary}")
        grammar = None
        if sampling.grammar is not None:
            ends = tuple(sorted(self._ends))
            grammar = GrammarState(sampling.grammar, self.base.tokenizer, self._vocabulary, ends)
        return Ticket(
            prompt=tuple(prompt),
            most=min(sampling.max_tokens, room),
            ends=self._ends,
            chooser=Chooser(sampling, prompt, grammar),
            greedy=sampling.plain,
            adapter=stored,
            gone=cancel or threading.Event(),
        )

    def _stream(
        self, tokens: Ticket | Iterator[Chosen], sampling: Sampling, *, pieces: bool
    ) -> Iterator[Piece | Finished]:
        stream = TextStream(self.base.tokenizer, sampling.stop)
        watched = pieces or bool(sampling.stop)
        chosen: list[int] = []
        told: list[TokenLogprob] = []
        sent, ended = 0, False
        try:
            for event in tokens:
                chosen.append(event.token)
                if event.logprob is not None:
                    told.append(self._named(event.logprob))
                if ended := event.token in self._ends:
                    break
                piece = stream.add(event.token) if watched else ""
                if piece and pieces:
                    yield Piece(piece, tuple(told[sent:]))
                    sent = len(told)
                if stream.stopped:
                    break
        finally:
            if isinstance(tokens, Ticket):
                tokens.cancel()
        if not stream.stopped:
            stream.finish(chosen[:-1] if ended else chosen)
        rest = stream.rest()
        if pieces and (rest or sent < len(told)):
            yield Piece(rest, tuple(told[sent:]))
        whole = ended or stream.stopped or (isinstance(tokens, Ticket) and tokens.chooser.complete)
        cached = tokens.cached if isinstance(tokens, Ticket) else 0
        yield Finished(stream.text, tuple(chosen), "stop" if whole else "length", tuple(told), cached)

    def _named(self, told: TokenLogprob) -> TokenLogprob:
        texts = tuple(str(self.base.tokenizer.decode([token])) for token, _ in told.top)
        return replace(told, text=str(self.base.tokenizer.decode([told.token])), top_texts=texts)

    def _check_name(self, name: str) -> None:
        check_name(name, self._adapters)

    def _publish(self, name: str, stored: StoredAdapter | None) -> None:
        with self._lock:
            self._check_name(name)
            self._adapters[name] = stored
            metrics.ADAPTERS.set(len(self._adapters))

    def _whole_base(self) -> BaseModel:
        """The base in transformers with all its weights, loaded again if they were let go."""
        if not self._released:
            return self.base
        again = load_base(self.base.path)
        if again.digest != self.base.digest:
            raise ModelError(f"the files in {self.base.path} are no longer those that the engine runs: start it again")
        return again

    def _find(self, name: str) -> StoredAdapter | None:
        try:
            return self._adapters[name]
        except KeyError:
            names = sorted(self._adapters)
            shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
            raise NotFoundError(f"no adapter {name!r} is loaded; loaded: {shown or 'none'}") from None


def _load(reference: Path | str, limits: EngineLimits) -> BaseModel:
    """A base in the numbers of its files where the compiled decoder widens them itself, else in float32."""
    if limits.decoder == "torch":
        return load_base(reference)
    base = load_base(reference, as_stored=True)
    return base if unsupported(base.model) is None or base.model.dtype == torch.float32 else load_base(base.path)


def _decoder(model: Any, limits: EngineLimits, *, keep: bool) -> Decoder | DeviceDecoder:
    rows = max(limits.batch, limits.chunk)
    if limits.decoder == "compiled" or (limits.decoder == "auto" and model.device.type == "cpu"):
        threads = min(limits.threads, processors())
        return Decoder(model, most_rows=rows, weights=limits.weights, threads=threads, keep=keep)
    return DeviceDecoder(
        model, slots=limits.batch, length=limits.slot, most_rows=4 * rows, weights=limits.weights, keep=keep
    )


def check_name(name: str, taken: Container[str]) -> None:
    """
    Raises:
        InputError: an adapter cannot have that name.
    """
    if name in taken or _NAME.fullmatch(name) is None:
        raise InputError(
            f"cannot add an adapter named {short(name)}: the name is taken, or is not of 1 to 100 letters, digits, "
            "hyphens, underscores and spaces"
        )


def _last(events: Iterator[Piece | Finished]) -> Finished:
    for event in events:
        if isinstance(event, Finished):
            return event
    raise ModelError("the generation ended without a result")


def _end_tokens(base: BaseModel) -> frozenset[int]:
    configured = getattr(base.model.generation_config, "eos_token_id", None) or base.tokenizer.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in ends if token is not None)
