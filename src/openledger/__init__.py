"""OpenLedger: the people whose data teaches a model are paid each time that model answers, and anyone can check it.

The rooms of the house, bottom up: :mod:`~openledger.primitives`; :mod:`~openledger.storage`, :mod:`~openledger.chain`,
:mod:`~openledger.models`; :mod:`~openledger.datanets`, :mod:`~openledger.modelfactory`, :mod:`~openledger.openlora`,
:mod:`~openledger.attribution`; :mod:`~openledger.settlement`, :mod:`~openledger.governance`,
:mod:`~openledger.tokenomics`, :mod:`~openledger.studio`; :mod:`~openledger.node`; :mod:`~openledger.cli`,
:mod:`~openledger.ui`.
"""

__version__ = "0.1.0"
