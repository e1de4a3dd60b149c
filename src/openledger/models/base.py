"""Load a base model from the package, a folder or the hub, and identify it by the hash of its files."""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors import SafetensorError, safe_open

from openledger.primitives.canonical import canonical_bytes
from openledger.primitives.errors import ModelError, NotFoundError
from openledger.primitives.hashing import keccak, keccak_file, to_hex

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

SHIPPED = Path(__file__).parent / "base"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
_SHORT = {"BF16": "bfloat16", "F16": "float16"}
"""torch's names for safetensors' of numbers shorter than float32."""
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(?:@[\w.-]+)?")


@dataclass(frozen=True, slots=True, eq=False)
class BaseModel:
    """A base model that is ready to run: float32 unless told otherwise, eager attention, evaluation mode, no gradients.

    Attributes:
        model: the causal language model.
        tokenizer: its tokenizer; it has a chat template and an end-of-sequence token.
        digest: 32 bytes, ``model_digest`` of its folder: what registers and receipts call the base.
        path: the folder that it was loaded from.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: bytes
    path: Path

    @property
    def context(self) -> int:
        """The longest sequence that the model takes, in tokens."""
        return int(getattr(self.model.config, "max_position_embeddings", 0) or self.tokenizer.model_max_length)


def load_base(
    reference: str | Path | None = None, *, device: str | torch.device = "cpu", as_stored: bool = False
) -> BaseModel:
    """Load a base model with safetensors weights; code from the model's folder is never run.

    Args:
        reference: a folder, a hub id such as ``owner/name`` or ``owner/name@revision``, or None for the model
            that ships with the package.
        device: where the weights go.
        as_stored: leaves weights in bfloat16 or float16 if all of the files' are, for a caller who widens them himself;
            nothing is ever rounded.

    Raises:
        NotFoundError: the folder does not exist, or holds no config.json.
        ModelError: no safetensors weights, weights that are unreadable or not finite, an architecture that
            transformers does not know, no usable tokenizer, no chat template, or a hub that gives no answer.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    path = base_folder(reference)
    stored = _check_weights(path)
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            path,
            config=config,
            dtype=getattr(torch, _SHORT[stored]) if as_stored and stored in _SHORT else torch.float32,
            attn_implementation="eager",
            trust_remote_code=False,
            use_safetensors=True,
            local_files_only=True,
        )
    except Exception as error:
        raise ModelError(f"{path} holds no causal language model that transformers can load: {_line(error)}") from error
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = load_tokenizer(path)
    rows = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > rows:
        raise ModelError(f"the tokenizer in {path} has {len(tokenizer)} tokens, the model only {rows} embeddings")
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"the tensor {name} in {path} holds values that are not finite: get the weights again")
        parameter.requires_grad_(False)
    placed: Any = model
    return BaseModel(placed.to(device).eval(), tokenizer, model_digest(path), path)


def load_tokenizer(path: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model's folder; it has a chat template and an end-of-sequence token.

    Raises:
        ModelError: there is none that can be used.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise ModelError(f"{path} holds no tokenizer that transformers can load: {_line(error)}") from error
    if not tokenizer.chat_template:
        raise ModelError(
            f"the tokenizer in {path} has no chat template: use an instruction-tuned model, "
            "or set chat_template in its tokenizer_config.json"
        )
    if tokenizer.eos_token_id is None:
        raise ModelError(f"the tokenizer in {path} has no end-of-sequence token: set eos_token in its config")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    loaded: PreTrainedTokenizerBase = tokenizer
    return loaded


def shared_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own modules over the same tensors, so that an adapter on one does not show on the other."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    duplicate: PreTrainedModel = copy.deepcopy(model, shared)
    return duplicate


def model_files(path: Path) -> dict[str, Path]:
    """The files that make a base model what it is, by name: weights, their index, config, tokenizer."""
    weights = sorted(path.glob("*.safetensors")) + sorted(path.glob("*.safetensors.index.json"))
    others = [path / name for name in ("config.json", *_TOKENIZER_FILES)]
    return {file.name: file for file in (*weights, *others) if file.is_file()}


def model_digest(path: Path) -> bytes:
    """keccak256 of the canonical JSON object that maps each file's name to the keccak256 of its bytes.

    Raises:
        NotFoundError: the folder does not exist or holds none of these files.
    """
    files = model_files(path)
    if not files:
        raise NotFoundError(f"{path} holds no model files: give a folder with config.json and *.safetensors")
    return keccak(canonical_bytes({name: to_hex(keccak_file(file)) for name, file in files.items()}))


def base_folder(reference: str | Path | None = None) -> Path:
    """The folder of a base model; one on the hub is fetched.

    Args:
        reference: see :func:`load_base`.

    Raises:
        NotFoundError: the folder does not exist, or holds no config.json.
        ModelError: the hub gives no answer.
    """
    if reference is None:
        if not (SHIPPED / "config.json").is_file():
            raise NotFoundError(f"the shipped base model is not in {SHIPPED}: install the package again")
        return SHIPPED
    path = Path(reference).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise NotFoundError(f"{path} holds no config.json: give the folder of a transformers model")
        return path.resolve()
    if isinstance(reference, Path) or not _HUB_ID.fullmatch(reference):
        raise NotFoundError(f"the folder {reference} does not exist: give a folder, or a hub id such as owner/name")
    from huggingface_hub import snapshot_download

    name, _, revision = reference.partition("@")
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision or None,
                allow_patterns=["*.safetensors", "*.safetensors.index.json", "config.json", *_TOKENIZER_FILES],
            )
        )
    except Exception as error:
        raise ModelError(
            f"{reference} is no folder here, and the hub did not give it: {_line(error)}. "
            "Check the name and the network, or download it and give the folder"
        ) from error


def _check_weights(path: Path) -> str | None:
    """Checks what can be without reading the weights; safetensors' name of their type if all have the same."""
    types: set[str] = set()
    weights = sorted(path.glob("*.safetensors"))
    if not weights:
        pickled = sorted(file.name for kind in ("*.bin", "*.pt", "*.pth", "*.ckpt") for file in path.glob(kind))
        if pickled:
            raise ModelError(
                f"{path} has only pickled weights ({pickled[0]}), which can run code when read: "
                "convert them to safetensors"
            )
        raise ModelError(f"{path} has no *.safetensors weights: add model.safetensors")
    for file in weights:
        try:
            with safe_open(file, framework="pt") as opened:
                types |= {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{file} is not a readable safetensors file: {_line(error)}") from error
    for index in path.glob("*.safetensors.index.json"):
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index} is not a weight index: {_line(error)}") from error
        if missing := sorted(str(name) for name in names - {file.name for file in weights}):
            raise ModelError(f"{index} names {missing[0]}, which is not among the weights in {path}")
    return types.pop() if len(types) == 1 else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
