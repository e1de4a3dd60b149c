"""Records from a file that somebody wrote: JSON Lines, JSON, CSV or Parquet, checked row by row."""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openledger.datanets.records import Record
from openledger.datanets.terms import MAX_RECORDS, Terms
from openledger.primitives import InputError, OpenLedgerError, parse_json

MAX_FILE_BYTES = 64 << 20
"""Largest file that is read, and most bytes that a Parquet file may unpack to."""

_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """What is wrong with one row. ``row`` counts from 1, the header of a CSV file not counted."""

    row: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"row {self.row}{', ' + self.field if self.field else ''}: {self.message}"


def read_records(path: Path, terms: Terms) -> list[Record]:
    """The records in ``path``, all of them valid under ``terms``.

    ``.jsonl`` and ``.ndjson`` hold one object a line; ``.json`` a list of objects, or an object with a list
    ``records``; ``.csv`` and ``.parquet`` one record a row, where a column ``facts.date`` means the member ``date`` of
    the object ``facts`` and empty cells are left out.

    Raises:
        InputError: the file cannot be read, or rows are malformed; the message names the first ten with row, field and value.
    """
    rows = list(read_rows(path, terms.policy.max_records))
    if not rows:
        raise InputError(f"{path} holds no record")
    problems = [problem for row, value in enumerate(rows, 1) for problem in check_row(row, value, terms)]
    problems += _repeated(rows, problems)
    if problems:
        shown = "\n  ".join(str(problem) for problem in sorted(problems, key=lambda problem: problem.row)[:_SHOWN])
        more = f"\n  and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        wrong = len({problem.row for problem in problems})
        raise InputError(f"{wrong} of {len(rows)} rows in {path} do not fit the Datanet {terms.name}:\n  {shown}{more}")
    return [Record.from_json(value) for value in rows]


def check_row(row: int, value: Any, terms: Terms) -> list[Problem]:
    """What is wrong with one row under the Datanet's schema and size limit; empty when nothing is."""
    if not isinstance(value, Mapping):
        return [Problem(row, "", f"{_short(value)} is not an object")]
    errors = sorted(terms.validator.iter_errors(value), key=lambda error: list(map(str, error.absolute_path)))
    problems = [
        Problem(row, ".".join(map(str, error.absolute_path)), _explain(error.message, error.instance))
        for error in errors
    ]
    try:
        size = len(Record.from_json(value).canonical)
    except InputError as error:
        return [*problems, Problem(row, "", str(error))]
    if size > terms.policy.max_record_bytes:
        problems.append(Problem(row, "", f"{size:,} bytes; a record has at most {terms.policy.max_record_bytes:,}"))
    return problems


def read_rows(path: Path, limit: int = MAX_RECORDS) -> Iterator[Any]:
    """The rows of a file, unchecked; at most ``limit`` of them.

    Raises:
        InputError: no such file, too large, too many rows, a suffix that is not known, or malformed content.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    size = path.stat().st_size
    if size > MAX_FILE_BYTES:
        raise InputError(f"{path} has {size:,} bytes; at most {MAX_FILE_BYTES:,} are read: split it")
    readers = {
        ".jsonl": _json_lines,
        ".ndjson": _json_lines,
        ".json": _json,
        ".csv": _csv,
        ".parquet": _parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path} ends in {path.suffix or 'nothing'!r}; use one of {', '.join(readers)}")
    try:
        for position, row in enumerate(reader(path)):
            if position == limit:
                raise InputError(f"{path} holds more than {limit:,} rows, the most in one contribution: split it")
            yield row
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _json_lines(path: Path) -> Iterator[Any]:
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            try:
                yield parse_json(line)
            except OpenLedgerError as error:
                raise InputError(f"{path}, line {number}: {error}") from None


def _json(path: Path) -> Iterator[Any]:
    try:
        value = parse_json(path.read_bytes())
    except OpenLedgerError as error:
        raise InputError(f"{path}: {error}") from None
    rows = value.get("records") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise InputError(f'{path} holds neither a list of records nor an object with a list "records"')
    yield from rows


def _csv(path: Path) -> Iterator[Any]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text at byte {error.start}; save it as UTF-8") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if len(set(header)) != len(header) or not all(header):
            raise InputError(f"{path}: the header {header} has an empty or repeated column name")
        for row, cells in enumerate((cells for cells in reader if cells), 1):
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, row {row}: {len(cells)} cells under {len(header)} columns; put texts with commas in quotes"
                )
            yield _nested({name: cell for name, cell in zip(header, cells, strict=True) if cell != ""}, path, row)
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: {error}") from None


def _parquet(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            groups = range(file.metadata.num_row_groups)
            size = sum(file.metadata.row_group(group).total_byte_size for group in groups)
            if size > MAX_FILE_BYTES:
                raise InputError(f"{path} unpacks to {size:,} bytes; at most {MAX_FILE_BYTES:,} are read: split it")
            row = 0
            for batch in file.iter_batches(batch_size=256):
                for values in batch.to_pylist():
                    row += 1
                    yield _nested({name: value for name, value in values.items() if value is not None}, path, row)
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} is not a readable Parquet file: {error}") from None


def _nested(cells: Mapping[str, Any], path: Path, row: int) -> dict[str, Any]:
    """The object whose members are named by dotted columns."""
    result: dict[str, Any] = {}
    for name, cell in cells.items():
        *parents, last = name.split(".")
        target = result
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"{path}, row {row}: the column {name!r} needs an object where {parent!r} is a value")
        if last in target:
            raise InputError(f"{path}, row {row}: the column {name!r} is given twice")
        target[last] = _plain(cell)
    return result


def _plain(value: Any) -> Any:
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(name): _plain(member) for name, member in value.items() if member is not None}
    if isinstance(value, list):
        return [_plain(member) for member in value]
    return value


def _repeated(rows: Sequence[Any], problems: Sequence[Problem]) -> list[Problem]:
    wrong = {problem.row for problem in problems}
    first: dict[bytes, int] = {}
    found = []
    for row, value in enumerate(rows, 1):
        if row not in wrong:
            earlier = first.setdefault(Record.from_json(value).hash, row)
            if earlier != row:
                found.append(Problem(row, "", f"the same record as row {earlier}; keep one of them"))
    return found


def _explain(message: str, instance: Any) -> str:
    return message if len(message) <= 160 else f"{_short(instance)}{message[-100:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
