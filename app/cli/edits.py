"""`nenghao edits`: set or void the value of an instant, decide a dispute, bring in a file of these, list them."""

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from app.cli.terminal import actor, commands, database, file_text, instant, now, out, records, working
from app.db import edits as edits_db
from app.db import registry as registry_db
from app.db.access import Caller
from app.db.scope import CITY
from app.domain.calendar import local
from app.errors import Invalid
from app.intake import edits as intake
from app.intake import rows
from app.intake.sentences import sentence

group = commands("Readings corrected, voided, entered by hand; disputes decided 读数修正.")

Point = Annotated[str, typer.Argument(help="gateway/point, e.g. gw-clinker-01/E001 测点")]
At = Annotated[
    str, typer.Argument(help="instant of the reading, e.g. 2026-10-01T10:15:00+08:00; without a zone +08:00 时间")
]
Value = Annotated[float, typer.Option(help="in the point's unit, as the meter would show it 读数")]
Reason = Annotated[str, typer.Option(help="why 原因")]
Evidence = Annotated[str | None, typer.Option(help="work order, photo … 依据")]
ClosedYear = Annotated[str | None, typer.Option(help="why figures of a closed year are changed 修改已关账年度的原因")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="check and show, write nothing 只检查")]
COLUMNS = (
    *("point", "ts", "rank", "value", "quality", "origin", "counts", "receipt_id"),
    *("actor", "reason", "evidence", "recorded_at"),
)


@group.command("enter", short_help="Set the value of an instant, or enter one 修正或补录读数.")
def enter(
    point: Point,
    at: At,
    value: Value,
    reason: Reason,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """The value of an instant is another one, or none was sent; what was sent stays beside it 修正或补录读数."""
    _enter_one(point, at, value, reason, evidence, closed_year_reason, dry_run)


@group.command("void")
def void(
    point: Point,
    at: At,
    reason: Reason,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """Nothing counts at an instant; what was sent stays 作废读数."""
    _enter_one(point, at, None, reason, evidence, closed_year_reason, dry_run)


@group.command("decide", short_help="Decide which of two values counts 裁定争议读数.")
def decide(
    point: Point,
    at: At,
    value: Value,
    reason: Reason,
    evidence: Evidence = None,
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """Which value counts where a gateway sent two; refused where nothing is in dispute 裁定争议读数."""
    _enter_one(point, at, value, reason, evidence, closed_year_reason, dry_run, is_decision=True)


@group.command("import", short_help="Import edits from CSV, all or nothing 导入读数修正.")
def import_edits(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV file, UTF-8, with a header line")],
    closed_year_reason: ClosedYear = None,
    dry_run: DryRun = False,
) -> None:
    """CSV: gateway, point, ts with its zone, value (null voids), reason, evidence. All or nothing 导入读数修正."""
    edits, places = rows.parse_csv(file_text(file), "edits", intake.EditRow)
    with database() as engine, working(f"bringing in {len(edits)} edits"), engine.begin() as connection:
        done = intake.enter(
            connection, _caller(), edits, now=now(), closed_year_reason=closed_year_reason, places=places,
            is_dry_run=dry_run,
        )  # fmt: skip
    _show(done, is_dry_run=dry_run)


@group.command("list", short_help="Show every entry and which one counts 修正记录.")
def list_edits(
    point: Annotated[str, typer.Argument(help="gateway/point, or a gateway 测点或端设备")],
    start: Annotated[
        str | None, typer.Option("--from", help="first instant; default: 92 days before the end 起")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="end, excluded; default: now 止")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="instants, the latest 条数")] = 200,
) -> None:
    """Every entry of each instant that was edited, revised or disputed, and which one counts 修正记录."""
    gateway, _, code = point.partition("/")
    until = instant(end) if end else now()
    since = instant(start) if start else until - edits_db.DEFAULT_RANGE
    if since > until:
        raise Invalid(f"--from {local(since)} is after --to {local(until)}", detail_zh="起始时间晚于结束时间")
    with database() as engine, engine.connect() as connection:
        gateway_id = registry_db.gateway_in_scope(connection, CITY, gateway)["id"]
        found = edits_db.list_entries(
            connection, gateway_id, limit=limit, point=code or None, from_at=since, to_at=until
        )
    records(
        COLUMNS,
        (row | {"point": f"{gateway}/{row['point']}", "counts": "yes" if row["counts"] else "no"} for row in found),
    )


def _enter_one(
    point: str, at: str, value: float | None, reason: str, evidence: str | None, closed_year_reason: str | None,
    is_dry_run: bool, *, is_decision: bool = False,
) -> None:  # fmt: skip
    gateway, _, code = point.partition("/")
    content: dict[str, Any] = {"gateway": gateway, "point": code, "ts": instant(at), "value": value}
    try:
        edit = intake.EditEntry.model_validate(content | {"reason": reason, "evidence": evidence})
    except ValidationError as error:
        errors = [{"location": str(e["loc"][0]), "message": sentence(e)} for e in error.errors(include_url=False)]
        raise Invalid("the edit is not right: see below", detail_zh="修正不合规则：见下", errors=errors) from error
    with database() as engine, engine.begin() as connection:
        done = intake.enter(
            connection, _caller(), [edit], now=now(), closed_year_reason=closed_year_reason,
            places={("edits", 0): "edit"}, is_dry_run=is_dry_run,
        )  # fmt: skip
        if is_decision and done.accepted and not done.decided:
            raise Invalid(
                f"nothing is in dispute at {point}, {local(edit.ts)}; nothing was written. `edits enter` sets a value",
                detail_zh=f"{point} 在 {local(edit.ts)} 没有争议，未写入任何内容；修正读数请用 edits enter",
            )
    _show(done, is_dry_run=is_dry_run)


def _caller() -> Caller:
    return Caller(actor(), "operator", CITY)


def _show(done: intake.Edited, *, is_dry_run: bool) -> None:
    verb = "would be " if is_dry_run else ""
    out.print(f"{done.accepted} {verb}entered, {done.unchanged} unchanged, {done.decided} dispute(s) {verb}decided")
