"""What records that came after a model was trained would do to its answers: its influence index with them added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from openledger.attribution import InfluenceIndex, Query, TrainingExample, extend_index
from openledger.modelfactory import TrainingRun
from openledger.models import encode_dialogue
from openledger.node.audit import Opened, Reached
from openledger.node.serving import read_version
from openledger.node.training import training_record
from openledger.node.unrelated import unrelated_answers
from openledger.primitives import InputError


@dataclass(frozen=True)
class Grown:
    """A model's index with the records of a later version.

    Attributes:
        index: the extended index.
        version: the number of the version.
        added: how many records were added; they are the last ones.
    """

    index: InfluenceIndex
    version: int
    added: int


@dataclass(frozen=True)
class Expected:
    """What training on one record would do to an answer, or did if it was trained on.

    Attributes:
        record: its hash, 32 bytes.
        contributor: address.
        score: influence on the answer; positive where training on the record makes it likelier.
        new: whether it came after the model was trained.
    """

    record: bytes
    contributor: str
    score: float
    new: bool


def grow(network: Reached, model: int, version: int, output: Path) -> Grown:
    """Adds the records of a later Datanet version to a model's influence index; the model and its own index stay as they are.

    Args:
        network: where the model is registered.
        model: its number.
        version: of its Datanet; 0 is the newest.
        output: folder for the new index, which must not exist.

    Raises:
        InputError: the version holds nothing that the index does not hold.
        NotFoundError: no such model or version.
        StorageError: ``output`` exists or cannot be written.
    """
    loaded, shelf = network.shelf.model(model), network.shelf
    datanet, trained_on = network.chain.contract("ModelRegistry").functions.model(model).call()[0][6:8]
    number, anchored = read_version(network.chain, network.blobs, datanet, version)
    run = TrainingRun.load(shelf.folder(model))
    known = {*loaded.index.record_hashes, *run.held_out}
    fresh = [digest for digest in anchored.record_hashes if digest not in known]
    if not fresh:
        raise InputError(
            f"version {number} of Datanet {datanet} has no record that version {trained_on}, on which model {model} was "
            "trained, has not; there is nothing to add"
        )
    places = {place.hash: rank for rank, place in reversed(list(enumerate(network.library.accepted())))}

    def examples(digests: Sequence[bytes]) -> list[TrainingExample]:
        made = []
        for digest in digests:
            record = training_record(network.library, digest)
            dialogue = encode_dialogue(shelf.base.tokenizer, record.question, record.answer)
            made.append(TrainingExample(dialogue.token_ids, dialogue.prompt_length, 1.0, digest, places[digest]))
        return made

    index = extend_index(
        loaded.index,
        shelf.base.model,
        examples(loaded.index.record_hashes),
        examples(fresh),
        output,
        adapter=run.adapter,
        unrelated=unrelated_answers(shelf.base, run),
    )
    return Grown(index, number, len(fresh))


def expected(facts: Opened, grown: Grown, count: int) -> list[Expected]:
    """The ``count`` records with the most influence on a receipt's answer, old and new, the largest first.

    Raises:
        NotFoundError: prompt and answer are not published.
    """
    shelf, number = facts.shelf, facts.body.receipt.model
    prompt, sampling = shelf.asked(number, facts.private(facts.body.private_hash))
    prompt_ids = prompt.encode(shelf.base.tokenizer)
    finished = shelf.engine.complete(shelf.model(number).adapter, prompt_ids, sampling)
    query = Query([*prompt_ids, *finished.token_ids], len(prompt_ids))
    scores = grown.index.scores(shelf.base.model, [query])[0]
    hashes = grown.index.record_hashes
    return [
        Expected(
            hashes[place],
            facts.library.find(hashes[place]).contribution.contributor,
            float(scores[place]),
            bool(place >= len(hashes) - grown.added),
        )
        for place in (-scores).argsort(kind="stable")[:count]
    ]
