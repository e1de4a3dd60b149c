"""The node: composes every room below into one running service (``openledger up``).

The class is :class:`openledger.node.service.Node`; importing this package alone loads nothing heavy, so that clients can use
:mod:`openledger.node.views`.
"""
