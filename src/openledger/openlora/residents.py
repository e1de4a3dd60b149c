"""The adapters that are in memory, and what they add to a turn's rows.

An adapter is read into memory once for all requests that use it, and stays there as long as there is room: the one used least
lately goes first. What running requests use, and what is pinned, stays. A large one is used where its file is mapped.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from openledger.openlora import metrics
from openledger.openlora.adapter_kernel import Changes, change, changing
from openledger.openlora.adapters import StoredAdapter
from openledger.openlora.memory import floats
from openledger.openlora.shapes import GROUPS, LIKE, Layout
from openledger.openlora.team import Team
from openledger.primitives import InputError

_NO_CHANGES = Changes(
    *(np.empty(0, dtype=np.int64) for _ in range(3)),
    *(np.empty((0,) * dimensions, dtype=np.int64) for dimensions in (2, 4, 2)),
)


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

    Attributes:
        changes: the same for compiled loops.
        size: multiplications of a row with an adapter, in all.
    """

    def __init__(self, used: Sequence[tuple[Resident, int, int]]) -> None:
        by_layout: dict[Layout, dict[Resident, list[int]]] = {}
        for resident, first, last in used:
            by_layout.setdefault(resident.layout, {}).setdefault(resident, []).extend(range(first, last))
        self.changes = _changes(by_layout)
        self.size = sum(layout.size * sum(map(len, rows.values())) for layout, rows in by_layout.items())

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor, team: Team) -> None:
        """Changes each row of ``y`` [rows, outputs], in place, as its adapter does for its input ``x`` [rows, inputs]."""
        if len(self.changes.adapters):
            rows, made, number = x.numpy(), y.numpy(), list(GROUPS).index(group)
            team.share(lambda part, parts: change(rows, made, self.changes, layer, number, part, parts), self.size)


def _changes(by_layout: dict[Layout, dict[Resident, list[int]]]) -> Changes:
    adapters: list[int] = []
    rows: list[int] = []
    layouts, starts = [], [0]
    for layout, by_adapter in by_layout.items():
        before = len(adapters)
        for resident, places in by_adapter.items():
            adapters.append(resident.flat.data_ptr())
            rows += places
            starts.append(len(rows))
        size, most = LIKE[layout.precision].itemsize, max(map(len, by_adapter.values()))
        loop = changing(layout.precision).address
        layouts.append((before, len(adapters), size, layout.rank, layout.start, most, loop))
    if not layouts:
        return _NO_CHANGES
    blocks, ups, at = [], [], 0
    for layout in by_layout:
        table = layout.table.copy()
        table[:, :, 2:] += at
        blocks.append(table)
        ups.append(layout.ups)
        at += len(layout.ups)
    return Changes(
        adapters=np.array(adapters, dtype=np.int64),
        starts=np.array(starts, dtype=np.int64),
        rows=np.array(rows, dtype=np.int64),
        layouts=np.array(layouts, dtype=np.int64),
        blocks=np.stack(blocks),
        ups=np.concatenate(ups),
    )
