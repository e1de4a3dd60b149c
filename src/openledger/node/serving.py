"""Models in memory: fetched by the hashes that the chain holds, served by the engine, explained by their influence index."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from sqlalchemy import select

from openledger.attribution import InfluenceIndex, Query, SpanIndex, shares
from openledger.chain import Chain
from openledger.datanets import AccessRule, Version, datanet_terms
from openledger.modelfactory import TrainingRun
from openledger.models import BaseModel, base_folder, control_tokens, encode_dialogue, keep_freed_memory, load_base
from openledger.node.library import Library
from openledger.openlora import Backend, Engine, EngineLimits, EngineProcess, Sampling
from openledger.primitives import InputError, ModelError, NotFoundError, VerificationError, from_hex, to_hex
from openledger.settlement import PrivateBody, ReceiptBody, Recomputed
from openledger.storage import BlobStore, Database, ModelRecord
from openledger.studio import (
    Explanation,
    Passage,
    Prompt,
    RecordInfluence,
    RetrievedRecord,
    Retriever,
    ServedModel,
    VerbatimSpan,
    read_definition,
)

INDEX = "index"
_TOP = 8
_SPANS = 6


class LoadedModel:
    """One registered model, unpacked and checked against the chain.

    Attributes:
        id: the model's number on the chain.
        adapter: what the engine calls it.
        index: its influence index.
    """

    def __init__(
        self,
        id: int,  # noqa: A002
        adapter: str,
        base: BaseModel,
        index: InfluenceIndex,
        spans: SpanIndex,
        retriever: Callable[[], Retriever],
        instructions: Callable[[bytes], str],
    ) -> None:
        self.id = id
        self.adapter = adapter
        self.index = index
        self._base = base
        self._spans = spans
        self._retriever = retriever
        self._instructions = instructions
        self._lock = threading.Lock()

    def look_up(self, prompt: Prompt, sampling: Sampling) -> Prompt:
        """The prompt with its agent's instructions and the records that are nearest to its last message, as many as leave room
        for the answer.

        Raises:
            InputError: the Datanet's records are not open to everyone, or the agent's definition is malformed.
            NotFoundError: the agent's definition is not published.
        """
        if prompt.agent is not None:
            prompt = replace(prompt, instructions=self._instructions(prompt.agent.definition))
        if not prompt.top_k:
            return prompt
        found = replace(prompt, passages=self.search(prompt.shown(), prompt.top_k))
        room = self._base.context - sampling.max_tokens
        while found.passages and len(found.encode(self._base.tokenizer)) > room:
            found = replace(found, passages=found.passages[:-1])
        return found

    def search(self, question: str, top_k: int) -> tuple[Passage, ...]:
        """The accepted records of the model's Datanet version that are nearest to a question in words.

        Raises:
            InputError: the Datanet's records are not open to everyone.
        """
        return self._retriever().find(question, top_k)

    def explain(self, prompt: Prompt, output_ids: Sequence[int]) -> Explanation:
        """Who shaped an output: measured influence as shares, verbatim spans, and what was looked up for it."""
        encode = partial(Prompt.encode, tokenizer=self._base.tokenizer)
        prompt_ids = encode(prompt)
        query = Query([*prompt_ids, *output_ids], len(prompt_ids))
        hashes = self.index.record_hashes
        with self._lock:
            measured = self.index.measure(self._base.model, [query])[0]
            divided = shares(measured, self.index)
            effects = self.index.context_effects(self._base.model, query, [encode(one) for one in prompt.ablated()])
        found = self._spans.spans(list(output_ids))
        return Explanation(
            shares=divided.by_hash(self.index),
            residual_ppm=divided.residual_ppm,
            top=tuple(
                RecordInfluence(hashes[position], ppm, float(measured.scores[position]))
                for position, ppm in divided.ranked()[:_TOP]
            ),
            tokens=_texts(self._base.tokenizer, output_ids),
            spans=tuple(
                VerbatimSpan(span.start, span.length, tuple(hashes[record] for record in span.records), span.rarity)
                for span in found[:_SPANS]
            ),
            retrieved=tuple(
                RetrievedRecord(passage.record, tuple(map(float, row)))
                for passage, row in zip(prompt.passages, effects, strict=True)
            ),
        )

    def heat(self, prompt_ids: Sequence[int], output_ids: Sequence[int], records: Sequence[bytes]) -> list[list[float]]:
        """[records, output tokens]: each record's influence on each token; a row sums to the record's score."""
        if not records:
            return []
        places = {digest: place for place, digest in enumerate(self.index.record_hashes)}
        query = Query([*prompt_ids, *output_ids], len(prompt_ids))
        with self._lock:
            found = self.index.token_scores(self._base.model, query, [places[record] for record in records])
        rows: list[list[float]] = found.T.tolist()
        return rows


class Shelf:
    """The base model, the engine, and every registered model that was asked for.

    Args:
        base: base model by folder or hub id; None for the one that ships.
        chain: where models are registered.
        blobs: where their files are.
        work: folder to unpack them in.
        library: the Datanets' records.
        apart: whether the engine runs in a process of its own, beside this one, which holds the base too, for gradients.
        threads: that an answer is generated with.
    """

    def __init__(
        self,
        base: str | None,
        chain: Chain,
        blobs: BlobStore,
        work: Path,
        library: Library,
        *,
        apart: bool = False,
        threads: int = 1,
    ) -> None:
        # Serving, attribution and recomputation take turns on the pinned path, which is one thread; a pool of waiting
        # threads beside it only costs time.
        torch.set_num_threads(1)
        keep_freed_memory()
        store = work / "openlora"
        limits = EngineLimits(threads=threads)
        process = EngineProcess(base_folder(base), limits, store=store, wait=False) if apart else None
        try:
            self.base = load_base(base)
            if process is not None:
                process.wait()
            self.engine: Backend = process or Engine(self.base, limits, store=store)
        except BaseException:
            if process is not None:
                process.close()
            raise
        self._chain = chain
        self._blobs = blobs
        self._work = work
        self._library = library
        self._models: dict[int, LoadedModel] = {}
        self._lock = threading.Lock()

    def load_all(self, database: Database) -> list[ServedModel]:
        """Every model that this node serves."""
        with database.session() as session:
            numbers = list(session.scalars(select(ModelRecord.id).order_by(ModelRecord.id)))
        return [self.load(database, number) for number in numbers]

    def load(self, database: Database, number: int) -> ServedModel:
        """One model, ready to be served."""
        with database.session() as session:
            row = session.get(ModelRecord, number)
        if row is None:
            raise NotFoundError(f"no model {number} in this node's database")
        loaded = self.model(number)
        registry = self._chain.contract("ModelRegistry").functions
        entry = registry.model(number).call()[0]
        return ServedModel(
            id=number,
            name=row.name,
            owner=str(registry.ownerOf(number).call()),
            created=int(row.meta.get("created", 0)),
            input_price=int(entry[8]),
            output_price=int(entry[9]),
            adapter=loaded.adapter,
            look_up=loaded.look_up,
            search=loaded.search,
            explain=loaded.explain,
            contributor_of=lambda record: self._library.find(record).contribution.contributor,
            servable=_kept(lambda: bool(self._chain.call(registry.isServable(number)))),
        )

    def model(self, number: int) -> LoadedModel:
        """A model by its number on the chain: fetched, checked and loaded on first use.

        Raises:
            NotFoundError: it is not registered, or its files are not among the blobs.
            ModelError: it needs another base model.
            VerificationError: its files are not what the chain says.
        """
        with self._lock:
            if number not in self._models:
                self._models[number] = self._fetch(number)
            return self._models[number]

    def folder(self, number: int) -> Path:
        """Where a model that was loaded lies unpacked: its run, its index, its evaluation."""
        return self._work / f"model-{number}"

    def recompute(self, body: ReceiptBody, private: PrivateBody) -> Recomputed:
        """Generates and attributes a receipt's answer anew."""
        loaded = self.model(body.receipt.model)
        prompt, sampling = self.asked(body.receipt.model, private)
        prompt_ids = prompt.encode(self.base.tokenizer)
        finished = self.engine.complete(loaded.adapter, prompt_ids, sampling)
        explanation = loaded.explain(prompt, finished.token_ids)
        return Recomputed(
            shares=explanation.shares,
            residual_ppm=explanation.residual_ppm,
            prompt_tokens=len(prompt_ids),
            output_tokens=len(finished.token_ids),
            output=finished.text,
        )

    def asked(self, number: int, private: PrivateBody) -> tuple[Prompt, Sampling]:
        """What a receipt of a model was asked, with the records that everybody looks up for it."""
        prompt, sampling = Prompt.from_json(private.prompt)
        return self.model(number).look_up(prompt, sampling), sampling

    def _fetch(self, number: int) -> LoadedModel:
        entry = self._chain.contract("ModelRegistry").functions.model(number).call()[0]
        base, adapter, root, _, index_hash, _, datanet, version = entry[:8]
        if bytes(base) != self.base.digest:
            raise ModelError(
                f"model {number} was tuned from the base {to_hex(base)}, and this node runs {to_hex(self.base.digest)}; "
                "set OPENLEDGER_BASE to the base that the model's card names"
            )
        folder = self.folder(number)
        self._blobs.get_folder(from_hex(str(entry[10]).removeprefix("blob:"), 32), folder)
        run = TrainingRun.load(folder)
        index = InfluenceIndex.load(folder / INDEX, bytes(index_hash))
        _same(number, "adapter", bytes(adapter), run.adapter_digest)
        index.check_adapter(run.adapter)
        _, anchored = read_version(self._chain, self._blobs, datanet, version)
        _same(number, "Datanet version", bytes(root), anchored.root)
        name = f"model-{number}"
        self.engine.add(name, run.adapter)
        retriever = cache(lambda: self.retriever(datanet, anchored))
        return LoadedModel(number, name, self.base, index, self._span_index(index), retriever, self._instructions)

    def _instructions(self, definition: bytes) -> str:
        return read_definition(self._blobs, definition).instructions

    def retriever(self, datanet: int, version: Version) -> Retriever:
        """Looks up in all accepted records of a version; those with control tokens of the tokenizer are passed over.

        Raises:
            InputError: the Datanet's records are not open to everyone.
        """
        if datanet_terms(self._chain, datanet).access is not AccessRule.OPEN:
            raise InputError(
                f"the records of Datanet {datanet} are not open to everyone, so none is looked up for an answer; "
                "leave retrieval out"
            )
        barred = control_tokens(self.base.tokenizer)
        passages = []
        for digest in version.record_hashes:
            value = self._library.find(digest).value
            text = f"{value['question']}\n{value['answer']}"
            if not any(token in text for token in barred):
                passages.append(Passage(digest, text))
        return Retriever(passages)

    def _span_index(self, index: InfluenceIndex) -> SpanIndex:
        documents = []
        for digest in index.record_hashes:
            value = self._library.find(digest).value
            dialogue = encode_dialogue(self.base.tokenizer, value["question"], value["answer"])
            documents.append(list(dialogue.token_ids))
        return SpanIndex.build(documents)


