"""``python -m openledger.models.pretraining STEP --work FOLDER``: make the base model again from its sources."""

from __future__ import annotations

import argparse
from dataclasses import fields
from pathlib import Path

from openledger.models.base import SHIPPED
from openledger.models.pretraining import corpus, publish, tokenizer, train


def main() -> None:
    """Run one step, or with ``all`` every one: fetch, corpus, tokenizer, tokens, train, publish."""
    parser = argparse.ArgumentParser(prog="python -m openledger.models.pretraining", description=__doc__)
    steps = ("fetch", "corpus", "tokenizer", "tokens", "train", "publish")
    parser.add_argument("step", choices=(*steps, "all"))
    parser.add_argument("--work", type=Path, required=True, help="folder for everything that is made, about 3 GB")
    parser.add_argument("--output", type=Path, default=SHIPPED, help="where to publish; default: the package itself")
    parser.add_argument("--eager", action="store_true", help="do not compile the training step")
    for field in fields(train.Settings):
        option = "--" + field.name.replace("_", "-")
        parser.add_argument(option, type=type(field.default), default=field.default, help="default: %(default)s")
    given = parser.parse_args()
    settings = train.Settings(**{field.name: getattr(given, field.name) for field in fields(train.Settings)})
    work: Path = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    for step in steps if given.step == "all" else (given.step,):
        if step == "fetch":
            corpus.fetch(work)
        elif step == "corpus":
            corpus.build(work)
        elif step == "tokenizer":
            tokenizer.train(work, work / "tokenizer", settings.context)
        elif step == "tokens":
            train.tokenise(work, work / "tokenizer", settings)
        elif step == "publish":
            publish.publish(work, given.output)
        else:
            print(train.pretrain(work, work / "tokenizer", settings, compiled=not given.eager))


if __name__ == "__main__":
    main()
