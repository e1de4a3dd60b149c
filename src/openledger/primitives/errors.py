"""Every error that a person can meet, in one tree.

    OpenLedgerError
    ├── InputError            what was given is malformed or out of range
    ├── NotFoundError         nothing exists under that name or hash
    ├── ConfigurationError    a setting or a needed program is missing
    ├── SignatureError        a signature is malformed or by the wrong account
    ├── StorageError          reading or writing failed; nothing was half-written
    ├── PaymentError          a voucher, deposit or price does not cover the request
    ├── ModelError            a model or adapter cannot be loaded, trained or run
    ├── OverloadedError       there is no room for the request now; it can be sent again later
    │   └── UnavailableError  what answers is being started again
    ├── VerificationError     a recomputation disagrees with what was claimed
    └── ChainError            the chain could not be reached or refused
        ├── RevertError       a contract reverted, with its own decoded error
        └── UnreachableError  nothing answered, or not in time

A message says what was wrong, the value, and what to do about it.
"""

from __future__ import annotations

from typing import Any, ClassVar


class OpenLedgerError(Exception):
    """Base of all errors that are shown to a person as one line; ``exit_code`` is what a command ends with."""

    exit_code: ClassVar[int] = 1


class InputError(OpenLedgerError):
    """What was given is malformed or out of range."""

    exit_code = 2


class NotFoundError(OpenLedgerError):
    """Nothing exists under that name, id or hash."""


class ConfigurationError(OpenLedgerError):
    """A setting or a program that is needed is missing or wrong."""


class SignatureError(OpenLedgerError):
    """A signature is malformed, malleable or made by another account than the one named."""


class StorageError(OpenLedgerError):
    """Reading or writing failed. The store is as it was before the attempt."""


class PaymentError(OpenLedgerError):
    """A voucher, session key, deposit or price does not cover what was asked for."""


class ModelError(OpenLedgerError):
    """A model or adapter cannot be loaded, trained or run."""


class OverloadedError(OpenLedgerError):
    """There is no room for the request now.

    Attributes:
        retry_after: seconds after which to send it again.
    """

    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnavailableError(OverloadedError):
    """What answers has ended, or is not there yet; it is being started again."""


class VerificationError(OpenLedgerError):
    """A recomputation disagrees with what was claimed; the message holds the difference."""


class ChainError(OpenLedgerError):
    """The chain could not be reached, or refused the request."""


class UnreachableError(ChainError):
    """Nothing answered, or not in time. What was asked for may have happened all the same."""


class RevertError(ChainError):
    """A contract reverted.

    Attributes:
        name: the contract's own error name, such as ``InsufficientBond``.
        arguments: the error's arguments by name, decoded.
    """

    def __init__(self, message: str, *, name: str = "", arguments: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.name = name
        self.arguments = dict(arguments or {})
