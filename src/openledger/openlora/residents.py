"""The adapters that are in memory, and what they add to a turn's rows.

An adapter is read into memory once for all requests that use it, and stays there as long as there is room: the one used least
lately goes first. What running requests use, and what is pinned, stays. A large one is used where its file is mapped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from openledger.openlora import metrics
from openledger.openlora.adapter_kernel import change
from openledger.openlora.adapters import StoredAdapter
from openledger.openlora.memory import floats
from openledger.openlora.shapes import GROUPS, LIKE, Layout
from openledger.openlora.team import Team
from openledger.primitives import InputError

_NOTHING = np.empty((0, 2), dtype=np.int64)
_MOST_SITES = max(len(sites) for sites in GROUPS.values())


@dataclass(eq=False)
class Resident:
    """An adapter that can be computed with.

    Attributes:
        digest: its file's.
        layout: where its factors stand.
        flat: its vector [layout.size].
        users: how many requests, and pins, it must stay for.
    """

    digest: bytes
    layout: Layout
    flat: torch.Tensor
    users: int = 0


class ResidentAdapters:
    """Adapters in memory.

    Args:
        budget: bytes for those that are read into memory.
        entry: bytes of the largest that is; at most the budget.
    """

    def __init__(self, budget: int, entry: int) -> None:
        self._budget = budget
        self._entry = entry
        self._found: OrderedDict[bytes, Resident] = OrderedDict()
        self._pinned: set[bytes] = set()
        self._bytes = 0

    @property
    def size(self) -> int:
        """Bytes in memory now."""
        return self._bytes

    def take(self, stored: StoredAdapter) -> Resident | None:
        """An adapter for one more user, or None while those in use leave no room.

        Raises:
            ModelError, OSError: its file cannot be read.
        """
        resident = self._found.get(stored.digest)
        metrics.ACTIVATIONS.labels("cold" if resident is None else "warm").inc()
        if resident is None:
            size = 4 * stored.layout.size
            if size > self._entry:
                resident = Resident(stored.digest, stored.layout, stored.open())
            else:
                room = self._room(stored.layout.size)
                if room is None:
                    return None
                stored.read(room)
                resident = Resident(stored.digest, stored.layout, room)
                self._bytes += size
                metrics.ADAPTER_BYTES.set(self._bytes)
            self._found[stored.digest] = resident
        self._found.move_to_end(stored.digest)
        resident.users += 1
        return resident

    def give(self, resident: Resident) -> None:
        """One user less."""
        resident.users -= 1
        if not resident.users and 4 * resident.layout.size > self._entry:
            self._found.pop(resident.digest, None)

    def pin(self, stored: StoredAdapter) -> None:
        """Keeps an adapter in memory until it is unpinned.

        Raises:
            InputError: the pinned ones would leave no room for another.
        """
        if stored.digest in self._pinned:
            return
        held = sum(4 * self._found[digest].layout.size for digest in self._pinned) + 4 * stored.layout.size
        resident = self.take(stored) if held + self._entry <= self._budget else None
        if resident is None:
            raise InputError(
                f"pinned adapters would hold {held:,} of {self._budget:,} bytes and leave no room for others; "
                "unpin one, or give adapters more memory"
            )
        self._pinned.add(stored.digest)

    def unpin(self, digest: bytes) -> None:
        """Lets a pinned adapter go again."""
        if digest in self._pinned:
            self._pinned.remove(digest)
            self.give(self._found[digest])

    def _room(self, count: int) -> torch.Tensor | None:
        """Memory for an adapter, from one that goes if its size fits: new pages are slow."""
        freed: torch.Tensor | None = None
        idle = [resident for resident in self._found.values() if not resident.users]
        for resident in idle:
            if self._bytes + 4 * count <= self._budget:
                break
            del self._found[resident.digest]
            self._bytes -= 4 * resident.layout.size
            freed = resident.flat
        if self._bytes + 4 * count > self._budget:
            return None
        if freed is not None and len(freed) == count:
            return freed
        return floats(count)


class Deltas:
    """What the adapters of a turn add.

    Args:
        used: (adapter, first row, row after the last); an adapter may be used several times.
        team: who computes.
    """

    def __init__(self, used: Sequence[tuple[Resident, int, int]], team: Team) -> None:
        self._team = team
        rows: dict[Layout, dict[Resident, list[int]]] = {}
        for resident, first, last in used:
            rows.setdefault(resident.layout, {}).setdefault(resident, []).extend(range(first, last))
        self._groups = [_Group.of(layout, by_adapter) for layout, by_adapter in rows.items()]
        self._reads: dict[tuple[int, str], Any] = {}
        for group in self._groups:
            for key, found in group.reads().items():
                before = self._reads.get(key)
                self._reads[key] = found if before is None else np.concatenate((before, found))

    def reads(self, layer: int, group: str) -> Any:
        """[n, 2]: addresses and bytes of the factors that :meth:`add` will read."""
        return self._reads.get((layer, group), _NOTHING)

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """Changes each row of ``y`` [rows, outputs], in place, as its adapter does for its input ``x`` [rows, inputs]."""
        for one in self._groups:
            one.add(layer, group, x, y, self._team)


@dataclass(frozen=True)
class _Group:
    """The adapters of one layout; the rows of number i are ``rows[starts[i]:starts[i + 1]]``, at most ``most``."""

    layout: Layout
    addresses: Any
    starts: Any
    rows: Any
    most: int

    def reads(self) -> dict[tuple[int, str], Any]:
        """[adapters, 2] by (layer, group): addresses and bytes of their factors."""
        places = self.layout.reads
        found = np.empty((len(places), len(self.addresses), 2), dtype=np.int64)
        found[:, :, 0] = places[:, :1] + self.addresses
        found[:, :, 1] = places[:, 1:]
        return dict(zip(self.layout.blocks, found, strict=True))

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor, team: Team) -> None:
        """As :meth:`Deltas.add`, for these adapters."""
        block, rank = self.layout.blocks.get((layer, group)), self.layout.rank
        if block is None:
            return
        rows, made, like = x.numpy(), y.numpy(), LIKE[self.layout.precision]
        place, ups = (self.layout.start, block.offset, rank), block.columns

        def some(first: int, last: int) -> None:
            adapters = (self.addresses[first:last], self.starts[first : last + 1], self.rows)
            change(rows, made, *adapters, place, ups, np.empty((self.most, _MOST_SITES * rank), np.float32), like)

        team.share(len(self.addresses), some, len(self.rows) * rank * (x.shape[1] + y.shape[1]))

    @classmethod
    def of(cls, layout: Layout, by_adapter: dict[Resident, list[int]]) -> _Group:
        counts = [len(rows) for rows in by_adapter.values()]
        return cls(
            layout=layout,
            addresses=np.array([resident.flat.data_ptr() for resident in by_adapter], dtype=np.int64),
            starts=np.cumsum([0, *counts], dtype=np.int64),
            rows=np.array([row for rows in by_adapter.values() for row in rows], dtype=np.int64),
            most=max(counts),
        )
