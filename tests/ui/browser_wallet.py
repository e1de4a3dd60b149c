"""A browser wallet for tests, in the place of an extension: it announces itself by EIP-6963, answers by EIP-1193, signs with
real keys, and reaches the chain by the address that the page gave it (EIP-3085)."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from eth_account.signers.local import LocalAccount
from playwright.sync_api import BrowserContext, Page

_ICON = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="
_SCRIPT = """
(() => {
  const listeners = {};
  const provider = {
    async request({ method, params }) {
      const answer = JSON.parse(await window.__WALLET__(JSON.stringify({ method, params: params ?? [] })));
      if (answer.error) throw Object.assign(new Error(answer.error.message), { code: answer.error.code });
      return answer.result;
    },
    on(event, listener) { (listeners[event] ??= []).push(listener); },
  };
  window.emit__WALLET__ = (event, value) => (listeners[event] ?? []).forEach((listener) => listener(value));
  const info = { uuid: "__UUID__", name: "__NAME__", icon: "__ICON__", rdns: "test.__WALLET__" };
  const detail = Object.freeze({ info, provider });
  const announce = () => dispatchEvent(new CustomEvent("eip6963:announceProvider", { detail }));
  addEventListener("eip6963:requestProvider", announce);
  announce();
})();
"""
_numbers = itertools.count(1)


class WalletError(Exception):
    """An error of EIP-1193, by its code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class BrowserWallet:
    """One wallet of one browser context.

    Attributes:
        account: whose key signs now.
        name: as announced.
        decline: methods that the person declines the next time.
        asked: every method that was asked for, in order.
        sent: hashes of the transactions that it sent.
    """

    account: LocalAccount
    name: str = "Test Wallet"
    decline: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    chain_id: int = 1
    connected: bool = False
    chains: dict[int, dict[str, Any]] = field(default_factory=lambda: {1: {}})
    binding: str = field(default_factory=lambda: f"wallet{next(_numbers)}")

    def install(self, context: BrowserContext) -> BrowserWallet:
        """Puts it into every page of the context."""
        context.expose_function(self.binding, self._receive)
        script = _SCRIPT.replace("__WALLET__", self.binding).replace("__NAME__", self.name).replace("__ICON__", _ICON)
        context.add_init_script(script.replace("__UUID__", f"00000000-0000-4000-8000-{int(self.binding[6:]):012d}"))
        return self

    def choose(self, page: Page, account: LocalAccount) -> None:
        """The person chooses another account in the wallet."""
        self.account = account
        page.evaluate(f"value => window.emit{self.binding}('accountsChanged', value)", [account.address])

    def _receive(self, text: str) -> str:
        question = json.loads(text)
        try:
            return json.dumps({"result": self._answer(question["method"], question["params"])})
        except WalletError as error:
            return json.dumps({"error": {"code": error.code, "message": str(error)}})

    def _answer(self, method: str, params: list[Any]) -> Any:
        self.asked.append(method)
        if method in self.decline:
            self.decline.discard(method)
            raise WalletError(4001, "User rejected the request.")
        match method:
            case "eth_requestAccounts":
                self.connected = True
                return [self.account.address]
            case "eth_accounts":
                return [self.account.address] if self.connected else []
            case "eth_chainId":
                return hex(self.chain_id)
            case "wallet_addEthereumChain":
                self.chains[int(params[0]["chainId"], 16)] = params[0]
                return None
            case "wallet_switchEthereumChain":
                wanted = int(params[0]["chainId"], 16)
                if wanted not in self.chains:
                    raise WalletError(4902, "Unrecognized chain ID.")
                self.chain_id = wanted
                return None
            case "personal_sign":
                message = encode_defunct(hexstr=params[0])
                return self._own(params[1]).sign_message(message).signature.to_0x_hex()
            case "eth_signTypedData_v4":
                message = encode_typed_data(full_message=json.loads(params[1]))
                return self._own(params[0]).sign_message(message).signature.to_0x_hex()
            case "eth_sendTransaction":
                return self._send(params[0])
            case _:
                raise WalletError(4200, f"The method {method} is not supported.")

    def _own(self, address: str) -> LocalAccount:
        if address.lower() != self.account.address.lower():
            raise WalletError(4100, "The account is not authorised.")
        return self.account

    def _send(self, asked: dict[str, str]) -> str:
        signer = self._own(asked["from"])
        if int(asked.get("chainId", hex(self.chain_id)), 16) != self.chain_id:
            raise WalletError(4901, "Wrong chain.")
        transaction = {
            "to": asked["to"],
            "data": asked["data"],
            "value": int(asked["value"], 16),
            "gas": int(asked["gas"], 16),
            "maxFeePerGas": int(asked["maxFeePerGas"], 16),
            "maxPriorityFeePerGas": int(asked["maxPriorityFeePerGas"], 16),
            "nonce": int(self._rpc("eth_getTransactionCount", signer.address, "pending"), 16),
            "chainId": self.chain_id,
            "type": 2,
        }
        name = str(
            self._rpc("eth_sendRawTransaction", signer.sign_transaction(transaction).raw_transaction.to_0x_hex())
        )
        self.sent.append(name)
        return name

    def _rpc(self, method: str, *params: Any) -> Any:
        url = self.chains[self.chain_id]["rpcUrls"][0]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        origin = {"Origin": "chrome-extension://nkbihfbeogaeaoehlefnkodbefgpgknn"}
        answer = httpx.post(url, json=body, headers=origin, timeout=60).json()
        if "error" in answer:
            raise WalletError(-32000, answer["error"]["message"])
        return answer["result"]


def new_account() -> LocalAccount:
    """A fresh key."""
    account: LocalAccount = Account.create()
    return account
