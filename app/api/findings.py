"""Findings: faults of the data with their fault clock, and closing one by hand."""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import Answer, Cursor, DistrictFilter, Id, IdFilter, Instant, Limit, decode_cursor, next_cursor
from app.db import access
from app.db import findings as findings_db
from app.domain.calendar import business_day
from app.domain.faults import titled

router = APIRouter(prefix="/api/v1/findings", tags=["findings"])


class Finding(Answer):
    """A fault of the data of a point, or of a gateway."""

    id: int = Field(examples=[41])
    enterprise_id: int
    uscc: str
    name_zh: str
    name_en: str
    gateway: str = Field(examples=["gw-clinker-01"])
    point: str | None = Field(description="null: the whole gateway", examples=["E001"])
    point_id: int | None = Field(examples=[7])
    reason: str = Field(examples=["incomplete"])
    title_zh: str = Field(examples=["完整率低于90%"])
    title_en: str = Field(examples=["Less than 90 % of the windows received"])
    grain: str | None = Field(description="day or month where a period was judged; else null", examples=["day"])
    from_at: Instant
    to_at: Instant
    detail: dict[str, Any] = Field(
        description="what was found; `calendar`: by which days the clock runs where the official one is not loaded",
        examples=[{"expected": 96, "received": 86, "share": "89.58 %"}],
    )
    found_at: Instant
    due_on: date | None = Field(
        description="to be repaired by the end of this day, the third working day; null: clock starts within minutes,"
        " or there is nothing to repair (rollover)",
        examples=["2026-10-14"],
    )
    is_overdue: bool | None = Field(description="open after that day; null without a clock")
    closed_at: Instant | None
    closed_by: str | None = Field(description="a person, or `validation` or `gateway` when the fault was gone")
    note: str | None


class FindingPage(Answer):
    """One page, the last found first."""

    items: list[Finding]
    next_cursor: str | None


class Closing(BaseModel):
    """Why a finding is closed."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)
    note: Annotated[str, Field(min_length=1, max_length=1000, examples=["meter replaced, event entered"])]


@router.get("", response_model=FindingPage, summary="Faults of the data 数据质量问题")
def list_findings(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    now: Now,
    enterprise_id: IdFilter = None,
    district: DistrictFilter = None,
    gateway: Annotated[str | None, Query(max_length=63, examples=["gw-clinker-01"])] = None,
    point: Annotated[str | None, Query(max_length=64, examples=["E001"])] = None,
    reason: Annotated[str | None, Query(max_length=40, examples=["incomplete"])] = None,
    open: Annotated[bool | None, Query(description="only open ones, or only closed ones")] = None,
    overdue: Annotated[bool | None, Query(description="only those whose clock ran out, or only the others")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """A finding closes itself when the fault is gone. Its clock runs three working days from the day it was found."""
    rows = findings_db.list_findings(
        connection,
        caller.scope,
        today=business_day(now),
        limit=limit + 1,
        before_id=decode_cursor(cursor),
        enterprise_id=enterprise_id,
        district_code=district,
        gateway=gateway,
        point=point,
        reason=reason,
        is_open=open,
        is_overdue=overdue,
    )
    following = next_cursor(rows, limit)
    return {"items": [titled(row) for row in rows], "next_cursor": following}


@router.post("/{finding_id}/close", response_model=Finding, summary="Close a finding 关闭问题")
def close_finding(
    finding_id: Id,
    body: Closing,
    caller: Annotated[Caller, Depends(allow("operator", "regulator", "official"))],
    connection: Transaction,
    now: Now,
) -> dict[str, Any]:
    """By hand, with a note: it is not opened again by the same fault. The figures stay as they are."""
    found = findings_db.close(
        connection, caller.scope, finding_id, actor=caller.name, note=body.note, now=now, today=business_day(now)
    )
    detail = {"reason": found["reason"], "note": body.note}
    access.record(connection, caller.name, "finding.close", str(finding_id), detail)
    return titled(found)
