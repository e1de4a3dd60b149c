"""What an answer's loss would be without one contributor: estimated from the index, or by training again without it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from openledger.attribution import AdapterModel, Query
from openledger.attribution.counterfactual import Counterfactual, counterfactual
from openledger.modelfactory import TrainingRun, train
from openledger.models import pinned
from openledger.node.audit import Opened
from openledger.node.evaluations import attribution_of
from openledger.node.serving import read_version
from openledger.node.training import training_record
from openledger.primitives import InputError, VerificationError, to_hex


@dataclass(frozen=True)
class Without:
    """An answer with and without one contributor.

    Attributes:
        receipt: the receipt's id.
        contributor: address of who is left out.
        records: how many of the trained records are theirs.
        estimate: from the influence index; losses in nats.
        audit: what the model's evaluation says of its attribution's accuracy; None where it was not audited.
        retrained_change: rise of the loss in nats after training again with the contributor's records at weight 0; None
            where that was not asked for.
    """

    receipt: str
    contributor: str
    records: int
    estimate: Counterfactual
    audit: dict[str, Any] | None
    retrained_change: float | None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def without(
    facts: Opened,
    contributor: str,
    *,
    retrain: bool = False,
    progress: Callable[[int, int, float], None] | None = None,
) -> Without:
    """Compare a receipt's answer with what it would be without one contributor.

    Args:
        facts: the receipt and all that it takes to compute it anew.
        contributor: checksummed address.
        retrain: also train the model again, with the contributor's records at weight 0; takes as long as the training did.
        progress: told (step, steps, loss) of that training.

    Raises:
        NotFoundError: prompt and answer are not published.
        InputError: none of the model's records is the contributor's.
        VerificationError: the answer generated anew is another one, so that there is nothing to compare.
    """
    shelf, number = facts.shelf, facts.body.receipt.model
    loaded = shelf.model(number)
    hashes = loaded.index.record_hashes
    gone = [
        place
        for place, record in enumerate(hashes)
        if facts.library.find(record).contribution.contributor == contributor
    ]
    if not gone:
        raise InputError(f"none of the {len(hashes)} records that the model was trained on is of {contributor}")
    private = facts.private(facts.body.private_hash)
    prompt, sampling = shelf.asked(number, private)
    prompt_ids = prompt.encode(shelf.base.tokenizer)
    finished = shelf.engine.complete(loaded.adapter, prompt_ids, sampling)
    if finished.text != private.output:
        raise VerificationError(
            "the answer generated anew is not the receipt's; `openledger verify` says where it differs"
        )
    query = Query([*prompt_ids, *finished.token_ids], len(prompt_ids))
    measured = loaded.index.measure(shelf.base.model, [query])[0]
    run = TrainingRun.load(shelf.folder(number))
    audit = attribution_of(facts.chain, facts.blobs, number)
    estimate = counterfactual(measured, loaded.index, gone)
    change = None
    if retrain:
        change = _retrained_loss(facts, run, {hashes[place] for place in gone}, query, progress) - estimate.loss
    return Without(to_hex(facts.digest), contributor, len(gone), estimate, audit, change)


def _retrained_loss(
    facts: Opened,
    run: TrainingRun,
    gone: set[bytes],
    query: Query,
    progress: Callable[[int, int, float], None] | None,
) -> float:
    entry = facts.chain.contract("ModelRegistry").functions.model(facts.body.receipt.model).call()[0]
    _, anchored = read_version(facts.chain, facts.blobs, entry[6], entry[7])
    records = [training_record(facts.library, digest) for digest in anchored.record_hashes]
    weights = [0.0 if record.record_hash in gone else 1.0 for record in records]
    base = facts.shelf.base
    with tempfile.TemporaryDirectory(prefix="openledger-without-") as temporary:
        again = train(base, records, run.recipe, Path(temporary) / "run", progress, weights)
        with pinned():
            return float(AdapterModel.from_folder(base.model, again.adapter).losses([query])[0])
