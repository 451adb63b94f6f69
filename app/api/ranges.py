"""The range of a question: grain, from, to, and the limit on how much one answer may hold."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query

from app.api.access import Now
from app.db.figures.as_of import check_published
from app.domain.grid import Grid, grid
from app.errors import Invalid
from app.intake.registry_file import Moment

Grain = Annotated[
    Literal["hour", "day", "month"],
    Query(description="step: hour, business day (Asia/Shanghai) or calendar month"),
]
# One answer holds at most so many values; more is asked for in parts.
LIMIT_VALUES = 50_000


AsOf = Annotated[
    Moment | None,
    Query(
        description="answer with what was known at this instant: published days and months only; a day is published at"
        " noon of the next day, a month on the 5th of the next month",
        examples=["2026-11-10T00:00:00+08:00"],
    ),
]


def asked_range(
    now: Now,
    grain: Grain = "day",
    start: Annotated[
        str | None,
        Query(
            alias="from",
            max_length=40,
            description="first step: `2026-10-01`, `2026-10` for months, or `2026-10-01T08:00:00+08:00` for hours;"
            " default: 2 days, 31 days or 12 months before the end",
            examples=["2026-10-01"],
        ),
    ] = None,
    end: Annotated[
        str | None,
        Query(
            alias="to",
            max_length=40,
            description="end, excluded, written like `from`; default: through the present step",
            examples=["2026-11-01"],
        ),
    ] = None,
) -> Grid:
    """Return the grid that a request asks for; bounds that cannot be read raise Invalid."""
    try:
        asked = grid(grain, start, end, now)
    except ValueError as error:
        raise Invalid(
            str(error),
            detail_zh=f"时间范围有误：{error}",
            errors=[{"location": ["query", "from / to"], "message": str(error)}],
        ) from error
    check_size(asked, 1)
    return asked


def check_size(asked: Grid, series: int) -> None:
    """Raise Invalid when steps times series is over the limit of one answer."""
    if len(asked) * series > LIMIT_VALUES:
        raise Invalid(
            f"{len(asked)} steps of {series} series are over the limit of {LIMIT_VALUES}: ask for a shorter range,"
            " a coarser grain or fewer points",
            detail_zh=f"{len(asked)} 步 × {series} 条序列超过上限 {LIMIT_VALUES}：请缩短范围、放粗粒度或减少计量点",
            limit=LIMIT_VALUES,
        )


def check_as_of(asked: Grid, as_of: datetime | None) -> None:
    """Raise Invalid when `as_of` asks for what was not published then."""
    if as_of is not None:
        last = asked.starts()[-1]
        check_published(asked.grain, last, as_of)
