"""An L1 and an OP Stack L2 on this machine with npm's ``supersim``, and OPEN's bridge between them: the optional L1 profile.

Real are the messengers, the portal and the dispute game of the OP Stack. Custom gas token v2 is not in ``supersim``'s genesis,
so the two predeploys that the bridge needs are ours, written by their specification (``supersim_files/CustomGasToken.sol``), and
the supply lies with them. The accounts are ``anvil``'s well-known ones: nothing here is worth anything.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account import Account
from eth_account.signers.local import LocalAccount

from openledger.chain.artifacts import creation_code
from openledger.chain.client import Chain
from openledger.chain.deployment import created_address
from openledger.chain.files import write_atomic
from openledger.chain.toolchain import data_folder, find_program, npm_command, run
from openledger.primitives import TOTAL_SUPPLY, WEI_PER_OPEN, ChainError, keccak, to_hex

FILES = Path(__file__).parent / "supersim_files"
RICH: LocalAccount = Account.from_key(0xAC0974BEC39A17E36BA4A6B4D238FF944BACB478CBED5EFCAE784D7BF4F2FF80)
"""The first account of ``anvil``, known to everybody. It holds all OPEN on the L1 and decides about the bridge."""
LIQUIDITY, CONTROLLER = "0x4200000000000000000000000000000000000029", "0x420000000000000000000000000000000000002A"
L2_MESSENGER, L1_MESSENGER = (
    "0x4200000000000000000000000000000000000007",
    "0xc8c71093ffc2092D61A72369d81940B839Bb12b4",
)
LIMIT, PERIOD = 1_000 * WEI_PER_OPEN, 3_600
"""The bridge's rate limit: so many wei in so many seconds."""
_PATIENCE_SECONDS = 120


@dataclass(frozen=True)
class Ends:
    """Where both layers answer, and OPEN and the bridge's ends on them."""

    l1_rpc: str
    l2_rpc: str
    token: str
    lockbox: str
    minter: str

    def save(self, path: Path) -> None:
        """Writes them as JSON."""
        write_atomic(path, json.dumps(asdict(self), indent=2).encode() + b"\n")


def supersim_program() -> Path:
    """The pinned ``supersim``, installed with npm into the user's data folder when it is first asked for.

    Raises:
        ConfigurationError: npm cannot install it.
    """
    folder = data_folder() / "supersim"
    program = folder / "node_modules" / "supersim" / "bin" / "supersim"
    pinned = FILES / "package-lock.json"
    kept = folder / "package-lock.json"
    if not program.is_file() or not kept.is_file() or kept.read_bytes() != pinned.read_bytes():
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(FILES / name, folder / name)
        run([*npm_command(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return program


@contextmanager
def layers(folder: Path, l1_port: int = 8545, l2_port: int = 9545, admin_port: int = 8420) -> Iterator[Ends]:
    """Runs both layers with the bridge between them for as long as the block lasts; logs go to ``folder``.

    Raises:
        ConfigurationError: ``anvil`` or ``supersim`` is missing.
        ChainError: they did not start, for instance as a port is taken; the message holds what they said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join([str(find_program("anvil").parent), os.environ.get("PATH", "")])
    log = folder / "supersim.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [str(supersim_program()), "--l1.port", str(l1_port), "--l2.count", "1", "--l2.starting.port", str(l2_port),
             "--admin.port", str(admin_port), "--logs.directory", str(folder)],
            stdout=stream, stderr=stream, env={**os.environ, "PATH": path},
        )  # fmt: skip
    try:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while "supersim is ready" not in log.read_text(errors="replace"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ChainError(f"supersim did not start: {log.read_text(errors='replace')[-500:].strip()}")
            time.sleep(0.1)
        l1, l2 = (Chain(f"http://127.0.0.1:{port}", timeout=_PATIENCE_SECONDS) for port in (l1_port, l2_port))
        yield build_bridge(l1, l2)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def build_bridge(l1: Chain, l2: Chain) -> Ends:
    """Puts the custom gas token's predeploys on the L2, and OPEN, the lockbox and the minter on both layers."""
    # `supersim` makes a block every two seconds; nobody needs to wait for them.
    _rpc(l1, "evm_setAutomine", True)
    predeploys = json.loads((FILES / "predeploys.json").read_text())
    for address, name in ((LIQUIDITY, "NativeAssetLiquidity"), (CONTROLLER, "LiquidityController")):
        _rpc(l2, "anvil_setCode", address, predeploys[name])
        for slot in range(2):
            _rpc(l2, "anvil_setStorageAt", address, hex(slot), "0x" + "00" * 32)
    _rpc(l2, "anvil_setBalance", LIQUIDITY, hex(TOTAL_SUPPLY))
    _write(l2, "initialize(address)", RICH.address)
    managers = [
        chain.create(RICH, creation_code("AccessManager") + encode(["address"], [RICH.address])) for chain in (l1, l2)
    ]
    token = l1.create(RICH, creation_code("OPEN") + encode(["address"], [RICH.address]))
    lockbox = created_address(RICH.address, l1.nonce(RICH.address))
    minter = created_address(RICH.address, l2.nonce(RICH.address))
    kinds = ["address", "address", "address", "address", "uint128", "uint64"]
    ends = (
        (l1, "OpenLockbox", [managers[0], L1_MESSENGER, minter, token], lockbox),
        (l2, "OpenMinter", [managers[1], L2_MESSENGER, lockbox, CONTROLLER], minter),
    )
    for chain, name, values, expected in ends:
        at = chain.create(RICH, creation_code(name) + encode(kinds, [*values, LIMIT, PERIOD]))
        if at != expected:
            raise ChainError(f"{name} came to {at} and not to {expected}; did somebody else use {RICH.address}?")
    _write(l2, "authorizeMinter(address)", minter)
    return Ends(l1.rpc_url, l2.rpc_url, token, lockbox, minter)


def _write(chain: Chain, signature: str, account: str) -> None:
    data = to_hex(keccak(signature.encode())[:4] + encode(["address"], [account]))
    chain._transact(RICH, {"to": chain.w3.to_checksum_address(CONTROLLER), "data": data}, 0)  # type: ignore[typeddict-item]


def _rpc(chain: Chain, method: str, *parameters: Any) -> Any:
    answer = chain.ask(lambda: chain.w3.provider.make_request(method, list(parameters)))  # type: ignore[arg-type]
    if "error" in answer:
        raise ChainError(f"{method} was refused: {answer['error']}")
    return answer["result"]
