"""``openledger chain``: the L2 itself, from the embedded chain to a real OP Stack deployment."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from eth_utils.address import is_checksum_address

from openledger.chain import DEFAULT_CHAIN_ID
from openledger.cli.output import console, errors, open_amount, print_json, table
from openledger.cli.session import JsonOption
from openledger.primitives import ConfigurationError, InputError, format_open

if TYPE_CHECKING:
    from eth_account.signers.local import LocalAccount

    from openledger.chain.rollout import Manifest

app = typer.Typer(help="The L2: configure, deploy to and look at a chain.", no_args_is_help=True)

RpcOption = Annotated[str, typer.Option("--rpc", metavar="<url>", help="JSON-RPC address of the chain.")]
ManifestOption = Annotated[
    Path, typer.Option("--manifest", metavar="<path>", help="The deployment's record; made, and needed to resume.")
]


@app.command()
def init(
    owner: Annotated[str, typer.Option(metavar="<address>", help="Owns and upgrades the chain; a multisig on L1.")],
    profile: Annotated[str, typer.Option(help="The kind of chain; `opstack`.")] = "opstack",
    out: Annotated[Path, typer.Option(metavar="<folder>", help="Where the files go.")] = Path("deploy/opstack"),
    chain_id: Annotated[int, typer.Option(help="The L2's chain id.")] = DEFAULT_CHAIN_ID,
    l1_chain_id: Annotated[int, typer.Option(help="The L1's chain id; 1 is Ethereum, 11155111 Sepolia.")] = 11155111,
    fees: Annotated[str | None, typer.Option(metavar="<address>", help="Receives fees; the owner by default.")] = None,
    sequencer: Annotated[
        str | None, typer.Option(metavar="<address>", help="Signs blocks; else a key is made.")
    ] = None,
    batcher: Annotated[str | None, typer.Option(metavar="<address>", help="Posts batches; else a key is made.")] = None,
    proposer: Annotated[
        str | None, typer.Option(metavar="<address>", help="Proposes roots; else a key is made.")
    ] = None,
    challenger: Annotated[
        str | None, typer.Option(metavar="<address>", help="Disputes roots; else a key is made.")
    ] = None,
) -> None:
    """Write the files of a real deployment: op-deployer's intent, compose file, settings. Runs nothing."""
    from openledger.chain.opstack import OpStackSettings, make_accounts, write_opstack

    if profile != "opstack":
        raise InputError(f"there is no profile {profile!r}; there is opstack")
    roles = {"owner": owner, "fees": fees, "sequencer": sequencer, "batcher": batcher, "proposer": proposer,
             "challenger": challenger}  # fmt: skip
    accounts = make_accounts(out, {role: address for role, address in roles.items() if address is not None})
    for path in write_opstack(out, OpStackSettings(chain_id, l1_chain_id), accounts):
        console.print(path)
    console.print(f"[dim]next: {out / 'README.md'}[/]")


