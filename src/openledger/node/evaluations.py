"""What was measured of a model: the evaluation its builder registered, or a later one that governance accepted."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from openledger.chain import Chain
from openledger.primitives import InputError, NotFoundError
from openledger.storage import BlobStore

_LOG = logging.getLogger(__name__)


def evaluation_hash(chain: Chain, model: int) -> bytes:
    """The hash of the evaluation that holds now, 32 bytes."""
    registry = chain.contract("ModelRegistry").functions
    accepted = bytes(chain.call(registry.acceptedEvaluation(model)))
    return accepted if any(accepted) else bytes(chain.call(registry.model(model))[0][5])


def attribution_of(chain: Chain, blobs: BlobStore, model: int) -> dict[str, Any] | None:
    """What the evaluation that holds says of the attribution's accuracy (``node.accuracy.report``); None: not audited."""
    try:
        document = blobs.get_json(evaluation_hash(chain, model))
    except (NotFoundError, InputError):
        return None
    found = document.get("attribution") if isinstance(document, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else None


def accuracy_of(chain: Chain, blobs: BlobStore, model: int) -> dict[str, str]:
    """The same in words; empty where nobody audited it, or what was accepted is no audit that can be read."""
    found = attribution_of(chain, blobs, model)
    try:
        return {} if found is None else attribution_rows(found)
    except InputError as error:
        _LOG.warning("model %d: %s", model, error)
        return {}


def attribution_rows(found: Mapping[str, Any]) -> dict[str, str]:
    """The same in words, as a model card shows it: name to value with its interval.

    Raises:
        InputError: it is not in the form of ``node.accuracy.report``.
    """
    try:
        rows = {}
        for level in ("records", "contributors"):
            if (score := found[level]) is not None:
                low, high = (float(end) for end in score["interval"])
                rows[f"LDS over halves of the {level}"] = f"{float(score['lds']):.2f} (95%: {low:.2f} to {high:.2f})"
        if (spans := found.get("spans")) is not None:
            low, high = (float(end) for end in spans["interval"])
            rows["LDS of verbatim spans, records"] = f"{float(spans['lds']):.2f} (95%: {low:.2f} to {high:.2f})"
        if (left_out := found.get("left_out")) is not None:
            rows["Error with a contributor left out"] = (
                f"{float(left_out['error']):.2f} of the real changes, correlation {float(left_out['correlation']):.2f}"
            )
        rows["Measured by"] = (
            f"{int(found['retrainings'])} retrainings at each level, {int(found['questions'])} answers of the model"
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"this is no audit of an attribution ({error!r}); `openledger attribution audit` makes one"
        ) from error
    return rows
