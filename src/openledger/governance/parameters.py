"""The runtime parameters: numbers on chain that holders may change by vote, with what they mean and their units."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from openledger.chain import Chain, parameter_key
from openledger.primitives import PPM, WEI_PER_OPEN, InputError, format_open, parse_open

CONTRACT = "RuntimeParameters"

_PERCENT_WEI = 100 * WEI_PER_OPEN // PPM
"""One ppm, if a percent is written like one OPEN."""


class Unit(StrEnum):
    """In what a parameter is counted."""

    PPM = "ppm"
    WEI = "wei"
    SECONDS = "s"
    COUNT = "count"
    SWITCH = "switch"


_MEANINGS: dict[str, tuple[Unit, str]] = {
    "fee.data": (Unit.PPM, "part of every fee that goes to the people whose data shaped the answer"),
    "fee.builder": (Unit.PPM, "part of every fee that goes to the model's owner"),
    "fee.host": (Unit.PPM, "part of every fee that goes to the host that answered"),
    "fee.curators": (Unit.PPM, "part of every fee that goes to the reviewers who accepted the credited records"),
    "fee.validators": (Unit.PPM, "part of every fee that goes to the validators who attested the batch"),
    "attribution.influence": (
        Unit.PPM,
        "part of the data share that is paid by measured influence; the rest is paid by accepted rows",
    ),
    "bond.record": (Unit.WEI, "bond for each submitted record, lost if the record is rejected"),
    "bond.challenge": (Unit.WEI, "bond of each side for each challenged record, lost if the larger jury disagrees"),
    "review.jury": (Unit.COUNT, "reviewers drawn for a contribution"),
    "review.extra": (Unit.COUNT, "reviewers who join where the first ones disagree"),
    "review.appeal": (Unit.COUNT, "reviewers drawn for an appeal"),
    "review.challenge": (Unit.SECONDS, "time to challenge a decision, and then as long to defend it"),
    "review.lapse": (Unit.SECONDS, "time after which a decision stands although nobody judged its challenge"),
    "review.commit": (Unit.SECONDS, "time that jurors have to commit to their verdicts"),
    "review.reveal": (Unit.SECONDS, "time that jurors have to reveal their verdicts"),
    "review.noreveal": (Unit.WEI, "penalty for a juror that reveals no verdict"),
    "stake.reviewer": (Unit.WEI, "least stake of a reviewer"),
    "stake.reviewer.cap": (Unit.WEI, "most of one reviewer's stake that counts when juries are drawn"),
    "stake.validator": (Unit.WEI, "least stake of a validator"),
    "stake.host": (Unit.WEI, "least stake of a host"),
    "stake.unbonding": (Unit.SECONDS, "time until stake that was asked back is free"),
    "payout.delay": (Unit.SECONDS, "time until a payout root can be activated without the validators"),
    "withdrawal.delay": (Unit.SECONDS, "time until a deposit that was asked back can be withdrawn"),
    "model.approval": (Unit.SWITCH, "whether a model needs the approval of a vote before it may answer"),
    "model.lineage": (Unit.PPM, "largest part of the builder's share that a model may ask of those built on it"),
    "datanet.owner": (Unit.PPM, "largest part of a Datanet's own income that its owner may keep"),
    "slash.cap": (Unit.PPM, "largest part of an account's stake that the slashings of one round may take"),
    "slash.round": (Unit.SECONDS, "time over which slashings of one account add up under the cap"),
    "validator.draw": (Unit.COUNT, "validators drawn to attest a batch"),
    "validator.sample": (Unit.COUNT, "receipts of a batch that each drawn validator recomputes and answers for"),
    "dispute.bond": (Unit.WEI, "bond of each side of a dispute"),
    "dispute.window": (Unit.SECONDS, "time after posting in which a receipt can be challenged"),
    "dispute.answer": (Unit.SECONDS, "time to answer a challenge before it is upheld"),
    "dispute.commit": (Unit.SECONDS, "time that a dispute's jurors have to commit to their verdicts"),
    "dispute.reveal": (Unit.SECONDS, "time that a dispute's jurors have to reveal their verdicts"),
    "dispute.jury": (Unit.COUNT, "validators drawn to judge a dispute"),
    "dispute.slash": (Unit.WEI, "stake taken from who was found wrong"),
    "dispute.noreveal": (Unit.WEI, "penalty for a dispute's juror that reveals no verdict"),
    "dispute.reward": (Unit.PPM, "part of what a dispute's loser loses that goes to the winner"),
    "dispute.jurors": (Unit.PPM, "part of what a dispute's loser loses that goes to the jurors of the majority"),
}


@dataclass(frozen=True)
class Parameter:
    """One runtime parameter as it stands.

    Attributes:
        key: its name on chain, such as ``fee.data``.
        value: the present value, in ``unit``.
        unit: what it counts.
        minimum: the least that a vote may set.
        maximum: the most that a vote may set.
        description: what it does, in words.
    """

    key: str
    value: int
    unit: Unit
    minimum: int
    maximum: int
    description: str

    def check(self, value: int) -> None:
        """Checks that a vote may set ``value``.

        Raises:
            InputError: it is out of bounds.
        """
        if not self.minimum <= value <= self.maximum:
            raise InputError(
                f"{self.key} cannot be {show(self.unit, value)}; it may be {show(self.unit, self.minimum)} to "
                f"{show(self.unit, self.maximum)}"
            )


def decode_key(key: bytes) -> str:
    """The name of a key on chain."""
    return key.rstrip(b"\0").decode("ascii", errors="replace")


def parameters(chain: Chain) -> list[Parameter]:
    """Every parameter that the chain knows, in its order; unknown names are counted and described as such."""
    return [_read(chain, key) for key in _keys(chain)]


def parameter(chain: Chain, key: str) -> Parameter:
    """One parameter.

    Raises:
        InputError: the chain knows no such parameter; the message lists those that it knows.
    """
    known = _keys(chain)
    if key not in known:
        raise InputError(f"there is no parameter {key!r}; there are {', '.join(known)}")
    return _read(chain, key)


def show(unit: Unit, value: int) -> str:
    """A value with its unit, for people."""
    if unit is Unit.PPM:
        return f"{format_open(value * _PERCENT_WEI)}%"
    if unit is Unit.WEI:
        return f"{format_open(value)} OPEN"
    if unit is Unit.SECONDS:
        return f"{value:,} s"
    return ("on" if value else "off") if unit is Unit.SWITCH else f"{value:,}"


def parse_value(unit: Unit, text: str) -> int:
    """The integer for a value as a person writes it: ``5%``, ``0.1 OPEN``, ``3600``, ``on``; a bare integer is in the unit.

    Raises:
        InputError: not such a value.
    """
    text = text.strip()
    if unit is Unit.PPM and text.endswith("%"):
        ppm, rest = divmod(parse_open(text.removesuffix("%")), _PERCENT_WEI)
        if rest:
            raise InputError(f"{text} is finer than one part per million; give at most four decimals")
        return ppm
    if unit is Unit.WEI and text.endswith("OPEN"):
        return parse_open(text)
    if unit is Unit.SWITCH and text in ("on", "off"):
        return int(text == "on")
    digits = text.removesuffix("s").strip() if unit is Unit.SECONDS else text
    digits = digits.replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdigit():
        raise InputError(
            f"{text!r} is no value in {unit.value}; write an integer, or 5%, 0.1 OPEN, on, as the unit asks"
        )
    return int(digits)


def _keys(chain: Chain) -> list[str]:
    return [decode_key(bytes(key)) for key in chain.call(chain.contract(CONTRACT).functions.keys())]


def _read(chain: Chain, key: str) -> Parameter:
    functions = chain.contract(CONTRACT).functions
    unit, description = _MEANINGS.get(key, (Unit.COUNT, "a parameter that this version does not describe"))
    minimum, maximum = chain.call(functions.bounds(parameter_key(key)))
    value = int(chain.call(functions.get(parameter_key(key))))
    return Parameter(key, value, unit, int(minimum), int(maximum), description)
