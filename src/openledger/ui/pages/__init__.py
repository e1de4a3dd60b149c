"""One module for each page, or for a list and its items; each has ``register(node)``."""

from openledger.ui.pages import (
    agents,
    contribute,
    datanets,
    factory,
    governance,
    models,
    overview,
    payouts,
    receipts,
    records,
    sign_in,
    supply,
    wallet,
)

ALL = tuple(
    page.register
    for page in (
        overview,
        datanets,
        contribute,
        records,
        models,
        agents,
        factory,
        receipts,
        payouts,
        supply,
        governance,
        sign_in,
        wallet,
    )
)
"""What registers every page of a node."""
