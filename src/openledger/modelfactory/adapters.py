"""LoRA adapters on disk: write, identify, check and load. Safetensors only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from openledger.models import BaseModel, shared_copy
from openledger.primitives.canonical import canonical_bytes, parse_json
from openledger.primitives.errors import InputError, ModelError, NotFoundError, OpenLedgerError
from openledger.primitives.hashing import keccak, keccak_file, to_hex

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_UNCOUNTED = ("peft_version",)


def adapter_digest(path: Path) -> bytes:
    """What identifies an adapter: keccak256 of {"config": …, "weights": …} as canonical JSON, 32 bytes.

    ``weights`` is the keccak256 of the safetensors file; ``config`` the adapter's configuration with its lists
    sorted and without the version of the program that wrote it.

    Raises:
        NotFoundError: one of the two files is missing.
        ModelError: the configuration is not JSON.
    """
    config = {name: value for name, value in read_config(path).items() if name not in _UNCOUNTED}
    canonical = {name: sorted(value) if _is_names(value) else value for name, value in config.items()}
    return keccak(canonical_bytes({"config": canonical, "weights": to_hex(keccak_file(path / WEIGHTS))}))


def read_config(path: Path) -> dict[str, Any]:
    """The adapter's configuration, checked to be that of a LoRA with safetensors weights.

    Raises:
        NotFoundError: the folder, its configuration or its weights are missing.
        ModelError: only pickled weights, no JSON, or another method than LoRA.
    """
    for name in (CONFIG, WEIGHTS):
        if not (path / name).is_file():
            if (path / "adapter_model.bin").exists():
                raise ModelError(f"{path} has only pickled weights, which can run code: save it as safetensors")
            raise NotFoundError(f"{path} is no adapter: it has no {name}")
    try:
        config = parse_json((path / CONFIG).read_bytes())
    except InputError as error:
        raise ModelError(f"{path / CONFIG} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ModelError(f"{path / CONFIG} does not describe a LoRA adapter: only LoRA is served")
    return config


def load_adapter(base: BaseModel, path: Path) -> PeftModel:
    """The base model with an adapter on it, ready to run; ``base`` itself stays as it is and shares its weights.

    Raises:
        NotFoundError: the folder holds no adapter.
        ModelError: it was trained on another base, does not fit this one, has pickled or unreadable weights,
            or values that are not finite.
    """
    config = read_config(path)
    trained_on = config.get("revision")
    if isinstance(trained_on, str) and trained_on.startswith("0x") and trained_on != to_hex(base.digest):
        raise ModelError(
            f"the adapter in {path} was trained on the base {trained_on}, not on {to_hex(base.digest)}: "
            "load the base that it names"
        )
    tensors = read_weights(path)
    try:
        settings = LoraConfig.from_pretrained(str(path))
        settings.base_model_name_or_path = None
        model = get_peft_model(shared_copy(base.model), settings)
        outcome: Any = set_peft_model_state_dict(model, tensors)
    except OpenLedgerError:
        raise
    except Exception as error:
        raise ModelError(
            f"the adapter in {path} does not fit the base: {' '.join(str(error).split())[:300]}"
        ) from error
    absent = [name for name in outcome.missing_keys if "lora_" in name]
    if absent or outcome.unexpected_keys:
        name = (absent + list(outcome.unexpected_keys))[0]
        raise ModelError(f"the adapter in {path} does not fit the base: {name} is only in one of the two")
    loaded: PeftModel = model.eval()
    for parameter in loaded.parameters():
        parameter.requires_grad_(False)
    return loaded


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """The adapter's tensors by name, float32, all finite.

    Raises:
        ModelError: the file is not readable safetensors, or holds a value that is not finite.
    """
    try:
        tensors = load_file(path / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path / WEIGHTS} is not a readable safetensors file: {error}") from error
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ModelError(f"{path / WEIGHTS} holds values that are not finite in {name}: train it again")
    return {name: tensor.float() for name, tensor in tensors.items()}


def save_adapter(model: PeftModel, base: BaseModel, name: str, path: Path) -> None:
    """Write the adapter of a model in peft's format: same adapter, same bytes, and no path of this machine.

    Args:
        model: the model with the adapter.
        base: what it was trained on; its digest is kept as the configuration's ``revision``.
        name: the base's name, kept as ``base_model_name_or_path``.
        path: a folder that does not exist yet.
    """
    path.mkdir(parents=True)
    state = get_peft_model_state_dict(model)
    tensors = {key: value.detach().to("cpu", torch.float32).contiguous() for key, value in sorted(state.items())}
    save_file(tensors, path / WEIGHTS, metadata={"format": "pt"})
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": name, "revision": to_hex(base.digest), "inference_mode": True}
    plain = {key: sorted(value) if isinstance(value, set) else value for key, value in config.items()}
    text = json.dumps(plain, indent=2, sort_keys=True, default=str)
    (path / CONFIG).write_text(text + "\n", encoding="utf-8")


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
