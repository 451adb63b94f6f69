"""Edits of readings by people: checked as a whole, kept beside what the gateway sent, and the hours they make stale.

An edit sets the value of an instant, voids it (value null), enters one that no meter sent, or decides a dispute: these
are one thing, an entry above every entry of the gateway. The reading as sent stays, and so does its receipt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from app.db import access, seals, stale
from app.db import edits as edits_db
from app.db.access import Caller
from app.db.edits import Entry, Instant, Point, Reading
from app.domain.calendar import HOUR, hour_floor, local
from app.domain.reception import FIRST_EDIT_RANK
from app.intake import closed_years
from app.intake.registry_file import Breach, Path, place, refusal
from app.intake.registry_file import Entry as FileEntry

CAUSE = "edit"
GATEWAY, EDIT = "gateway", "edit"
# Retention drops readings; as long after them the rollup no longer computes anything (app.pipeline.rollup.BLOCK).
NOT_RECOMPUTED = timedelta(days=7)
Code = Annotated[str, Field(min_length=1, max_length=64)]


class EditEntry(BaseModel):
    """One edit of one instant."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)
    gateway: Code = Field(examples=["gw-clinker-01"])
    point: Code = Field(examples=["E001"])
    ts: AwareDatetime = Field(examples=["2026-10-01T08:15:00+08:00"])
    value: Annotated[float, Field(strict=True, allow_inf_nan=False)] | None = Field(
        description="in the point's unit, as the meter would show it; null voids the instant: nothing counts there",
        examples=[48213.5],
    )
    reason: Annotated[str, Field(min_length=1, max_length=500)] = Field(examples=["register misread, see photo"])
    evidence: Annotated[str, Field(max_length=500)] | None = Field(default=None, examples=["work order 2026-1013"])


class EditRow(EditEntry, FileEntry):
    """An edit as a line of a CSV file: `null` as its value voids the instant, a blank one is refused as missing."""

    value: Annotated[float, Field(allow_inf_nan=False)] | None = Field()


@dataclass(frozen=True, slots=True)
class Edited:
    """How many edits were entered, how many were there already, and how many disputes they decided."""

    accepted: int
    unchanged: int
    decided: int


def enter(
    connection: Connection,
    caller: Caller,
    edits: Sequence[EditEntry],
    *,
    now: datetime,
    closed_year_reason: str | None = None,
    places: Mapping[Path, str] | None = None,
    is_dry_run: bool = False,
) -> Edited:
    """Write edits in the caller's transaction, with their marks and one audit row; the order of edits is no matter.

    Any breach raises Invalid with all of them; points outside the scope are as unknown as points that do not exist.
    Convention of this product (P): a closed year (31 March of the year after it has passed) may be edited by an
    operator only, who says why in `closed_year_reason`, which the audit keeps; else Forbidden. An edit that repeats
    the last one of its instant word for word, by the same person, is counted unchanged: sending twice does no harm.
    `places` names the lines of edits that came from a file. A dry run says what would be done and leaves nothing.
    """
    with connection.begin_nested() as savepoint:
        done = _enter(connection, caller, edits, now, closed_year_reason, places or {})
        if is_dry_run:
            savepoint.rollback()
    return done


def _enter(
    connection: Connection,
    caller: Caller,
    edits: Sequence[EditEntry],
    now: datetime,
    closed_year_reason: str | None,
    places: Mapping[Path, str],
) -> Edited:
    edits_db.lock(connection)
    points = edits_db.find_points(connection, caller.scope, sorted({(e.gateway, e.point) for e in edits}))
    breaches = list(_breaches(connection, edits, points, places, now))
    if breaches:
        raise refusal(breaches, places)
    located = [(place(("edits", number, "ts"), places), edit.ts) for number, edit in enumerate(edits)]
    closed = closed_years.check(located, caller.role, closed_year_reason, now)
    if not edits:
        return Edited(0, 0, 0)
    wanted = sorted(((_instant(edit, points), edit) for edit in edits), key=lambda pair: pair[0])
    fresh, rows = _rows(connection, wanted, caller.name, now)
    decided = 0
    if fresh:
        edits_db.insert(connection, rows)
        note = f"decided by an edit: {fresh[0][1].reason}" if len(fresh) == 1 else "decided by an edit"
        instants = [instant for instant, _ in fresh]
        decided = edits_db.close_disputes(connection, instants, actor=caller.name, note=note, now=now)
        stale.mark_many(connection, "rollup", _marks(fresh, points), cause=CAUSE)
    done = Edited(len(fresh), len(edits) - len(fresh), decided)
    _record(connection, caller.name, fresh, done, closed)
    return done


def _instant(edit: EditEntry, points: dict[tuple[str, str], Point]) -> Instant:
    return points[edit.gateway, edit.point].point_id, edit.ts.astimezone(UTC)


