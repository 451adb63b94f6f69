"""Events of meters and points, entered when they are known, however late: exchange, multiplier, correction, move.

An event is turned into dated rows of the registry and goes the registry's own road (`app.intake.registry`): the same
checks, the same marks, the figures from its instant on are computed again. What it adds is the reading of the
situation (which meter was in place then), who entered it and why, and the right that a closed year takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from app.db import access, seals
from app.db import events as events_db
from app.db import metering as metering_db
from app.db import registry as registry_db
from app.db.access import Caller
from app.domain.calendar import hour_floor, local
from app.domain.closing import INSTANT
from app.errors import Conflict, Invalid, NotFound
from app.intake import closed_years, event_registers, registry
from app.intake.edits import NOT_RECOMPUTED
from app.intake.event_entries import AnyEvent, Event, Move, MultiplierChange
from app.intake.event_registers import Warned
from app.intake.event_rows import Situation, plan
from app.intake.registry_file import EnterpriseEntry, RegistryFile
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Entered:
    """What an event did, or with `is_dry_run` would do: a line for each changed row; none where it was known.

    `warnings`: what is doubtful of the registers that it states.
    """

    is_dry_run: bool
    is_new: bool
    changes: list[str]
    warnings: list[Warned] = field(default_factory=list)


def enter(
    connection: Connection,
    caller: Caller,
    event: AnyEvent,
    *,
    settings: Settings,
    now: datetime,
    closed_year_reason: str | None = None,
    is_dry_run: bool = False,
) -> Entered:
    """Write an event in the caller's transaction, with its marks and audit; a dry run leaves nothing.

    Raises NotFound for a point outside the scope, Invalid for what cannot be (an event before the meter existed, in
    the future, without a register to part the two meters by, with one that contradicts a stored reading, where readings
    were dropped), Conflict for what contradicts a recorded event, Forbidden for a closed year without a reason. The
    very same event again changes nothing.
    """
    with connection.begin_nested() as savepoint:
        done = _enter(connection, caller, event, settings, now, closed_year_reason, is_dry_run)
        if is_dry_run:
            savepoint.rollback()
    return done


def _enter(
    connection: Connection,
    caller: Caller,
    event: AnyEvent,
    settings: Settings,
    now: datetime,
    closed_year_reason: str | None,
    is_dry_run: bool,
) -> Entered:
    registry_db.lock(connection)
    gateway = registry_db.gateway_in_scope(connection, caller.scope, event.gateway)
    registered = registry_db.load(connection, [gateway["uscc"]], [event.gateway])
    point = registered["point"].get((event.gateway, event.point))
    if point is None:
        raise NotFound(
            f"gateway {event.gateway!r} has no point {event.point!r}",
            detail_zh=f"网关 {event.gateway} 没有测点 {event.point}",
        )
    if event.at > now:
        raise _invalid(f"{local(event.at)} is in the future: enter an event once it has happened", "时间在未来")
    situation = Situation(registered, (event.gateway, event.point), _register_then(connection, point, event))
    planned = plan(situation, event)
    report = registry.Report(is_dry_run)
    file = _file(gateway["uscc"], event, planned.entry)
    # A register at midnight of 1 January closes the year before; where a point counts from then on does not.
    begins_at = planned.from_at + INSTANT if isinstance(event, Move) else planned.from_at
    _check_closed_years(connection, caller, begins_at, point["id"], now, closed_year_reason)
    if not isinstance(event, Move):
        _check_retention(connection, point, planned.from_at)
    registry.write(
        connection, file, report, actor=caller.name, now=now, settings=settings, places=_PLACES,
        closed_year_reason=closed_year_reason,
    )  # fmt: skip
    if not report.changes:
        return Entered(is_dry_run, is_new=False, changes=[])
    if planned.is_known:
        raise Conflict(
            f"something else is recorded for {local(event.at)}: {'; '.join(report.changes)}. To put a recorded meter"
            " right, enter a meter_correction",
            detail_zh="该时刻已登记了不同的事件；更正已登记的表计请用 meter_correction",
        )
    warnings = event_registers.check(connection, point["id"], event)
    stated = event.model_dump(mode="json", exclude_unset=True)
    events_db.insert(connection, point["id"], event.kind, event.at, stated, actor=caller.name, now=now)
    detail = stated | {"changes": report.changes, "closed_year_reason": closed_year_reason}
    access.record(connection, caller.name, f"event.{event.kind}", f"{event.gateway}/{event.point}", detail)
    return Entered(is_dry_run, is_new=True, changes=report.changes, warnings=warnings)


_PLACES = {("enterprises", 0, "gateways", 0, "points", 0): "event", ("enterprises", 0): "event"}


def _file(uscc: str, event: Event, entry: Mapping[str, Any]) -> RegistryFile:
    point = {"code": event.point, **entry}
    return RegistryFile(
        enterprises=[
            EnterpriseEntry.model_validate({"uscc": uscc, "gateways": [{"code": event.gateway, "points": [point]}]})
        ]
    )


def _register_then(connection: Connection, point: Mapping[str, Any], event: Event) -> Decimal | None:
    """Return what counts as the reading of the very instant of a multiplier change, if any does."""
    if not isinstance(event, MultiplierChange) or point["signal"] != "register":
        return None
    for reading in metering_db.readings(connection, [(point["id"], event.at, event.at)])[0]:
        if reading.value is not None and not reading.is_disputed:
            return reading.value
    return None


def _check_closed_years(
    connection: Connection, caller: Caller, from_at: datetime, point_id: int, now: datetime, reason: str | None
) -> None:
    """A change that reaches figures of a closed year takes the same right as an edit there."""
    extent = metering_db.extents(connection, [point_id]).get(point_id)
    if extent is not None and extent.to_at > from_at:
        closed_years.check([("event, at", max(from_at, extent.from_at))], caller.role, reason, now)


def _check_retention(connection: Connection, point: Mapping[str, Any], from_at: datetime) -> None:
    """A meter cannot be put right where the readings are gone: the figures would contradict the registry for ever."""
    dropped_until = seals.dropped_until(connection, point["gateway_id"])
    if dropped_until is None:
        return
    first_at = dropped_until + NOT_RECOMPUTED
    if from_at < first_at and events_db.has_usage(connection, point["id"], hour_floor(from_at), first_at):
        raise _invalid(
            f"readings after {local(from_at)} were dropped by retention: only figures from {local(first_at)} on are"
            " computed again. Enter a replacement or multiplier_change at that instant or later",
            "该时段的原始读数已按保留期删除，无法重算",
        )


def _invalid(message: str, message_zh: str) -> Invalid:
    return Invalid(message, detail_zh=message_zh, errors=[{"location": "event, at", "message": message}])
