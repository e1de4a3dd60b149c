"""How far an estimated counterfactual lies from real retraining, on the task of the attack scoreboard.

    python -m bench.attribution.counterfactual

For every answer of the honest model and every contributor: the estimated rise of the answer's loss without that contributor,
and the rise after training again with its records at weight 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from openledger.attribution import AdapterModel, build_index
from openledger.attribution.audit import _spearman
from openledger.attribution.counterfactual import counterfactual
from openledger.datanets import load_records
from openledger.models import load_base
from openledger.node.laboratory import DatanetLaboratory

WORK, RESULT = Path("build/attacks"), Path("bench/results/counterfactual.json")


def main() -> None:
    """Measures, prints and writes the result."""
    torch.set_num_threads(1)
    laboratory = DatanetLaboratory(load_base(), load_records(), WORK / "runs")
    honest = laboratory.honest()
    lesson = laboratory.train(honest)
    index = build_index(lesson.base, lesson.checkpoints, lesson.examples, unrelated=lesson.unrelated, workers=1)
    queries = [query for query in lesson.ask([upload.question for upload in honest]) if query]
    measured = index.measure(lesson.base, queries)
    wallets = sorted({upload.wallet for upload in honest})
    estimated, real, linear = [], [], []
    for wallet in wallets:
        gone = [place for place, upload in enumerate(honest) if upload.wallet == wallet]
        again = laboratory.train(honest, without=wallet)
        model = AdapterModel.from_folder(again.base, again.checkpoints[-1].path)
        losses = model.losses(queries).tolist()
        estimated.append([counterfactual(one, index, gone).change for one in measured])
        linear.append([float(one.scores[gone].sum()) for one in measured])
        real.append([loss - one.adapted_loss for loss, one in zip(losses, measured, strict=True)])
        print(f"{wallet}: estimated {np.mean(estimated[-1]):.2f} nats, retrained {np.mean(real[-1]):.2f}", flush=True)
    guess, truth, scores = np.asarray(estimated), np.asarray(real), np.asarray(linear)
    top = guess.argmax(axis=0)
    columns = np.arange(len(queries))
    shown, true = guess[top, columns], truth[top, columns]
    result = {
        "command": "python -m bench.attribution.counterfactual",
        "task": laboratory.describe(),
        "answers": len(queries),
        "correlation_over_contributors": float(_spearman(guess.T, truth.T).mean()),
        "correlation_of_plain_scores": float(_spearman(scores.T, truth.T).mean()),
        "largest_is_right": float((truth.argmax(axis=0) == top).mean()),
        "largest_estimated_nats": float(shown.mean()),
        "largest_retrained_nats": float(true.mean()),
        "largest_mean_absolute_error_nats": float(np.abs(shown - true).mean()),
        "largest_correlation_over_answers": float(_spearman(shown[None], true[None])[0]),
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
