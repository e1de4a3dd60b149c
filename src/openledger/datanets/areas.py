"""The exploits Datanet's records by area of knowledge, for sharing them out among contributors."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from openledger.datanets.exploits import load_sources, load_weaknesses
from openledger.datanets.records import Record
from openledger.primitives import InputError


@cache
def _weaknesses() -> dict[str, str]:
    return {source.reference: source.weakness for source in load_sources()}


def weakness_of(record: Record) -> str:
    """The class of weakness that a record of the exploits Datanet is about; empty where it names none that is known."""
    if record.reference.startswith("weakness/"):
        return record.reference.removeprefix("weakness/")
    return _weaknesses().get(record.reference, "")


def partition(records: Sequence[Record], contributors: Sequence[str]) -> dict[str, list[Record]]:
    """Shares the records out by area, unevenly as knowledge is: each record to exactly one contributor.

    With other than six contributors the smallest areas are joined, or the largest is cut in two by its order.
    Records of no known area go to the last contributor.

    Raises:
        InputError: no contributor, one twice, or more of them than records.
    """
    if not contributors or len(set(contributors)) != len(contributors):
        raise InputError(f"the contributors {list(contributors)} must be at least one, each once")
    if len(contributors) > len(records):
        raise InputError(f"{len(records)} records cannot be shared out among {len(contributors)} contributors")
    areas = {key: weakness.area for key, weakness in load_weaknesses().items()}
    by_area: dict[str, list[Record]] = {area: [] for area in areas.values()}
    last = next(reversed(by_area))
    for record in records:
        by_area[areas.get(weakness_of(record), last)].append(record)
    heaps = [heap for heap in by_area.values() if heap]
    while len(heaps) > len(contributors):
        heaps.sort(key=len, reverse=True)
        smallest = heaps.pop()
        heaps[-1] += smallest
    while len(heaps) < len(contributors):
        largest = max(heaps, key=len)
        heaps.append(largest[len(largest) // 2 :])
        del largest[len(largest) // 2 :]
    return dict(zip(contributors, heaps, strict=True))
