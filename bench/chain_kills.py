"""Kills the embedded chain with SIGKILL at random moments under load, and checks that it lost nothing that it had acknowledged.

Each round starts the chain on its home, which replays what is there, and lets several accounts send payments and contract calls
through its front. A random moment later the process is killed: while it works, while it still replays, or after its node was
killed under it. The next round compares every block hash and every acknowledged transaction with what was seen before.

What a kill cannot show is a power cut: the kernel keeps what a killed process wrote. That the journal is flushed before an
acknowledgement is tested in ``tests/chain/test_devchain.py``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account.signers.local import LocalAccount

from openledger.chain import Chain, DevChain, devchain
from openledger.chain.artifacts import creation_code
from openledger.chain.limits import RateLimit
from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN, ChainError, keccak, to_hex

RESULT = Path(__file__).parent / "results" / "chain-kills.json"
SENDERS = 4
SNAPSHOT_BLOCKS = 40
"""A snapshot this often instead of every 1,000 blocks, so that kills hit the writing of snapshots too."""
HISTORY_BLOCKS = 20
MODES = ("working", "working", "working", "starting", "node first")
_DEPOSIT = keccak(b"deposit()")[:4]


@dataclass
class Seen:
    """What the chain has told: transactions that it acknowledged, and the hash of each block by number."""

    acknowledged: set[str] = field(default_factory=set)
    blocks: dict[int, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """One home's run."""

    seed: int
    kills: int = 0
    by_mode: dict[str, int] = field(default_factory=dict)
    acknowledged: int = 0
    blocks: int = 0
    lost_transactions: list[str] = field(default_factory=list)
    changed_blocks: list[int] = field(default_factory=list)
    failed_starts: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0


def campaign(seed: int, kills: int, home: Path) -> Outcome:
    """So many kills on one home, then one start that ends well."""
    chance, seen, outcome = random.Random(seed), Seen(), Outcome(seed)
    while outcome.kills < kills:
        mode = chance.choice(MODES)
        _round(home, seen, outcome, mode, chance)
        outcome.kills += 1
        outcome.by_mode[mode] = outcome.by_mode.get(mode, 0) + 1
        print(
            f"seed {seed}, kill {outcome.kills} ({mode}): {len(seen.acknowledged)} transactions, {len(seen.blocks)} blocks",
            flush=True,
        )
    _round(home, seen, outcome, "none", chance)
    outcome.acknowledged, outcome.blocks = len(seen.acknowledged), len(seen.blocks)
    return outcome


def _round(home: Path, seen: Seen, outcome: Outcome, mode: str, chance: random.Random) -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(home, seen, write, stay=mode != "none")
    os.close(write)
    reports = _Reports(read, seen, outcome)
    if mode == "starting":
        time.sleep(chance.uniform(0.0, 1.5))
    elif reports.ready.wait(300) and mode != "none":
        reports.wait_for(len(seen.acknowledged) + chance.randrange(60))
        time.sleep(chance.uniform(0.0, 0.05))
        if mode == "node first" and (node := _node_of(home)):
            os.kill(node, signal.SIGKILL)
            time.sleep(chance.uniform(0.0, 0.2))
    if mode != "none":
        os.kill(child, signal.SIGKILL)
    _, _, usage = os.wait4(child, 0)
    outcome.cpu_seconds += usage.ru_utime + usage.ru_stime
    reports.thread.join(30)
    while _node_of(home):
        time.sleep(0.01)


class _Reports:
    """Reads what the child tells through its pipe, line by line, until it ends; a line that a kill cut does not count."""

    def __init__(self, handle: int, seen: Seen, outcome: Outcome) -> None:
        self.ready = threading.Event()
        self._seen, self._outcome, self._handle = seen, outcome, handle
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def wait_for(self, transactions: int) -> None:
        """Returns when so many transactions were acknowledged, or a minute has gone."""
        patience = time.monotonic() + 60
        while len(self._seen.acknowledged) < transactions and time.monotonic() < patience and self.thread.is_alive():
            time.sleep(0.002)

    def _read(self) -> None:
        with os.fdopen(self._handle, "rb") as stream:
            for line in stream:
                if line.endswith(b"\n"):
                    self._take(json.loads(line))
        self.ready.set()

    def _take(self, report: dict[str, Any]) -> None:
        if "sent" in report:
            self._seen.acknowledged.add(report["sent"])
        elif "block" in report:
            self._seen.blocks[report["block"]] = report["hash"]
        elif "failure" in report:
            self._outcome.failed_starts.append(report["failure"])
        else:
            self._outcome.lost_transactions += report["lost"]
            self._outcome.changed_blocks += report["changed"]
            self.ready.set()


