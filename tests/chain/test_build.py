"""The toolchain: programs are found or asked for plainly, and shipped artifacts are what the source compiles to."""

from __future__ import annotations

from pathlib import Path

import pytest

from openledger.chain import build, toolchain
from openledger.chain.artifacts import CONTRACTS, creation_code, load_artifact
from openledger.primitives import ConfigurationError

LARGEST_CONTRACT = 24_576


def test_a_changed_artifact_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "ARTIFACTS", tmp_path)
    build.write({"FeeEscrow": "one\n", "GOPEN": "two\n"})
    assert build.differences({"FeeEscrow": "one\n", "GOPEN": "two\n"}) == []
    assert build.differences({"FeeEscrow": "other\n", "GOPEN": "two\n", "Vesting": "new\n"}) == ["FeeEscrow", "Vesting"]
    build.write({"GOPEN": "two\n"})
    assert [path.name for path in tmp_path.iterdir()] == ["GOPEN.json"]


def test_every_contract_can_be_created_under_the_size_limit() -> None:
    for name in CONTRACTS:
        assert 100 < len(creation_code(name)) < 2 * LARGEST_CONTRACT
        assert load_artifact(name).abi


def test_a_named_program_is_used_and_must_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "anvil"
    monkeypatch.setenv("OPENLEDGER_ANVIL", str(program))
    with pytest.raises(ConfigurationError, match="no program that can be run"):
        toolchain.find_program("anvil")
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert toolchain.find_program("anvil") == program


def test_the_pinned_program_comes_before_the_one_in_the_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    other = tmp_path / "anvil"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert toolchain.find_program("anvil") != other
    monkeypatch.setattr(toolchain, "contracts_folder", lambda: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert toolchain.find_program("anvil") == other


def test_a_missing_program_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "contracts_folder", lambda: None)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="toolchain --install"):
        toolchain.find_program("anvil")


def test_outside_a_checkout_there_is_nothing_to_build(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "contracts_folder", lambda: None)
    with pytest.raises(ConfigurationError, match="from a checkout"):
        build._build(check=True, test=False, gas=False)
    assert build.main(["--check"]) == 1
