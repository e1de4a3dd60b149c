"""Every page, in both themes, on a desktop and on a phone: opens cleanly, stays inside the node, fits, and can be read."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser

from tests.conftest import Network
from tests.ui.conftest import Watched, new_context
from tests.ui.in_page import LOW_CONTRAST, SIDEWAYS, UNNAMED

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.chain]

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 740}


@pytest.fixture(scope="session")
def paths(api: httpx.Client) -> list[str]:
    """Every address of the application on this network, one of each kind."""
    datanet = api.get("/datanets").json()[0]["id"]
    model = api.get("/models").json()[0]["id"]
    receipt = api.get("/receipts").json()["rows"][0]["id"]
    record = api.get(f"/datanets/{datanet}/records", params={"status": "accepted"}).json()["rows"][0]["hash"]
    rejected = api.get(f"/datanets/{datanet}/records", params={"status": "rejected"}).json()["rows"][0]["hash"]
    return [
        "/",
        "/datanets",
        f"/datanets/{datanet}",
        f"/datanets/{datanet}/contribute",
        f"/records/{record}",
        f"/records/{rejected}",
        "/models",
        f"/models/{model}",
        "/agents",
        "/factory",
        "/receipts",
        f"/receipts/{receipt}",
        "/payouts",
        "/supply",
        "/governance",
        "/sign-in",
        "/wallet",
    ]


@pytest.mark.parametrize(
    ("theme", "size", "signed_in"),
    [("light", DESKTOP, True), ("dark", DESKTOP, False), ("light", PHONE, False), ("dark", PHONE, True)],
    ids=["light desktop, operator", "dark desktop, visitor", "light phone, visitor", "dark phone, operator"],
)
def test_every_page_opens_cleanly_and_can_be_read(
    browser: Browser, network: Network, token: str, paths: list[str], theme: str, size: dict[str, int], signed_in: bool
) -> None:
    context = new_context(browser, viewport=size, color_scheme=theme)
    if signed_in:
        context.request.post(f"{network.url}/sign-in", data={"token": token})
    watched = Watched(context.new_page(), network.url)
    for path in paths:
        page = watched.open(path)
        page.wait_for_timeout(250)
        assert page.locator("html").get_attribute("data-theme") == theme, path
        assert page.locator("h1").count() == 1, path
        assert page.title().endswith("OpenLedger"), path
        assert page.locator(".error-line").count() == 0, f"{path}: {page.locator('.error-line').all_inner_texts()}"
        assert page.evaluate(SIDEWAYS) <= 0, f"{path} scrolls sideways"
        assert page.evaluate(LOW_CONTRAST) == [], path
        assert page.evaluate(UNNAMED) == [], path
        assert watched.troubles == [], path
    context.close()


def test_every_tab_of_a_datanet_opens(visitor: Watched) -> None:
    page = visitor.open("/datanets/1")
    tabs = page.get_by_role("tab")
    for position in range(tabs.count()):
        tabs.nth(position).click()
        page.wait_for_selector("[role=tabpanel] >> nth=0")
        page.wait_for_timeout(150)
        assert page.locator("[role=tabpanel] .card").first.is_visible()
        assert page.evaluate(LOW_CONTRAST) == []
    assert tabs.count() == 6
    assert visitor.troubles == []


def test_the_theme_is_remembered_and_charts_follow_it(visitor: Watched) -> None:
    page = visitor.open("/supply")
    page.wait_for_selector(".chart canvas")
    light = page.locator(".chart canvas").evaluate("canvas => canvas.toDataURL()")
    page.get_by_role("button", name="Switch between light and dark").locator("visible=true").click()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.wait_for_timeout(1500)
    assert page.locator(".chart canvas").evaluate("canvas => canvas.toDataURL()") != light
    page.reload()
    page.wait_for_selector("main h1")
    assert page.locator("html").get_attribute("data-theme") == "dark"


def test_the_page_is_usable_by_keyboard_alone(visitor: Watched) -> None:
    page = visitor.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#content"
    page.goto(visitor.url + "/")
    page.wait_for_selector("main h1")
    for _ in range(3):
        page.keyboard.press("Tab")
    focused = "document.activeElement"
    assert page.evaluate(f"{focused}.getAttribute('aria-label')") == "Overview"
    assert page.evaluate(f"getComputedStyle({focused}).outlineStyle") == "solid"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/datanets")


def test_the_navigation_is_a_drawer_on_a_phone_and_folds_on_a_desktop(browser: Browser, network: Network) -> None:
    context = new_context(browser, viewport=PHONE)
    page = Watched(context.new_page(), network.url).open("/")
    governance = page.get_by_role("link", name="Governance")
    assert governance.count() == 0
    page.get_by_role("button", name="Menu").click()
    governance.wait_for()
    page.keyboard.press("Escape")
    governance.wait_for(state="hidden")
    context.close()
    context = new_context(browser)
    page = Watched(context.new_page(), network.url).open("/")
    wide = page.locator(".sidebar").bounding_box()
    page.get_by_role("button", name="Fold the navigation").click()
    page.wait_for_timeout(200)
    narrow = page.locator(".sidebar").bounding_box()
    assert wide is not None
    assert narrow is not None
    assert narrow["width"] < wide["width"] / 2
    context.close()


def test_an_address_without_a_page_says_so(visitor: Watched) -> None:
    reply = visitor.page.goto(visitor.url + "/nowhere")
    assert reply is not None
    assert reply.status == 404
    assert visitor.page.locator("h1").inner_text() == "There is no such page"


@pytest.mark.parametrize("path", ["/models/999999", "/datanets/999999", "/receipts/nothing", "/records/0x00"])
def test_what_does_not_exist_is_told_in_one_line(visitor: Watched, path: str) -> None:
    visitor.page.goto(visitor.url + path)
    visitor.page.wait_for_selector(".error-line")
    line = visitor.page.locator(".error-line").inner_text()
    assert "\n" not in line.strip()
    assert "Traceback" not in line
    assert "Something went wrong" not in line


def test_html_may_load_nothing_from_outside_and_not_be_framed(network: Network) -> None:
    policy = httpx.get(network.url + "/").headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_the_measures_of_these_tests_find_what_is_wrong(visitor: Watched) -> None:
    page = visitor.open("/")
    page.evaluate(
        """() => {
          const bad = document.createElement("div");
          bad.innerHTML = '<p style="background: #fff; color: #999">pale</p><button></button>';
          bad.style.width = "5000px";
          document.querySelector("main").append(bad);
        }"""
    )
    assert [text.split(": ")[1] for text in page.evaluate(LOW_CONTRAST)] == ["pale"]
    assert page.evaluate(UNNAMED) == ["<button></button>"]
    assert page.evaluate(SIDEWAYS) > 0
