"""Deploying to any chain: resumed wherever it stopped, the same in the end, verified, and rehearsed without sending anything."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from openledger.chain import Chain, GovernanceSettings
from openledger.chain.rollout import Manifest, Plan, _Resuming, rehearse, roll_out, verify
from openledger.cli.app import app
from openledger.primitives import ChainError, ConfigurationError, InputError, NotFoundError, VerificationError
from openledger.tokenomics import load_allocation
from tests.chain.nodes import RICH, Proxy, plain_anvil, rpc

PLAN = Plan(load_allocation(), governance=GovernanceSettings.development(), settler=RICH.address, guardian=RICH.address)


@pytest.fixture
def url() -> Iterator[str]:
    """A plain anvil whose one account holds the whole supply."""
    with plain_anvil("--accounts", "1", "--balance", "1000000000") as address:
        yield address


class _PowerCut(BaseException):
    pass


def _stop_at(monkeypatch: pytest.MonkeyPatch, step: int, *, sent: bool) -> None:
    """The process dies before or after it has sent the transaction of a step."""
    real = _Resuming._deliver

    def deliver(self: _Resuming, raw: bytes) -> None:
        if self._step == step and not sent:
            raise _PowerCut
        real(self, raw)
        if self._step == step:
            raise _PowerCut

    monkeypatch.setattr(_Resuming, "_deliver", deliver)


def test_an_interrupted_deployment_goes_on_and_ends_as_one_that_was_not(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    for step, sent in ((0, False), (0, True), (5, True), (11, False), (20, True)):
        with monkeypatch.context() as cut:
            _stop_at(cut, step, sent=sent)
            with pytest.raises(_PowerCut):
                roll_out(url, RICH, PLAN, path)
        assert Manifest.load(path).deployment is None
        with pytest.raises(ConfigurationError, match="run `openledger chain deploy` again"):
            Manifest.load(path).finished()
    done = roll_out(url, RICH, PLAN, path)
    assert Manifest.load(path) == done
    chain = Chain(url, done.finished())
    assert verify(chain, done) == len(done.finished().addresses) > 10
    assert len(done.transactions) == chain.nonce(RICH.address)
    assert chain.events("AccessManager", "RoleGranted")
    with plain_anvil("--accounts", "1", "--balance", "1000000000") as other:
        straight = roll_out(other, RICH, PLAN, tmp_path / "straight.json", launch=done.launch)
    assert straight.finished().addresses == done.finished().addresses
    assert roll_out(url, RICH, PLAN, path) == done


def test_a_deployment_over_a_connection_that_is_cut_again_and_again_ends_as_it_should(url: str, tmp_path: Path) -> None:
    """Answers are lost in the middle of sending: what a command cannot overcome it reports, and the next one goes on."""
    path, between, reported = tmp_path / "manifest.json", Proxy(url), 0
    stop = threading.Event()

    def cut() -> None:
        while not stop.wait(0.15):
            between.cut_next = 3

    saboteur = threading.Thread(target=cut)
    saboteur.start()
    try:
        for _ in range(60):
            try:
                done = roll_out(between.url, RICH, PLAN, path, timeout=5)
                break
            except (ChainError, OSError):
                reported += 1
                if reported == 6:
                    stop.set()
        else:
            pytest.fail("60 attempts did not end the deployment")
    finally:
        stop.set()
        saboteur.join()
        between.close()
    assert reported > 0
    chain = Chain(url, done.finished())
    assert verify(chain, done) == len(done.finished().addresses)
    assert len(done.transactions) == chain.nonce(RICH.address)


def test_a_manifest_belongs_to_one_chain_account_and_plan(url: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    done = roll_out(url, RICH, PLAN, path)
    with pytest.raises(ConfigurationError, match="of another chain, deployer, plan"):
        roll_out(url, RICH, replace(PLAN, governance=GovernanceSettings()), path)
    chain = Chain(url)
    name, address = next(iter(done.finished().addresses.items()))
    code = rpc(url, "eth_getCode", address, "latest")
    rpc(url, "anvil_setCode", address, "0x00")
    with pytest.raises(VerificationError, match=f"{name} at {address} has other code"):
        verify(chain, done)
    rpc(url, "anvil_setCode", address, code)
    assert verify(chain, done)
    forged = replace(done, transactions=done.transactions[1:])
    with pytest.raises(VerificationError, match="was not created from this version's code"):
        verify(chain, forged)


def test_a_deployer_that_did_something_else_meanwhile_is_noticed(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "manifest.json"
    with monkeypatch.context() as cut:
        _stop_at(cut, 3, sent=True)
        with pytest.raises(_PowerCut):
            roll_out(url, RICH, PLAN, path)
    chain = Chain(url)
    chain.transfer(RICH, RICH.address, 1)
    with pytest.raises(ConfigurationError, match="must do nothing else meanwhile"):
        roll_out(url, RICH, PLAN, path)


def test_a_rehearsal_sends_nothing_and_names_what_is_in_the_way(url: str) -> None:
    chain = Chain(url)
    report = rehearse(chain, RICH, PLAN)
    assert report["obstacles"] == []
    assert report["transactions"] > 20
    assert all(0 < size <= 24_576 for size in report["contracts"].values())
    assert chain.nonce(RICH.address) == 0
    rpc(url, "anvil_setBalance", RICH.address, "0x1")
    assert "must hold the supply" in rehearse(chain, RICH, PLAN)["obstacles"][0]


def test_a_file_that_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is missing"):
        Manifest.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(InputError, match="no deployment manifest"):
        Manifest.load(tmp_path / "bad.json")


def test_the_command_rehearses_deploys_and_reports(url: str, tmp_path: Path) -> None:
    runner, key, manifest = CliRunner(), tmp_path / "key", tmp_path / "manifest.json"
    key.write_text("0x" + RICH.key.hex().removeprefix("0x"))
    common = ["--rpc", url, "--key-file", str(key), "--manifest", str(manifest), "--json"]
    refused = runner.invoke(app, ["chain", "deploy", *common])
    assert isinstance(refused.exception, ConfigurationError)
    key.chmod(0o600)
    rehearsal = runner.invoke(app, ["chain", "deploy", *common, "--dry-run"], catch_exceptions=False)
    assert json.loads(rehearsal.stdout)["obstacles"] == []
    assert not manifest.exists()
    deployed = runner.invoke(app, ["chain", "deploy", *common], catch_exceptions=False)
    assert json.loads(deployed.stdout)["contracts"]["FeeEscrow"]["deployed_code"].startswith("0x")
    assert (tmp_path / "deployment.json").exists()
    status = runner.invoke(app, ["chain", "status", "--rpc", url, "--manifest", str(manifest), "--json"])
    facts = json.loads(status.stdout)
    assert facts["contracts_verified"] == len(json.loads(deployed.stdout)["contracts"])
    assert facts["chain_id"] == 31337
