"""The command line, one module per noun. ``openledger --help`` lists the commands; every command has ``--json``."""

from openledger.cli.app import main

__all__ = ["main"]
