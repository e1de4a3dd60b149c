"""OpenLedger: the people whose data teaches a model are paid each time that model answers, and anyone can check it.

The rooms of the house, bottom up: :mod:`~openledger.primitives`; :mod:`~openledger.storage`, :mod:`~openledger.chain`,
:mod:`~openledger.models`; :mod:`~openledger.datanets`, :mod:`~openledger.modelfactory`, :mod:`~openledger.openlora`,
:mod:`~openledger.attribution`; :mod:`~openledger.settlement`, :mod:`~openledger.governance`,
:mod:`~openledger.tokenomics`, :mod:`~openledger.studio`; :mod:`~openledger.node`; :mod:`~openledger.cli`,
:mod:`~openledger.ui`.
"""

import contextlib
import sys

# py_ecc, which eth_account brings, raises the recursion limit to 100,000 when it is imported. At that depth nested JSON from
# outside overflows the C stack and ends the process, so it is imported here first and the limit is put back.
_limit = sys.getrecursionlimit()
with contextlib.suppress(ImportError):
    import py_ecc  # noqa: F401
sys.setrecursionlimit(_limit)

__version__ = "0.1.0"
