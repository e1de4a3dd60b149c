"""The application's own line icons: 24 by 24, stroked in the colour of the text around them, hidden from screen readers."""

from __future__ import annotations

from nicegui import ui

_PATHS = {
    "overview": '<rect x="3.5" y="3.5" width="7" height="9" rx="1.5"/><rect x="13.5" y="3.5" width="7" height="5" rx="1.5"/>'
    '<rect x="13.5" y="11.5" width="7" height="9" rx="1.5"/><rect x="3.5" y="15.5" width="7" height="5" rx="1.5"/>',
    "datanets": '<ellipse cx="12" cy="5.5" rx="7.5" ry="2.8"/><path d="M4.5 5.5v13c0 1.5 3.4 2.8 7.5 2.8s7.5-1.3 7.5-2.8v-13"/>'
    '<path d="M4.5 12c0 1.5 3.4 2.8 7.5 2.8s7.5-1.3 7.5-2.8"/>',
    "models": '<path d="M12 2.8l8 4.6v9.2l-8 4.6-8-4.6V7.4z"/><path d="M4 7.4l8 4.6 8-4.6M12 12v9.2"/>',
    "agents": '<rect x="4.5" y="8.5" width="15" height="11" rx="2.5"/><path d="M12 8.5V4.5M2.5 13v3M21.5 13v3M9.5 16.5h5"/>'
    '<circle cx="12" cy="3.8" r="1.1"/><circle cx="9" cy="12.8" r="1"/><circle cx="15" cy="12.8" r="1"/>',
    "factory": '<path d="M4 7h9M17 7h3M4 17h3M11 17h9M4 12h3M11 12h9"/>'
    '<circle cx="15" cy="7" r="2"/><circle cx="9" cy="12" r="2"/><circle cx="9" cy="17" r="2"/>',
    "receipts": '<path d="M6 3.5h12v17l-2.4-1.6-1.8 1.6-1.8-1.6-1.8 1.6-1.8-1.6L6 20.5z"/><path d="M9.5 8.5h5M9.5 12.5h5"/>',
    "payouts": '<path d="M4 8.5C4 7 5.2 5.8 6.7 5.8H18v3"/>'
    '<path d="M4 8.5v9c0 1.2 1 2.2 2.2 2.2H20v-11H5.6C4.7 8.7 4 8.4 4 8.5z"/>'
    '<circle cx="16" cy="14.2" r="1.1"/>',
    "supply": '<path d="M12 3.5a8.5 8.5 0 1 0 8.5 8.5H12z"/><path d="M15.5 3.8a8.5 8.5 0 0 1 4.8 4.9h-4.8z"/>',
    "governance": '<path d="M12 4v16M7 20h10M12 6l-7 1.6M12 6l7 1.6"/>'
    '<path d="M5 7.8l-2.6 6c.9 1.1 4.3 1.1 5.2 0zM19 7.8l-2.6 6c.9 1.1 4.3 1.1 5.2 0z"/>',
    "menu": '<path d="M4 7h16M4 12h16M4 17h16"/>',
    "collapse": '<rect x="3.5" y="4.5" width="17" height="15" rx="2"/><path d="M9.5 4.5v15"/>',
    "sun": '<circle cx="12" cy="12" r="4"/>'
    '<path d="M12 3v2M12 19v2M3 12h2M19 12h2M5.6 5.6L7 7M17 17l1.4 1.4M5.6 18.4L7 17M17 7l1.4-1.4"/>',
    "moon": '<path d="M19.5 14.2A8 8 0 0 1 9.8 4.5a8 8 0 1 0 9.7 9.7z"/>',
    "copy": '<rect x="8.5" y="8.5" width="11" height="11" rx="2"/>'
    '<path d="M15.5 8.5v-2a2 2 0 0 0-2-2h-7a2 2 0 0 0-2 2v7a2 2 0 0 0 2 2h2"/>',
    "check": '<path d="M4.5 12.5l5 5 10-11"/>',
    "cross": '<path d="M6 6l12 12M18 6L6 18"/>',
    "clock": '<circle cx="12" cy="12" r="8.5"/><path d="M12 7.5V12l3 2"/>',
    "arrow": '<path d="M5 12h14M13 6l6 6-6 6"/>',
    "back": '<path d="M19 12H5M11 6l-6 6 6 6"/>',
    "lock": '<rect x="5" y="10.5" width="14" height="9.5" rx="2"/><path d="M8.5 10.5V7.5a3.5 3.5 0 0 1 7 0v3"/>',
    "key": '<circle cx="8" cy="14.5" r="4"/><path d="M11 11.7L19.5 3.5M16 7l2.8 2.8M13.8 9.2l2 2"/>',
    "wallet": '<rect x="3.5" y="6" width="17" height="13" rx="2.5"/><path d="M3.5 10h17M15.5 14.5h2"/>',
    "send": '<path d="M4.5 12L20 4.5 15.5 20l-3.5-6.2z"/><path d="M12 13.8L20 4.5"/>',
    "shield": '<path d="M12 3l7.5 2.8v5.4c0 4.6-3 8-7.5 9.8-4.5-1.8-7.5-5.2-7.5-9.8V5.8z"/><path d="M8.6 12l2.4 2.4 4.4-4.8"/>',
    "empty": '<path d="M4 13.5L6.5 5h11L20 13.5V19H4z"/><path d="M4 13.5h5l1 2.2h4l1-2.2h5"/>',
    "alert": '<path d="M12 4l9 15.5H3z"/><path d="M12 10v4.2M12 16.8v.2"/>',
}
MARK = (
    '<svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="8" fill="var(--accent)"/>'
    '<g fill="none" stroke="var(--on-accent)" stroke-width="2.6" stroke-linecap="round">'
    '<path d="M8 10.5h9M8 16h16M15 21.5h9"/></g>'
    '<g fill="var(--on-accent)"><circle cx="22.6" cy="10.5" r="2.1"/><circle cx="9.4" cy="21.5" r="2.1"/></g></svg>'
)
"""The mark: lines of a ledger, with those who are credited at their ends."""

FAVICON = (
    '<svg viewBox="0 0 32 32" xmlns="http://www.w3.org/2000/svg"><rect width="32" height="32" rx="8" fill="#0b7565"/>'
    '<g fill="none" stroke="#fff" stroke-width="2.6" stroke-linecap="round"><path d="M8 10.5h9M8 16h16M15 21.5h9"/></g>'
    '<g fill="#fff"><circle cx="22.6" cy="10.5" r="2.1"/><circle cx="9.4" cy="21.5" r="2.1"/></g></svg>'
)


def icon(name: str, classes: str = "") -> ui.html:
    """One icon by name.

    Raises:
        KeyError: there is no icon of that name.
    """
    drawing = ui.html(f'<svg viewBox="0 0 24 24" aria-hidden="true">{_PATHS[name]}</svg>', sanitize=False, tag="span")
    return drawing.classes(f"icon {classes}")


def mark() -> ui.html:
    """The application's mark."""
    return ui.html(MARK, sanitize=False, tag="span").classes("mark")
