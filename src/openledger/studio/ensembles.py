"""Weighted ensembles of adapters by name: ``law*0.4+medicine*0.6`` is the model whose change to the base is that sum.

The weights stand in the model's name, since ``model`` is the one thing that every OpenAI client can set, and logs and answers
then say what was asked. An ensemble is made when it is first asked for, and goes when many others were asked for since.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from openledger.openlora import Backend
from openledger.primitives import InputError, NotFoundError

_PART = re.compile(r"(.+)\*(-?(?:\d+(?:\.\d*)?|\.\d+))", re.ASCII)
_MOST_PARTS = 8
_LARGEST = 16.0


def read_ensemble(name: str) -> dict[str, float] | None:
    """Adapter → weight of a name such as ``law*0.4+medicine*0.6``; None if it is not of that form.

    Raises:
        InputError: too many parts, one twice, or a weight beyond the largest.
    """
    if "*" not in name:
        return None
    parts: dict[str, float] = {}
    for text in name.split("+"):
        found = _PART.fullmatch(text)
        if found is None:
            raise InputError(f"{text!r} in the model {name!r} is no adapter with a weight; write law*0.4+medicine*0.6")
        adapter, weight = found[1], float(found[2])
        if adapter in parts:
            raise InputError(f"the ensemble {name!r} names {adapter!r} twice; add its weights up")
        if abs(weight) > _LARGEST:
            raise InputError(f"the weight of {adapter!r} is {weight:g}; weights go from -{_LARGEST:g} to {_LARGEST:g}")
        parts[adapter] = weight
    if len(parts) > _MOST_PARTS:
        raise InputError(f"the ensemble has {len(parts)} adapters; at most {_MOST_PARTS} are combined")
    return parts


class Ensembles:
    """The ensembles that requests asked for.

    Args:
        engine: makes them of its adapters.
        most: how many are kept.
    """

    def __init__(self, engine: Backend, most: int = 32) -> None:
        self._engine = engine
        self._most = most
        self._made: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._lock = threading.Lock()

    def hides(self, adapter: str) -> bool:
        """Whether the engine's adapter of that name is one of these, which are not listed."""
        return adapter in self._made

    @contextmanager
    def holding(self, parts: Mapping[str, float]) -> Iterator[str]:
        """What the engine calls the ensemble; it is there until the block ends, and for what was submitted in it.

        Raises:
            InputError: the ranks sum to too much.
            NotFoundError: a part does not exist.
            ModelError: a part runs through peft.
        """
        text = "+".join(f"{name}*{weight!r}" for name, weight in sorted(parts.items()))
        name = f"ensemble-{hashlib.sha256(text.encode()).hexdigest()[:32]}"
        with self._lock:
            if name not in self._made or name not in self._engine.adapters:
                self._made[name] = frozenset(parts)
                try:
                    self._engine.combine(name, parts)
                except BaseException:
                    del self._made[name]
                    raise
            self._made.move_to_end(name)
            while len(self._made) > self._most:
                self._drop(next(iter(self._made)))
            yield name

    def forget(self, adapter: str) -> None:
        """Drops those that an adapter is a part of."""
        with self._lock:
            for name in [name for name, parts in self._made.items() if adapter in parts]:
                self._drop(name)

    def _drop(self, name: str) -> None:
        with suppress(NotFoundError):
            self._engine.remove(name)
        del self._made[name]
