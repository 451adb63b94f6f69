"""What a registry file must fulfil beyond its shape. Every check yields all its breaches; nothing is written before."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

from app.domain.calendar import local
from app.intake.registry_file import Breach, Path
from app.intake.registry_records import REQUIRED, Key, Record, Reference, Registered

Codes = Mapping[str, Mapping[str, Mapping[str, Any]]]

NAMES = {
    "enterprise": "enterprise",
    "enterprise_assignment": "assignment",
    "process_unit": "process unit",
    "production_line": "line",
    "gateway": "gateway",
    "point": "point",
    "meter_installation": "installation",
    "point_assignment": "assignment",
}
# Kinds whose rows of one owner must not overlap: kind -> (from, to).
DATED = {
    "enterprise_assignment": ("from_on", "to_on"),
    "meter_installation": ("from_at", "to_at"),
    "point_assignment": ("from_at", "to_at"),
}
PERIODS = {**DATED, "production_line": ("from_on", "to_on")}
FILE_FIELD = {"parent_id": "parent", "process_unit_id": "process_unit", "line_id": "line",
              "parent_point_id": "parent_point", "checks_point_id": "checks_point"}  # fmt: skip
RESERVED_PREFIX = "nenghao-"


def breaches(records: Sequence[Record], registered: Registered, codes: Codes, administrator: str) -> list[Breach]:
    """Return every breach of a file, in the order of the checks."""
    found = list(_duplicates(records))
    for record in records:
        row = registered[record.kind].get(record.key)
        found += _required(record, row)
        found += _period(record, row)
        found += _codes(record, codes)
    found += _references(records, registered)
    found += _gateways(records, registered, administrator)
    found += _trees(records, registered)
    found += _overlaps(records, registered)
    return found


def _duplicates(records: Sequence[Record]) -> Iterator[Breach]:
    first: dict[tuple[str, Key], Path] = {}
    for record in records:
        if (record.kind, record.key) in first:
            yield record.path, f"{NAMES[record.kind]} {_shown(record.key)} stands in the file twice"
        first.setdefault((record.kind, record.key), record.path)


def _required(record: Record, row: Mapping[str, Any] | None) -> Iterator[Breach]:
    for column, name in REQUIRED[record.kind].items():
        is_emptied = column in record.given and record.given[column] is None
        if is_emptied or (row is None and record.given.get(column) is None):
            yield (*record.path, name), f"required: {NAMES[record.kind]} {_shown(record.key)} is new"


def _value(record: Record, row: Mapping[str, Any] | None, column: str) -> Any:
    """Return what a column will hold: as given, else as registered, else by default."""
    if column in record.given:
        return record.given[column]
    return row[column] if row is not None else record.defaults.get(column)


def _period(record: Record, row: Mapping[str, Any] | None) -> Iterator[Breach]:
    if record.kind in PERIODS:
        start, end = (_value(record, row, column) for column in PERIODS[record.kind])
        if start is not None and end is not None and end <= start:
            yield (*record.path, PERIODS[record.kind][1]), f"{end} is not after {PERIODS[record.kind][0]} {start}"


def _codes(record: Record, codes: Codes) -> Iterator[Breach]:
    for column in ("district_code", "industry_code", "variant_key", "carrier_key"):
        code = record.given.get(column)
        if code is not None and code not in codes[column]:
            yield (*record.path, column), _unknown(column.replace("_", " "), code, codes[column])


def _unknown(what: str, code: str, known: Mapping[str, Any]) -> str:
    if not known:
        return f"unknown {what} {code!r}: the official tables are not loaded, run `nenghao reference load`"
    near = sorted(known, key=lambda other: (_distance(code, other), other))[:8]
    return f"unknown {what} {code!r}; nearest known: {', '.join(near)}"


def _distance(one: str, other: str) -> int:
    """Return how unlike two codes are by the letter pairs they do not share: enough to sort suggestions."""
    pairs, others = set(pairwise(one.lower())), set(pairwise(other.lower()))
    return len(pairs ^ others)


def resolve_units(records: Sequence[Record], registered: Registered, codes: Codes) -> list[Breach]:
    """Replace the unit that a point's entry writes by the registered unit of its carrier; return the breaches.

    `t` of coal and `t` of water are different units, kept apart by what they are converted to.
    """
    found: list[Breach] = []
    for record in records:
        row = registered["point"].get(record.key)
        changed = {"unit", "signal", "carrier_key"} & set(record.given)
        if record.kind != "point" or not changed or (row is None and record.given.get("unit") is None):
            continue
        written = _value(record, row, "unit")
        carrier = codes["carrier_key"].get(str(_value(record, row, "carrier_key")))
        canonical = carrier["unit"] if carrier else None
        fitting = _fitting_units(codes, canonical, "rate" if _value(record, row, "signal") == "gauge" else "amount")
        unit = fitting.get(written, written if written in fitting.values() else None)
        if unit is not None:
            record.given["unit"] = unit
        else:
            found.append(((*record.path, "unit"), _unit_message(written, canonical, fitting, codes)))
    return found


def _fitting_units(codes: Codes, canonical: str | None, kind: str) -> dict[str, str]:
    """Return the units that a point may have, as written -> registered; without carrier every unit will do."""
    return {
        (unit["written_as"] if canonical else key): key
        for key, unit in codes["unit"].items()
        if canonical is None or (unit["canonical_unit"] == canonical and unit["kind"] == kind)
    }


def _unit_message(written: str, canonical: str | None, fitting: Mapping[str, str], codes: Codes) -> str:
    if not codes["unit"]:
        return _unknown("unit", written, {})
    is_known = any(written in (key, unit["written_as"]) for key, unit in codes["unit"].items())
    problem = f"unit {written!r} does not fit" if is_known else f"unknown unit {written!r}"
    carrier = f" for this carrier (kept in {canonical}) and signal" if canonical else ""
    return f"{problem}; known units{carrier} are {', '.join(fitting) or 'none'}"


def _references(records: Sequence[Record], registered: Registered) -> Iterator[Breach]:
    in_file = {(record.kind, record.key) for record in records}
    for record in records:
        for column, value in record.given.items():
            if not isinstance(value, Reference) or (value.kind, value.key) in in_file:
                continue
            if value.key not in registered[value.kind]:
                message = f"there is no {NAMES[value.kind]} {_shown(value.key)}, neither registered nor in this file"
                yield (*record.path, FILE_FIELD.get(column, column)), message


def _gateways(records: Sequence[Record], registered: Registered, administrator: str) -> Iterator[Breach]:
    for record in records:
        if record.kind != "gateway":
            continue
        code, owner = record.key[0], record.given["enterprise_id"]
        row = registered["gateway"].get(record.key)
        enterprise = registered["enterprise"].get(owner.key)
        if code == administrator or code.startswith(RESERVED_PREFIX):
            yield (*record.path, "code"), f"{code!r} is kept for the service's own accounts: choose another code"
        elif row is not None and (enterprise is None or row["enterprise_id"] != enterprise["id"]):
            yield (*record.path, "code"), f"gateway {code!r} belongs to another enterprise: choose another code"


def _trees(records: Sequence[Record], registered: Registered) -> Iterator[Breach]:
    """Each enterprise's process units form one tree under one plant."""
    trees: dict[str, dict[str, tuple[str | None, int, Path]]] = {}
    by_id = {row["id"]: key for key, row in registered["process_unit"].items()}
    for key, row in registered["process_unit"].items():
        parent = by_id.get(row["parent_id"])
        trees.setdefault(key[0], {})[key[1]] = (parent[1] if parent else None, row["scope"], ())
    for record in (r for r in records if r.kind == "process_unit"):
        parent_code, scope, _ = trees.get(record.key[0], {}).get(record.key[1], (None, 0, ()))
        if "parent_id" in record.given:
            reference = record.given["parent_id"]
            parent_code = reference.key[1] if reference else None
        scope = record.given.get("scope") or scope
        trees.setdefault(record.key[0], {})[record.key[1]] = (parent_code, scope, record.path)
    for tree in trees.values():
        yield from _tree(tree)


