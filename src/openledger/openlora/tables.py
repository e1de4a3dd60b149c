"""Which adapter each row of a batch has, and what it adds: one batched product per group for all adapters of a bucket.

A *bucket* is the adapters of one layout (rank and sites). Small adapters are copied into a table's entry while a request of
theirs is being answered; large ones stay where they are mapped, and rows that share one read it once. Both use the same
product per row, so a row's bits do not depend on which of the two it is, nor on the other rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from openledger.openlora.shapes import Block, Layout


class OneAdapter:
    """An adapter over all rows of a prompt's chunk.

    Args:
        flat: its vector [layout.size].
        layout: where its factors stand.
    """

    def __init__(self, flat: torch.Tensor, layout: Layout) -> None:
        self._flat = flat
        self._layout = layout

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """See :class:`~openledger.openlora.decoder.Deltas`."""
        block = self._layout.blocks.get((layer, group))
        if block is None:
            return
        flat, rank = self._flat, self._layout.rank
        a = flat[block.offset : block.offset + len(block.ups) * rank * block.inputs].view(-1, block.inputs)
        h = x @ a.t()
        for up in block.ups:
            b = flat[up.offset : up.offset + rank * (up.end - up.start)].view(rank, -1)
            y[:, up.start : up.end] += h[:, up.part * rank : (up.part + 1) * rank] @ b


@dataclass
class _Views:
    """The first ``count`` entries of a table, cut up by block."""

    a: torch.Tensor
    ups: list[tuple[int, int, int, torch.Tensor]]


def _views(flat: torch.Tensor, layout: Layout, block: Block) -> _Views:
    """``flat`` is [entries, layout.size]; views only."""
    entries, rank = len(flat), layout.rank
    width = len(block.ups) * rank
    a = flat[:, block.offset : block.offset + width * block.inputs].view(entries, width, block.inputs)
    ups = [
        (
            up.part * rank,
            up.start,
            up.end,
            flat[:, up.offset : up.offset + rank * (up.end - up.start)].view(entries, rank, up.end - up.start),
        )
        for up in block.ups
    ]
    return _Views(a.transpose(1, 2), ups)


def _apply(views: _Views, rank: int, x: torch.Tensor, y: torch.Tensor, rows: torch.Tensor | None) -> None:
    h = torch.bmm((x if rows is None else x.index_select(0, rows)).unsqueeze(1), views.a)
    for start, left, right, b in views.ups:
        delta = torch.bmm(h[:, :, start : start + rank], b).squeeze(1)
        if rows is None:
            y[:, left:right] += delta
        else:
            y[:, left:right].index_add_(0, rows, delta)


@dataclass
class _Table:
    """The resident adapters of one bucket; entry i belongs to row ``rows[i]``."""

    layout: Layout
    flat: torch.Tensor
    rows: list[int] = field(default_factory=list)
    index: torch.Tensor | None = None
    views: dict[tuple[int, str], _Views] = field(default_factory=dict)

    def prepare(self, active: int) -> None:
        """Makes the views that the next steps use."""
        self.index = None if self.rows == list(range(active)) else torch.tensor(self.rows)
        flat = self.flat[: len(self.rows)]
        self.views = {key: _views(flat, self.layout, block) for key, block in self.layout.blocks.items()}


@dataclass
class _Shared:
    """A large adapter and the rows that have it."""

    layout: Layout
    flat: torch.Tensor
    rows: list[int]
    index: torch.Tensor | None = None
    views: dict[tuple[int, str], _Views] = field(default_factory=dict)

    def prepare(self, active: int) -> None:
        """Makes the views that the next steps use."""
        self.index = None if self.rows == list(range(active)) else torch.tensor(self.rows)
        flat = self.flat.unsqueeze(0).expand(len(self.rows), -1)
        self.views = {key: _views(flat, self.layout, block) for key, block in self.layout.blocks.items()}


class BatchAdapters:
    """The adapters of a decoding batch.

    Args:
        rows: the largest batch.
        entry_bytes: an adapter above this size is shared instead of copied.
    """

    def __init__(self, rows: int, entry_bytes: int) -> None:
        self._most = rows
        self._entry_bytes = entry_bytes
        self._tables: dict[Layout, _Table] = {}
        self._shared: dict[bytes, _Shared] = {}
        self._users: list[_Table | _Shared] = []
        self._prepared = -1

    def put(self, row: int, digest: bytes, flat: torch.Tensor, layout: Layout) -> None:
        """Gives a row, which has none, its adapter: one copy, or none for a large one."""
        self._prepared = -1
        if 4 * layout.size > self._entry_bytes:
            shared = self._shared.setdefault(digest, _Shared(layout, flat, []))
            shared.rows.append(row)
            return
        table = self._tables.get(layout)
        if table is None:
            table = self._tables[layout] = _Table(layout, torch.empty(self._most, layout.size))
        table.flat[len(table.rows)].copy_(flat)
        table.rows.append(row)

    def replace(self, row: int, flat: torch.Tensor, layout: Layout) -> bool:
        """Overwrites the entry of a row whose adapter has the same layout; False if it has none."""
        table = self._tables.get(layout)
        if table is None or row not in table.rows:
            return False
        table.flat[table.rows.index(row)].copy_(flat)
        return True

    def drop(self, row: int) -> None:
        """Takes a row's adapter away, if it has one."""
        for layout, table in list(self._tables.items()):
            if row in table.rows:
                entry, last = table.rows.index(row), len(table.rows) - 1
                if entry != last:
                    table.flat[entry].copy_(table.flat[last])
                    table.rows[entry] = table.rows[last]
                table.rows.pop()
                if not table.rows:
                    del self._tables[layout]
                self._prepared = -1
        for digest, shared in list(self._shared.items()):
            if row in shared.rows:
                shared.rows.remove(row)
                if not shared.rows:
                    del self._shared[digest]
                self._prepared = -1

    def move(self, old: int, new: int) -> None:
        """A request moves to another row, which has no adapter."""
        users: list[_Table | _Shared] = [*self._tables.values(), *self._shared.values()]
        for user in users:
            if old in user.rows:
                user.rows[user.rows.index(old)] = new
                self._prepared = -1

    def prepare(self, active: int) -> None:
        """Readies the next step over a batch of ``active`` rows, padding included; free where nothing changed."""
        if self._prepared == active:
            return
        self._users = [*self._tables.values(), *self._shared.values()]
        for user in self._users:
            user.prepare(active)
        self._prepared = active

    def add(self, layer: int, group: str, x: torch.Tensor, y: torch.Tensor) -> None:
        """See :class:`~openledger.openlora.decoder.Deltas`."""
        for user in self._users:
            views = user.views.get((layer, group))
            if views is not None:
                _apply(views, user.layout.rank, x, y, user.index)
