"""Fine-tune a base model on Datanet records with LoRA or QLoRA, measure the result, describe and load it."""

from typing import TYPE_CHECKING

from openledger.primitives.lazy import on_first_use

if TYPE_CHECKING:
    from openledger.modelfactory.adapters import adapter_digest, load_adapter
    from openledger.modelfactory.card import DataSource, model_card, with_accuracy
    from openledger.modelfactory.evaluation import Evaluation, Score, evaluate, generate
    from openledger.modelfactory.recipe import ALL_LINEAR, FEED_FORWARD, Recipe
    from openledger.modelfactory.training import (
        CheckpointInfo,
        TrainingRecord,
        TrainingRun,
        examples_of,
        split,
        train,
    )
else:
    __getattr__ = on_first_use(__name__, __file__)

__all__ = [
    "ALL_LINEAR",
    "FEED_FORWARD",
    "CheckpointInfo",
    "DataSource",
    "Evaluation",
    "Recipe",
    "Score",
    "TrainingRecord",
    "TrainingRun",
    "adapter_digest",
    "evaluate",
    "examples_of",
    "generate",
    "load_adapter",
    "model_card",
    "split",
    "train",
    "with_accuracy",
]
