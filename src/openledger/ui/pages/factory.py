"""``/factory``: the ModelFactory: choose data and settings, train, and watch the loss, without code."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nicegui import ui

from openledger.modelfactory import ALL_LINEAR, FEED_FORWARD, Recipe
from openledger.node.views import DatanetRow, TrainingProgress
from openledger.primitives import InputError, OpenLedgerError, parse_open
from openledger.ui.access import may_act
from openledger.ui.charts import loss_curve
from openledger.ui.components import Chart
from openledger.ui.dom import Tag, button, div, heading, link, paragraph, span
from openledger.ui.layout import ask_to_sign_in, page
from openledger.ui.loading import act, fetch, tell
from openledger.ui.parts import card, empty, error_line, page_head

if TYPE_CHECKING:
    from nicegui.element import Element

    from openledger.ui.views_protocol import Views

_WATCH_SECONDS = 1.5
_RANKS = (2, 4, 8, 16, 32, 64, 128)
_METHODS = {"lora": "LoRA", "qlora": "QLoRA (needs a CUDA GPU)"}
_ALPHA_PER_RANK = 2
_TARGETS = {FEED_FORWARD: "Feed-forward layers", ALL_LINEAR: "All linear layers"}
_UPPER = {0.25: "The upper quarter", 0.5: "The upper half", 1.0: "All"}
_SCHEDULES = {"linear": "Linear", "cosine": "Cosine", "constant": "Constant"}
_INTRODUCTION = (
    "Fine-tune this node's base model on a Datanet, without code. The model, its evaluation and its influence index are "
    "registered on the chain when it is done."
)


def register(node: Views) -> None:
    """Serves the page."""

    @page(node, "/factory", "ModelFactory", "factory")
    async def factory(datanet: int = 0) -> None:
        with page_head("ModelFactory", _INTRODUCTION):
            pass
        rows = [row for row in await fetch(node.datanets) if row.versions]
        with div("columns"):
            with card("A new model"):
                if rows:
                    _Form(node, rows, datanet)
                else:
                    empty("There is no data to train on yet.", "A Datanet needs an anchored version first.")
            with card("Training"):
                watch = _Watch(node)
        await watch.refresh()
        ui.timer(_WATCH_SECONDS, watch.refresh, immediate=False)


class _Form:
    """What to train: Datanet and version, name, settings, prices."""

    def __init__(self, node: Views, rows: list[DatanetRow], chosen: int) -> None:
        self._node = node
        self._rows = {row.id: row for row in rows}
        recipe = Recipe()
        first = chosen if chosen in self._rows else rows[0].id
        with div("fields"):
            self._datanet = _field(ui.select({row.id: row.name for row in rows}, value=first, label="Datanet"))
            self._version = _field(ui.select({}, label="Version"))
            self._name = _field(ui.input("Name of the model")).props("maxlength=100")
            self._method = _field(ui.select(_METHODS, value=recipe.method, label="Method"))
            self._rank = _field(ui.select(sorted({*_RANKS, recipe.rank}), value=recipe.rank, label="Rank"))
            self._epochs = _whole("Epochs", recipe.epochs)
            self._rate = _field(ui.input("Learning rate", value=f"{recipe.learning_rate:g}")).props("inputmode=decimal")
            self._batch = _whole("Records per step", recipe.batch_size)
            self._input_price = _price("Input price (OPEN)", "0.01")
            self._output_price = _price("Output price (OPEN)", "0.04")
        paragraph(
            "Prices are for 1,000 tokens. A higher rank can learn more; more epochs fit the records more closely.",
            "field-note",
        )
        with Tag("details"):
            Tag("summary", "More settings", "small")
            with div("fields"):
                self._schedule = _field(ui.select(_SCHEDULES, value=recipe.schedule, label="Schedule of the rate"))
                self._alpha = _whole("Alpha (scaling)", recipe.alpha)
                self._targets = _field(ui.select(_TARGETS, value=recipe.target_modules, label="What is adapted"))
                self._upper = _field(ui.select(_UPPER, value=recipe.upper_layers, label="In which layers"))
                self._holdout = _field(ui.input("Held out (percent)", value=f"{recipe.holdout * 100:g}")).props(
                    "inputmode=decimal"
                )
                self._seed = _whole("Seed", recipe.seed)
        self._rank.on_value_change(lambda change: self._alpha.set_value(_ALPHA_PER_RANK * change.value))
        self._problem = div()
        if may_act(node):
            self._start = button("Start training", "button primary")
            self._start.on("click", self._submit, args=[])
        else:
            ask_to_sign_in("start training")
        self._datanet.on_value_change(self._show_versions)
        self._show_versions()

    def _show_versions(self) -> None:
        newest = self._rows[self._datanet.value].versions
        self._version.set_options({number: f"v{number}" for number in range(newest, 0, -1)}, value=newest)

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
        recipe = Recipe(
            method=self._method.value,
            rank=self._rank.value,
            alpha=_integer("alpha", self._alpha.value),
            target_modules=self._targets.value,
            upper_layers=self._upper.value,
            epochs=_integer("epochs", self._epochs.value),
            learning_rate=_decimal("learning rate", self._rate.value),
            schedule=self._schedule.value,
            batch_size=_integer("records per step", self._batch.value),
            seed=_integer("seed", self._seed.value),
            holdout=_decimal("held out", self._holdout.value) / 100,
        )
        asked = recipe.to_json()
        asked["input_price"] = parse_open(self._input_price.value or "")
        asked["output_price"] = parse_open(self._output_price.value or "")
        return name, asked


def _field(field: Element) -> Any:
    return field.props("outlined dense options-dense")


def _whole(label: str, value: int) -> ui.number:
    field: ui.number = _field(ui.number(label, value=value, min=0, precision=0))
    return field


def _price(label: str, value: str) -> ui.input:
    field: ui.input = _field(ui.input(label, value=value)).props("inputmode=decimal")
    return field


def _integer(name: str, value: float | None) -> int:
    if value is None or value != int(value):
        raise InputError(f"{name} is empty or no whole number; give one")
    return int(value)


def _decimal(name: str, text: str | None) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise InputError(f"{name} is {text!r}; give a number such as 0.004") from None


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
        if self._shown is None or progress.job != self._shown.job:
            self._plot.clear()
            self._chart = None
        self._shown = progress
        self._status.clear()
        with self._status, div("stack"):
            _progress(progress)
        if not progress.losses:
            return
        if self._chart is None:
            with self._plot:
                self._chart = Chart(loss_curve(progress.losses), f"Training loss of {progress.model_name}")
        else:
            self._chart.show(loss_curve(progress.losses))


def _progress(progress: TrainingProgress) -> None:
    failed, done = bool(progress.error), progress.stage == "registered"
    with div("line spread"):
        heading(3, progress.model_name)
        span("failed" if failed else progress.stage, f"badge {'bad' if failed else 'good' if done else 'accent'}")
    if failed:
        error_line(progress.error)
        return
    share = progress.step * 100 / progress.steps if progress.steps else 0.0
    with Tag(
        "div",
        classes="bar thin",
        role="progressbar",
        aria_label=f"Progress: {progress.stage}",
        aria_valuemin=0,
        aria_valuemax=100,
        aria_valuenow=round(share),
    ):
        span("").style(f"width: {share:.2f}%; background: var(--accent)")
    with div("line small spread"):
        span(f"{progress.step:,} of {progress.steps:,}", "muted")
        if progress.losses:
            span(f"loss {progress.losses[-1][1]:.4g}", "muted")
    if done:
        link("See the models", "/models", "button")
