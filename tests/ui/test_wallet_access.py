"""Signing in by wallet over HTTP: under which names, for whom, and what the cookie opens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI
from fastapi.testclient import TestClient

from openledger.node.server import Server, make_app
from openledger.node.service import Node
from openledger.ui import access
from tests.small import serving, small

pytestmark = [pytest.mark.chain]

HERE = "http://127.0.0.1:8600"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(small(tmp_path_factory), tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture
def app(server: Server) -> FastAPI:
    """The node's own application with what signs people in, without the pages themselves."""

    def sign_in(app: FastAPI, node: Node) -> None:
        app.include_router(access.router(node))

    return make_app(server.node, sign_in)


@pytest.fixture
def wallet() -> LocalAccount:
    account: LocalAccount = Account.create()
    return account


def enter(browser: TestClient, wallet: LocalAccount, signer: LocalAccount | None = None) -> int:
    """Signs in, with another's signature if there is a ``signer``; the status."""
    asked = browser.post("/sign-in/wallet/message", json={"address": wallet.address}).json()
    signature = (signer or wallet).sign_message(encode_defunct(text=asked["message"])).signature.to_0x_hex()
    answer = {"address": wallet.address, "nonce": asked["nonce"], "signature": signature}
    return int(browser.post("/sign-in/wallet", json=answer).status_code)


def token_of(browser: TestClient) -> str:
    return next((str(value) for name, value in browser.cookies.items() if "wallet" in name), "").strip('"')


def test_a_signature_signs_in_who_signed(app: FastAPI, server: Server, wallet: LocalAccount) -> None:
    browser = TestClient(app, base_url=HERE)
    assert enter(browser, wallet) == 200
    assert server.node.signing_in.account(token_of(browser)) == wallet.address
    assert browser.post("/sign-out").status_code == 204
    assert token_of(browser) == ""


def test_anothers_signature_signs_nobody_in(app: FastAPI, wallet: LocalAccount) -> None:
    browser = TestClient(app, base_url=HERE)
    assert enter(browser, wallet, signer=Account.create()) == 403
    assert token_of(browser) == ""


def test_one_browser_is_operator_or_wallet_and_not_both(app: FastAPI, server: Server, wallet: LocalAccount) -> None:
    browser = TestClient(app, base_url=HERE)
    assert browser.post("/sign-in", json={"token": server.node.operator_token}).status_code == 204
    assert any("operator" in name for name in browser.cookies)
    assert enter(browser, wallet) == 200
    assert not any("operator" in name for name in browser.cookies)
    assert browser.post("/sign-in", json={"token": server.node.operator_token}).status_code == 204
    assert token_of(browser) == ""


def test_a_wallets_cookie_opens_no_act_of_the_operator(app: FastAPI, wallet: LocalAccount) -> None:
    browser = TestClient(app, base_url=HERE)
    assert enter(browser, wallet) == 200
    assert browser.post("/api/keys", json={"cap": "1"}).status_code == 401
    bearer = {"Authorization": f"Bearer {token_of(browser)}"}
    assert browser.post("/api/keys", json={"cap": "1"}, headers=bearer).status_code == 401


@pytest.mark.parametrize("place", ["http://evil.example:8600", "http://127.0.0.1.evil.example"])
def test_a_name_that_points_here_gets_nothing_at_all(app: FastAPI, wallet: LocalAccount, place: str) -> None:
    browser = TestClient(app, base_url=place)
    assert browser.post("/sign-in/wallet/message", json={"address": wallet.address}).status_code == 400


def test_another_port_than_the_servers_own_is_no_place_to_sign(app: FastAPI, wallet: LocalAccount) -> None:
    browser = TestClient(app, base_url=HERE)
    reply = browser.post(
        "/sign-in/wallet/message", json={"address": wallet.address}, headers={"Host": "127.0.0.1:9999"}
    )
    assert reply.status_code == 403
    assert "OPENLEDGER_PUBLIC_URL" in reply.json()["error"]


def test_the_public_address_is_a_place_to_sign(server: Server, wallet: LocalAccount) -> None:
    node, before = server.node, server.node.settings
    node.settings = before.model_copy(update={"public_url": "https://open.example"})
    try:
        browser = TestClient(
            make_app(node, lambda app, node: app.include_router(access.router(node))), base_url="https://open.example"
        )
        asked = browser.post("/sign-in/wallet/message", json={"address": wallet.address}).json()
        assert asked["message"].startswith("open.example wants you to sign in")
        assert asked["network"]["rpcUrl"] == "https://open.example/rpc"
        assert enter(browser, wallet) == 200
    finally:
        node.settings = before


def test_wallets_reach_the_chain_under_the_pages_own_address(app: FastAPI, server: Server) -> None:
    browser = TestClient(app, base_url=HERE)
    asked = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
    assert browser.post("/rpc", json=asked).json()["result"] == hex(server.node.chain_id)
    refused = browser.post(
        "/rpc", json=asked | {"method": "anvil_setBalance", "params": ["0x" + "1" * 40, "0x1"]}
    ).json()
    assert refused["error"]["code"] == -32601
    assert browser.post("/rpc", content="{}", headers={"content-type": "text/plain"}).status_code == 415
