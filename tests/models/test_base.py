"""Base models are loaded from safetensors only, identified by their files, and refused with clear words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from openledger.models import BaseModel, load_base, model_digest, model_files
from openledger.models.base import SHIPPED
from openledger.primitives import canonical_bytes, keccak, to_hex
from openledger.primitives.errors import ModelError, NotFoundError


def test_the_shipped_base_is_ready_to_run(shipped: BaseModel) -> None:
    assert shipped.path == SHIPPED
    assert not shipped.model.training
    assert {parameter.dtype for parameter in shipped.model.parameters()} == {torch.float32}
    assert not any(parameter.requires_grad for parameter in shipped.model.parameters())
    assert shipped.model.config._attn_implementation == "eager"
    assert shipped.context == 512
    assert len(shipped.digest) == 32


def test_the_shipped_base_is_small_and_has_a_card_with_its_sources() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.glob("*.safetensors")) <= 25_000_000
    card = (SHIPPED / "README.md").read_text()
    log = json.loads((SHIPPED / "training.json").read_text())
    assert all(name in card and source["licence"] in card for name, source in log["sources"].items())
    assert f"{log['held_out']['documents_nats_per_token']:.3f} nats" in card


def test_the_shipped_base_has_learned_its_language(shipped: BaseModel) -> None:
    def loss(text: str) -> float:
        tokens = torch.tensor([[1, *shipped.tokenizer(text, add_special_tokens=False)["input_ids"]]])
        return float(shipped.model(input_ids=tokens, labels=tokens).loss)

    english = "This package contains the documentation of the library and examples of how to use it."
    assert loss(english) < 3.2
    assert loss(" ".join(reversed(english.split()))) > loss(english) + 0.5


def test_a_digest_is_the_hash_of_the_files_that_make_the_model(small_folder: Path) -> None:
    files = {path.name: to_hex(keccak(path.read_bytes())) for path in model_files(small_folder).values()}
    assert set(files) == {"model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"}
    assert model_digest(small_folder) == keccak(canonical_bytes(files)) == load_base(small_folder).digest


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_digest_changes_with_any_of_its_files(folder: Path, name: str) -> None:
    before = model_digest(folder)
    with (folder / name).open("ab") as stream:
        stream.write(b" ")
    assert model_digest(folder) != before


def test_a_digest_does_not_change_with_a_readme(folder: Path) -> None:
    before = model_digest(folder)
    (folder / "README.md").write_text("about this model")
    assert model_digest(folder) == before


def test_the_same_folder_gives_the_same_model_twice(small_folder: Path) -> None:
    first, second = load_base(small_folder), load_base(str(small_folder))
    tokens = torch.arange(10, 30)[None]
    assert first.digest == second.digest
    assert torch.equal(first.model(tokens).logits, second.model(tokens).logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_numbers_are_widened_unless_they_are_asked_for_as_stored(folder: Path, dtype: torch.dtype) -> None:
    file = folder / "model.safetensors"
    weights = {name: tensor.to(dtype) for name, tensor in load_file(file).items()}
    save_file(weights, file, {"format": "pt"})
    kept, wide = load_base(folder, as_stored=True).model, load_base(folder).model
    assert {one.dtype for one in kept.parameters()} == {dtype}
    assert {one.dtype for one in wide.parameters()} == {torch.float32}
    assert all(torch.equal(a.float(), b) for a, b in zip(kept.parameters(), wide.parameters(), strict=True))


def test_numbers_of_several_kinds_are_never_rounded_to_what_the_config_says(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    short = {name: tensor.bfloat16() if "proj" in name else tensor for name, tensor in weights.items()}
    save_file(short, file, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    model = load_base(folder, as_stored=True).model
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    assert torch.equal(model.model.norm.weight, weights["model.norm.weight"])


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(NotFoundError, match="nowhere/at/all does not exist"):
        load_base("nowhere/at/all")
    with pytest.raises(NotFoundError, match="does not exist"):
        load_base(Path("owner/name"))


def test_a_folder_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no config\.json"):
        load_base(tmp_path)
    with pytest.raises(NotFoundError, match="no model files"):
        model_digest(tmp_path)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="only pickled weights"):
        load_base(folder)


def test_missing_and_broken_weights_are_told_apart(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"not a tensor in sight")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_base(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \*\.safetensors weights"):
        load_base(folder)


def test_an_index_may_name_only_weights_of_its_own_folder(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../elsewhere.safetensors"}}))
    with pytest.raises(ModelError, match="not among the weights"):
        load_base(folder)
    index.write_text("[]")
    with pytest.raises(ModelError, match="not a weight index"):
        load_base(folder)


def test_weights_that_are_not_finite_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"model\.norm\.weight .*not finite"):
        load_base(folder)


def test_an_unknown_architecture_is_refused_and_its_code_is_not_run(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "strange", "architectures": ["Strange"], "auto_map": {"AutoConfig": "own.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(
        "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\nclass Config: ...\n"
    )
    with pytest.raises(ModelError, match="no causal language model"):
        load_base(folder)
    assert not (folder / "ran").exists()


def test_a_tokenizer_must_be_there_and_have_a_chat_template(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": None}))
    with pytest.raises(ModelError, match="no chat template"):
        load_base(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load_base(folder)


def test_a_tokenizer_of_another_model_is_refused(folder: Path) -> None:
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    value["added_tokens"].append({**value["added_tokens"][0], "id": 4096, "content": "<|more|>"})
    path.write_text(json.dumps(value))
    with pytest.raises(ModelError, match="4097 tokens, the model only 4096"):
        load_base(folder)


def test_a_hub_that_gives_no_answer_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="the hub did not give it"):
        load_base("openledger-no-such/model")
