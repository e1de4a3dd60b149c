"""The files of an OP Stack deployment: valid by the published schemas, without a secret, and the committed example is current."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from eth_account import Account

from openledger.chain.opstack import HOT_ROLES, OpStackAccounts, OpStackSettings, make_accounts, write_opstack
from openledger.primitives import TOTAL_SUPPLY, ConfigurationError, InputError

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "opstack"
ROLES = ("owner", "fees", *HOT_ROLES)
ACCOUNTS = {role: str(Account.from_key(bytes([number]) * 32).address) for number, role in enumerate(ROLES, 1)}

# Fields of op-deployer's Intent, ChainIntent, ChainRoles, CustomGasToken and SuperchainRoles, in the release with v6 contracts.
INTENT = {
    "configType", "opDeployerVersion", "l1ChainID", "opcmAddress", "superchainConfigProxy", "superchainRoles", "fundDevAccounts",
    "l1ContractsLocator", "l2ContractsLocator", "chains", "globalDeployOverrides", "useInterop", "outputRootBootstrap",
}  # fmt: skip
CHAIN = {
    "id", "baseFeeVaultRecipient", "l1FeeVaultRecipient", "sequencerFeeVaultRecipient", "operatorFeeVaultRecipient",
    "eip1559DenominatorCanyon", "eip1559Denominator", "eip1559Elasticity", "gasLimit", "roles", "deployOverrides",
    "dangerousAltDAConfig", "dangerousAdditionalDisputeGames", "operatorFeeScalar", "operatorFeeConstant", "l1StartBlockHash",
    "minBaseFee", "daFootprintGasScalar", "customGasToken", "resourceConfig",
}  # fmt: skip
CHAIN_ROLES = {
    "l1ProxyAdminOwner", "l2ProxyAdminOwner", "systemConfigOwner", "unsafeBlockSigner", "batcher", "proposer", "challenger",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The files, newly written."""
    write_opstack(tmp_path, OpStackSettings(161201, 11155111), OpStackAccounts(**ACCOUNTS))
    return tmp_path


def test_the_committed_example_is_what_the_command_writes(folder: Path) -> None:
    names = {"intent.toml", "compose.yaml", "README.md", ".env"}
    assert {path.name for path in EXAMPLE.iterdir() if path.is_file()} == names
    for name in names:
        assert (EXAMPLE / name).read_text() == (folder / name).read_text()


def test_the_intent_has_open_as_gas_token_and_only_fields_that_op_deployer_knows(folder: Path) -> None:
    intent = tomllib.loads((folder / "intent.toml").read_text())
    assert set(intent) <= INTENT
    (chain,) = intent["chains"]
    assert set(chain) <= CHAIN
    assert int(chain["id"], 16) == 161201
    assert len(chain["id"]) == 66
    assert set(chain["roles"]) == CHAIN_ROLES
    assert chain["customGasToken"] == {
        "name": "OPEN",
        "symbol": "OPEN",
        "initialLiquidity": hex(TOTAL_SUPPLY),
        "liquidityControllerOwner": ACCOUNTS["owner"],
    }
    assert intent["configType"] == "custom"
    assert set(intent["superchainRoles"]) == {"SuperchainProxyAdminOwner", "SuperchainGuardian", "Challenger"}
    vaults = [value for name, value in chain.items() if name.endswith("VaultRecipient")]
    assert vaults == [ACCOUNTS["fees"]] * 4
    assert (
        min(chain[name] for name in ("eip1559Denominator", "eip1559DenominatorCanyon", "eip1559Elasticity", "gasLimit"))
        > 0
    )


def test_the_compose_file_fits_the_published_schema(folder: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.compose-spec",
        str(folder / "compose.yaml"),
    ]
    checked = subprocess.run(command, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    broken = folder / "broken.yaml"
    broken.write_text((folder / "compose.yaml").read_text().replace("volumes: [explorer", "volume: [explorer"))
    assert subprocess.run([*command[:-1], str(broken)], capture_output=True).returncode != 0


def test_every_service_is_there_and_what_it_names_exists(folder: Path) -> None:
    compose = _compose(folder)
    assert set(compose["services"]) == {
        "op-reth", "op-node", "op-batcher", "op-proposer", "op-challenger", "explorer-db", "blockscout",
    }  # fmt: skip
    settings = dict(
        line.split("=", 1) for line in (folder / ".env").read_text().splitlines() if "=" in line and line[0] != "#"
    )
    for name, service in compose["services"].items():
        assert set(service.get("secrets", [])) <= set(compose["secrets"]), name
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", [])) <= set(compose["services"])
        read = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        assert read == set(service.get("secrets", [])), name
        for variable in re.findall(r"(?<!\$)\$\{(\w+)\}", str(service)):
            assert variable in settings, (name, variable)
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:") or port.startswith("9222:"), (
                "only peers of op-node may come from outside"
            )


def test_no_secret_stands_in_a_written_file(tmp_path: Path) -> None:
    accounts = make_accounts(tmp_path, {"owner": ACCOUNTS["owner"]})
    written = write_opstack(tmp_path, OpStackSettings(1612, 1), accounts)
    text = "".join(path.read_text() for path in written)
    secrets = {path.name: path.read_text().strip() for path in (tmp_path / "secrets").glob("[!.]*")}
    assert set(secrets) == {"jwt.txt", *(f"{role}.key" for role in HOT_ROLES)}
    for name, secret in secrets.items():
        assert len(bytes.fromhex(secret)) == 32
        assert secret not in text
        assert stat.S_IMODE((tmp_path / "secrets" / name).stat().st_mode) == 0o600
        if name.endswith(".key"):
            assert getattr(accounts, name.removesuffix(".key")) == Account.from_key(secret).address
    assert (tmp_path / "secrets" / ".gitignore").read_text() == "*\n!.gitignore\n"
    for service in _compose(tmp_path)["services"].values():
        assert not [name for name in service.get("environment", {}) if "KEY" in name or name.endswith("PASSWORD")]


def test_writing_again_keeps_the_keys(tmp_path: Path) -> None:
    first = make_accounts(tmp_path, {"owner": ACCOUNTS["owner"]})
    write_opstack(tmp_path, OpStackSettings(1612, 1), first)
    before = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    again = make_accounts(tmp_path, {"owner": ACCOUNTS["owner"]})
    write_opstack(tmp_path, OpStackSettings(1612, 1), again)
    assert again == first
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="--owner"):
        make_accounts(tmp_path, {})
    with pytest.raises(InputError, match="no role boss"):
        make_accounts(tmp_path, {"owner": ACCOUNTS["owner"], "boss": ACCOUNTS["owner"]})
    with pytest.raises(InputError, match="the account for batcher is"):
        OpStackAccounts(**{**ACCOUNTS, "batcher": "0x" + "00" * 20})
    with pytest.raises(InputError, match="chain id 5"):
        OpStackSettings(5, 5)
    with pytest.raises(InputError, match="gas_limit is 0"):
        OpStackSettings(5, 6, gas_limit=0)


def _compose(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    return content
