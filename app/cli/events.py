"""`nenghao events`: a meter was exchanged, read with another multiplier, registered wrongly; a point was moved."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from app import settings
from app.cli.terminal import actor, commands, database, err, instant, now, out, records
from app.db import events as events_db
from app.db.access import Caller
from app.db.scope import CITY
from app.errors import Invalid
from app.intake import events
from app.intake.event_entries import AnyEvent
from app.intake.sentences import sentence

group = commands("Meters exchanged, multipliers changed, points moved; entered later too 换表等事件.")

Point = Annotated[str, typer.Argument(help="gateway/point, e.g. gw-clinker-01/E001 测点")]
At = Annotated[str, typer.Argument(help="when it happened, e.g. 2026-10-01T10:30:00+08:00; without a zone +08:00 时间")]
Reason = Annotated[str, typer.Option(help="why 原因")]
Evidence = Annotated[str | None, typer.Option(help="work order, photo … 依据")]
ClosedYear = Annotated[str | None, typer.Option(help="why figures of a closed year are changed 修改已关账年度的原因")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and show, write nothing")]
Multiplier = Annotated[str | None, typer.Option(help="multiplier 倍率")]
Digits = Annotated[int | None, typer.Option(help="integer digits of the register 表底整数位数")]
Load = Annotated[str | None, typer.Option(help="rated load, units of the carrier per hour 额定负荷")]
UNKNOWN = "unknown"


@group.command("replacement", short_help="Another meter took over 换表.")
def replacement(
    point: Point,
    at: At,
    final: Annotated[str, typer.Option(help="what the old meter showed last, or unknown 旧表止码")],
    initial: Annotated[str, typer.Option(help="what the new meter showed first, or unknown 新表起码")],
    serial: Annotated[str, typer.Option(help="serial number of the new meter 新表号")],
    reason: Reason,
    multiplier: Multiplier = None,
    digits: Digits = None,
    rated_load: Load = None,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """Another meter took over; what is not stated of it is as it was with the old one 换表."""
    stated: dict[str, Any] = {
        "final_register": _register(final),
        "initial_register": _register(initial),
        "serial": serial,
    }
    stated |= {"multiplier": multiplier, "digits": digits, "rated_load": rated_load}
    _enter(
        "replacement",
        point,
        at,
        reason,
        evidence,
        closed_year_reason,
        dry_run,
        stated,
        kept={"final_register", "initial_register"},
    )


@group.command("multiplier-change", short_help="Another multiplier from then on 倍率变更.")
def multiplier_change(
    point: Point,
    at: At,
    multiplier: Annotated[str, typer.Option(help="from then on 新倍率")],
    reason: Reason,
    register: Annotated[
        str | None, typer.Option(help="what the meter showed then, unless it was read then 当时表底")
    ] = None,
    rated_load: Load = None,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """The same meter was read with another multiplier from then on 倍率变更."""
    stated = {"multiplier": multiplier, "register_at": register, "rated_load": rated_load}
    _enter("multiplier_change", point, at, reason, evidence, closed_year_reason, dry_run, stated)


@group.command("correction", short_help="The meter was registered wrongly 更正表计登记.")
def correction(
    point: Point,
    at: At,
    reason: Reason,
    serial: Annotated[str | None, typer.Option(help="serial number 表号")] = None,
    multiplier: Multiplier = None,
    digits: Digits = None,
    rated_load: Load = None,
    initial: Annotated[str | None, typer.Option(help="what it showed first 起码")] = None,
    final: Annotated[str | None, typer.Option(help="what it showed last 止码")] = None,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """The meter in place then was registered wrongly from its first day: computed again from raw 更正表计登记."""
    stated = {
        "serial": serial, "multiplier": multiplier, "digits": digits, "rated_load": rated_load,
        "initial_register": initial, "final_register": final,
    }  # fmt: skip
    _enter("meter_correction", point, at, reason, evidence, closed_year_reason, dry_run, stated)


@group.command("move", short_help="The point counts to another unit 测点改归工序.")
def move(
    point: Point,
    at: At,
    process_unit: Annotated[str, typer.Argument(help="code of the process unit it counts to from then on 新工序")],
    reason: Reason,
    flow: Annotated[str | None, typer.Option(help="in, out, recovered or feedstock, if it changes 流向")] = None,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """From then on the point counts to another process unit; figures before that stay 测点改归工序."""
    stated = {"process_unit": process_unit, "flow": flow}
    _enter("move", point, at, reason, evidence, closed_year_reason, dry_run, stated)


@group.command("list", short_help="Show what was entered, the last first 事件列表.")
def list_events(
    point: Annotated[str | None, typer.Argument(help="only of gateway/point, or of a gateway 测点或端设备")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """Show what was entered, by whom and why, the last first 事件列表."""
    gateway, _, code = (point or "").partition("/")
    with database() as engine, engine.connect() as connection:
        rows = events_db.list_events(connection, CITY, limit=limit, gateway=gateway or None, point=code or None)
    columns = ("id", "point", "at", "kind", "stated", "actor", "reason", "evidence", "recorded_at")
    records(
        columns, (row | {"point": f"{row['gateway']}/{row['point']}", "stated": _words(row["stated"])} for row in rows)
    )


def _words(stated: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in stated.items())


def _register(value: str) -> str | None:
    return None if value == UNKNOWN else value


def _enter(
    kind: str, point: str, at: str, reason: str, evidence: str | None, closed_year_reason: str | None,
    is_dry_run: bool, stated: dict[str, Any], *, kept: frozenset[str] | set[str] = frozenset(),
) -> None:  # fmt: skip
    gateway, _, code = point.partition("/")
    given = {name: value for name, value in stated.items() if value is not None or name in kept}
    content = {"kind": kind, "gateway": gateway, "point": code, "at": instant(at), "reason": reason, **given}
    if evidence:
        content["evidence"] = evidence
    try:
        event: Any = TypeAdapter(AnyEvent).validate_python(content)
    except ValidationError as error:
        errors = [{"location": str(e["loc"][-1]), "message": sentence(e)} for e in error.errors(include_url=False)]
        raise Invalid("the event is not right: see below", errors=errors) from error
    caller = Caller(actor(), "operator", CITY)
    with database() as engine, engine.begin() as connection:
        done = events.enter(
            connection, caller, event, settings=settings.load(), now=now(), closed_year_reason=closed_year_reason,
            is_dry_run=is_dry_run,
        )  # fmt: skip
    for line in done.changes:
        out.print(line, markup=False)
    for warning in done.warnings:
        err.print(f"warning: {warning.location}: {warning.text_en}", markup=False, style="yellow")
        err.print(f"注意：{warning.text_zh}", markup=False, style="yellow")
    verb = "would be " if is_dry_run else ""
    out.print(f"event {verb}entered" if done.is_new else "this event was known, nothing changed")
