"""What stands at an address where there is no page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nicegui import ui

from openledger.ui.dom import link
from openledger.ui.layout import frame
from openledger.ui.parts import empty, page_head

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views


def builder(node: Views) -> Callable[[], None]:
    """The builder of that page."""

    def build() -> None:
        ui.context.client.status_code = 404
        ui.page_title("Not found · OpenLedger")
        with frame(node, ""):
            with page_head("There is no such page"):
                link("Go to the overview", "/", "button")
            empty("Nothing is at this address.", "Follow the navigation, or look the address over.")

    return build
