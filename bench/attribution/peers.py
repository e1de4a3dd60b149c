"""Other libraries' attribution methods on one task; runs in the peers' own environment (see peers.sh).

``python peers.py METHOD TASK.json RESULT.npz CPU-SECONDS`` reads the task that ``__main__.py`` wrote (paths of base, adapters and
token ids) and writes ``scores`` [queries, records], ``build_cpu_s`` and ``query_cpu_ms``. Each library runs with the
settings that its documentation recommends; what had to be chosen is said at the function. Nothing of a method is
implemented here: only models, data and losses are handed over.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM

Row = dict[str, Any]
Result = tuple[np.ndarray, float, float]
"""Scores, CPU seconds until the first query can be asked, CPU milliseconds per query."""


RIDGES = (1e-2, 1.0, 1e2, 1e4, 1e6)
REGULARIZATIONS = (1e-4, 1e-2, 1.0, 100.0)
"""Tried for methods that must be tuned; the choice is made on half of the retrainings."""


class Handed:
    """A task as it was handed over."""

    def __init__(self, path: Path) -> None:
        value = json.loads(path.read_text())
        self.base: str = value["base"]
        self.adapter: str = value["checkpoints"][-1]["path"]
        self.checkpoints: list[Row] = value["checkpoints"]
        self.records: list[Row] = value["records"]
        self.queries: list[Row] = value["queries"]

    def model(self, adapter: str | None = None) -> PeftModel:
        base = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32, attn_implementation="eager")
        return PeftModel.from_pretrained(base, adapter or self.adapter, is_trainable=True).eval()

    def rows(self, items: Sequence[Row]) -> list[dict[str, Tensor]]:
        """Token ids and labels of one length; -100 where nothing is predicted."""
        longest = max(len(item["token_ids"]) for item in (*self.records, *self.queries))
        found = []
        for item in items:
            ids = torch.zeros(longest, dtype=torch.long)
            labels = torch.full((longest,), -100)
            tokens = torch.tensor(item["token_ids"])
            first = max(1, item["prompt_length"])
            ids[: len(tokens)] = tokens
            labels[first : len(tokens)] = tokens[first:]
            found.append({"input_ids": ids, "labels": labels})
        return found


def lora_layers(model: nn.Module) -> list[str]:
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.endswith((".lora_A.default", ".lora_B.default"))
    ]


def summed_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", ignore_index=-100)


def kronfluence(handed: Handed) -> Result:
    """EK-FAC with the true Fisher (labels sampled from the model) and its own damping heuristic, all in float32."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task
    from kronfluence.utils.dataset import DataLoaderKwargs

    model: Any = handed.model()
    names = lora_layers(model)

    class Language(Task):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            logits = model(input_ids=batch["input_ids"], use_cache=False).logits
            if not sample:
                return summed_loss(logits, batch["labels"])
            with torch.no_grad():
                drawn = torch.multinomial(torch.softmax(logits[:, :-1].detach().flatten(0, 1), -1), 1).flatten()
                told = batch["labels"][:, 1:].flatten() != -100
                labels = torch.where(told, drawn, torch.full_like(drawn, -100))
            return cross_entropy(logits[:, :-1].flatten(0, 1), labels, reduction="sum", ignore_index=-100)

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            return self.compute_train_loss(batch, model)

        def get_influence_tracked_modules(self) -> list[str]:
            return names

    torch.manual_seed(0)
    task = Language()
    model = prepare_model(model, task)
    with tempfile.TemporaryDirectory() as folder:
        analyzer = Analyzer("run", model, task, cpu=True, output_dir=folder, disable_tqdm=True)
        analyzer.set_dataloader_kwargs(DataLoaderKwargs(num_workers=0))
        begun = _clock()
        analyzer.fit_all_factors(
            "factors",
            handed.rows(handed.records),
            per_device_batch_size=16,
            factor_args=FactorArguments(strategy="ekfac"),
        )
        built = _clock()
        analyzer.compute_pairwise_scores(
            scores_name="scores",
            factors_name="factors",
            query_dataset=handed.rows(handed.queries),
            train_dataset=handed.rows(handed.records),
            per_device_query_batch_size=len(handed.queries),
            per_device_train_batch_size=16,
            score_args=ScoreArguments(),
        )
        asked = _clock()
        scores = analyzer.load_pairwise_scores("scores")["all_modules"].float().numpy()
    return scores, built - begun, 1000 * (asked - built) / len(handed.queries)


def _bergson(handed: Handed, folder: Path, adapter: str) -> tuple[Any, Any, Callable[[Path], np.ndarray]]:
    """Index configuration for the records, data configuration for the queries, and a reader of scores."""
    from bergson import DataConfig, IndexConfig
    from bergson.data import load_scores

    for name, items in (("records", handed.records), ("queries", handed.queries)):
        with (folder / f"{name}.jsonl").open("w") as file:
            for item in items:
                first = max(1, item["prompt_length"])
                labels = [-100] * first + item["token_ids"][first:]
                file.write(json.dumps({"input_ids": item["token_ids"], "labels": labels}) + "\n")
    index = IndexConfig(
        run_path=str(folder / "run"),
        model=adapter,
        tokenizer=handed.base,
        data=DataConfig(dataset=str(folder / "records.jsonl")),
        precision="fp32",
        token_batch_size=min(512, int(AutoConfig.from_pretrained(handed.base).max_position_embeddings)),
    )

    def read(path: Path) -> np.ndarray:
        return np.asarray(load_scores(path)[:], dtype=np.float32).T

    return index, DataConfig(dataset=str(folder / "queries.jsonl")), read


