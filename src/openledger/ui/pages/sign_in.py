"""``/sign-in``: with a wallet of one's own, or with the operator's token, typed or carried after the # of a link (which never
reaches a server's log)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nicegui import ui

from openledger.ui.components import WalletList
from openledger.ui.dom import Tag, button, div, paragraph, span
from openledger.ui.layout import page
from openledger.ui.parts import card, page_head

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_SCRIPT = """
addEventListener("DOMContentLoaded", () => {
  const find = (name) => document.querySelector(`[data-sign-in="${name}"]`);
  const send = async (token) => {
    const reply = await fetch("/sign-in", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ token }),
    });
    if (reply.ok) return location.replace("/");
    const body = await reply.json().catch(() => ({}));
    find("problem").textContent = body.error ?? "signing in failed; try again";
  };
  const begin = () => {
    if (!find("form")) return setTimeout(begin, 50);
    find("form").addEventListener("submit", (event) => {
      event.preventDefault();
      send(find("token").value);
    });
    const carried = location.hash.slice(1);
    if (carried) {
      history.replaceState(null, "", location.pathname);
      send(carried);
    }
  };
  begin();
});
"""


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/sign-in", "Sign in")
    async def sign_in() -> None:
        ui.add_head_html(f"<script>{_SCRIPT}</script>")
        with page_head("Sign in", "Reading needs no account. Acts need yours, or this node's."):
            pass
        with div("columns"):
            with card("With your own wallet", "You act for your own account. Its keys never leave the wallet."):
                WalletList()
                paragraph(
                    "The wallet adds this chain with OPEN as its coin, and signs a text that sends nothing.",
                    "field-note",
                )
            with card("As this node's operator", "You act with the keys that this node holds."):
                _token_form()


def _token_form() -> None:
    with Tag("form", classes="stack", data_sign_in="form"):
        with Tag("label", classes="stack").style("gap: 6px"):
            span("Operator token", "strong small")
            Tag(
                "input",
                "",
                "text-field",
                type="password",
                autocomplete="current-password",
                required="",
                data_sign_in="token",
            )
        paragraph("It stands in operator.token in the node's home folder, readable by its owner alone.", "field-note")
        div("problem", role="alert", data_sign_in="problem")
        submit = button("Sign in", "button primary")
        submit.props["type"] = "submit"
