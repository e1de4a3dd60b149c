"""Reads and acts of the node off the event loop, with what a person sees meanwhile and when they fail.

The node's methods block (they ask the chain, the database, the model), so each runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import ParamSpec, TypeVar

from nicegui import ui

from openledger.primitives import OpenLedgerError
from openledger.ui.dom import Tag, div

P = ParamSpec("P")
T = TypeVar("T")
_log = logging.getLogger(__name__)
_PATIENCE = 0.7
"""Seconds after which a page is shown with placeholders while its data is still being read."""
_CONNECT = 60.0
"""Seconds that a browser has to connect to such a page."""
UNEXPECTED = "Something went wrong on this node. Its log says what; try again, or report it."


class PageLeft(Exception):
    """Nobody looks at the page any more; what is still to be drawn on it need not be."""


async def fetch(read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``read`` returns. While it takes long, the page is shown with placeholders where its data will be.

    Raises:
        OpenLedgerError: whatever the read raises.
        PageLeft: the page was closed meanwhile.
    """
    task = asyncio.create_task(asyncio.to_thread(read, *args, **kwargs))
    done, _ = await asyncio.wait({task}, timeout=_PATIENCE)
    if done:
        return task.result()
    with div("skeleton", aria_label="Loading", role="status") as placeholder:
        for height in (96, 220, 160):
            div().style(f"height: {height}px")
    client = ui.context.client
    await client.connected(timeout=_CONNECT)
    try:
        return await task
    finally:
        if client.is_deleted:
            raise PageLeft
        placeholder.delete()


async def refill(container: Tag, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``read`` returns, for a container that shows something already: it is dimmed meanwhile, and then emptied.

    Raises:
        OpenLedgerError: whatever the read raises; the container keeps what it shows.
    """
    if not container.default_slot.children:
        with container:
            return await fetch(read, *args, **kwargs)
    container.props["aria-busy"] = "true"
    try:
        result = await asyncio.to_thread(read, *args, **kwargs)
    finally:
        container.props["aria-busy"] = "false"
    container.clear()
    return result


async def act(trigger: Tag, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """What ``call`` returns; meanwhile the button that set it off is busy. A failure is told and gives None."""
    return await attempt(trigger, lambda: asyncio.to_thread(call, *args, **kwargs))


async def attempt(trigger: Tag, work: Callable[[], Awaitable[T]]) -> T | None:
    """What the awaited ``work`` returns; meanwhile the button is busy. A failure is told and gives None."""
    if trigger.props.get("aria-busy") == "true":
        return None
    trigger.props["aria-busy"] = "true"
    client = ui.context.client
    try:
        return await work()
    except OpenLedgerError as error:
        with client:
            tell_failure(str(error))
    except Exception:
        _log.exception("an act from the pages failed")
        with client:
            tell_failure(UNEXPECTED)
    finally:
        if not trigger.is_deleted:
            trigger.props["aria-busy"] = "false"
    return None


def tell(message: str) -> None:
    """A short notice of success."""
    ui.notify(message, type="positive", position="bottom")


def tell_failure(message: str) -> None:
    """A notice of failure; it stays until it is closed or half a minute has passed."""
    ui.notify(" ".join(message.split()), type="negative", position="bottom", timeout=30_000, close_button="Close")


async def stream(produce: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The items of a blocking iterator as they come, read in a thread of its own.

    A reader that leaves early lets the iterator run to its end, so that what was begun is finished and recorded.

    Raises:
        Exception: whatever the iterator raises.
    """
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[bool, T | Exception | None]] = asyncio.Queue()

    def put(more: bool, item: T | Exception | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(items.put_nowait, (more, item))

    def run() -> None:
        try:
            for item in produce():
                put(True, item)
        except Exception as error:
            put(False, error)
        else:
            put(False, None)

    threading.Thread(target=run, name="page-stream", daemon=True).start()
    while True:
        more, item = await items.get()
        if more:
            yield item  # type: ignore[misc]
        elif isinstance(item, Exception):
            raise item
        else:
            return
