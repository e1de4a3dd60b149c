"""An index built on a Ray cluster is the one that is built here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from openledger.attribution import build, build_index, crew
from openledger.attribution.crew import LOCAL
from openledger.primitives import ConfigurationError, InputError

ray = pytest.importorskip("ray", reason="the extra 'distributed' is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            object_store_memory=100 << 20,
            include_dashboard=False,
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
        )
        yield
        ray.shutdown()


@pytest.mark.cluster
def test_two_processes_of_a_cluster_build_the_same_bytes_as_threads(
    trained: Any, cluster: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small samples, so that most records are measured and projected by the workers, in chunks of a few."""
    monkeypatch.setattr(build, "_PROJECTION_SAMPLE", 12)
    monkeypatch.setattr(crew, "_CHUNK", 3)
    settings = build.Settings(curvature_records=8)
    unrelated = trained.held_out(9)
    here, there = (
        build_index(
            trained.base, trained.checkpoints, trained.examples, settings, unrelated=unrelated, ray_address=address
        )
        for address in (None, LOCAL)
    )
    assert here.digest() == there.digest()
    for workers in (1, 3):
        again = build_index(
            trained.base, trained.checkpoints, trained.examples, settings, unrelated=unrelated, workers=workers
        )
        assert again.digest() == here.digest()


@pytest.mark.cluster
def test_a_record_that_is_refused_is_named_whoever_measures_it(trained: Any, cluster: None) -> None:
    run = crew.Run(trained.base, build.read_config(trained.adapter), (build.read_weights(trained.adapter),), 1024)
    models = run.open()
    sampled = build._sample(models, [1.0], trained.examples[:4], build.Settings(), build._Counter(lambda *_: None, 1))
    for address in (None, LOCAL):
        with crew.gathered(run, models, 1, address) as workers:
            workers.learn(sampled.metric)
            with pytest.raises(InputError, match="output is empty"):
                list(workers.rows([build.TrainingExample((1, 2), 2)]))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:none"])
def test_an_address_without_a_cluster_is_refused_in_words(trained: Any, address: str) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(ConfigurationError, match=f"no Ray cluster at '{address}'"):
        build_index(trained.base, trained.checkpoints, trained.examples[:2], ray_address=address)


def test_without_ray_it_is_said_how_to_get_it(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match="openledger\\[distributed\\]"):
        build_index(trained.base, trained.checkpoints, trained.examples[:2], ray_address="auto")