def bergson_ekfac(handed: Handed) -> Result:
    """Its ``ekfac`` recipe: true Fisher, eigenvalue correction, damping 0.1 of the mean eigenvalue.

    Queries, factors and scores are one pipeline; all of its cost is counted to the queries.
    """
    from bergson.config.config import (
        HessianConfig,
        HessianPipelineConfig,
        PreprocessConfig,
        QuerySetConfig,
        ScoreConfig,
    )
    from bergson.hessians.pipeline import hessian_pipeline

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index, queries, read = _bergson(handed, folder, handed.adapter)
        begun = _clock()
        hessian_pipeline(
            index,
            HessianConfig(method="kfac", ev_correction=True),
            ScoreConfig(),
            PreprocessConfig(),
            HessianPipelineConfig(query=QuerySetConfig.from_data(queries)),
        )
        spent = _clock() - begun
        return read(folder / "run" / "scores"), 0.0, 1000 * spent / len(handed.queries)


def bergson_dot(handed: Handed) -> Result:
    """Its uncompressed gradients at the final checkpoint, inner products without a preconditioner."""
    return _dot(handed, handed.checkpoints[-1]["path"])


def bergson_tracin(handed: Handed) -> Result:
    """The same at every checkpoint, weighed by the learning rate there: TracIn."""
    found = [_dot(handed, point["path"]) for point in handed.checkpoints]
    scores = sum(point["rate"] * one[0] for point, one in zip(handed.checkpoints, found, strict=True))
    return np.asarray(scores), sum(one[1] for one in found), sum(one[2] for one in found)


def _dot(handed: Handed, adapter: str) -> Result:
    from bergson.build import build_query
    from bergson.config.config import PreprocessConfig, QuerySetConfig, ScoreConfig
    from bergson.score.score import score_dataset

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index, queries, read = _bergson(handed, folder, adapter)
        index.run_path = str(folder / "query")
        begun = _clock()
        build_query(index, QuerySetConfig.from_data(queries), PreprocessConfig())
        index, queries, read = _bergson(handed, folder, adapter)
        index.run_path = str(folder / "scores")
        score_dataset(index, ScoreConfig(query_path=str(folder / "query")), PreprocessConfig())
        return read(folder / "scores"), 0.0, 1000 * (_clock() - begun) / len(handed.queries)


def bm25(handed: Handed) -> Result:
    """Okapi BM25 over words, records against the text of each output."""
    from rank_bm25 import BM25Okapi

    begun = _clock()
    found = BM25Okapi([row["text"].lower().split() for row in handed.records])
    built = _clock()
    scores = np.stack([found.get_scores(row["text"].lower().split()) for row in handed.queries])
    return scores.astype(np.float32), built - begun, 1000 * (_clock() - built) / len(handed.queries)


def _dattri_task(handed: Handed) -> tuple[Any, list[str], Callable[[Sequence[Row], int], Any]]:
    from dattri.task import AttributionTask
    from torch.utils.data import DataLoader, TensorDataset

    model = handed.model()
    names = [name + ".weight" for name in lora_layers(model)]
    state = {name: value.clone() for name, value in model.state_dict().items()}

    def loss(parameters: Any, data: Any) -> Tensor:
        ids, labels = data  # one example, [1, tokens] each
        arguments = {"input_ids": ids, "use_cache": False}
        logits = torch.func.functional_call(model, parameters, kwargs=arguments).logits
        return summed_loss(logits, labels)

    def loader(items: Sequence[Row], size: int) -> Any:
        rows = handed.rows(items)
        tensors = [torch.stack([row[key] for row in rows]) for key in ("input_ids", "labels")]
        return DataLoader(TensorDataset(*tensors), batch_size=size, shuffle=False)

    return AttributionTask(loss, model, state), names, loader


def dattri_datainf(handed: Handed) -> list[Result]:
    """DataInf layer by layer on the LoRA matrices, one result for each regularisation.

    Its Fisher information takes a batch for one example, so that the records are handed over for it one by one. It
    transforms every query again for each batch of records, so these are large, and it holds a copy of a matrix's
    gradient for each pair of queries of a batch, so those are small.
    """
    from dattri.algorithm.influence_function import IFAttributorDataInf

    task, names, loader = _dattri_task(handed)
    attributor = IFAttributorDataInf(task, layer_name=names)
    begun, found = _clock(), []
    with torch.no_grad():  # it differentiates by itself; without this every example's graph stays in memory
        attributor.cache(loader(handed.records, 1))
        built = _clock()
        for attributor.regularization in REGULARIZATIONS:  # what is cached does not depend on it
            start = _clock()
            scores = attributor.attribute(loader(handed.records, 170), loader(handed.queries, 4))
            scores = scores.float().numpy().T.copy()
            found.append((scores, built - begun, 1000 * (_clock() - start) / len(handed.queries)))
            print(f"{attributor.regularization}: {_clock():.0f} CPU-s", file=sys.stderr, flush=True)
    return found


