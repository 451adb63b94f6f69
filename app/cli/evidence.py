"""`nenghao verify`, `drop-readings`, `explain`: what figures rest on, and whether it is as it was."""

import json
from datetime import datetime
from typing import Annotated

import typer

from app.cli.terminal import database, now, out, working
from app.db import seals
from app.db.scope import CITY
from app.domain import calendar
from app.errors import NotFound
from app.pipeline import explain as explanation
from app.pipeline import seal
from app.pipeline import verify as verification


def verify(
    gateway: Annotated[str | None, typer.Option(help="only this gateway 端设备")] = None,
    details: Annotated[bool, typer.Option(help="a line for every gateway, not only for those with a breach")] = False,
) -> None:
    """Recompute chains and readings; name what was altered or removed. Exit status 1 if anything was 校验存证."""
    breaches = unsealed = links = 0
    with database() as engine, working("verifying") as say:
        with engine.connect() as connection:
            gateways = seals.gateways(connection, gateway)
        if gateway and not gateways:
            raise NotFound(f"no gateway {gateway!r} is registered")
        for number, row in enumerate(gateways, 1):
            say(f"verifying {row.code} ({number} of {len(gateways)})")
            with engine.connect().execution_options(isolation_level="REPEATABLE READ") as connection:
                verdict = verification.gateway(connection, row.id, row.code)
            links, unsealed = links + verdict.links, unsealed + verdict.unsealed
            breaches += len(verdict.breaches)
            if details:
                out.print(
                    f"{row.code}: {verdict.links} links, {verdict.unsealed} receipts not sealed yet", markup=False
                )
            for breach in verdict.breaches:
                out.print(f"{breach.gateway_code}: {breach.kind}: {breach.where}", markup=False, style="red")
    out.print(f"{len(gateways)} gateways, {links} links, {breaches} breaches, {unsealed} receipts not sealed yet")
    if breaches:
        raise typer.Exit(1)


def drop_readings(
    before: Annotated[datetime, typer.Option(help="drop raw chunks that end by this day", formats=["%Y-%m-%d"])],
    yes: Annotated[bool, typer.Option("--yes", help="do it; without this it is only shown 确认执行")] = False,
) -> None:
    """Drop old raw readings, each chunk of 7 days under a tombstone; figures stay. Verify first 清理原始读数."""
    before_at = calendar.day_start(before.date())
    with database() as engine:
        if yes:
            chunks = seal.drop_readings(engine, before_at, now())
        else:
            with engine.connect() as connection:
                chunks = seals.reading_chunks(connection, before_at)
    for from_at, to_at in chunks:
        out.print(f"{from_at.isoformat()} to {to_at.isoformat()} {'dropped' if yes else 'would be dropped'}")
    out.print(f"{len(chunks)} chunks")


def explain(
    kind: Annotated[str, typer.Argument(help="usage (of a point) or ratio (of a line) 用量或比值")],
    subject_id: Annotated[int, typer.Argument(help="id of the point or line")],
    period: Annotated[datetime, typer.Argument(help="day, or any day of the month", formats=["%Y-%m-%d"])],
    grain: Annotated[str, typer.Option(help="day or month, for usage")] = "month",
) -> None:
    """Derive a figure again from its raw rows and print the chain as JSON; exit status 1 if it differs 溯源."""
    start = period.date() if grain == "day" else calendar.month_of(period.date())
    with database() as engine, engine.connect() as connection:
        if kind == "ratio":
            found = explanation.ratio(connection, CITY, subject_id, calendar.month_of(start), now())
        else:
            found = explanation.usage(connection, CITY, subject_id, grain, start)
    out.print(json.dumps(found, ensure_ascii=False, indent=1, default=str), markup=False)
    if not found["agrees"]:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command()(verify)
    app.command("drop-readings")(drop_readings)
    app.command()(explain)
