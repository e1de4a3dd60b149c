"""The number that the L2 is known by (EIP-155) unless another is given."""

DEFAULT_CHAIN_ID = 161201