@app.command()
def deploy(
    rpc: RpcOption,
    key_file: Annotated[Path, typer.Option(metavar="<path>", help="File with the deployer's private key in hex.")],
    manifest: ManifestOption = Path("deployment-manifest.json"),
    settler: Annotated[str | None, typer.Option(metavar="<address>", help="May propose payout roots.")] = None,
    guardian: Annotated[str | None, typer.Option(metavar="<address>", help="May disable payout roots.")] = None,
    bootstrap: Annotated[
        Path | None,
        typer.Option(metavar="<path>", help="CSV or JSON list of accounts that the community gives OPEN to."),
    ] = None,
    bootstrap_days: Annotated[int, typer.Option(min=1, help="For how long they can claim.")] = 90,
    development: Annotated[bool, typer.Option("--development", help="Votes of minutes instead of days.")] = False,
    confirmations: Annotated[int, typer.Option(min=0, help="Blocks to wait for on each transaction.")] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Rehearse on a throw-away chain; send nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Deploy the contracts to any chain and verify them; run again to go on after an interruption."""
    from openledger.chain import Chain, GovernanceSettings
    from openledger.chain.rollout import Plan, rehearse, roll_out
    from openledger.tokenomics import load_allocation, read_bootstrap

    account = _account(key_file)
    for address in (settler, guardian):
        if address is not None and not is_checksum_address(address):
            raise InputError(f"{address!r} is not a checksummed address")
    plan = Plan(
        load_allocation(),
        governance=GovernanceSettings.development() if development else GovernanceSettings(),
        settler=settler or account.address,
        guardian=guardian or account.address,
        bootstrap=None if bootstrap is None else read_bootstrap(bootstrap, bootstrap_days * 86_400),
    )
    if dry_run:
        report = rehearse(Chain(rpc), account, plan)
        if json:
            print_json({**report, "balance": str(report["balance"]), "cost": str(report["cost"])})
        else:
            count, contracts = report["transactions"], len(report["contracts"])
            console.print(
                f"[bold]{count}[/] transactions for {contracts} contracts, {report['gas']:,} gas, "
                f"about {format_open(report['cost'])} OPEN on chain {report['chain_id']}"
            )
            for obstacle in report["obstacles"]:
                console.print(f"[yellow]{obstacle}[/]")
        if report["obstacles"]:
            raise ConfigurationError("the deployment would not succeed: " + "; ".join(report["obstacles"]))
        return
    done = roll_out(rpc, account, plan, manifest, confirmations=confirmations)
    done.finished().save(manifest.with_name("deployment.json"))
    if json:
        print_json({**asdict(done), "balance": str(done.balance)})
        return
    _show(done)
    console.print(f"[green]verified[/]; {manifest} and {manifest.with_name('deployment.json')} are written")


@app.command()
def status(
    rpc: RpcOption,
    manifest: Annotated[Path | None, typer.Option(metavar="<path>", help="A deployment's record, to verify.")] = None,
    json: JsonOption = False,
) -> None:
    """What answers at an address, and whether a deployment there is still ours."""
    from openledger.chain import Chain
    from openledger.chain.rollout import Manifest, verify

    chain = Chain(rpc)
    block = chain.ask(lambda: chain.w3.eth.get_block("latest"))
    facts = {
        "chain_id": chain.chain_id,
        "genesis": chain.genesis,
        "block": int(block["number"]),
        "time": int(block["timestamp"]),
        "base_fee": int(block.get("baseFeePerGas", 0)),
        "client": chain.ask(lambda: str(chain.w3.client_version)),
    }
    if manifest is not None:
        facts["contracts_verified"] = verify(chain, Manifest.load(manifest))
    if json:
        print_json(facts)
        return
    for name, value in facts.items():
        console.print(f"[dim]{name.replace('_', ' ')}[/] {value}")


@app.command()
def l1(
    folder: Annotated[Path, typer.Option(metavar="<folder>", help="Where logs and bridge.json go.")] = Path("build/l1"),
    l1_port: Annotated[int, typer.Option(min=1, max=65535)] = 8545,
    l2_port: Annotated[int, typer.Option(min=1, max=65535)] = 9545,
    admin_port: Annotated[int, typer.Option(min=1, max=65535, help="Of supersim's own interface.")] = 8420,
) -> None:
    """Run an L1, an OP Stack L2 and OPEN's bridge between them with supersim, until Ctrl-C. For trying out; keeps nothing."""
    from openledger.chain.l1 import RICH, layers

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with ExitStack() as stack:
        with errors.status("starting supersim …"):
            ends = stack.enter_context(layers(folder, l1_port, l2_port, admin_port))
        ends.save(folder / "bridge.json")
        rows = table("Two layers and a bridge", "", "where")
        for name, value in asdict(ends).items():
            rows.add_row(name.replace("_", " "), value)
        console.print(rows)
        console.print(
            f"[dim]{RICH.address}, whose key everybody knows, holds all OPEN on the L1: approve the lockbox, then\n"
            "cast send LOCKBOX 'send(address,uint256,uint32)' RECEIVER WEI 200000\n"
            f"{folder / 'bridge.json'} is written. Ctrl-C stops it.[/]",
            soft_wrap=True,
        )
        stop.wait()


def _account(path: Path) -> LocalAccount:
    """The account of a key file that only its owner can read."""
    from eth_account import Account

    try:
        if os.name == "posix" and path.stat().st_mode & 0o077:
            raise ConfigurationError(f"{path} can be read by others; run `chmod 600 {path}`")
        account: LocalAccount = Account.from_key(path.read_text(encoding="ascii").strip())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing; write the deployer's private key into it, in hex") from error
    except ValueError as error:
        raise InputError(f"{path} holds no private key; it needs 32 bytes in hex") from error
    return account


def _show(done: Manifest) -> None:
    rows = table(f"Chain {done.chain_id}, from block {done.block}", "contract", "address", "code")
    for name, entry in done.contracts.items():
        rows.add_row(name, entry["address"], entry["deployed_code"][:18] + "…")
    console.print(rows)
    console.print(
        f"[dim]{len(done.transactions)} transactions by {done.deployer}, who held {open_amount(done.balance, 0)} OPEN[/]"
    )