def _tree(tree: Mapping[str, tuple[str | None, int, Path]]) -> Iterator[Breach]:
    touched = [path for _, _, path in tree.values() if path]
    plants = [code for code, (_, scope, _) in tree.items() if scope == 1]
    if touched and len(plants) != 1:
        owner = touched[0][:-1]
        yield owner, f"an enterprise has exactly one plant (scope 1), not {len(plants)}: {', '.join(plants) or 'none'}"
    for code, (parent, scope, path) in tree.items():
        if path and (scope == 1) != (parent is None):
            yield (*path, "parent"), "a plant (scope 1) has no parent, every other process unit has one"
        elif path and parent is not None and parent in tree and scope < tree[parent][1]:
            yield (*path, "scope"), f"scope {scope} cannot stand under {parent!r} of scope {tree[parent][1]}"
        elif path and _is_circular(code, tree):
            yield (*path, "parent"), f"process unit {code!r} would be its own ancestor"


def _is_circular(code: str, tree: Mapping[str, tuple[str | None, int, Path]]) -> bool:
    seen: set[str] = set()
    current: str | None = code
    while current is not None and current in tree:
        if current in seen:
            return True
        seen.add(current)
        current = tree[current][0]
    return False


def _overlaps(records: Sequence[Record], registered: Registered) -> Iterator[Breach]:
    """Dated rows of one owner, the registered ones with the file's laid over them, must not overlap."""
    for kind, (start, end) in DATED.items():
        merged: dict[Key, dict[Any, tuple[Any, Path]]] = {}
        touched = {record.key[:-1] for record in records if record.kind == kind}
        for key, row in registered[kind].items():
            if key[:-1] in touched:
                merged.setdefault(key[:-1], {})[key[-1]] = (row[end], ())
        for record in (r for r in records if r.kind == kind):
            row_end = _value(record, registered[kind].get(record.key), end)
            merged.setdefault(record.key[:-1], {})[record.key[-1]] = (row_end, record.path)
        for periods in merged.values():
            for (first, (first_end, first_path)), (second, (_, path)) in pairwise(sorted(periods.items())):
                if first_end is None or first_end > second:
                    until = f"to {_shown((first_end,))}" if first_end else "without end"
                    where = (*(path or first_path), start if path else end)
                    yield (
                        where,
                        (
                            f"{NAMES[kind]} from {_shown((second,))} overlaps the one from {_shown((first,))} {until}:"
                            f" end that one with {end} first"
                        ),
                    )


def _shown(key: Key) -> str:
    """A key as a reader knows it, instants in business time."""
    return "/".join(local(part) if isinstance(part, datetime) else str(part) for part in key)
