"""Auditing a model's attribution by retraining, from what a node publishes: records, run and index, fetched by hash."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openledger.attribution import AdapterModel, Audit, InfluenceIndex, Query, SpanIndex
from openledger.attribution import audit as measure
from openledger.modelfactory import TrainingRecord, TrainingRun, examples_of, generate, load_adapter, train
from openledger.models import BaseModel, encode_dialogue
from openledger.node.audit import PublicSource, reach
from openledger.node.serving import INDEX, read_version
from openledger.primitives import InputError, canonical_bytes, parse_json, to_hex
from openledger.storage import write_atomically

_HALF = 0.6
_ANSWER_TOKENS = 96
EVALUATION = "evaluation.json"


@dataclass(frozen=True)
class Subject:
    """A model that is audited.

    Attributes:
        records: of its Datanet version, in the order of training.
        contributors: who gave each trained record, in the index's order.
    """

    base: BaseModel
    run: TrainingRun
    index: InfluenceIndex
    records: tuple[TrainingRecord, ...]
    contributors: tuple[str, ...]


def fetch(model: int, source: PublicSource, folder: Path, base: str | None = None) -> Subject:
    """A registered model with its records, everything checked against the chain.

    Args:
        model: its number.
        source: a node.
        folder: where its files go; kept for the next time.
        base: the base model by folder or hub id; None for the one that ships.

    Raises:
        NotFoundError: there is no such model, or a file of it is not published.
        VerificationError, ModelError: its files are not what the chain says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        network = reach(source, folder, Path(scratch), base)
        chain, blobs, library, shelf = network.chain, network.blobs, network.library, network.shelf
        shelf.model(model)
        files = folder / f"model-{model}"
        if not files.exists():
            (Path(scratch) / f"model-{model}").rename(files)
    run = TrainingRun.load(files)
    entry = chain.contract("ModelRegistry").functions.model(model).call()[0]
    _, anchored = read_version(chain, blobs, entry[6], entry[7])
    records = []
    for digest in anchored.record_hashes:
        value = library.find(digest).value
        records.append(TrainingRecord(digest, str(value["question"]), str(value["answer"])))
    owners = tuple(library.find(digest).contribution.contributor for digest in run.trained)
    return Subject(shelf.base, run, InfluenceIndex.load(files / INDEX), tuple(records), owners)


def cost_seconds(run: TrainingRun, retrainings: int, contributor_retrainings: int, left_out: int) -> float:
    """About how long an audit takes, from how long the run itself took: a half costs somewhat more than half."""
    return run.seconds * (_HALF * (retrainings + contributor_retrainings) + left_out)


def audit_model(
    subject: Subject,
    folder: Path,
    *,
    questions: int = 40,
    retrainings: int = 16,
    contributor_retrainings: int = 0,
    leave_out: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Retrains the model without records and compares with its index; goes on where it was stopped.

    The outputs judged are the model's own answers to ``questions`` records, three quarters trained and one quarter held out.

    Raises:
        InputError: fewer than 3 retrainings or no question.
        StorageError: the folder holds another audit.
    """
    if questions < 1:
        raise InputError(f"{questions} questions: ask at least one")
    base, run = subject.base, subject.run
    queries = _own_answers(subject, questions)
    places = {record.record_hash: place for place, record in enumerate(subject.records)}
    again = replace(run.recipe, checkpoints=(1.0,))

    def losses(adapter: Path) -> NDArray[np.float64]:
        found = AdapterModel.from_folder(base.model, adapter).losses(queries)
        return found.double().numpy()

    def retrain(weights: NDArray[np.float64]) -> list[float]:
        given = np.ones(len(subject.records))
        given[[places[digest] for digest in run.trained]] = weights
        with tempfile.TemporaryDirectory() as scratch:
            replay = train(base, subject.records, again, Path(scratch) / "run", weights=given.tolist())
            return [float(loss) for loss in losses(replay.adapter)]

    known = SpanIndex.build(
        [dialogue.token_ids[dialogue.prompt_length :] for _, dialogue in examples_of(base, subject.records, run)]
    )
    found = measure(
        subject.index.scores(base.model, queries),
        subject.contributors,
        retrain,
        folder,
        retrainings=retrainings,
        contributor_retrainings=contributor_retrainings,
        losses=losses(run.adapter).tolist() if leave_out else None,
        spans=known.scores([query.token_ids[query.prompt_length :] for query in queries]),
        progress=progress,
    )
    write_atomically(folder / EVALUATION, canonical_bytes(evaluation(subject, found, questions)))
    return found


def evaluation(subject: Subject, found: Audit, questions: int) -> dict[str, Any]:
    """The model's registered evaluation with what the audit found, as ``attribution``: what card and chain carry."""
    registered = parse_json((subject.run.path / EVALUATION).read_bytes())
    return {**registered, "attribution": report(subject, found, questions)}


def report(subject: Subject, found: Audit, questions: int) -> dict[str, Any]:
    """What an audit found of which model and index."""
    return {
        "adapter": to_hex(subject.run.adapter_digest),
        "index": to_hex(subject.index.digest()),
        "questions": questions,
        **found.to_json(),
    }


def _own_answers(subject: Subject, questions: int) -> list[Query]:
    base, run = subject.base, subject.run
    by_hash = {record.record_hash: record for record in subject.records}
    generator = np.random.default_rng(run.recipe.seed)
    held_out = [run.held_out[place] for place in generator.permutation(len(run.held_out))[: questions // 4]]
    trained = [run.trained[place] for place in generator.permutation(len(run.trained))[: questions - len(held_out)]]
    asked = [by_hash[digest].question for digest in (*trained, *held_out)]
    prompts = [encode_dialogue(base.tokenizer, question).token_ids for question in asked]
    answers = generate(load_adapter(base, run.adapter), base.tokenizer, prompts, _ANSWER_TOKENS)
    dialogues = [
        encode_dialogue(base.tokenizer, question, answer)
        for question, answer in zip(asked, answers, strict=True)
        if answer
    ]
    return [Query(dialogue.token_ids, dialogue.prompt_length) for dialogue in dialogues]
