"""`nenghao verify`, `drop-readings`: what figures rest on, and whether it is as it was."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from app.cli.terminal import actor, database, err, now, out, working
from app.db import access, seals
from app.domain import calendar
from app.domain.calendar import local
from app.errors import Invalid, NotFound
from app.pipeline import seal
from app.pipeline import verify as verification

_DAY = ["%Y-%m-%d"]


def verify(
    gateway: Annotated[str | None, typer.Option(help="only this gateway 端设备")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", help="only what was committed from this day on 起始日", formats=_DAY)
    ] = None,
    end: Annotated[datetime | None, typer.Option("--to", help="and before this day 截止日", formats=_DAY)] = None,
    heads: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="a worker's log: its chain heads must stand 日志")
    ] = None,
    details: Annotated[bool, typer.Option(help="a line for every gateway, not only for those with a breach")] = False,
) -> None:
    """Recompute chains and readings; name what was altered or removed. Exit status 1 if anything was 校验存证."""
    from_at, to_at = (day and calendar.day_start(day.date()) for day in (first, end))
    logged = verification.heads_in(heads.read_text("utf-8").splitlines()) if heads else []
    if heads and not logged:
        raise Invalid(
            f"{heads} holds no chain head: a worker logs them once a day, after the first seal (event `chain head`)",
            detail_zh=f"{heads} 中没有链首记录：工作进程每天记录一次",
        )
    breaches = unsealed = links = 0
    with database() as engine:
        with engine.connect() as connection:
            gateways = seals.gateways(connection, gateway)
        if gateway and not gateways:
            raise NotFound(f"no gateway {gateway!r} is registered", detail_zh=f"没有网关 {gateway}")
        for row in track(gateways, "verifying", console=err, transient=True):
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                verdict = verification.gateway(connection, row.id, row.code, from_at=from_at, to_at=to_at, heads=logged)
            links, unsealed = links + verdict.links, unsealed + verdict.unsealed
            breaches += len(verdict.breaches)
            _show(verdict, is_detailed=details)
    against = f", {len(logged)} logged heads" if heads else ""
    out.print(
        f"{len(gateways)} gateways, {links} links{against}, {breaches} breaches, {unsealed} receipts not sealed yet"
    )
    if breaches:
        raise typer.Exit(1)


def _show(verdict: verification.Verdict, *, is_detailed: bool) -> None:
    if is_detailed:
        since = f" since {local(verdict.oldest_unsealed_at)}" if verdict.oldest_unsealed_at else ""
        line = f"{verdict.gateway_code}: {verdict.links} links, {verdict.unsealed} receipts not sealed yet{since}"
        out.print(line, markup=False)
    for breach in verdict.breaches:
        out.print(f"{breach.gateway_code}: {breach.kind}: {breach.where}", markup=False, style="red")


def drop_readings(
    before: Annotated[datetime, typer.Option(help="drop raw chunks that end by this day 截止日", formats=_DAY)],
    yes: Annotated[bool, typer.Option("--yes", help="do it; without this it is only shown 确认执行")] = False,
) -> None:
    """Verify, then drop old raw readings, each chunk of 7 days under a tombstone; figures stay 清理原始读数."""
    before_at = calendar.day_start(before.date())
    with database() as engine, working("verifying and dropping" if yes else "looking"):
        if yes:
            chunks = seal.drop_readings(engine, before_at, now())
            with engine.begin() as connection:
                detail = {"before": before_at.isoformat(), "chunks": len(chunks)}
                access.record(connection, actor(), "readings.drop", "reading", detail)
        else:
            with engine.connect() as connection:
                chunks = seals.reading_chunks(connection, before_at)
    for from_at, to_at in chunks:
        out.print(f"{local(from_at)} to {local(to_at)} {'dropped' if yes else 'would be dropped'}")
    out.print(f"{len(chunks)} chunks")
    if not yes:
        _warn_unsettled(before_at)


def _warn_unsettled(before_at: datetime) -> None:
    """What is only shown should not promise what --yes refuses."""
    try:
        seal.check_settled(before_at, now())
    except Invalid as refusal:
        err.print(f"with --yes this is refused: {refusal.detail}", markup=False, style="yellow")


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(short_help="Recompute, name what was altered or removed 校验存证.")(verify)
    app.command("drop-readings", short_help="Verify, then drop old raw readings 清理原始读数.")(drop_readings)
