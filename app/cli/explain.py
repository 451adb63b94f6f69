"""`nenghao explain`: derive a figure again from its raw rows and show the chain. Exit status 1 if it differs."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from typing import Annotated, Any

import typer

from app.cli.chain import Chain
from app.cli.terminal import commands, database, now, out
from app.db import heating_values, outputs
from app.db import registry as registry_db
from app.db.figures import usage as usage_figures
from app.db.figures.energy import Question
from app.db.scope import CITY
from app.domain import grid
from app.domain.accounting import Conversion
from app.errors import Invalid, NotFound
from app.pipeline import explain

group = commands("Where a figure comes from; exit status 1 if the table differs 溯源.")
Period = Annotated[
    str, typer.Argument(help="month 2026-10, day 2026-10-01, or hour 2026-10-01T08:00:00+08:00 月、日或小时")
]
Language = Annotated[str | None, typer.Option(help="zh or en; default: the terminal's 语言")]
Json = Annotated[bool, typer.Option("--json", help="print everything as JSON")]


@group.command("usage", short_help="Usage of a point 用量溯源.")
def explain_usage(
    point: Annotated[str, typer.Argument(help="gateway/point, e.g. gw-clinker-01/E001 计量点")],
    period: Period,
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Usage of a point, down to readings, receipts, meters and edits 用量溯源."""
    gateway, _, code = point.partition("/")
    with database() as engine, engine.connect() as connection:
        points = usage_figures.find_points(connection, CITY, limit=1, gateway_code=gateway, point_code=code)
        if not points:
            raise NotFound(f"there is no point {point!r}: write gateway/point, e.g. gw-clinker-01/E001")
        found = explain.usage(connection, CITY, points[0]["point_id"], *_period(period))
    _show("usage", found, language, as_json)


@group.command("energy", short_help="Energy of a process unit 能耗溯源.")
def explain_energy(
    unit: Annotated[str, typer.Argument(help="credit code/process unit 统一社会信用代码/用能单元")],
    period: Period,
    carrier: Annotated[str, typer.Option(help="e.g. electricity 能源品种")],
    flow: Annotated[str, typer.Option(help="in, out, recovered or feedstock")] = "in",
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Energy of a process unit: points, coefficients with their citations 能耗溯源."""
    uscc, _, code = unit.partition("/")
    with database() as engine, engine.connect() as connection:
        units = [
            row["id"]
            for row in heating_values.find_units(connection, CITY, unit_ids=[], usccs=[uscc])
            if row["code"] == code
        ]
        if not units:
            raise NotFound(f"there is no process unit {unit!r}: write credit code/unit")
        found = explain.energy(connection, CITY, units[0], carrier, flow, *_period(period))
    _show("energy", found, language, as_json)


@group.command("ratio", short_help="Ratio of a line in a month 能效比值溯源.")
def explain_ratio(
    line: Annotated[str, typer.Argument(help="credit code/process unit/line 产线")],
    period: Annotated[str, typer.Argument(help="month 2026-10 月")],
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Ratio of a line in a month: energy, outputs, level, and the judgement made again 能效比值溯源."""
    grain, start = _period(period)
    if grain != "month":
        raise Invalid(f"ratios are of months, {period} is none: write 2026-10")
    with database() as engine, engine.connect() as connection:
        lines = [
            row["id"]
            for row in outputs.find_lines(connection, CITY, line_ids=[], usccs=[line.partition("/")[0]])
            if line == f"{row['uscc']}/{row['process_unit']}/{row['code']}"
        ]
        if not lines:
            raise NotFound(f"there is no line {line!r}: write credit code/unit/line")
        found = explain.ratio(connection, CITY, lines[0], start, now())
    _show("ratio", found, language, as_json)


@group.command("total", short_help="Energy of an enterprise, a district or the city 合计溯源.")
def explain_total(
    period: Period,
    enterprise: Annotated[str | None, typer.Option(help="its credit code 统一社会信用代码")] = None,
    district: Annotated[str | None, typer.Option(help="its code 区代码")] = None,
    language: Language = None,
    as_json: Json = False,
) -> None:
    """Energy of an enterprise, a district, else the city: what it is the sum of 合计溯源."""
    grain, start = _period(period)
    with database() as engine, engine.connect() as connection:
        enterprise_id = registry_db.enterprise_in_scope(connection, CITY, enterprise) if enterprise else None
        question = Question(grain, start, grid.next_start(grain, start), enterprise_id, district)
        found = explain.total(connection, CITY, question)
    _show("total", found, language, as_json)


def _period(written: str) -> tuple[str, Any]:
    try:
        return grid.period(written)
    except ValueError as error:
        raise Invalid(str(error)) from error


def _show(kind: str, found: Mapping[str, Any], language: str | None, as_json: bool) -> None:
    if as_json:
        out.print(json.dumps(found, ensure_ascii=False, indent=1, default=_plain), markup=False)
    else:
        chosen = language or ("zh" if os.environ.get("LANG", "").startswith("zh") else "en")
        for line in Chain(chosen).lines(kind, found):
            out.print(line, markup=False)
    if not found["agrees"]:
        raise typer.Exit(1)


def _plain(value: object) -> object:
    if isinstance(value, Conversion):
        return asdict(value)
    return value.isoformat() if isinstance(value, date | datetime) else str(value)
