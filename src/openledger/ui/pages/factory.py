"""``/factory``: the ModelFactory: choose data and settings, train, and watch the loss, without code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nicegui import ui

from openledger.node.views import DatanetRow, TrainingProgress
from openledger.primitives import InputError, OpenLedgerError, parse_open
from openledger.ui.access import may_act
from openledger.ui.charts import loss_curve
from openledger.ui.components import Chart
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.formatting import plural
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch, tell
from openledger.ui.parts import card, empty, error_line, page_head

if TYPE_CHECKING:
    from openledger.ui.views_protocol import Views

_WATCH_SECONDS = 1.5
_RANKS = (2, 4, 8, 16, 32, 64)


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/factory", "ModelFactory", "factory")
    async def factory(datanet: int = 0) -> None:
        with page_head(
            "ModelFactory",
            "Fine-tune the base model on a Datanet, without code. The model, its evaluation and its "
            "influence index are registered on the chain when it is done.",
        ):
            pass
        rows = [row for row in await fetch(node.datanets) if row.versions]
        with div("columns"):
            with card("A new model"):
                if rows:
                    _Form(node, rows, datanet)
                else:
                    empty(
                        "There is no data to train on yet.",
                        "A Datanet needs an anchored version first.",
                        "openledger datanet version",
                    )
            with card("Training"):
                watch = _Watch(node)
        await watch.refresh()
        ui.timer(_WATCH_SECONDS, watch.refresh, immediate=False)


class _Form:
    """What to train: Datanet and version, name, settings, price."""

    def __init__(self, node: Views, rows: list[DatanetRow], chosen: int) -> None:
        self._node = node
        self._rows = {row.id: row for row in rows}
        first = chosen if chosen in self._rows else rows[0].id
        self._datanet = ui.select({row.id: row.name for row in rows}, value=first, label="Datanet")
        self._version = ui.select({}, label="Version")
        self._name = ui.input("Name of the model", placeholder="exploit-analyst")
        self._base = ui.input("Base model", placeholder="the one that ships with OpenLedger")
        self._rank = ui.select(list(_RANKS), value=8, label="Rank")
        self._epochs = ui.number("Epochs", value=12, min=1, max=200, precision=0)
        self._rate = ui.number("Learning rate", value=0.003, min=0.000001, max=1, step=0.0005, format="%.6g")
        self._price = ui.input("Price, OPEN per 1,000 tokens", value="0.1")
        fields = (
            self._datanet,
            self._version,
            self._name,
            self._base,
            self._rank,
            self._epochs,
            self._rate,
            self._price,
        )
        with div("fields") as box:
            for field in fields:
                field.props("outlined dense").move(box)
        self._name.props("maxlength=64")
        with div("field-note") as notes:
            paragraph("A higher rank can learn more and costs more memory. More epochs fit the records more closely.")
        self._notes = notes
        self._problem = div()
        if may_act(node):
            self._start = button("Start training", "button primary")
            self._start.on("click", self._submit, args=[])
        else:
            ask_to_sign_in("start training")
        self._datanet.on_value_change(lambda _: self._show_versions())
        self._show_versions()

    def _show_versions(self) -> None:
        row = self._rows[self._datanet.value]
        self._version.set_options({number: f"v{number}" for number in range(row.versions, 0, -1)}, value=row.versions)

    async def _submit(self) -> None:
        self._problem.clear()
        try:
            name, recipe = self._read()
        except InputError as error:
            with self._problem:
                error_line(str(error))
            return
        job = await act(self._start, self._node.start_training, self._datanet.value, self._version.value, recipe, name)
        if job is not None:
            tell(f"Training of {name} has begun.")

    def _read(self) -> tuple[str, dict[str, Any]]:
        name = (self._name.value or "").strip()
        if not name:
            raise InputError("the model has no name yet; give it one")
        if not self._epochs.value or not self._rate.value:
            raise InputError("epochs and learning rate must be numbers above zero")
        price = parse_open(self._price.value or "")
        recipe: dict[str, Any] = {
            "rank": int(self._rank.value),
            "epochs": int(self._epochs.value),
            "learning_rate": float(self._rate.value),
            "input_price": price,
            "output_price": price,
        }
        if base := (self._base.value or "").strip():
            recipe["base"] = base
        return name, recipe


class _Watch:
    """The job under way, drawn anew when it has moved on."""

    def __init__(self, node: Views) -> None:
        self._node = node
        self._shown: TrainingProgress | None = None
        self._chart: Chart | None = None
        self._status = div()
        self._plot = div()
        with self._status:
            empty("No training is under way.", "Fill in the form and start; the loss is drawn here as it falls.")

    async def refresh(self) -> None:
        """Reads the progress and draws what has changed."""
        try:
            progress = await asyncio.to_thread(self._node.training)
        except OpenLedgerError:
            return
        if progress is None or progress == self._shown or self._status.is_deleted:
            return
        self._shown = progress
        self._status.clear()
        with self._status, div("stack"):
            _progress(progress)
        options = loss_curve(list(enumerate(progress.losses, start=1)), progress.steps or None)
        if self._chart is None and progress.losses:
            with self._plot:
                self._chart = Chart(options, f"Training loss of {progress.model_name} by step")
        elif self._chart is not None:
            self._chart.show(options)


def _progress(progress: TrainingProgress) -> None:
    with div("line spread"):
        heading(3, progress.model_name)
        span(progress.stage, "badge bad" if progress.error else "badge accent")
    if progress.error:
        error_line(progress.error)
        return
    share = progress.step * 100 / progress.steps if progress.steps else 0
    bar = Tag(
        "div",
        classes="bar thin",
        role="progressbar",
        aria_label="Progress of the training",
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(share),
    )
    with bar:
        span("").style(f"width: {share:.2f}%; background: var(--accent)")
    with div("line small"):
        span(f"step {progress.step:,} of {plural(progress.steps, 'step')}", "muted")
        if progress.losses:
            span(f"loss {progress.losses[-1]:.4g}", "muted")
    if progress.stage in {"done", "published"}:
        link("See the models", "/models", "button")
