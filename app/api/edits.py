"""Edits of readings: who entered, changed or voided which value, when, why, on what evidence."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Exact, Instant
from app.db import edits as edits_db
from app.db import registry as registry_db
from app.domain.reception import LANES
from app.errors import Invalid
from app.intake import edits as intake
from app.intake.edits import EditEntry
from app.intake.registry_file import Moment

router = APIRouter(prefix="/api/v1/edits", tags=["edits"])
MOST_EDITS = 1000


class EditReport(BaseModel):
    """Edits to enter, all or nothing."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    edits: list[EditEntry] = Field(min_length=1, max_length=MOST_EDITS)
    closed_year_reason: Annotated[str, Field(max_length=500)] | None = Field(
        default=None, description="why a closed year is edited; operators only", examples=["court order 2026-7"]
    )


class Edited(Answer):
    """What became of a report."""

    accepted: int = Field(description="entered", examples=[2])
    unchanged: int = Field(description="the same as the last edit of the instant, word for word", examples=[0])
    decided: int = Field(description="open disputes that were decided by it", examples=[1])


class EditedEntry(Answer):
    """One entry of an instant that has more than what the gateway sent first."""

    point: str = Field(examples=["E001"])
    ts: Instant
    rank: int = Field(description="the gateway's rev; edits 1,000,000 and more", examples=[1_000_000])
    value: Exact | None = Field(description="null: the instant was voided", examples=["48213.5"])
    quality: int = Field(description="0 good, 1 uncertain, 2 bad")
    origin: Literal["gateway", "edit"]
    counts: bool = Field(description="the one entry of the instant that counts; none in a dispute")
    receipt_id: int | None
    epoch: str | None
    lane: str | None = Field(examples=["live"])
    seq: int | None
    actor: str | None = Field(description="who edited; null for the gateway's entries")
    reason: str | None
    evidence: str | None
    recorded_at: Instant | None


class EditedList(Answer):
    """Entries of the instants in the range, the latest instant first, in order of rank within one."""

    gateway_code: str = Field(examples=["gw-clinker-01"])
    items: list[EditedEntry]
    is_complete: bool = Field(description="false: there are more than `limit` instants; ask for a shorter range")


@router.post("", response_model=Edited, summary="Edit readings 修正读数")
def enter_edits(
    body: EditReport,
    caller: Annotated[Caller, Depends(allow("operator", "regulator"))],
    connection: Transaction,
    now: Now,
) -> intake.Edited:
    """All or nothing: any bad row lists all of them. The reading as sent stays; the latest edit of an instant counts.
    The same for a manual value where nothing was sent, for a void (value null) and for deciding a dispute. A closed
    year, after 31 March of the year that follows, is edited by operators only, with `closed_year_reason`.
    """
    return intake.enter(connection, caller, body.edits, now=now, closed_year_reason=body.closed_year_reason)


@router.get("", response_model=EditedList, summary="Edited readings of a gateway 修正记录")
def list_edits(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    gateway: Annotated[str, Query(max_length=63, examples=["gw-clinker-01"])],
    point: Annotated[str | None, Query(max_length=64, examples=["E001"])] = None,
    start: Annotated[
        Moment | None, Query(alias="from", description="first instant; default: 92 days before the end")
    ] = None,
    end: Annotated[Moment | None, Query(alias="to", description="end, excluded; default: now")] = None,
    limit: Annotated[int, Query(ge=1, le=MOST_EDITS, description="instants in one answer")] = 200,
) -> dict[str, Any]:
    """Every entry of each instant that was edited, revised or disputed, with who, when, why, and which one counts."""
    gateway_id = registry_db.gateway_in_scope(connection, caller.scope, gateway)["id"]
    until = end or now
    since = start or until - edits_db.DEFAULT_RANGE
    if since > until:
        raise Invalid(
            f"from {since.isoformat()} is after to {until.isoformat()}",
            detail_zh="from 晚于 to",
            errors=[{"location": ["query", "from / to"], "message": "range"}],
        )
    rows = edits_db.list_entries(connection, gateway_id, limit=limit + 1, point=point, from_at=since, to_at=until)
    instants = list(dict.fromkeys((row["point"], row["ts"]) for row in rows))
    shown = set(instants[:limit])
    items = [
        {**row, "lane": None if row["lane"] is None else LANES[row["lane"]]}
        for row in rows
        if (row["point"], row["ts"]) in shown
    ]
    return {"gateway_code": gateway, "items": items, "is_complete": len(instants) <= limit}
