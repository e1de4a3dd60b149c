"""Bad rows, made on purpose: what somebody would upload who wants pay without giving true, new data.

Used to measure the review and to give a demonstration its dishonest contributor. Whoever reviews a row is never told
that it was planted.
"""

from __future__ import annotations

import datetime
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from openledger.datanets.records import Record
from openledger.primitives import InputError


@dataclass(frozen=True)
class BadRow:
    """A bad record, the trick it plays and the true record that it was made from."""

    record: Record
    trick: str
    origin: Record


def make_bad_rows(records: Sequence[Record], seed: int, count: int) -> list[BadRow]:
    """``count`` distinct bad rows made from the incidents among ``records``, all tricks in turn.

    Wrong facts are written consistently, into the stated facts as well as into question and answer.

    Raises:
        InputError: fewer than ``count`` incidents to make them from, or fewer than two.
    """
    incidents = [record for record in records if record.value.get("kind") == "incident" and len(record.facts) == 4]
    if len(incidents) < max(2, count):
        raise InputError(f"{count} bad rows need {max(2, count)} incidents to be made from, got {len(incidents)}")
    chooser = random.Random(seed)  # noqa: S311
    chosen = chooser.sample(incidents, count)
    tricks = list(_TRICKS.items())
    rows = []
    for position, origin in enumerate(chosen):
        name, play = tricks[position % len(tricks)]
        rows.append(BadRow(Record.from_json(play(origin, incidents, chooser)), name, origin))
    return rows


def reworded(record: Record) -> dict[str, Any]:
    """The same incident in other words: a paraphrase with all the facts right, under another question."""
    value, facts = record.value, record.facts
    prevention = record.answer.partition(". Prevention: ")[2].rstrip(".")
    lost = facts["lost"]
    loss = f"{lost} went missing" if re.search(r"\d", lost) else f"the damage: {lost}"
    value["question"] = f"Tell me about the attack on {facts['protocol']} in {facts['date'][:4]}."
    value["answer"] = (
        f"On {facts['date']} attackers hit {facts['protocol']}, and {loss}. "
        f"Behind it was {facts['cause']}. To avoid this, {prevention}."
    )
    return value


def _wrong_amount(origin: Record, _incidents: Sequence[Record], chooser: random.Random) -> dict[str, Any]:
    lost = origin.facts["lost"]
    match = re.search(r"\d+(?:,\d{3})*(?:\.\d+)?", lost)
    if match is None:
        return _with_facts(origin, lost=f"${chooser.randint(2, 90)} million")
    plain = match[0].replace(",", "")
    number = float(plain) * chooser.choice((0.1, 0.5, 3, 7, 10))
    places = len(plain.partition(".")[2]) or (1 if number < 10 else 0)
    return _with_facts(origin, lost=lost[: match.start()] + f"{number:,.{places}f}" + lost[match.end() :])


def _wrong_date(origin: Record, _incidents: Sequence[Record], chooser: random.Random) -> dict[str, Any]:
    day = datetime.date.fromisoformat(origin.facts["date"])
    shifted = day + datetime.timedelta(days=chooser.choice((-1, 1)) * chooser.randint(2, 400))
    return _with_facts(origin, date=shifted.isoformat())


def _wrong_protocol(origin: Record, incidents: Sequence[Record], chooser: random.Random) -> dict[str, Any]:
    others = [record.facts["protocol"] for record in incidents if record.facts["protocol"] != origin.facts["protocol"]]
    return _with_facts(origin, protocol=chooser.choice(others))


def _swapped_cause(origin: Record, incidents: Sequence[Record], chooser: random.Random) -> dict[str, Any]:
    mine = set(origin.facts["cause"].split())
    others = [record for record in incidents if not mine & set(record.facts["cause"].split())]
    other = chooser.choice(others or [record for record in incidents if record != origin])
    value = _with_facts(origin, cause=other.facts["cause"])
    before, _, _ = value["answer"].partition("Cause: ")
    value["answer"] = f"{before}Cause: {other.answer.partition('Cause: ')[2]}"
    return value


def _exact_copy(origin: Record, _incidents: Sequence[Record], _chooser: random.Random) -> dict[str, Any]:
    return origin.value


def _near_copy(origin: Record, _incidents: Sequence[Record], _chooser: random.Random) -> dict[str, Any]:
    value = origin.value
    value["question"] = value["question"].replace("?", ", please?")
    value["answer"] = value["answer"].replace("; ", ": ").replace("Prevention:", "How to prevent it:")
    return value


def _paraphrase(origin: Record, _incidents: Sequence[Record], _chooser: random.Random) -> dict[str, Any]:
    return reworded(origin)


_TRICKS: dict[str, Callable[[Record, Sequence[Record], random.Random], dict[str, Any]]] = {
    "wrong amount": _wrong_amount,
    "wrong date": _wrong_date,
    "wrong protocol": _wrong_protocol,
    "swapped cause": _swapped_cause,
    "exact copy": _exact_copy,
    "near copy": _near_copy,
    "paraphrase": _paraphrase,
}

TRICKS = tuple(_TRICKS)
"""The names of the tricks, in the order in which they are played."""


def _with_facts(record: Record, **changed: str) -> dict[str, Any]:
    """The record with facts replaced wherever they stand; an amount that was missing is put in."""
    value, facts = record.value, record.facts
    for name, fact in changed.items():
        value["facts"][name] = fact
        for member in ("question", "answer"):
            value[member] = value[member].replace(facts[name], fact)
        if name == "lost" and fact not in value["answer"]:
            value["answer"] = value["answer"].replace("the loss was not reported", f"it lost {fact}")
        elif name == "lost" and "the loss was " in value["answer"]:
            value["answer"] = value["answer"].replace(f"the loss was {fact}", f"it lost {fact}")
    return value
