"""``openledger config``: every setting, its value and where it can be set."""

from __future__ import annotations

from openledger.cli.output import console, print_json, table
from openledger.cli.session import JsonOption
from openledger.node.settings import Settings, load_settings


def config(json: JsonOption = False) -> None:
    """The settings in force."""
    settings = load_settings()
    if json:
        print_json(settings.model_dump(mode="json"))
        return
    rows = table("Settings (environment, or openledger.toml)", "name", "value", "environment variable", "meaning")
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        rows.add_row(name, str(value) if value != "" else "—", f"OPENLEDGER_{name.upper()}", field.description or "")
    console.print(rows)
