"""What the passes of a base model and of its adapters over the same tokens have in common, worked out once.

A module that is done before an adapter's first layer begins gives what it gives in the base model: with adapters in the
upper half of a model that is the whole lower half. The first pass over some tokens keeps what such modules gave, and
later passes, of other checkpoints or of other adapters of the same base, take it from there; no bit changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Common:
    """What modules gave for one batch of tokens, by their names in the base model."""

    def __init__(self) -> None:
        self._given: dict[str, Any] = {}

    @contextmanager
    def over(self, model: nn.Module, names: Sequence[str]) -> Iterator[None]:
        """Run the body's one pass with what is known of ``names``, and keep what is not."""
        with ExitStack() as stack:
            for name in names:
                module = model.get_submodule(name)
                if name in self._given:
                    stack.enter_context(standing_in(module, _answer(self._given[name])))
                else:
                    stack.callback(module.register_forward_hook(self._keep(name)).remove)
            yield

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_: nn.Module, __: Any, given: Any) -> None:
            self._given[name] = given

        return hook


@torch.no_grad()
def unreached(model: nn.Module, adapted: Collection[str], ids: Tensor) -> tuple[str, ...]:
    """Names of the largest modules whose outputs do not depend on an adapter of the layers ``adapted``.

    Found by a pass over ``ids`` and tried in another: none if a pass that takes their outputs as known differs, as
    where modules pass something on by other ways than their outputs.
    """
    events: list[tuple[str, bool]] = []

    def noting(name: str, begins: bool) -> Callable[..., None]:
        return lambda *_: events.append((name, begins))

    with ExitStack() as stack:
        for name, module in model.named_modules():
            stack.callback(module.register_forward_pre_hook(noting(name, True)).remove)
            stack.callback(module.register_forward_hook(noting(name, False)).remove)
        model(input_ids=ids, use_cache=False)
    first = next((place for place, (name, begins) in enumerate(events) if begins and name in adapted), 0)
    often = [name for name, begins in events if begins]
    done = {name for name, begins in events[:first] if not begins and often.count(name) == 1}
    found = tuple(
        sorted(name for name in done if not any(name.startswith(f"{other}.") for other in done if other != name))
    )
    common, logits = Common(), []
    for _ in range(2):
        with common.over(model, found):
            logits.append(model(input_ids=ids, use_cache=False).logits)
    return found if torch.equal(*logits) else ()


@contextmanager
def standing_in(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Inside it a function does a module's work."""
    before = module.__dict__.get("forward")
    module.__dict__["forward"] = forward
    try:
        yield
    finally:
        del module.__dict__["forward"]
        if before is not None:
            module.__dict__["forward"] = before


def _answer(given: Any) -> Callable[..., Any]:
    return lambda *_, **__: given
