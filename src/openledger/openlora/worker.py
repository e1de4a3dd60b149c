"""The process of :class:`~openledger.openlora.process.EngineProcess`: reads requests as JSON lines, answers in JSON lines.

The first line says which base to load. Every request has a number, which its answers repeat. It ends when its input does, so it
never outlives the process that started it.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from openledger.models import keep_freed_memory
from openledger.openlora.adapters import AdapterLimits
from openledger.openlora.answers import Piece
from openledger.openlora.engine import Engine
from openledger.openlora.grammar import Grammar
from openledger.openlora.sampling import Sampling
from openledger.openlora.scheduler import EngineLimits
from openledger.primitives import OpenLedgerError, OverloadedError


def _answers() -> Callable[..., None]:
    """What writes a message to the output, from any thread. Whatever a library prints there must not come between."""
    out, lock = os.fdopen(os.dup(sys.stdout.fileno()), "wb"), threading.Lock()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def tell(**message: Any) -> None:
        line = json.dumps(message).encode() + b"\n"
        with lock:
            out.write(line)
            out.flush()

    return tell


class _Worker:
    def __init__(self, engine: Engine, tell: Callable[..., None]) -> None:
        self._engine = engine
        self._cancels: dict[int, threading.Event] = {}
        self.tell = tell

    def handle(self, asked: Mapping[str, Any]) -> None:
        number = int(asked["number"])
        if asked["do"] == "cancel":
            if (cancel := self._cancels.get(number)) is not None:
                cancel.set()
        elif asked["do"] == "ask":
            cancel = self._cancels[number] = threading.Event()
            threading.Thread(target=self._answer, args=(asked, cancel), daemon=True).start()
        elif asked["do"] == "load":
            self.tell(number=number, load=self._engine.load)
        else:
            threading.Thread(target=self._call, args=(asked,), daemon=True).start()

    def _call(self, asked: Mapping[str, Any]) -> None:
        number, engine = asked["number"], self._engine
        try:
            match asked["do"]:
                case "add":
                    engine.add(asked["name"], Path(asked["folder"]))
                case "combine":
                    engine.combine(asked["name"], asked["parts"])
                case "remove":
                    engine.remove(asked["name"])
                case "pin":
                    engine.pin(asked["name"])
                case "unpin":
                    engine.unpin(asked["name"])
                case "exposition":
                    self.tell(number=number, text=engine.exposition().decode())
                    return
            self.tell(number=number)
        except Exception as error:
            self._tell_error(number, error)

    def _answer(self, asked: Mapping[str, Any], cancel: threading.Event) -> None:
        number = asked["number"]
        try:
            how = dict(asked["sampling"])
            source = how.pop("grammar")
            sampling = Sampling(
                **{**how, "stop": tuple(how["stop"])}, grammar=None if source is None else Grammar(source)
            )
            events = self._engine.generate(asked["adapter"], asked["prompt"], sampling, cancel=cancel)
            self.tell(number=number)
            for event in events:
                if isinstance(event, Piece):
                    self.tell(number=number, piece=event.text, logprobs=[asdict(one) for one in event.logprobs])
                else:
                    self.tell(number=number, finished=asdict(event))
        except Exception as error:
            self._tell_error(number, error)
        finally:
            self._cancels.pop(number, None)

    def _tell_error(self, number: int, error: Exception) -> None:
        more = {"retry_after": error.retry_after} if isinstance(error, OverloadedError) else {}
        kind = type(error).__name__ if isinstance(error, OpenLedgerError) else "ModelError"
        self.tell(number=number, error=kind, message=str(error), **more)


def main() -> None:
    """Runs until the input ends."""
    atexit.register(gc.freeze)  # as the command line does: it ends seconds sooner
    torch.set_num_threads(1)
    keep_freed_memory()
    first = sys.stdin.buffer.readline()
    if not first:
        return
    settings = json.loads(first)
    store = settings["store"]
    tell = _answers()
    try:
        engine = Engine(
            Path(settings["base"]),
            EngineLimits(**settings["limits"]),
            store=None if store is None else Path(store),
            adapter_limits=AdapterLimits(**settings["adapter_limits"]),
        )
    except OpenLedgerError as error:
        tell(failed=str(error))
        return
    worker = _Worker(engine, tell)
    tell(context=engine.context_length, fallback=engine.fallback)
    for line in sys.stdin.buffer:
        worker.handle(json.loads(line))
    engine.close()


if __name__ == "__main__":
    main()
