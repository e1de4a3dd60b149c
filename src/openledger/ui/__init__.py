"""The web application: every step of an answer's life on pages, on the same server as the node's API.

One module in :mod:`openledger.ui.pages` for each page. Records, prompts and answers are other people's text: they reach the
browser as text and never as HTML, and the pages load nothing from outside.
"""

from openledger.ui.app import register
from openledger.ui.views_protocol import Views

__all__ = ["Views", "register"]
