"""Registry entries as flat records by natural key, and how they differ from what is registered. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from app.intake.registry_file import (
    AssignmentEntry,
    EnterpriseEntry,
    GatewayEntry,
    Path,
    PointEntry,
    RegistryFile,
)

Key = tuple[Any, ...]
# kind -> natural key -> row with its id; see app.db.registry.load
Registered = Mapping[str, Mapping[Key, Mapping[str, Any]]]

# In the order of writing: what is referred to comes first.
KINDS = (
    "enterprise",
    "enterprise_assignment",
    "process_unit",
    "production_line",
    "gateway",
    "point",
    "meter_installation",
    "point_assignment",
)
# Columns without which a new row of a kind cannot be made, named as in the file.
REQUIRED: dict[str, dict[str, str]] = {
    "enterprise": {"name_zh": "name_zh"},
    "enterprise_assignment": {"district_code": "district_code", "industry_code": "industry_code"},
    "process_unit": {"scope": "scope", "name_zh": "name_zh"},
    "production_line": {"name_zh": "name_zh", "variant_key": "variant_key", "from_on": "from_on"},
    "gateway": {},
    "point": {"signal": "signal", "unit": "unit"},
    "meter_installation": {"serial": "serial"},
    "point_assignment": {"process_unit_id": "process_unit", "flow": "flow"},
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A row named by its natural key, where the database keeps its id."""

    kind: str
    key: Key


@dataclass(frozen=True, slots=True)
class Record:
    """One row that a file asks for: what it states (`given`) and what holds where it states nothing."""

    kind: str
    key: Key
    path: Path
    given: dict[str, Any]
    defaults: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """A registered row and the columns in which the file differs from it."""

    record: Record
    row: Mapping[str, Any]
    columns: dict[str, Any]


@dataclass(slots=True)
class Plan:
    """What an import inserts and updates, and how many rows of each kind it leaves unchanged."""

    inserts: dict[str, list[Record]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    updates: dict[str, list[Change]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    unchanged: Counter[str] = field(default_factory=Counter)


def _split(entry: BaseModel, *skipped: str) -> tuple[dict[str, Any], dict[str, Any]]:
    given = {n: getattr(entry, n) for n in entry.model_fields_set if n not in skipped}
    defaults = {n: getattr(entry, n) for n in type(entry).model_fields if n not in given and n not in skipped}
    return given, defaults


def _rename(values: tuple[dict[str, Any], dict[str, Any]], name: str, column: str, reference: Reference | None) -> None:
    for part in values:
        if name in part:
            part.pop(name)
            part[column] = reference


def flatten(file: RegistryFile) -> list[Record]:
    """Return the records of a file."""
    return [
        record
        for number, enterprise in enumerate(file.enterprises)
        for record in _enterprise(enterprise, ("enterprises", number))
    ]


def _enterprise(entry: EnterpriseEntry, path: Path) -> Iterator[Record]:
    owner = Reference("enterprise", (entry.uscc,))
    lists = ("assignments", "process_units", "lines", "gateways")
    given, defaults = _split(entry, *lists, "from_on", "district_code", "industry_code")
    yield Record("enterprise", owner.key, path, given, defaults)
    if entry.from_on is not None:
        short = {n: getattr(entry, n) for n in ("from_on", "district_code", "industry_code")}
        given = {**short, "enterprise_id": owner}
        yield Record("enterprise_assignment", (entry.uscc, entry.from_on), path, given, {"to_on": None})
    for number, assignment in enumerate(entry.assignments):
        given, defaults = _split(assignment)
        key = (entry.uscc, assignment.from_on)
        given["enterprise_id"] = owner
        yield Record("enterprise_assignment", key, (*path, "assignments", number), given, defaults)
    yield from _process_units_and_lines(entry, owner, path)
    for number, gateway in enumerate(entry.gateways):
        yield from _gateway(gateway, owner, (*path, "gateways", number))


def _process_units_and_lines(entry: EnterpriseEntry, owner: Reference, path: Path) -> Iterator[Record]:
    for number, unit in enumerate(entry.process_units):
        parts = _split(unit)
        parent = Reference("process_unit", (entry.uscc, unit.parent)) if unit.parent else None
        _rename(parts, "parent", "parent_id", parent)
        parts[0]["enterprise_id"] = owner
        yield Record("process_unit", (entry.uscc, unit.code), (*path, "process_units", number), *parts)
    for number, line in enumerate(entry.lines):
        parts = _split(line)
        _rename(parts, "process_unit", "process_unit_id", Reference("process_unit", (entry.uscc, line.process_unit)))
        key = (entry.uscc, line.process_unit, line.code)
        yield Record("production_line", key, (*path, "lines", number), *parts)


def _gateway(entry: GatewayEntry, owner: Reference, path: Path) -> Iterator[Record]:
    given, defaults = _split(entry, "points")
    given["enterprise_id"] = owner
    yield Record("gateway", (entry.code,), path, given, defaults)
    for number, point in enumerate(entry.points):
        yield from _point(point, owner.key[0], entry.code, (*path, "points", number))


def _point(entry: PointEntry, uscc: str, gateway: str, path: Path) -> Iterator[Record]:
    point = Reference("point", (gateway, entry.code))
    given, defaults = _split(entry, "installations", "assignments")
    given["gateway_id"] = Reference("gateway", (gateway,))
    yield Record("point", point.key, path, given, defaults)
    for number, installation in enumerate(entry.installations):
        given, defaults = _split(installation)
        given["point_id"] = point
        key = (*point.key, installation.from_at)
        yield Record("meter_installation", key, (*path, "installations", number), given, defaults)
    for number, assignment in enumerate(entry.assignments):
        parts = _assignment(assignment, uscc, gateway)
        parts[0]["point_id"] = point
        key = (*point.key, assignment.from_at)
        yield Record("point_assignment", key, (*path, "assignments", number), *parts)


def _assignment(entry: AssignmentEntry, uscc: str, gateway: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = _split(entry)
    unit = Reference("process_unit", (uscc, entry.process_unit)) if entry.process_unit else None
    _rename(parts, "process_unit", "process_unit_id", unit)
    for name in ("parent_point", "checks_point"):
        _rename(parts, name, f"{name}_id", _within("point", (gateway,), getattr(entry, name)))
    line = None
    if entry.line:
        unit_code, _, code = entry.line.rpartition("/")
        line = Reference("production_line", (uscc, unit_code or entry.process_unit, code))
    _rename(parts, "line", "line_id", line)
    return parts


def _within(kind: str, home: Key, code: str | None) -> Reference | None:
    """Return the row that a code names: `E001` at home, `gw-02/E001` elsewhere."""
    if not code:
        return None
    owner, _, own = code.rpartition("/")
    return Reference(kind, (owner, own) if owner else (*home, own))


def diff(records: Iterable[Record], registered: Registered) -> Plan:
    """Return what has to be written so that the registry says what the records say."""
    plan = Plan()
    for record in records:
        row = registered[record.kind].get(record.key)
        if row is None:
            plan.inserts[record.kind].append(record)
            continue
        columns = {c: v for c, v in record.given.items() if _differs(v, row[c], registered)}
        if columns:
            plan.updates[record.kind].append(Change(record, row, columns))
        else:
            plan.unchanged[record.kind] += 1
    return plan


def _differs(wanted: Any, present: Any, registered: Registered) -> bool:
    if isinstance(wanted, Reference):
        row = registered[wanted.kind].get(wanted.key)
        return row is None or bool(row["id"] != present)
    if isinstance(wanted, Decimal) and present is not None:
        return wanted != Decimal(present)
    return bool(wanted != present)
