"""An agent's definition: one canonical document with one hash, refused in plain words where it is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openledger.openlora import Sampling
from openledger.primitives import InputError, canonical_bytes, keccak, parse_json
from openledger.storage import BlobStore
from openledger.studio import AgentDefinition, Prompt, read_definition
from openledger.studio.agents import named_agent

LEAST: dict[str, Any] = {"name": "triage", "model": 1}
FULL: dict[str, Any] = {
    **LEAST,
    "instructions": "Answer in one sentence.",
    "sampling": {"max_tokens": 12, "temperature": 0.5},
    "retrieval": 2,
    "tools": [
        {"kind": "search"},
        {"kind": "ask", "model": 1},
        {"kind": "ask", "agent": 2},
        {"kind": "mcp", "server": "clock", "tools": ["now"]},
    ],
    "plan": [{"tool": "search", "arguments": {"query": "{question}"}}],
    "limits": {"steps": 3, "spend": "0.5"},
    "triggers": [{"kind": "schedule", "seconds": 60, "question": "What is new?"}],
}


@pytest.mark.parametrize("document", [LEAST, FULL])
def test_what_is_published_is_canonical_and_read_back_by_its_hash(document: dict[str, Any], tmp_path: Path) -> None:
    definition = AgentDefinition.read(document)
    blobs = BlobStore(tmp_path)
    assert blobs.put_json(definition.document()) == definition.digest == keccak(canonical_bytes(definition.document()))
    assert read_definition(blobs, definition.digest) == definition


@given(st.text(max_size=50), st.floats(0, 2), st.integers(1, 16))
def test_another_definition_is_another_hash(instructions: str, temperature: float, steps: int) -> None:
    one = AgentDefinition.read({**LEAST, "instructions": instructions, "limits": {"steps": steps}})
    changed = AgentDefinition.read({**LEAST, "instructions": instructions + "!", "limits": {"steps": steps}})
    warmer = AgentDefinition.read(one.document() | {"sampling": {"temperature": temperature}})
    assert one.digest != changed.digest
    assert (warmer.digest == one.digest) is (temperature == 0)
    assert AgentDefinition.read(parse_json(canonical_bytes(warmer.document()))).digest == warmer.digest


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "a b"}, "name"),
        ({"model": 0}, "model"),
        ({"colour": "red"}, "colour"),
        ({"tools": [{"kind": "shell"}]}, "shell"),
        ({"tools": [{"kind": "ask"}]}, "a model or an agent"),
        ({"tools": [{"kind": "ask", "model": 1, "agent": 1}]}, "a model or an agent"),
        ({"tools": [{"kind": "search"}, {"kind": "search"}]}, "stands twice"),
        ({"plan": [{"tool": "search"}]}, "none of its tools"),
        ({"tools": [{"kind": "search"}], "plan": [{"tool": "search"}], "limits": {"steps": 1}}, "leave none of 1"),
        ({"limits": {"spend": "0"}}, "more than 0 OPEN"),
        ({"limits": {"spend": "1e3"}}, "limits: .*spend: not an amount of OPEN: '1e3'"),
        ({"limits": {"steps": 17}}, "steps"),
        ({"triggers": [{"kind": "schedule", "seconds": 1, "question": "?"}]}, "seconds"),
        ({"sampling": {"temperature": 3}}, "temperature"),
    ],
)
def test_what_is_wrong_with_a_definition_is_said(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        AgentDefinition.read({**LEAST, **change})


def test_a_published_document_that_leaves_out_defaults_is_not_taken(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path)
    with pytest.raises(InputError, match="leaves out defaults"):
        read_definition(blobs, blobs.put_json(LEAST))


def test_a_receipts_prompt_commits_to_the_agent_and_says_nothing_of_one_where_there_is_none() -> None:
    definition = AgentDefinition.read(FULL)
    question = [{"role": "user", "content": "What happened?"}]
    prompt = definition.asked(7, question)
    document = prompt.to_json(definition.written())
    assert document["agent"] == {"number": 7, "definition": "0x" + definition.digest.hex()}
    read, sampling = Prompt.from_json(parse_json(canonical_bytes(document)))
    assert (read, sampling) == (prompt, definition.written())
    assert "agent" not in Prompt.chat(question).to_json(Sampling())


@pytest.mark.parametrize(
    ("name", "found"),
    [("agent:triage", "triage"), ("agent/12", 12), ("agent/x", None), ("triage", None), ("agent/" + "1" * 40, None)],
)
def test_an_agent_is_named_by_its_name_or_its_number(name: str, found: object) -> None:
    assert named_agent(name) == found
