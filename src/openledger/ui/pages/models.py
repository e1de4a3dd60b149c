"""``/models`` and ``/models/{number}``: a model's card, its evaluation against the base, its price, and a chat with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from nicegui import ui

from openledger.node.views import ModelView
from openledger.primitives import parse_open
from openledger.ui.access import may_act
from openledger.ui.charts import loss_curve
from openledger.ui.chat import Chat
from openledger.ui.components import Chart
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import amount, exact_amount, exact_time, plural, short_hash
from openledger.ui.funds import Funds
from openledger.ui.icons import icon
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch
from openledger.ui.parts import (
    badge,
    card,
    copy_button,
    empty,
    figure,
    page_head,
    prose,
    show_amount,
    show_hash,
    show_party,
)
from openledger.ui.wallet import Wallet

if TYPE_CHECKING:
    from openledger.studio import ApiKey
    from openledger.ui.views_protocol import Views

_MEASURES = (
    ("accuracy", "Exact answers"),
    ("contains", "Answers with every fact"),
    ("held_in_loss", "Loss on trained records"),
    ("loss", "Loss on held-out records"),
)


def register(node: Views) -> None:
    """Serves the pages."""

    @page(node, "/models", "Models")
    async def models() -> None:
        with page_head(
            "Models", "Small weight changes over one shared base, each with its data, its price and its score."
        ):
            link("Train a model", "/factory", "button primary")
        rows = await fetch(node.models)
        if not rows:
            with card():
                empty("No model yet.", "Train one on a Datanet in the ModelFactory.")
        with div("grid"):
            for row in rows:
                _model_card(row)

    @page(node, "/models/{number}", "Model", "models")
    async def model(number: int) -> None:
        view = await fetch(node.model, number)
        ui.page_title(f"{view.name} · OpenLedger")
        await _draw(node, view)


def _model_card(view: ModelView) -> None:
    with link("", f"/models/{view.id}", "card"), div("card-body"):
        with div("line titled"):
            heading(2, view.name)
            badge(view.status)
        with div("line small"):
            span(f"on {view.base}", "muted")
            if view.datanet:
                span(f"Datanet {view.datanet}, version {view.datanet_version}", "muted")
        with Tag("dl", classes="pairs"):
            tuned = view.evaluation.get("accuracy_tuned")
            if isinstance(tuned, (int, float)):
                Tag("dt", "Exact answers")
                Tag("dd", f"{_base_score(view)}{_score('accuracy', tuned)}")
            Tag("dt", "Answers given")
            Tag("dd", f"{view.receipts:,}")
            Tag("dt", "Fees")
            with Tag("dd"):
                show_amount(view.fees)
        show_party(view.owner)


def _base_score(view: ModelView) -> str:
    base = view.evaluation.get("accuracy_base")
    return f"{_score('accuracy', base)} → " if isinstance(base, (int, float)) else ""


def _score(measure: str, value: float) -> str:
    return f"{value:.3f}" if measure.endswith("loss") else f"{value * 100:.1f}%"


async def _draw(node: Views, view: ModelView) -> None:
    with page_head(view.name, crumbs=[("Models", "/models")]):
        badge(view.status)
    with div("facts-line"):
        show_party(view.owner)
        span(f"on {view.base}")
        if view.datanet:
            link(f"Datanet {view.datanet}, version {view.datanet_version}", f"/datanets/{view.datanet}")
    with div("figures"):
        figure("Input price", amount(view.input_price), "per 1,000 tokens", tip=exact_amount(view.input_price))
        figure("Output price", amount(view.output_price), "per 1,000 tokens", tip=exact_amount(view.output_price))
        figure("Answers given", f"{view.receipts:,}", target="/receipts")
        figure("Fees earned", amount(view.fees), "shared by all who made it", tip=exact_amount(view.fees))
    with div("columns wide-left"):
        with div("stack"):
            await _chat(node, view)
            _evaluation(view)
            with card("Attribution accuracy", "How well measured influence foretells what retraining really does."):
                if view.attribution:
                    with Tag("dl", classes="pairs"):
                        for name, value in view.attribution.items():
                            Tag("dt", name)
                            Tag("dd", value)
                else:
                    paragraph("Not audited, so that influence decides half of what it may. Measure it with", "muted")
                    command = f"openledger attribution audit {view.name}"
                    with div("line"):
                        Tag("code", command)
                        copy_button(command, "command")
            with card("Training loss"):
                if view.loss_curve:
                    last = view.loss_curve[-1]
                    label = (
                        f"Training loss by step, from {view.loss_curve[0][1]:.3g} to {last[1]:.3g} at step {last[0]}"
                    )
                    Chart(loss_curve(view.loss_curve), label)
                else:
                    paragraph("No loss curve was recorded.", "muted")
            with card("Model card"):
                if view.card:
                    prose(view.card)
                else:
                    paragraph("This model has no card.", "muted")
        with div("stack"):
            _over_the_api(node, view)
            with card("Recipe", "What was done to train it; its hash is on the chain."):
                _recipe(view.recipe)
            note = "Registered on the chain. Anyone can compare what they hold."
            with card("Hashes", note), Tag("dl", classes="pairs"):
                for name, value in view.hashes.items():
                    Tag("dt", name.replace("_", " ").capitalize())
                    with Tag("dd"):
                        show_hash(value, name)


async def _chat(node: Views, view: ModelView) -> None:
    wallet = Wallet.here(node)
    if may_act(node):
        with card("Chat", "Each question is paid from this node's consumer account and gets a receipt."):
            Chat(node, view.name)
        return
    with card("Chat", "Each question is paid from your own deposit and gets a receipt."):
        if wallet is None:
            ask_to_sign_in("ask this model here", wallet=True)
            return
        Funds(node, wallet, await fetch(node.wallets.funds, wallet.account))
        Chat(node, view.name, wallet.account)


def _over_the_api(node: Views, view: ModelView) -> None:
    with card("Use it from a program", "The API is OpenAI's; every answer carries its receipt."):
        base = str(ui.context.client.request.base_url).rstrip("/")
        with div("line"):
            Tag("code", f"{base}/v1")
            copy_button(f"{base}/v1", "API address")
        call = {"model": view.name, "messages": [{"role": "user", "content": "…"}]}
        Tag(
            "pre",
            f"POST /v1/chat/completions\nAuthorization: Bearer olk-…\n\n{json.dumps(call, ensure_ascii=False, indent=1)}",
            "code",
        )
        if may_act(node):
            _key_form(node)
        else:
            ask_to_sign_in("make an API key here")


def _key_form(node: Views) -> None:
    with div("line"):
        cap = ui.input("Cap in OPEN", value="10").props("outlined dense inputmode=decimal").style("width: 120px")
        days = ui.number("Days", value=30, min=1, max=3650, precision=0).props("outlined dense").style("width: 90px")
        make = button("Make an API key")
    made = div(role="status")

    async def make_key() -> None:
        def create() -> tuple[ApiKey, int, int]:
            return node.create_key(parse_open(cap.value or ""), float(days.value or 0))

        result = await act(make, create)
        if result is None:
            return
        key, spendable, expires = result
        made.clear()
        with made, div("notice"):
            icon("key")
            with div():
                paragraph("Keep it now: it is not shown again.", "strong")
                with div("line"):
                    Tag("code", short_hash(key.reveal()))
                    copy_button(key.reveal(), "API key")
                paragraph(f"Spends up to {amount(spendable)} until {exact_time(expires)}.", "field-note")

    make.on("click", make_key, args=[])


def _evaluation(view: ModelView) -> None:
    with card("Evaluation", "The tuned model against its base, on the same questions.", flush=bool(view.evaluation)):
        if not view.evaluation:
            paragraph("No evaluation was registered.", "muted")
            return
        seen = set()
        with div("table-scroll"), Tag("table", classes="rows"):
            Tag("caption", "Evaluation", "visually-hidden")
            with Tag("thead"), Tag("tr"):
                Tag("th", "Measure", scope="col")
                Tag("th", "Base", "number", scope="col")
                Tag("th", "Tuned", "number", scope="col")
            with Tag("tbody"):
                for measure, title in _MEASURES:
                    base, tuned = (view.evaluation.get(f"{measure}_{which}") for which in ("base", "tuned"))
                    if isinstance(base, (int, float)) and isinstance(tuned, (int, float)):
                        seen |= {f"{measure}_base", f"{measure}_tuned"}
                        if measure == "loss" and view.evaluation.get("loss_is_held_out") is False:
                            title = "Loss"  # noqa: PLW2901
                        with Tag("tr"):
                            Tag("td", title, "wraps")
                            Tag("td", _score(measure, base), "number")
                            Tag("td", _score(measure, tuned), "number strong")
        more = {key: value for key, value in view.evaluation.items() if key not in seen}
        if more:
            with div("card-body"), Tag("details"):
                Tag("summary", f"{plural(len(more), 'more figure')} of the evaluation", "small")
                _recipe(more)


def _recipe(values: dict[str, Any]) -> None:
    with Tag("dl", classes="pairs small"):
        for name, value in values.items():
            Tag("dt", name.replace("_", " ").capitalize())
            Tag("dd", _plain(value))


def _plain(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:.6g}"
        case int():
            return f"{value:,}"
        case list() | tuple():
            return ", ".join(_plain(item) for item in value)
        case dict():
            return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
        case None:
            return "–"
        case _:
            return str(value)
