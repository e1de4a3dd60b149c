"""The frame around every page: navigation, theme, the way in for operators, and one place where a page's errors are shown."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING, ParamSpec

from nicegui import ui

from openledger.primitives import InputError, NotFoundError, OpenLedgerError
from openledger.ui.access import SIGN_IN, may_act, wallet_account
from openledger.ui.dom import Tag, button, div, link, span
from openledger.ui.formatting import short_hash
from openledger.ui.icons import icon, mark
from openledger.ui.loading import UNEXPECTED, PageLeft
from openledger.ui.parts import error_line, notice, page_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from openledger.ui.views_protocol import Views

P = ParamSpec("P")
_log = logging.getLogger(__name__)
_SECTIONS = (
    ("overview", "Overview", "/"),
    ("datanets", "Datanets", "/datanets"),
    ("models", "Models", "/models"),
    ("agents", "Agents", "/agents"),
    ("factory", "ModelFactory", "/factory"),
    ("receipts", "Receipts", "/receipts"),
    ("payouts", "Payouts", "/payouts"),
    ("supply", "Supply", "/supply"),
    ("governance", "Governance", "/governance"),
)
_BUILD_SECONDS = 30.0


def page(
    node: Views, path: str, title: str, section: str = ""
) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Serves a builder of page content at a path, inside the frame, with its errors as one line."""

    def decorate(build: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @functools.wraps(build)
        async def framed(*args: P.args, **kwargs: P.kwargs) -> None:
            with frame(node, section or path.strip("/") or "overview"):
                try:
                    await build(*args, **kwargs)
                except PageLeft:
                    return
                except OpenLedgerError as error:
                    _show_error(title, error)
                except Exception:
                    _log.exception("the page %s failed", path)
                    with page_head(title):
                        pass
                    error_line(UNEXPECTED)

        ui.page(path, title=f"{title} · OpenLedger", response_timeout=_BUILD_SECONDS)(framed)
        return framed

    return decorate


def _show_error(title: str, error: OpenLedgerError) -> None:
    client = ui.context.client
    if isinstance(error, (NotFoundError, InputError)):
        client.status_code = 404
    with page_head(title):
        pass
    error_line(str(error))


@contextmanager
def frame(node: Views, section: str) -> Iterator[None]:
    """Navigation and the main region; its body draws the page."""
    # Quasar's page is a <main> that holds the navigation too; ours is the one to jump to.
    outer = ui.context.client.content.parent_slot
    if outer is not None:
        outer.parent.props["role"] = "none"
    link("Skip to the content", "/", "skip").props["href"] = "#content"
    with div("topbar"):
        with button(classes="icon-button", aria_label="Menu", aria_expanded="false", data_drawer_toggle=""):
            icon("menu")
        with link("", "/", "brand", aria_label="OpenLedger, overview"):
            mark()
            span("OpenLedger")
        _theme_button("icon-button")
    with div("frame"):
        with Tag("aside", classes="sidebar"):
            with link("", "/", "brand", aria_label="OpenLedger, overview"):
                mark()
                span("OpenLedger", "label")
            with Tag("nav", classes="navigation", aria_label="Main"):
                for name, title, target in _SECTIONS:
                    current = "page" if name == section else None
                    with link("", target, aria_current=current, aria_label=title):
                        icon(name)
                        span(title, "label")
            with div("sidebar-foot"):
                _identity(node)
                _theme_button("plain")
                with button(classes="plain", aria_label="Fold the navigation", data_rail_toggle=""):
                    icon("collapse")
                    span("Fold", "label")
        div("scrim")
        with Tag("main", id="content", tabindex="-1"), div("content"):
            yield


def _theme_button(classes: str) -> None:
    with button(classes=classes, aria_label="Switch between light and dark", data_theme_toggle=""):
        icon("sun", "when-light")
        icon("moon", "when-dark")
        if classes == "plain":
            span("Light theme", "label when-light")
            span("Dark theme", "label when-dark")


def _identity(node: Views) -> None:
    """Who is signed in, and the way in or out."""
    account = wallet_account(node)
    if account is not None:
        with link("", "/wallet", "plain", aria_label="Your account", data_wallet_account=account):
            icon("wallet")
            span(short_hash(account), "label")
    if account is None and not may_act(node):
        with link("", SIGN_IN, "plain", aria_label="Sign in"):
            icon("key")
            span("Sign in", "label")
        return
    leave = button(classes="plain", aria_label="Sign out")
    leave.on("click", js_handler="() => fetch('/sign-out', {method: 'POST'}).then(() => location.reload())")
    with leave:
        icon("key")
        span("Sign out", "label")


def ask_to_sign_in(what: str, *, wallet: bool = False) -> None:
    """Says that an act needs the operator's token, or as well one's own ``wallet``, with the way to sign in."""
    ways = "your own wallet or this node's operator token" if wallet else "this node's operator token"
    with notice(f"To {what}, sign in with {ways}."):
        link("Sign in", SIGN_IN)
