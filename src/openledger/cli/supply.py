"""``openledger supply``: OPEN released against demand from use."""

from __future__ import annotations

from openledger.cli.output import console, open_amount, percent, print_json, table
from openledger.cli.session import HomeOption, JsonOption, network
from openledger.client.clients import calls
from openledger.node.views import SupplyView
from openledger.primitives import PPM


def supply(home: HomeOption = None, json: JsonOption = False) -> None:
    """The supply of OPEN: what circulates, what is locked, and what use demands."""
    with network(home) as client:
        view = client.send(calls.supply())
    if json:
        print_json(view, SupplyView)
        return
    rows = table("Allocation of 1,000,000,000 OPEN", "bucket", "total", "part", "released", "locked", "cliff", "linear",
                 right=["total", "part", "released", "locked", "cliff", "linear"])  # fmt: skip
    for bucket in view.buckets:
        rows.add_row(bucket.name, open_amount(bucket.total, 0), percent(bucket.total * PPM // view.total),
                     open_amount(bucket.released, 0), open_amount(bucket.locked, 0), f"{bucket.cliff_months} months",
                     f"{bucket.linear_months} months")  # fmt: skip
    console.print(rows)
    console.print(
        f"\n[bold]circulating[/] {open_amount(view.circulating, 0)} OPEN ({percent(view.circulating * PPM // view.total)})   "
        f"[bold]staked[/] {open_amount(view.staked, 0)}   [bold]in votes[/] {open_amount(view.wrapped, 0)}\n"
        f"[bold]demand so far[/] inference fees {open_amount(view.fees_paid)} OPEN, gas {open_amount(view.gas_paid)} OPEN"
    )