def _kept(ask: Callable[[], bool], seconds: float = 2.0) -> Callable[[], bool]:
    """The same question, whose answer is used again for some seconds."""
    known: list[tuple[float, bool]] = []

    def answer() -> bool:
        now = time.monotonic()
        if not known or now - known[-1][0] >= seconds:
            known[:] = [(now, ask())]
        return known[-1][1]

    return answer


def read_version(chain: Chain, blobs: BlobStore, datanet: int, number: int) -> tuple[int, Version]:
    """(number, version) of a Datanet; number 0 is the newest. Checked against the root on the chain.

    Raises:
        NotFoundError: no such Datanet or version.
        VerificationError: the manifest does not give the anchored root.
    """
    logs = [log for log in chain.events("DatanetRegistry", "VersionAnchored") if log["args"]["datanet"] == datanet]
    chosen = [log for log in logs if number in (0, log["args"]["version"])]
    if not chosen:
        raise NotFoundError(
            f"Datanet {datanet} has no version {number or 'at all'}; `openledger datanet show {datanet}` lists them"
        )
    args = chosen[-1]["args"]
    version = Version.from_bytes(blobs.get(bytes(args["manifest"])))
    if version.root != bytes(args["root"]):
        raise VerificationError(
            f"the manifest of version {args['version']} gives the root {to_hex(version.root)}, "
            f"the chain holds {to_hex(args['root'])}"
        )
    return int(args["version"]), version


def _same(number: int, what: str, registered: bytes, found: bytes) -> None:
    if registered != found:
        raise VerificationError(
            f"model {number}'s {what} has the hash {to_hex(found)}, and {to_hex(registered)} is registered; fetch it again"
        )


def _texts(tokenizer: Any, token_ids: Sequence[int]) -> tuple[str, ...]:
    """The tokens as text; joined they are the decoded output, whatever bytes a token cuts."""
    texts, shown = [], ""
    for end in range(1, len(token_ids) + 1):
        whole = tokenizer.decode(list(token_ids[:end]), skip_special_tokens=True)
        if whole.endswith("\ufffd") and end < len(token_ids):
            texts.append("")
            continue
        texts.append(whole[len(shown) :])
        shown = whole
    return tuple(texts)