def _child(home: Path, seen: Seen, pipe: int, stay: bool) -> None:
    """The killed process: starts the chain, checks it against what was seen, and sends until it is killed."""

    def tell(report: dict[str, Any]) -> None:
        os.write(pipe, json.dumps(report).encode() + b"\n")

    devchain._SNAPSHOT_BLOCKS, devchain._HISTORY_BLOCKS = SNAPSHOT_BLOCKS, HISTORY_BLOCKS
    try:
        dev = DevChain(home, limit=RateLimit(1e6, 10**6)).start()
        chain = Chain(dev.rpc_url)
        lost, changed = _compare(chain, seen)
        if sum(dev.balances().values()) != TOTAL_SUPPLY:
            raise AssertionError("the supply is not whole")
        gopen = _prepare(dev, chain)
        tell({"lost": lost, "changed": changed})
    except BaseException as error:
        tell({"failure": repr(error)})
        os._exit(1)
    if stay:
        senders = [
            threading.Thread(target=_send, args=(chain, dev.keys.wallet(f"sender{number}"), gopen, tell), daemon=True)
            for number in range(SENDERS)
        ]
        for sender in senders:
            sender.start()
        threading.Event().wait()
    dev.stop()
    os._exit(0)


def _compare(chain: Chain, seen: Seen) -> tuple[list[str], list[int]]:
    """Acknowledged transactions that are in no block, and blocks whose hash is another one than before."""
    height = chain.w3.eth.block_number
    hashes, inside = {}, set()
    for number in range(height + 1):
        block = chain.w3.eth.get_block(number)
        hashes[number] = to_hex(bytes(block["hash"]))
        inside |= {to_hex(bytes(name)) for name in block["transactions"]}  # type: ignore[arg-type]
    changed = [number for number, name in seen.blocks.items() if hashes.get(number) != name]
    return sorted(seen.acknowledged - inside), sorted(changed)


def _prepare(dev: DevChain, chain: Chain) -> str:
    """Funds the senders and creates gOPEN on the first start; returns its address."""
    genesis = dev.keys.wallet("genesis")
    record = dev.home / "gopen"
    if not record.exists():
        for number in range(SENDERS):
            chain.transfer(genesis, dev.keys.wallet(f"sender{number}").address, 1_000 * WEI_PER_OPEN)
        address = chain.create(genesis, creation_code("GOPEN") + encode([], []))
        temporary = record.with_suffix(".part")
        temporary.write_text(address)
        temporary.replace(record)
    return record.read_text()


def _send(chain: Chain, account: LocalAccount, gopen: str, tell: Any) -> None:
    """Payments and contract calls in turn, each told of once the front has acknowledged it, and its block once it is read."""
    fields = {"chainId": chain.chain_id, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 0}
    nonce = chain.nonce(account.address)
    while True:
        call = {"to": gopen, "data": _DEPOSIT, "gas": 200_000} if nonce % 2 else {"to": account.address, "gas": 21_000}
        raw = account.sign_transaction({**fields, **call, "nonce": nonce, "value": 1}).raw_transaction
        try:
            name = bytes(chain.w3.eth.send_raw_transaction(raw))
            tell({"sent": to_hex(name)})
            receipt = chain.w3.eth.get_transaction_receipt(name)  # type: ignore[arg-type]
        except (ChainError, OSError, ValueError):
            return
        except Exception:  # the node was killed under it: web3's own errors
            return
        tell({"block": int(receipt["blockNumber"]), "hash": to_hex(bytes(receipt["blockHash"]))})
        nonce += 1


def _node_of(home: Path) -> int | None:
    """Process id of the node that runs on this home's genesis."""
    wanted = str(home / "chain" / "genesis.json")
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if wanted in command and Path(command[0]).name == "anvil":
            return int(entry.name)
    return None


def main() -> int:
    """Runs the campaigns of the given seeds; results of other seeds are kept. 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(1, 11)), help="one home each")
    parser.add_argument("--kills", type=int, default=22, help="kills of each home")
    options = parser.parse_args()
    known = json.loads(RESULT.read_text())["runs"] if RESULT.exists() else []
    runs = {run["seed"]: run for run in known}
    for seed in options.seeds:
        with tempfile.TemporaryDirectory(prefix="chain-kills-") as folder:
            runs[seed] = asdict(campaign(seed, options.kills, Path(folder)))
        _write([runs[number] for number in sorted(runs)])
    failed = [run for run in runs.values() if run["lost_transactions"] or run["changed_blocks"] or run["failed_starts"]]
    print(json.dumps(json.loads(RESULT.read_text())["total"], indent=1))
    return 1 if failed else 0


def _write(runs: list[dict[str, Any]]) -> None:
    counted = ("kills", "acknowledged", "blocks", "cpu_seconds")
    listed = ("lost_transactions", "changed_blocks", "failed_starts")
    total = {name: sum(run[name] for run in runs) for name in counted} | {
        name: sum(len(run[name]) for run in runs) for name in listed
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"command": "make chain-kills", "total": total, "runs": runs}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
