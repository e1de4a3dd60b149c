"""Adapters are identified by what they are, and only a whole, fitting, finite safetensors adapter is loaded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from openledger.modelfactory import TrainingRun, adapter_digest, load_adapter
from openledger.modelfactory.adapters import CONFIG, WEIGHTS
from openledger.models import BaseModel, shared_copy
from openledger.primitives import keccak
from openledger.primitives.errors import ModelError, NotFoundError


@pytest.fixture
def adapter(run: TrainingRun, tmp_path: Path) -> Path:
    """A copy of a trained adapter that a test may spoil."""
    shutil.copytree(run.adapter, tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_changes_the_answers_and_not_the_base(base: BaseModel, run: TrainingRun) -> None:
    tokens = torch.arange(20, 40)[None]
    before = base.model(tokens).logits
    tuned = load_adapter(base, run.adapter)
    assert not torch.allclose(tuned(tokens).logits, before, atol=0.1)
    assert torch.equal(base.model(tokens).logits, before)
    assert not any("lora_" in name for name, _ in base.model.named_modules())
    assert not tuned.training
    assert not any(parameter.requires_grad for parameter in tuned.parameters())


def test_peft_itself_loads_the_same_adapter(base: BaseModel, run: TrainingRun) -> None:
    tokens = torch.arange(20, 40)[None]
    theirs = PeftModel.from_pretrained(shared_copy(base.model), str(run.adapter))
    assert torch.equal(theirs(tokens).logits, load_adapter(base, run.adapter)(tokens).logits)


def test_the_tuned_model_shares_the_base_weights(base: BaseModel, run: TrainingRun) -> None:
    tuned = load_adapter(base, run.adapter)
    addresses = {parameter.data_ptr() for parameter in tuned.parameters()}
    assert all(parameter.data_ptr() in addresses for parameter in base.model.parameters())


def test_a_digest_counts_weights_and_configuration_but_not_who_wrote_it(adapter: Path) -> None:
    before = adapter_digest(adapter)
    config = json.loads((adapter / CONFIG).read_text())
    targets = list(reversed(config["target_modules"]))
    reordered = dict(reversed(list(config.items()))) | {"peft_version": "0.0", "target_modules": targets}
    (adapter / CONFIG).write_text(json.dumps(reordered))
    assert adapter_digest(adapter) == before
    (adapter / CONFIG).write_text(json.dumps(config | {"lora_alpha": config["lora_alpha"] + 1}))
    assert adapter_digest(adapter) != before
    (adapter / CONFIG).write_text(json.dumps(config))
    tensors = load_file(adapter / WEIGHTS)
    tensors[sorted(tensors)[0]] += 1e-3
    save_file(tensors, adapter / WEIGHTS)
    assert adapter_digest(adapter) != before


def test_an_adapter_of_another_base_is_refused(base: BaseModel, adapter: Path) -> None:
    with pytest.raises(ModelError, match="was trained on the base 0x"):
        load_adapter(replace(base, digest=keccak(b"another")), adapter)


def test_an_adapter_that_does_not_fit_is_refused(base: BaseModel, adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    name = sorted(tensors)[0]
    save_file({key: value for key, value in tensors.items() if key != name}, adapter / WEIGHTS)
    with pytest.raises(ModelError, match="does not fit the base"):
        load_adapter(base, adapter)
    save_file(tensors | {"base_model.model.strange.lora_A.weight": torch.ones(2, 2)}, adapter / WEIGHTS)
    with pytest.raises(ModelError, match="strange"):
        load_adapter(base, adapter)
    save_file(tensors | {name: torch.ones(3, 3)}, adapter / WEIGHTS)
    with pytest.raises(ModelError, match="does not fit the base"):
        load_adapter(base, adapter)


def test_values_that_are_not_finite_are_refused(base: BaseModel, adapter: Path) -> None:
    tensors = load_file(adapter / WEIGHTS)
    tensors[sorted(tensors)[0]][0, 0] = float("inf")
    save_file(tensors, adapter / WEIGHTS)
    with pytest.raises(ModelError, match="not finite"):
        load_adapter(base, adapter)


def test_files_that_are_no_adapter_are_told_apart(base: BaseModel, adapter: Path) -> None:
    config = json.loads((adapter / CONFIG).read_text())
    (adapter / CONFIG).write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(ModelError, match="only LoRA is served"):
        load_adapter(base, adapter)
    (adapter / CONFIG).write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        adapter_digest(adapter)
    (adapter / CONFIG).write_text(json.dumps(config))
    (adapter / WEIGHTS).write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_adapter(base, adapter)
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        load_adapter(base, adapter)
    with pytest.raises(NotFoundError, match="is no adapter"):
        adapter_digest(adapter / "deeper")
