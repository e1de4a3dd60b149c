"""What an uploader sends is not trusted: broken, foreign and hostile adapters are refused, and nothing is left behind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from openledger.openlora.adapters import AdapterLimits, AdapterStore, read_factors, unpack, weighted_sum, write_factors
from openledger.openlora.shapes import MODULES, Dimensions
from openledger.primitives import InputError, ModelError, OpenLedgerError

SIZE = Dimensions(layers=2, hidden=16, heads=2, kv_heads=1, head_size=8, feed_forward=24, vocabulary=64)
BASE = "0x" + "11" * 32


def write(folder: Path, rank: int = 3, **config: object) -> Path:
    folder.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(rank)
    tensors = {}
    for layer in range(SIZE.layers):
        for site in ("q", "v", "gate", "down"):
            inputs, outputs = SIZE.site(site)
            name = f"base_model.model.model.layers.{layer}.{MODULES[site]}"
            tensors[f"{name}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator)
            tensors[f"{name}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("sound") / "adapter")


def linear(_layer: int, site: str) -> tuple[torch.Tensor, None]:
    inputs, outputs = SIZE.site(site)
    return torch.ones(outputs, inputs), None


def store(path: Path, **limits: Any) -> AdapterStore:
    return AdapterStore(path / "store", SIZE, BASE, AdapterLimits(**limits), linear)


def test_an_adapter_is_kept_once_under_the_hash_of_its_content(sound: Path, tmp_path: Path) -> None:
    kept = store(tmp_path)
    first, again = kept.take(sound), kept.take(sound)
    assert first == again
    assert [path.name for path in (tmp_path / "store").iterdir()] == [f"0x{first.digest.hex()}.lora"]
    assert kept.take(write(tmp_path / "other", rank=5)).digest != first.digest


def test_the_file_gives_the_factors_back_with_their_scaling(sound: Path, tmp_path: Path) -> None:
    stored = store(tmp_path).take(sound)
    given_, found = read_factors(sound, SIZE, BASE, AdapterLimits()), unpack(stored.open(), stored.layout)
    assert found.keys() == given_.keys()
    for key, change in given_.items():
        assert torch.equal(found[key].a[:3], change.a)
        assert torch.equal(found[key].b[:, :3], change.b)
        assert not found[key].a[3:].any()


def change_tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "adapter_model.safetensors"
        tensors = load_file(path)
        full = next(key for key in tensors if name in key)
        tensors[full] = change(tensors[full])
        save_file(tensors, path)

    return spoil


def write_bytes(name: str, data: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(data) and None


def change_config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return spoil


def rename_module(folder: Path) -> None:
    path = folder / "adapter_model.safetensors"
    save_file({key.replace("layers.1", "layers.9"): value for key, value in load_file(path).items()}, path)


def point_out(folder: Path) -> None:
    outside = folder.parent / "secret.safetensors"
    shutil.move(folder / "adapter_model.safetensors", outside)
    (folder / "adapter_model.safetensors").symlink_to(outside)


WEIGHTS = "adapter_model.safetensors"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (write_bytes(WEIGHTS, b"not safetensors at all"), "declares a header"),
        (write_bytes(WEIGHTS, (10 << 30).to_bytes(8, "little") + b"{}"), "header of 10,737,418,240 bytes"),
        (write_bytes(WEIGHTS, (2).to_bytes(8, "little") + b"{]"), "no safetensors file"),
        (write_bytes(WEIGHTS, b""), "declares a header"),
        (change_tensor("lora_A", lambda tensor: tensor[:, :-1].contiguous()), "this base needs"),
        (change_tensor("lora_B", lambda tensor: tensor.fill_(float("nan"))), "not finite"),
        (change_tensor("lora_B", lambda tensor: tensor.fill_(float("inf"))), "not finite"),
        (change_tensor("lora_A", lambda tensor: tensor.long()), "floating-point"),
        (rename_module, "which has 2 layers"),
        (point_out, "points out of its folder"),
        (lambda folder: (folder / WEIGHTS).unlink(), "has no adapter_model.safetensors"),
        (lambda folder: (folder / WEIGHTS).rename(folder / "adapter_model.bin"), "pickled"),
        (write_bytes("adapter_config.json", b"{"), "not JSON"),
        (change_config(peft_type="IA3"), "only LoRA"),
        (change_config(r=7), "gives self_attn"),
        (change_config(lora_alpha="many"), "must be a number"),
        (change_config(lora_alpha=10**400), "must be a number"),
        (change_config(alpha_pattern={r"(?:(.)|(..)|(...))*\3\4.?\5(?<=[A-Z])": 3}), "takes too long"),
        (change_config(init_lora_weights="pissa_niter_4"), "changes the base's weights"),
        (change_config(use_dora=True), "lacks its magnitude"),
        (change_config(lora_alpha=1e999), "JSON"),
        (change_config(revision="0x" + "22" * 32), "trained on the base 0x22"),
        (change_config(alpha_pattern={"(": 3}), "regular expression"),
    ],
)
def test_a_spoiled_adapter_is_refused_and_leaves_nothing(
    sound: Path, tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(sound, folder)
    spoil(folder)
    with pytest.raises(OpenLedgerError, match=message.replace("gives self_attn", "gives model.layers.0")):
        store(tmp_path).take(folder)
    assert list((tmp_path / "store").iterdir()) == []


def test_limits_of_rank_and_size_are_kept(sound: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="rank 3"):
        store(tmp_path, rank=2).take(sound)
    with pytest.raises(ModelError, match="at most 100 are accepted"):
        store(tmp_path, file_bytes=100).take(sound)
    with pytest.raises(InputError, match="rank limit"):
        AdapterLimits(rank=100_000)
    with pytest.raises(InputError, match="float16"):
        AdapterLimits(precision="float16")  # type: ignore[arg-type]


def test_an_ensemble_in_pefts_format_changes_what_its_parts_change_together(sound: Path, tmp_path: Path) -> None:
    weights = {sound: -0.4, write(tmp_path / "other", rank=5, use_rslora=True): 1.5}
    parts = [(read_factors(folder, SIZE, BASE, AdapterLimits()), weight) for folder, weight in weights.items()]
    del parts[0][0][0, "q"]
    (tmp_path / "mixed").mkdir()
    write_factors(tmp_path / "mixed", weighted_sum(parts, 8))
    config = LlamaConfig(
        vocab_size=SIZE.vocabulary,
        hidden_size=SIZE.hidden,
        intermediate_size=SIZE.feed_forward,
        num_hidden_layers=SIZE.layers,
        num_attention_heads=SIZE.heads,
        num_key_value_heads=SIZE.kv_heads,
    )
    peft = PeftModel.from_pretrained(LlamaForCausalLM(config), str(tmp_path / "mixed"))
    for layer in range(SIZE.layers):
        for site in ("q", "v", "gate", "down"):
            module = peft.get_submodule(f"base_model.model.model.layers.{layer}.{MODULES[site]}")
            right = sum(w * f[layer, site].b @ f[layer, site].a for f, w in parts if (layer, site) in f)
            assert torch.allclose(module.get_delta_weight("default"), right, atol=1e-5)
    with pytest.raises(InputError, match="ranks sum to 8"):
        weighted_sum(parts, 7)


def test_an_ensemble_above_the_rank_limit_is_refused(sound: Path, tmp_path: Path) -> None:
    kept = store(tmp_path, rank=10)
    stored = kept.take(sound)
    with pytest.raises(InputError, match="sum to 12"):
        kept.combine([(stored, 0.1)] * 3)
    with pytest.raises(InputError, match="finite"):
        kept.combine([(stored, float("nan"))])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=12)), min_size=1, max_size=4), config=st.booleans())
def test_any_damage_is_an_error_of_ours_or_harmless(
    sound: Path, tmp_path: Path, cuts: list[tuple[float, bytes]], config: bool
) -> None:
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    path = folder / ("adapter_config.json" if config else WEIGHTS)
    data = path.read_bytes()
    for where, put in cuts:
        # Most of the damage goes where the structure is.
        place = int(where * where * len(data))
        data = data[:place] + put + data[place + len(put) :] if put else data[:place]
    path.write_bytes(data)
    try:
        stored = store(tmp_path).take(folder)
    except OpenLedgerError:
        return
    assert torch.isfinite(stored.open()).all()


def test_factors_that_bfloat16_holds_are_kept_in_it_without_rounding(tmp_path: Path) -> None:
    folder = write(tmp_path / "short", rank=4)
    weights = load_file(folder / "adapter_model.safetensors")
    save_file({name: one.bfloat16() for name, one in weights.items()}, folder / "adapter_model.safetensors")
    kept, exact = store(tmp_path).take(folder), store(tmp_path).take(write(tmp_path / "long", rank=4))
    assert (kept.layout.precision, exact.layout.precision) == ("bfloat16", "float32")
    assert 2 * kept.layout.size == exact.layout.size
    for (layer, site), change in unpack(kept.open(), kept.layout).items():
        name = f"base_model.model.model.layers.{layer}.{MODULES[site]}"
        assert torch.equal(change.a, weights[f"{name}.lora_A.weight"].bfloat16().float())
        assert torch.equal(change.b, 2 * weights[f"{name}.lora_B.weight"].bfloat16().float())
    odd = write(tmp_path / "odd", rank=4, lora_alpha=5)
    save_file({name: one.bfloat16() for name, one in weights.items()}, odd / "adapter_model.safetensors")
    assert store(tmp_path).take(odd).layout.precision == "float32"
