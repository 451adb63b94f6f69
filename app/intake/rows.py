"""Rows that people bring in, from CSV or JSON: read, refused as a whole with every bad row, reported by change."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import Connection

from app.db import access, entered
from app.errors import Invalid
from app.intake.registry_file import Breach, Entry, Path, refusal
from app.intake.sentences import sentence

EntryType = TypeVar("EntryType", bound=Entry)
Row = dict[str, Any]
# Nobody reads more of them: a file that is wrong from its first line to its last is read no further than this.
MOST_BREACHES = 1000


@dataclass(slots=True)
class Report:
    """What rows did, or would do: counts, and a line for each change (`+` new, `~` changed, `-` removed)."""

    is_dry_run: bool
    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    changes: list[str] = field(default_factory=list)

    def note(self, mark: str, what: str) -> None:
        """Count one row by its mark: `+`, `~`, `-`, or `=` for one that was there already."""
        counts = {"+": "added", "~": "changed", "-": "removed", "=": "unchanged"}
        setattr(self, counts[mark], getattr(self, counts[mark]) + 1)
        if mark != "=":
            self.changes.append(f"{mark} {what}")


class CsvFile:
    """The records of a CSV text by column, each with the line on which it ends, as `line 7`.

    Line ends may be those of any system. A cell that never ends, a NUL, or a column named twice raises Invalid.
    """

    def __init__(self, content: str) -> None:
        if "\0" in content:
            raise Invalid(
                "the file is no text: it has a NUL character", detail_zh="文件含 NUL 字符，不是文本", errors=[]
            )
        self._reader = csv.DictReader(io.StringIO(content.removeprefix("\ufeff"), newline=None))
        with self._as_invalid():
            self.columns = list(self._reader.fieldnames or ())
        if twice := sorted({name for name in self.columns if self.columns.count(name) > 1}):
            raise Invalid(
                f"the file has column {', '.join(twice)} more than once",
                detail_zh=f"文件中列名重复：{', '.join(twice)}",
                errors=[],
            )

    def __iter__(self) -> Iterator[tuple[str, dict[Any, Any]]]:
        with self._as_invalid():
            for row in self._reader:
                yield f"line {self._reader.line_num}", row

    @contextmanager
    def _as_invalid(self) -> Iterator[None]:
        try:
            yield
        except csv.Error as error:
            place = f"line {self._reader.line_num + 1}"
            raise Invalid(
                f"{place} is not CSV: {error}; is a quotation mark open?",
                detail_zh=f"第 {self._reader.line_num + 1} 行不是合法的 CSV：{error}",
                errors=[{"location": place, "message": str(error)}],
            ) from error


def parse_csv(content: str, list_name: str, entry_type: type[EntryType]) -> tuple[list[EntryType], dict[Path, str]]:
    """Return the entries of a CSV file and the line each came from; every bad row is listed in Invalid.

    The columns are the fields of the entry; optional ones may be missing, unknown ones are refused.
    """
    file = CsvFile(content)
    known = entry_type.model_fields
    needed = [name for name, one in known.items() if one.is_required()]
    missing = [name for name in needed if name not in file.columns]
    unknown = [name for name in file.columns if name not in known]
    if missing or unknown:
        wrong = [f"has no column {', '.join(missing)}"] if missing else []
        wrong += [f"has unknown columns {', '.join(unknown)}"] if unknown else []
        raise Invalid(f"the file {' and '.join(wrong)}; columns are {', '.join(known)}", errors=[])
    entries: list[EntryType] = []
    breaches: list[Breach] = []
    places: dict[Path, str] = {}
    for number, (place, row) in enumerate(file):
        places[list_name, number] = place
        if len(breaches) > MOST_BREACHES:
            break
        if None in row or None in row.values():
            breaches.append(((list_name, number), "not as many cells as the header has columns"))
            continue
        try:
            entries.append(entry_type.model_validate(row))
        except ValidationError as error:
            breaches += [((list_name, number, *e["loc"]), sentence(e)) for e in error.errors(include_url=False)]
    if breaches:
        raise refusal(breaches, places)
    return entries, places


def repeated(list_name: str, keys: Sequence[tuple[Any, ...]]) -> Iterator[Breach]:
    """Yield a breach for each row whose key an earlier row has."""
    first: dict[tuple[Any, ...], int] = {}
    for number, key in enumerate(keys):
        if first.setdefault(key, number) != number:
            yield (list_name, number), f"the same as {list_name}[{first[key]}]"


def bring_in_revisions(
    connection: Connection,
    table: str,
    rows: Sequence[Row],
    *,
    named: Callable[[Mapping[str, Any]], str],
    actor: str,
    is_dry_run: bool,
) -> Report:
    """Append what is new or differs from the latest revision; equal rows are counted unchanged. Audited."""
    report = Report(is_dry_run)
    there = entered.current(connection, table, rows)
    fresh: list[Row] = []
    for row in rows:
        latest = there.get(entered.key_of(table, row))
        values = {name: row[name] for name in entered.TABLES[table].values}
        if latest is not None and all(latest[name] == value for name, value in values.items()):
            report.note("=", "")
            continue
        was = f" (was {latest[entered.TABLES[table].values[0]]})" if latest else ""
        report.note("~" if latest else "+", named(row) + was)
        fresh.append({**row, "revision": latest["revision"] + 1 if latest else 1, "recorded_by": actor})
    if fresh and not is_dry_run:
        entered.insert(connection, table, fresh)
        access.record(connection, actor, f"{table}.enter", f"{len(fresh)} rows", {"changes": report.changes})
    return report
