"""A real browser on the real network's pages. Every page it opens is watched for errors and for requests that leave the node."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, expect, sync_playwright

from openledger.node.home import Home
from tests.conftest import Network

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE_MS = 60_000
expect.set_options(timeout=20_000)


@dataclass
class Watched:
    """A page, and what went wrong on it."""

    page: Page
    url: str
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        page = self.page
        page.set_default_timeout(PATIENCE_MS)
        page.on(
            "console", lambda message: message.type in {"error", "warning"} and self._note(message.type, message.text)
        )
        page.on("pageerror", lambda error: self._note("exception", str(error)))
        page.on("requestfailed", lambda request: self._note("failed", f"{request.url} {request.failure}"))
        page.on("response", lambda reply: reply.status >= 400 and self._note(str(reply.status), reply.url))
        page.on("request", self._check_request)

    def open(self, path: str) -> Page:
        """Opens a path of the application and waits until its data are there."""
        self.page.goto(self.url + path)
        self.page.wait_for_selector("main h1")
        self.page.wait_for_function("window.did_handshake === true")
        self.page.wait_for_selector(".skeleton", state="detached")
        return self.page

    def _note(self, kind: str, text: str) -> None:
        self.troubles.append(f"{kind}: {text}")

    def _check_request(self, request: Request) -> None:
        inside = (self.url + "/", self.url.replace("http", "ws") + "/", "data:")
        if not request.url.startswith(inside):
            self._note("outside", request.url)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = (os.environ.get("OPENLEDGER_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if name and (path := shutil.which(name))), None)
    with sync_playwright() as playwright:  # without any of these, the Chromium that Playwright has installed
        instance = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def token(network: Network) -> str:
    return Home(network.home).operator_token()


def new_context(browser: Browser, **options: Any) -> BrowserContext:
    return browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | options)


@pytest.fixture
def visitor(browser: Browser, network: Network) -> Iterator[Watched]:
    """A page of somebody who only reads."""
    context = new_context(browser)
    yield Watched(context.new_page(), network.url)
    context.close()


@pytest.fixture
def operator(browser: Browser, network: Network, token: str) -> Iterator[Watched]:
    """A page of somebody who has signed in with the operator's token."""
    context = new_context(browser)
    reply = context.request.post(f"{network.url}/sign-in", data={"token": token})
    assert reply.status == 204
    yield Watched(context.new_page(), network.url)
    context.close()


@pytest.fixture(scope="session")
def api(network: Network) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{network.url}/api", timeout=120) as client:
        yield client
