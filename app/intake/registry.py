"""Bring a registry file in: everything is checked first, written in one transaction, and shown row by row.

Order of work, so that a failure leaves nothing half-made that running the same again does not mend:
1. the broker must answer, before anything is written;
2. one transaction validates, writes, marks stale figures and leaves an audit row; it fails as a whole;
3. after its commit the gateways that have no broker account get one. Should this fail, the registry holds gateways
   that cannot sign in yet: the same import changes nothing in the registry and makes the missing accounts.
A password is returned once, by the run that made the account; one that got lost is replaced by `gateways rotate`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import IntegrityError

from app import broker
from app.db import access
from app.db import registry as registry_db
from app.domain.calendar import local
from app.errors import Conflict
from app.intake import registry_check, registry_closing, registry_marks
from app.intake.registry_file import Path, RegistryFile, refusal
from app.intake.registry_records import KINDS, Change, Key, Plan, Record, Reference, Registered, diff, flatten
from app.settings import Settings

# A report names at most so many changed rows; the counts are complete.
CHANGES_SHOWN = 1000


@dataclass(slots=True)
class Report:
    """What an import did, or with `is_dry_run` would do. Counts by kind; one line per changed row."""

    is_dry_run: bool
    inserted: Counter[str] = field(default_factory=Counter)
    updated: Counter[str] = field(default_factory=Counter)
    unchanged: Counter[str] = field(default_factory=Counter)
    changes: list[str] = field(default_factory=list)
    passwords: dict[str, str] = field(default_factory=dict)


def bring_in(
    engine: Engine,
    settings: Settings,
    file: RegistryFile,
    *,
    actor: str,
    now: datetime,
    is_dry_run: bool = False,
    places: Mapping[Path, str] | None = None,
    closed_year_reason: str | None = None,
) -> Report:
    """Import a file and make the broker accounts of its gateways; the report holds the new passwords.

    Raises Invalid with every bad row, Forbidden where a closed year is reached without a reason, Conflict when another
    change came in between, Unavailable when the database or the broker does not answer. A dry run writes nothing and
    does not need the broker.
    """
    codes = [gateway.code for enterprise in file.enterprises for gateway in enterprise.gateways]
    if codes and not is_dry_run:
        with broker.connect(settings):
            pass
    report = Report(is_dry_run)
    with engine.connect() as connection, connection.begin() as transaction:
        write(
            connection, file, report, actor=actor, now=now, settings=settings, places=places,
            closed_year_reason=closed_year_reason,
        )  # fmt: skip
        enabled = registry_db.enabled_gateways(connection, codes)
        if is_dry_run:
            transaction.rollback()
            return report
    if enabled:
        report.passwords = broker.ensure_gateway_accounts(settings, enabled)
    return report


def write(
    connection: Connection,
    file: RegistryFile,
    report: Report,
    *,
    actor: str,
    now: datetime,
    settings: Settings,
    places: Mapping[Path, str] | None = None,
    closed_year_reason: str | None = None,
) -> None:
    """Validate and write a file in the caller's transaction, and fill the report.

    What alters figures of a closed year takes a reason, as an edit there does (see app.intake.registry_closing).
    """
    registry_db.lock(connection)
    records = flatten(file)
    gateways = [record.key[0] for record in records if record.kind == "gateway"]
    registered = registry_db.load(connection, [e.uscc for e in file.enterprises], gateways)
    codes = registry_db.known_codes(connection)
    breaches = registry_check.breaches(records, registered, codes, settings.broker_admin_user)
    breaches += registry_check.resolve_units(records, registered, codes)
    if breaches:
        raise refusal(breaches, places)
    plan = diff(records, registered)
    closed = registry_closing.check(
        connection, plan, registered, now=now, reason=closed_year_reason, places=places or {}
    )
    _fill(report, plan)
    try:
        ids = _apply(connection, plan, registered)
    except IntegrityError as error:
        raise Conflict(
            f"the registry refuses this together with what is there: {error.orig}", detail_zh="与已登记内容冲突"
        ) from error
    registry_marks.mark(connection, plan, registered, ids, now)
    detail: dict[str, Any] = {name: dict(getattr(report, name)) for name in ("inserted", "updated", "unchanged")}
    if closed:
        detail["closed_years"] = closed
    subject = file.enterprises[0].uscc if len(file.enterprises) == 1 else f"{len(file.enterprises)} enterprises"
    access.record(connection, actor, "registry.import", subject, detail)


def _apply(connection: Connection, plan: Plan, registered: Registered) -> dict[tuple[str, Key], int]:
    """Write the plan kind by kind and return the ids of all rows, the registered and the new ones."""
    ids = {(kind, key): row["id"] for kind, rows in registered.items() for key, row in rows.items()}
    for kind in KINDS:
        if kind == "process_unit":
            _insert_tree(connection, plan.inserts[kind], ids)
            _update(connection, kind, plan.updates[kind], ids)
        else:
            # Ending one dated row comes before the next one begins.
            _update(connection, kind, plan.updates[kind], ids)
            _insert(connection, kind, plan.inserts[kind], ids)
    return ids


def _insert_tree(connection: Connection, records: Sequence[Record], ids: dict[tuple[str, Key], int]) -> None:
    """Insert process units from the plant downwards; the check has made sure that they form a tree."""
    waiting = list(records)
    while waiting:
        ready: list[Record] = []
        later: list[Record] = []
        for record in waiting:
            parent = record.given.get("parent_id")
            (ready if parent is None or (parent.kind, parent.key) in ids else later).append(record)
        _insert(connection, "process_unit", ready, ids)
        waiting = later


def _insert(connection: Connection, kind: str, records: Sequence[Record], ids: dict[tuple[str, Key], int]) -> None:
    rows = [_resolved({**record.defaults, **record.given}, ids) for record in records]
    made = registry_db.insert(connection, kind, rows)
    ids.update({(kind, record.key): new_id for record, new_id in zip(records, made, strict=True)})


def _update(connection: Connection, kind: str, changes: Sequence[Change], ids: Mapping[tuple[str, Key], int]) -> None:
    columns = ("id", *registry_db.COLUMNS[kind])
    rows = [{**{c: change.row[c] for c in columns}, **_resolved(change.columns, ids)} for change in changes]
    registry_db.update(connection, kind, rows)


def _resolved(values: Mapping[str, Any], ids: Mapping[tuple[str, Key], int]) -> dict[str, Any]:
    return {c: ids[v.kind, v.key] if isinstance(v, Reference) else v for c, v in values.items()}


def _fill(report: Report, plan: Plan) -> None:
    report.unchanged = plan.unchanged
    for kind in KINDS:
        report.inserted[kind] += len(plan.inserts[kind])
        report.updated[kind] += len(plan.updates[kind])
        report.changes += [f"+ {registry_check.NAMES[kind]} {_key_text(r.key)}" for r in plan.inserts[kind]]
        report.changes += [_change_text(change) for change in plan.updates[kind]]
    del report.changes[CHANGES_SHOWN:]


def _change_text(change: Change) -> str:
    parts = [f"{c}: {_text(change.row[c])} → {_text(v)}" for c, v in change.columns.items()]
    return f"~ {registry_check.NAMES[change.record.kind]} {_key_text(change.record.key)}: {', '.join(parts)}"


def _key_text(key: Key) -> str:
    return "/".join(_text(part) for part in key)


def _text(value: Any) -> str:
    if isinstance(value, Reference):
        return _key_text(value.key)
    if isinstance(value, datetime):
        return local(value)
    if isinstance(value, date):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else str(value)
