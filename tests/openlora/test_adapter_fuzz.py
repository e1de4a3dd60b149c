"""Hostile adapters: whatever is uploaded, the engine refuses it with an error of its own or serves it, and others notice nothing.

``OPENLEDGER_FUZZ`` sets how many adapters each test tries (``make fuzz-adapters``). A refusal must be one of our errors and say
something; what is accepted must answer; and after each, the base and a sound adapter give the bits that they gave before.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openledger.openlora import AdapterLimits, Engine, EngineLimits, Sampling
from openledger.primitives import OpenLedgerError
from tests.openlora.models import gpt2_base, random_adapter, random_base

EXAMPLES = int(os.environ.get("OPENLEDGER_FUZZ", "150"))
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
HOW = Sampling(max_tokens=2, logprobs=1)
PROMPT = [5, 9, 400, 31]
SETTINGS = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 1000,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
DTYPES = [
    "F32",
    "F16",
    "BF16",
    "F64",
    "I8",
    "I64",
    "U8",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F4",
    "C64",
    "f32",
    "",
    "F" * 99,
]
PATTERNS = [
    "q_proj",
    ".*",
    "(",
    "((a|a)*)*b",
    r"(?:(.)|(..)|(...))*\3\4.?\5(?<=[A-Z])",
    "[",
    "a{9999999}",
    "(?P<n>x)(?P<n>y)",
]
FIELDS = [
    *(
        "r",
        "lora_alpha",
        "rank_pattern",
        "alpha_pattern",
        "target_modules",
        "use_rslora",
        "use_dora",
        "bias",
        "peft_type",
    ),
    *(
        "modules_to_save",
        "trainable_token_indices",
        "layers_to_transform",
        "layers_pattern",
        "fan_in_fan_out",
        "revision",
    ),
    *("init_lora_weights", "lora_bias", "layer_replication", "alora_invocation_tokens", "use_qalora", "arrow_config"),
    *(
        "megatron_config",
        "megatron_core",
        "auto_mapping",
        "base_model_name_or_path",
        "target_parameters",
        "loftq_config",
    ),
    *("corda_config", "eva_config", "exclude_modules", "lora_dropout", "inference_mode", "task_type", "runtime_config"),
]
numbers = st.one_of(
    st.integers(-3, 300),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, -(2**63), 10**20, 10**400]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([1e308, -1e308, 5e-324, 1e31, 0.0, -0.0]),
)
texts = st.one_of(
    st.sampled_from(
        [*PATTERNS, "0x" + "22" * 32, "pissa", "all", "lora_only", "lm_head", "embed_tokens", "norm", "os"]
    ),
    st.text(max_size=12),
    st.sampled_from(["a" * 5000, "../../etc/passwd", "/etc/passwd", "\x00", "model.layers.1", "all-linear"]),
)
values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


class Adapter:
    """An adapter in parts that can be spoiled one by one."""

    def __init__(self, folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.header: Any = json.loads(data[8 : 8 + length])
        self.header.pop("__metadata__", None)
        self.body = bytearray(data[8 + length :])
        self.config: Any = json.loads((folder / CONFIG).read_text())
        self.length: int | None = None
        self.header_text: bytes | None = None
        self.config_text: bytes | None = None
        self.files: list[Callable[[Path], None]] = []

    def write(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        text = json.dumps(self.header).encode() if self.header_text is None else self.header_text
        length = len(text) if self.length is None else self.length
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + text + self.body)
        config = json.dumps(self.config).encode() if self.config_text is None else self.config_text
        (folder / CONFIG).write_bytes(config)
        for change in self.files:
            change(folder)


def _tensor(draw: st.DrawFn, adapter: Adapter) -> Any:
    name = draw(st.sampled_from(sorted(adapter.header)))
    return name, adapter.header[name]


def spoil_length(draw: st.DrawFn, adapter: Adapter) -> None:
    adapter.length = draw(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 7, 10 << 30, 2**63, 2**64 - 1])))


def spoil_dtype(draw: st.DrawFn, adapter: Adapter) -> None:
    _tensor(draw, adapter)[1]["dtype"] = draw(st.one_of(st.sampled_from(DTYPES), values))


def spoil_shape(draw: st.DrawFn, adapter: Adapter) -> None:
    tensor = _tensor(draw, adapter)[1]
    tensor["shape"] = draw(
        st.one_of(
            st.lists(st.one_of(st.integers(-2, 300), numbers), max_size=4),
            st.permutations(tensor["shape"] if isinstance(tensor["shape"], list) else []),
            values,
        )
    )


def spoil_offsets(draw: st.DrawFn, adapter: Adapter) -> None:
    tensor, other = _tensor(draw, adapter)[1], _tensor(draw, adapter)[1]
    old = other["data_offsets"]
    tensor["data_offsets"] = draw(
        st.one_of(
            st.just(old),
            st.lists(st.integers(0, 70_000), min_size=2, max_size=2),
            st.lists(numbers, max_size=3),
            values,
        )
    )


def spoil_rank(draw: st.DrawFn, adapter: Adapter) -> None:
    """A rank of any size that the header and the bytes agree on."""
    rank, outputs, inputs = draw(st.sampled_from([0, 1, 5, 64, 65, 300])), 96, 96
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    adapter.header = {
        f"{stem}.lora_A.weight": {"dtype": "F32", "shape": [rank, inputs], "data_offsets": [0, 4 * rank * inputs]},
        f"{stem}.lora_B.weight": {
            "dtype": "F32",
            "shape": [outputs, rank],
            "data_offsets": [4 * rank * inputs, 4 * rank * (inputs + outputs)],
        },
    }
    adapter.body = bytearray(struct.pack("<f", 0.01) * (rank * (inputs + outputs)))
    adapter.config["r"] = draw(st.sampled_from([rank, 8]))


def spoil_name(draw: st.DrawFn, adapter: Adapter) -> None:
    name, tensor = _tensor(draw, adapter)
    del adapter.header[name]
    stem = name.rsplit(".lora_", 1)[0]
    adapter.header[
        draw(
            st.one_of(
                st.sampled_from(
                    [
                        *(f"{stem}.lora_magnitude_vector", f"{stem}.bias", f"{stem}.lora_B.bias", f"{stem}.weight"),
                        *(f"{stem}.base_layer.weight", "base_model.model.model.embed_tokens.weight", "", "." * 99),
                        *("base_model.model.model.norm.weight", "base_model.model.lm_head.weight", name + ".x"),
                        *("base_model.model.transformer.wte.weight", name.replace("0", "٠"), name.replace("0", "00")),
                        *(name.replace("0", "999999999"), name.replace("model.", "../", 1), name.upper(), "x" * 70_000),
                    ]
                ),
                texts,
            )
        )
    ] = tensor


def drop_tensor(draw: st.DrawFn, adapter: Adapter) -> None:
    del adapter.header[_tensor(draw, adapter)[0]]


def spoil_body(draw: st.DrawFn, adapter: Adapter) -> None:
    for _ in range(draw(st.integers(1, 4))):
        put = draw(
            st.one_of(
                st.sampled_from([b"\x00\x00\xc0\x7f", b"\x00\x00\x80\x7f", b"\xff\xff\x7f\x7f", b"\x01\x00\x00\x00"]),
                st.binary(max_size=9),
            )
        )
        at = draw(st.integers(0, max(0, len(adapter.body) - 1)))
        adapter.body[at : at + len(put)] = put
    if draw(st.booleans()):
        adapter.body = adapter.body[: draw(st.integers(0, len(adapter.body)))]


def spoil_header(draw: st.DrawFn, adapter: Adapter) -> None:
    text = json.dumps(adapter.header).encode()
    adapter.header_text = draw(
        st.one_of(
            st.sampled_from(
                [
                    *(
                        b"",
                        b"[]",
                        b"{}",
                        b"null",
                        b"\xff\xfe" + text,
                        text + b" " * 4096,
                        text[:-1],
                        b"\xef\xbb\xbf" + text,
                    ),
                    *(b"[" * 50_000, b'{"a":' * 50_000, text[:-1] + b"," + text[1:], text + text, b" " + text),
                    *(text.replace(b"lora_A", b"lora_\xff"), text[:-1] + b',"__metadata__":{"a":[[[]]]}}'),
                    text[:-1] + b',"__metadata__":{"format":"pt","x":"' + b"y" * 100_000 + b'"}}',
                ]
            ),
            st.binary(max_size=60),
        )
    )


def spoil_field(draw: st.DrawFn, adapter: Adapter) -> None:
    patterns = st.dictionaries(st.sampled_from(PATTERNS), values, max_size=3)
    field = draw(st.sampled_from(FIELDS))
    adapter.config[field] = draw(st.one_of(values, patterns) if field.endswith("_pattern") else values)


def spoil_config(draw: st.DrawFn, adapter: Adapter) -> None:
    text = json.dumps(adapter.config).encode()
    adapter.config_text = draw(
        st.one_of(
            st.sampled_from(
                [
                    *(
                        b"",
                        b"[]",
                        b"null",
                        b"7",
                        b'"LORA"',
                        b"\xff" + text,
                        b"\xef\xbb\xbf" + text,
                        text[:-3],
                        text + b"x",
                    ),
                    *(b"[" * 200_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000, text[:-1] + b"," + text[1:]),
                    *(
                        text[:-1] + b',"r":8}',
                        b'{"peft_type":"LORA","r":' + b"9" * 5000 + b"}",
                        text + b" " * (1 << 20),
                    ),
                    *(text[:-1] + b',"lora_alpha":NaN}', text[:-1] + b',"x":1e999}', text[:-1] + b',"x":-Infinity}'),
                    b'{"peft_type":"LORA","r":8,"lora_alpha":16,"rank_pattern":{'
                    + b",".join(b'"m%d":8' % number for number in range(30_000))
                    + b"}}",
                ]
            ),
            st.binary(max_size=40),
            values.map(lambda value: json.dumps(value).encode()),
        )
    )


def spoil_files(draw: st.DrawFn, adapter: Adapter) -> None:
    name = draw(st.sampled_from([WEIGHTS, CONFIG]))

    def outside(folder: Path) -> None:
        path, target = folder / name, folder.parent / f"outside-{name}"
        if path.is_file() and not path.is_symlink():
            path.replace(target)
            path.symlink_to(target)

    def replace(make: Callable[[Path], object]) -> Callable[[Path], None]:
        def change(folder: Path) -> None:
            path = folder / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            if not path.exists():
                make(path)

        return change

    def sparse(folder: Path) -> None:
        path = folder / name
        if path.is_file() and not path.is_symlink():
            os.truncate(path, 10 << 30)

    adapter.files.append(
        draw(
            st.sampled_from(
                [
                    outside,
                    sparse,
                    replace(lambda path: path.mkdir()),
                    replace(os.mkfifo),
                    replace(lambda path: path.symlink_to(path)),
                    replace(lambda path: path.symlink_to("/dev/zero")),
                    replace(lambda path: path.symlink_to("/etc/passwd")),
                    replace(lambda _path: None),
                ]
            )
        )
    )


SPOILS = [
    *(
        spoil_length,
        spoil_dtype,
        spoil_shape,
        spoil_offsets,
        spoil_rank,
        spoil_name,
        drop_tensor,
        spoil_body,
        spoil_header,
    ),
    *(spoil_field, spoil_field, spoil_config, spoil_files),
]


@st.composite
def hostile(draw: st.DrawFn, sound: Path) -> Adapter:
    adapter = Adapter(sound)
    for spoil in draw(st.lists(st.sampled_from(SPOILS), min_size=1, max_size=3)):
        if adapter.header and all(isinstance(one, dict) for one in adapter.header.values()):
            spoil(draw, adapter)
    return adapter


class Target:
    """An engine with a sound adapter, and what it answers."""

    def __init__(self, engine: Engine, folder: Path, **adapter: Any) -> None:
        self.engine = engine
        self.sound, self.room = folder / "sound", folder / "hostile"
        random_adapter(engine.base, self.sound, **adapter)
        engine.add("sound", self.sound)
        self.right = self.answers()
        self.outcomes: Counter[str] = Counter()

    def answers(self) -> list[Any]:
        found = self.engine.generate_many([(None, PROMPT), ("sound", PROMPT)], HOW)
        return [(one, one.logprobs) for one in found]

    def attack(self, adapter: Adapter) -> None:
        adapter.write(self.room)
        refused = None
        try:
            self.engine.add("hostile", self.room)
        except OpenLedgerError as error:
            refused = str(error)
        if refused is not None:
            assert 20 < len(refused) < 2000
            self.outcomes["refused"] += 1
        else:
            assert self.engine.complete("hostile", PROMPT, HOW).token_ids
            self.engine.remove("hostile")
            self.outcomes["served"] += 1
        assert self.answers() == self.right
        assert self.engine.adapters == {"sound"}


@pytest.fixture(scope="module")
def fused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    limits, adapter_limits = EngineLimits(batch=4, chunk=16, prefix_bytes=0), AdapterLimits(rank=64, file_bytes=1 << 20)
    with Engine(random_base(), limits, adapter_limits=adapter_limits) as engine:
        target = Target(engine, tmp_path_factory.mktemp("fused"), target_modules=["q_proj", "down_proj"])
        yield target
        print(f"\nfused decoder: {dict(target.outcomes)}")


@pytest.fixture(scope="module")
def through_peft(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with Engine(gpt2_base(), adapter_limits=AdapterLimits(rank=64, file_bytes=1 << 20)) as engine:
        settings_ = {"target_modules": ["c_attn"], "modules_to_save": ["ln_f"], "fan_in_fan_out": True}
        target = Target(engine, tmp_path_factory.mktemp("peft"), **settings_)
        yield target
        print(f"\nthrough peft: {dict(target.outcomes)}")


@SETTINGS
@given(data=st.data())
def test_hostile_adapters_are_refused_or_served_and_others_notice_nothing(fused: Target, data: st.DataObject) -> None:
    fused.attack(data.draw(hostile(fused.sound)))


@SETTINGS
@given(data=st.data())
def test_the_same_holds_where_peft_runs_them(through_peft: Target, data: st.DataObject) -> None:
    through_peft.attack(data.draw(hostile(through_peft.sound)))


def test_an_adapter_cannot_write_over_the_base_that_others_use(through_peft: Target) -> None:
    adapter = Adapter(through_peft.sound)
    name = next(name for name in adapter.header if "ln_f.weight" in name)
    adapter.header["base_model.model.transformer.h.0.ln_1.weight"] = adapter.header.pop(name)
    adapter.write(through_peft.room)
    with pytest.raises(OpenLedgerError, match="may change"):
        through_peft.engine.add("hostile", through_peft.room)
    assert through_peft.answers() == through_peft.right
