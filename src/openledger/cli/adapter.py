"""``openledger adapter``: the adapters of an ``openledger serve`` that runs, which come, go, are pinned and combined."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from openledger.cli.output import console, print_json, table
from openledger.cli.session import JsonOption
from openledger.client.core import raise_for_error
from openledger.primitives import InputError, UnreachableError
from openledger.storage import token_in

app = typer.Typer(help="Adapters of a running `openledger serve --operator-token FILE`.", no_args_is_help=True)

TokenOption = Annotated[Path, typer.Option("--token", help="File of the operator's token.")]
UrlOption = Annotated[str, typer.Option(help="Where it answers.")]
NameArgument = Annotated[str, typer.Argument(help="Name of an adapter.")]
_URL = "http://127.0.0.1:8700"


@app.command(name="list")
def list_adapters(token: TokenOption, url: UrlOption = _URL, json: JsonOption = False) -> None:
    """Every adapter, and whether it is pinned."""
    _send("GET", "adapters", token, url, json=json)


@app.command()
def add(
    name: NameArgument,
    token: TokenOption,
    folder: Annotated[str, typer.Option(help="Its folder inside the adapters' folder; its name if left out.")] = "",
    url: UrlOption = _URL,
    json: JsonOption = False,
) -> None:
    """Add an adapter from the server's folder of adapters; requests go on meanwhile."""
    _send("POST", "adapters", token, url, {"name": name, "folder": folder}, json=json)


@app.command()
def remove(name: NameArgument, token: TokenOption, url: UrlOption = _URL, json: JsonOption = False) -> None:
    """Take an adapter away; requests that run keep it to their end."""
    _send("DELETE", f"adapters/{quote(name, safe='')}", token, url, json=json)


@app.command()
def combine(
    name: NameArgument,
    parts: Annotated[list[str], typer.Argument(help="Adapters with their weights: law=0.4 medicine=0.6.")],
    token: TokenOption,
    url: UrlOption = _URL,
    json: JsonOption = False,
) -> None:
    """Make an ensemble that is listed as an adapter of its own."""
    _send("POST", "ensembles", token, url, {"name": name, "parts": dict(map(_weighted, parts))}, json=json)


@app.command()
def pin(name: NameArgument, token: TokenOption, url: UrlOption = _URL, json: JsonOption = False) -> None:
    """Keep an adapter in memory, whoever asks for others."""
    _send("PUT", f"pins/{quote(name, safe='')}", token, url, json=json)


@app.command()
def unpin(name: NameArgument, token: TokenOption, url: UrlOption = _URL, json: JsonOption = False) -> None:
    """Let a pinned adapter go again."""
    _send("DELETE", f"pins/{quote(name, safe='')}", token, url, json=json)


def _weighted(text: str) -> tuple[str, float]:
    name, equals, weight = text.rpartition("=")
    try:
        return name, float(weight if equals else "")
    except ValueError:
        raise InputError(f"{text!r} is no adapter with a weight; write law=0.4") from None


def _send(method: str, path: str, token: Path, url: str, body: dict[str, Any] | None = None, *, json: bool) -> None:
    headers = {"Authorization": f"Bearer {token_in(token)}"}
    try:
        answer = httpx.request(method, f"{url}/admin/{path}", json=body, headers=headers, timeout=120)
    except httpx.HTTPError as error:
        raise UnreachableError(f"{url} does not answer ({error}); is `openledger serve` running there?") from error
    raise_for_error(answer)
    rows = answer.json()["data"]
    if json:
        print_json(rows)
        return
    shown = table("Adapters", "name", "in memory")
    for row in rows:
        shown.add_row(row["name"], "pinned" if row["pinned"] else "")
    console.print(shown)
