"""``python -m openledger.cli``: the same as the ``openledger`` command."""

from openledger.cli import main

main()
