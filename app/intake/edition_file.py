"""A CSV file of an official table: its columns are those of the file in app/reference, by which the table is known."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from app.db import editions
from app.domain.calendar import FIRST_DAY, LAST_DAY
from app.errors import Invalid
from app.intake.registry_file import Breach, Path, refusal
from app.intake.rows import MOST_BREACHES, CsvFile
from app.reference import tables

# Ten to this power and its inverse: no official figure is near either, and the database takes every number between.
MOST_DIGITS = 20


@dataclass(frozen=True, slots=True)
class EditionFile:
    """A file as far as it can be read: its table, readable rows by number, what is wrong with others, their lines."""

    table: str
    rows: dict[int, Any]
    breaches: list[Breach]
    places: dict[Path, str]

    def refuse(self, breaches: Sequence[Breach]) -> None:
        """Raise Invalid when anything is wrong, with all of it in the order of the lines."""
        found = sorted([*self.breaches, *breaches], key=lambda breach: (breach[0][1], str(breach[0][2:])))
        if found:
            raise refusal(found, self.places)


def parse(content: str, known: Sequence[str], what: str) -> EditionFile:
    """Read a file of one of the known tables; `what` names them to who gave a file that is none."""
    records = CsvFile(content)
    table = _table_of(records.columns, known, what)
    row_type = tables.FILES[table][1]
    file = EditionFile(table, {}, [], {})
    for number, (place, record) in enumerate(records):
        file.places["rows", number] = place
        if len(file.breaches) > MOST_BREACHES:
            break
        values, faults = tables.converted({k: v for k, v in record.items() if k is not None}, row_type)
        if None in record:
            faults.append(("", "the line has more cells than there are columns"))
        faults += [(name, fault) for name, v in values.items() if (fault := _odd(v))]
        file.breaches.extend((("rows", number, column), message) for column, message in faults)
        if not faults:
            file.rows[number] = row_type(**values)
    if not file.places:
        raise Invalid("the file has no rows", detail_zh="文件没有数据行", errors=[])
    return file


def _odd(value: object) -> str | None:
    """Return what is wrong with a number or a day that nothing could compute with."""
    if isinstance(value, Decimal) and not (value.is_finite() and -MOST_DIGITS < value.adjusted() < MOST_DIGITS):
        return f"{value} is not a number of at most {MOST_DIGITS} digits"
    if isinstance(value, date) and not FIRST_DAY <= value <= LAST_DAY:
        return f"{value} is not of the years {FIRST_DAY.year} to {LAST_DAY.year}"
    return None


def _table_of(columns: Sequence[str], known: Sequence[str], what: str) -> str:
    odd = {table: tables.odd_columns(columns, tables.FILES[table][1]) for table in known}
    nearest = min(odd, key=lambda table: len(odd[table]))
    if odd[nearest]:
        unknown = [name for name in odd[nearest] if name in columns]
        missing = [name for name in odd[nearest] if name not in columns]
        raise Invalid(
            f"the columns are not those of a {what} file: against {tables.FILES[nearest][0]} of app/reference there are"
            f" missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}",
            detail_zh=f"列名与 app/reference 的 {tables.FILES[nearest][0]} 不一致：缺少 {'、'.join(missing) or '无'}；"
            f"多出 {'、'.join(unknown) or '无'}",
            errors=[],
        )
    return nearest


def row_breaches(table: str, rows: Mapping[int, Any]) -> Iterator[Breach]:
    """Yield what is wrong with rows of any official table: repeated ones, no source, an end before the beginning."""
    names = editions.KEYS[table]
    seen: dict[tuple[Any, ...], int] = {}
    for number, row in rows.items():
        path: Path = ("rows", number)
        key = tuple(getattr(row, name) for name in names)
        if seen.setdefault(key, number) != number:
            yield path, f"the same {', '.join(names)} as rows[{seen[key]}]"
        if not row.source.strip():
            yield (*path, "source"), "say where the figures come from"
        if row.valid_from and row.valid_to and row.valid_to <= row.valid_from:
            yield (*path, "valid_to"), f"{row.valid_to} is not after valid_from {row.valid_from}"