def _breaches(
    connection: Connection,
    edits: Sequence[EditEntry],
    points: dict[tuple[str, str], Point],
    places: Mapping[Path, str],
    now: datetime,
) -> Iterator[Breach]:
    seen: dict[tuple[str, str, datetime], int] = {}
    gateways = {point.gateway_id for point in points.values()}
    dropped = {gateway: seals.dropped_until(connection, gateway) for gateway in gateways}
    for number, edit in enumerate(edits):
        path: Path = ("edits", number)
        point = points.get((edit.gateway, edit.point))
        if point is None:
            yield (*path, "point"), f"there is no point {edit.gateway}/{edit.point} that you may edit"
            continue
        key = (edit.gateway, edit.point, edit.ts)
        if seen.setdefault(key, number) != number:
            yield path, f"the same point and instant as {place(('edits', seen[key]), places)}"
        fault = _instant_fault(edit.ts, point, dropped[point.gateway_id], now)
        if fault is not None:
            yield (*path, "ts"), fault


def _instant_fault(ts: datetime, point: Point, dropped_until: datetime | None, now: datetime) -> str | None:
    if ts > now:
        return f"{ts.isoformat()} is in the future"
    if point.installed_at is None:
        return "no meter was ever installed at this point: register the installation first"
    if ts < point.installed_at:
        return f"{ts.isoformat()} is before the first meter of this point, installed at {local(point.installed_at)}"
    if dropped_until is not None and ts < dropped_until + NOT_RECOMPUTED:
        first = local(dropped_until + NOT_RECOMPUTED)
        return f"readings of that time were dropped by retention: only figures from {first} on are computed again"
    return None


def _rows(
    connection: Connection, wanted: Sequence[tuple[Instant, EditEntry]], actor: str, now: datetime
) -> tuple[list[tuple[Instant, EditEntry]], list[dict[str, Any]]]:
    """Return the edits that are new and their rows, each original that has no entry yet before its edit."""
    instants = [instant for instant, _ in wanted]
    readings = edits_db.lock_readings(connection, instants)
    # Read after the lock, in a later statement: what ingest committed meanwhile is seen.
    known = edits_db.entries(connection, instants)
    fresh: list[tuple[Instant, EditEntry]] = []
    rows: list[dict[str, Any]] = []
    for instant, edit in wanted:
        there = known.get(instant, [])
        earlier = [entry for entry in there if entry.origin == EDIT]
        if earlier and _is_repeat(edit, earlier[-1], actor):
            continue
        fresh.append((instant, edit))
        if instant in readings and len(there) == len(earlier):
            rows.append(_original(instant, readings[instant], now))
        rows.append(
            _row(instant, FIRST_EDIT_RANK + len(earlier), EDIT, now)
            | {"value": edit.value, "quality": 0, "actor": actor, "reason": edit.reason, "evidence": edit.evidence}
        )
    return fresh, rows


def _is_repeat(edit: EditEntry, last: Entry, actor: str) -> bool:
    return (edit.value, edit.reason, edit.evidence, actor) == (last.value, last.reason, last.evidence, last.actor)


def _original(instant: Instant, reading: Reading, now: datetime) -> dict[str, Any]:
    """The first arrival as an entry, exactly as ingest copies it when a second one comes."""
    facts = {"value": reading.value, "quality": reading.quality, "receipt_id": reading.receipt_id}
    return _row(instant, 0, GATEWAY, now) | facts


def _row(instant: Instant, rank: int, origin: str, now: datetime) -> dict[str, Any]:
    return {"point_id": instant[0], "ts": instant[1], "rank": rank, "origin": origin, "recorded_at": now}


def _marks(
    fresh: Sequence[tuple[Instant, EditEntry]], points: dict[tuple[str, str], Point]
) -> list[tuple[int, int | None, datetime, datetime]]:
    """Return one mark per point and hour that an edit touches."""
    hours = {(points[edit.gateway, edit.point].gateway_id, point_id, hour_floor(ts)) for (point_id, ts), edit in fresh}
    return [(gateway_id, point_id, hour_at, hour_at + HOUR) for gateway_id, point_id, hour_at in sorted(hours)]


def _record(
    connection: Connection,
    actor: str,
    fresh: Sequence[tuple[Instant, EditEntry]],
    done: Edited,
    closed: dict[int, str],
) -> None:
    """Append one audit row with every instant that was edited; the entries themselves hold values and reasons."""
    detail: dict[str, Any] = {"accepted": done.accepted, "unchanged": done.unchanged, "decided": done.decided}
    detail["instants"] = [f"{edit.gateway}/{edit.point} {local(ts)}" for (_, ts), edit in fresh]
    if closed:
        detail["closed_years"] = closed
    access.record(connection, actor, "edits.enter", f"{done.accepted + done.unchanged} edits", detail)
