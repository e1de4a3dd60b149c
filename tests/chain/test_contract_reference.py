"""What the contracts' page and the check of their documentation make of a compiled source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from openledger.chain import build
from openledger.chain.contract_reference import read_compiled, reference, undocumented

SOURCE = """// SPDX-License-Identifier: Apache-2.0
contract Till is ITill {
    uint256 public total;

    function take(uint256 amount) external {}
}
"""
INTERFACE = """interface ITill {
    function take(uint256 amount) external;
}
"""


def project(folder: Path, documentation: dict[str, Any]) -> Path:
    """A Foundry project of one contract, as if compiled."""
    (folder / "src").mkdir(parents=True)
    (folder / "test").mkdir()
    (folder / "test" / "Till.t.sol").write_text(
        "    function test_attack_TakeTwice() public {\n    function test_Other() {\n"
    )
    abi = [
        {"type": "event", "name": "Taken", "inputs": [{"internalType": "uint256", "name": "amount", "indexed": True}]}
    ]
    layout = {
        "storage": [{"slot": "0", "offset": 0, "label": "total", "type": "t_uint256"}],
        "types": {"t_uint256": {"label": "uint256"}},
    }
    for name, text, docs in (("Till", SOURCE, {}), ("ITill", INTERFACE, documentation)):
        (folder / "src" / f"{name}.sol").write_text(text)
        target = folder / "out" / f"{name}.sol"
        target.mkdir(parents=True)
        metadata = {
            "output": {"userdoc": {"methods": docs.get("user", {})}, "devdoc": {"methods": docs.get("dev", {})}}
        }
        output = {
            "methodIdentifiers": {"take(uint256)": "00", "take(uint256,address)": "01", "total()": "02"},
            "rawMetadata": json.dumps(metadata),
            "abi": abi,
            "storageLayout": layout,
        }
        (target / f"{name}.json").write_text(json.dumps(output))
    return folder


def test_a_function_without_a_notice_or_a_word_on_misuse_is_named(tmp_path: Path) -> None:
    compiled = read_compiled(project(tmp_path, {"user": {"take(uint256)": {"notice": "Takes."}}}))
    assert undocumented(compiled, ["Till"]) == ["Till.take(uint256) lacks @custom:misuse", "Till.total() lacks @notice"]


def test_an_interfaces_documentation_counts_and_an_inherited_overload_needs_none(tmp_path: Path) -> None:
    documented = {
        "user": {"take(uint256)": {"notice": "Takes."}, "total()": {"notice": "Sum."}},
        "dev": {"take(uint256)": {"custom:misuse": "Twice."}},
    }
    assert undocumented(read_compiled(project(tmp_path, documented)), ["Till", "Elsewhere"]) == []


def test_the_page_lists_storage_events_and_named_tests(tmp_path: Path) -> None:
    page = reference(tmp_path, read_compiled(project(tmp_path, {})), ["Till"])
    assert "## Till" in page
    assert "| 0 | 0 | `total` | `uint256` |" in page
    assert "| `Taken` | `uint256 indexed amount` |" in page
    assert "| `test/Till.t.sol` | `test_attack_TakeTwice` |" in page
    assert "test_Other" not in page


def test_coverage_counts_lines_and_branches_of_every_file() -> None:
    lcov = "SF:a.sol\nDA:1,4\nDA:2,0\nBRDA:1,0,0,3\nBRDA:1,0,1,-\nend_of_record\nSF:b.sol\nDA:1,1\nend_of_record\n"
    found = build.coverage_of(lcov)
    assert found["lines"] == {"a.sol:1": True, "a.sol:2": False, "b.sol:1": True}
    assert found["branches"] == {"a.sol:1 branch 0.0": True, "a.sol:1 branch 0.1": False}
