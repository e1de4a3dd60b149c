"""Who shaped one answer, in the form that receipts commit to and pages show."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from openledger.primitives import InputError, from_hex, to_hex


@dataclass(frozen=True)
class RecordInfluence:
    """One record's influence on one answer.

    Attributes:
        record: its hash, 32 bytes.
        ppm: its share; 0 for a record that is shown but not credited.
        score: its influence (preconditioned inner product of gradients, without a unit).
    """

    record: bytes
    ppm: int
    score: float


@dataclass(frozen=True)
class VerbatimSpan:
    """Output tokens ``start`` to ``start + length`` that stand verbatim in records; a claim apart from influence."""

    start: int
    length: int
    records: tuple[bytes, ...]
    rarity: float


@dataclass(frozen=True)
class RetrievedRecord:
    """A record that was looked up and put before the question: a claim apart from influence and from verbatim spans.

    Attributes:
        record: its hash, 32 bytes.
        effects: for each output token by how many nats its loss rises where this record alone is left out of the prompt.
    """

    record: bytes
    effects: tuple[float, ...]

    @property
    def effect(self) -> float:
        """The same for the whole output, nats; positive where the record made the output likelier."""
        return sum(self.effects)

    def told(self) -> dict[str, Any]:
        """What the API tells of it."""
        return {"record": to_hex(self.record), "effect_nats": round(self.effect, 4)}


@dataclass(frozen=True)
class Explanation:
    """Shares and evidence of one answer; shares (ascending by hash) and residual sum to 1,000,000 ppm."""

    shares: tuple[tuple[bytes, int], ...]
    residual_ppm: int
    top: tuple[RecordInfluence, ...]
    tokens: tuple[str, ...]
    spans: tuple[VerbatimSpan, ...]
    retrieved: tuple[RetrievedRecord, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "shares": [[to_hex(record), ppm] for record, ppm in self.shares],
            "residual_ppm": self.residual_ppm,
            "top": [{**asdict(item), "record": to_hex(item.record)} for item in self.top],
            "tokens": list(self.tokens),
            "spans": [{**asdict(span), "records": [to_hex(record) for record in span.records]} for span in self.spans],
            "retrieved": [{"record": to_hex(one.record), "effects": list(one.effects)} for one in self.retrieved],
        }

    @classmethod
    def from_json(cls, document: Any) -> Explanation:
        """The explanation that :meth:`to_json` wrote.

        Raises:
            InputError: it is of another form.
        """
        try:
            return cls(
                shares=tuple((from_hex(record, 32), int(ppm)) for record, ppm in document["shares"]),
                residual_ppm=int(document["residual_ppm"]),
                top=tuple(
                    RecordInfluence(from_hex(item["record"], 32), int(item["ppm"]), float(item["score"]))
                    for item in document["top"]
                ),
                tokens=tuple(document["tokens"]),
                spans=tuple(
                    VerbatimSpan(
                        int(span["start"]),
                        int(span["length"]),
                        tuple(from_hex(record, 32) for record in span["records"]),
                        float(span["rarity"]),
                    )
                    for span in document["spans"]
                ),
                retrieved=tuple(
                    RetrievedRecord(from_hex(one["record"], 32), tuple(map(float, one["effects"])))
                    for one in document.get("retrieved", [])
                ),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the explanation is malformed: {error}") from error