def traker(handed: Handed) -> list[Result]:
    """TRAK with one model and 2,048 dimensions, one result for each ridge (its default of 0 gives noise)."""
    from trak import TRAKer
    from trak.modelout_functions import AbstractModelOutput
    from trak.projectors import BasicProjector, ProjectionType

    class Margin(AbstractModelOutput):
        """The model output that TRAK's authors use for language models: log p / (1 - p) of the answer's tokens."""

        def __init__(self) -> None:
            """Nothing is kept."""

        @staticmethod
        def get_output(model: Any, weights: Any, buffers: Any, ids: Tensor, labels: Tensor) -> Tensor:
            logits = torch.func.functional_call(
                model, (weights, buffers), kwargs={"input_ids": ids.unsqueeze(0), "use_cache": False}
            ).logits[0, :-1]
            told = labels[1:] != -100
            losses = cross_entropy(logits, labels[1:], reduction="none", ignore_index=-100)
            margin = -losses - torch.log(-torch.expm1(-losses.clamp(min=1e-6)))
            return torch.where(told, margin, torch.zeros_like(margin)).sum()

        def get_out_to_loss_grad(self, model: Any, weights: Any, buffers: Any, batch: Any) -> Tensor:
            ids, labels = batch
            arguments = {"input_ids": ids, "use_cache": False}
            logits = torch.func.functional_call(model, (weights, buffers), kwargs=arguments).logits[:, :-1]
            losses = cross_entropy(logits.transpose(1, 2), labels[:, 1:], reduction="none", ignore_index=-100)
            told = (labels[:, 1:] != -100).float()
            mean = (torch.exp(-losses) * told).sum(1) / told.sum(1)
            return (1 - mean).clone().detach().unsqueeze(-1)

    model = handed.model()
    names = [name + ".weight" for name in lora_layers(model)]
    size = sum(dict(model.named_parameters())[name].numel() for name in names)
    records, queries = handed.rows(handed.records), handed.rows(handed.queries)
    with tempfile.TemporaryDirectory() as folder:
        tracer = TRAKer(
            model=model,
            task=Margin(),
            train_set_size=len(records),
            save_dir=folder,
            device="cpu",
            logging_level=logging.ERROR,
            projector=BasicProjector(size, 2048, 0, ProjectionType.rademacher, "cpu", block_size=128),
            proj_dim=2048,
            use_half_precision=False,
            grad_wrt=names,
        )
        begun = _clock()
        tracer.load_checkpoint(model.state_dict(), model_id=0)
        for batch in _batches(records):
            tracer.featurize(batch=batch, num_samples=len(batch[0]))
        tracer.finalize_features(model_ids=[0], del_grads=False)
        built = _clock()
        tracer.start_scoring_checkpoint("queries", model.state_dict(), model_id=0, num_targets=len(queries))
        for batch in _batches(queries):
            tracer.score(batch=batch, num_samples=len(batch[0]))
        asked, found = _clock() - built, []
        for ridge in RIDGES:  # gradients do not depend on it
            start = _clock()
            tracer.score_computer.lambda_reg = ridge
            tracer.saver.model_ids[0]["is_finalized"] = 0  # or it keeps the features of the ridge before
            tracer.projector.proj_matrix = torch.empty(0)  # which it frees each time
            tracer.finalize_features(model_ids=[0], del_grads=False)
            scores = np.array(tracer.finalize_scores("queries"), np.float32).T.copy()
            found.append((scores, built - begun, 1000 * (asked + _clock() - start) / len(queries)))
    return found


def _batches(rows: Sequence[dict[str, Tensor]]) -> Iterator[list[Tensor]]:
    for start in range(0, len(rows), 64):
        part = rows[start : start + 64]
        yield [torch.stack([row[key] for row in part]) for key in ("input_ids", "labels")]


def _clock() -> float:
    """CPU seconds of this process and of the children it has waited for."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


METHODS: dict[str, Callable[[Handed], Result | list[Result]]] = {
    "kronfluence": kronfluence,
    "bergson ekfac": bergson_ekfac,
    "bergson gradient dot": bergson_dot,
    "bergson tracin": bergson_tracin,
    "dattri DataInf": dattri_datainf,
    "traker": traker,
    "rank-bm25": bm25,
}


def main() -> None:
    """Run one method, in no more than 9 GiB of memory and so many CPU seconds."""
    torch.set_num_threads(1)
    name, task, output, limit = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (9 << 30, 9 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), int(limit)))
    found = METHODS[name](Handed(Path(task)))
    results = found if isinstance(found, list) else [found]
    np.savez(
        output,
        scores=np.stack([result[0] for result in results]),
        build_cpu_s=np.asarray([result[1] for result in results]),
        query_cpu_ms=np.asarray([result[2] for result in results]),
    )


if __name__ == "__main__":
    main()
