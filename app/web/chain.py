"""Where a figure comes from, in words: a ratio down to its meters, a point's usage down to readings and receipts."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from app.domain import grid
from app.domain.calendar import BUSINESS_ZONE, month_of, next_month
from app.domain.faults import titled
from app.domain.reception import LANES
from app.errors import NotFound
from app.pipeline import explain
from app.web.pages import Id, Now, render, sign_in_form, visit

router = APIRouter(include_in_schema=False)
Month = Annotated[str, PathParameter(pattern=r"^2\d{3}-(0[1-9]|1[0-2])$")]
Period = Annotated[str, PathParameter(pattern=r"^2\d{3}-(0[1-9]|1[0-2])(-\d{2})?$")]


@router.get("/lines/{line_id}/{month}")
def get_ratio_chain(request: Request, line_id: Id, month: Month, now: Now) -> Response:
    """A line's ratio of a month: level, outputs, energy by carrier with factors, meters, receipts, edits, events."""
    first = _start(month)
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        found = explain.ratio(connection, seen.caller.scope, line_id, first, seen.now)
        return render(
            "ratio.html",
            seen,
            found=found,
            figure=found["stored"] or found["derived"],
            month=first,
            outputs=_outputs(found["outputs"]),
            sources=[_with_titles(group) for group in explain.sources(connection, found)],
            before=first - timedelta(days=1),
            after=next_month(first),
        )


@router.get("/points/{point_id}/{period}")
def get_usage_chain(request: Request, point_id: Id, period: Period, now: Now) -> Response:
    """A point's usage: of a month its days; of a day the steps and every reading with its receipt or edit."""
    first = _start(period)
    grain = grid.period(period)[0]
    with request.app.state.engine.begin() as connection:
        seen = visit(request, connection, now)
        if seen.caller is None:
            return sign_in_form(seen)
        found = explain.usage(connection, seen.caller.scope, point_id, grain, first)
        return render(
            "usage.html",
            seen,
            found={**found, "findings": [titled(row) for row in found["findings"]]},
            grain=grain,
            period=period,
            start=first,
            month=month_of(first),
            lanes=LANES,
            days=[part for part in found["parts"] if part["grain"] == "day"],
            hours=[(_clock(part["start"]), part["quantity"]) for part in found["parts"] if part["grain"] == "hour"],
        )


def _start(period: str) -> date:
    """Return the first day of a month or the day that a period names; a day that does not exist is not there."""
    try:
        start = grid.period(period)[1]
    except ValueError as error:
        raise NotFound(f"there is no {period}: {error}", detail_zh=f"没有 {period}") from error
    return start.date() if isinstance(start, datetime) else start


def _clock(at: datetime) -> str:
    return at.astimezone(BUSINESS_ZONE).strftime("%H:%M")


def _outputs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What was reported: the last revision of each period counts, and the corrected ones are named."""
    latest = {row["period"]: row for row in rows}
    return {
        "rows": list(latest.values()),
        "corrected": [row for row in rows if row["revision"] > 1],
        "is_daily": bool(rows) and all(row["grain"] == "day" for row in rows),
    }


def _with_titles(group: dict[str, Any]) -> dict[str, Any]:
    points = [{**point, "findings": [titled(row) for row in point["findings"]]} for point in group["points"]]
    return {**group, "points": points}
