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

router = APIRouter(prefix="/api/v1/findings", tags=["findings"])

# Of metering, of ingest and the worker's clock, of validation.
REASONS = {
    "backward_step": ("表底倒走", "Register went backward"),
    "reset": ("表底清零", "Register was reset"),
    "meter_exchange_without_event": ("疑似换表未登记", "Another meter without an event"),
    "implausible_jump": ("超出额定负荷的跳变", "More than the rated load allows"),
    "unit_flip": ("单位疑似变化", "Unit seems to have changed"),
    "dropped_to_zero": ("读数掉零后恢复", "Dropped to zero and came back"),
    "jitter": ("末位抖动", "Last digit went back and forth"),
    "rollover": ("表底翻转", "Register rolled over"),
    "disputed": ("同一时刻有不同数值", "Two values of one instant"),
    "bad_quality": ("数据质量标记为坏", "Marked bad by the gateway"),
    "uncertain_quality": ("数据质量标记为可疑", "Marked uncertain by the gateway"),
    "out_of_range": ("超出上下限", "Outside the point's range"),
    "no_installation": ("当时无表计登记", "No meter was registered then"),
    "overlapping_interval": ("区间重叠", "Two values of one interval"),
    "negative_interval": ("区间用量为负", "Negative energy of an interval"),
    "negative_load": ("负荷为负", "Negative load"),
    "silent": ("测点无数据", "Sends nothing although its gateway does"),
    "incomplete": ("完整率低于90%", "Less than 90 % of the windows received"),
    "no_day_start": ("零点前后1分钟无表底", "No register within a minute of 00:00"),
    "frozen": ("读数长时间不变", "Did not move all day, as it did in the weeks before"),
    "clock_skew": ("端设备时钟偏差超过1分钟", "Gateway's clock is off by more than a minute"),
    "monthly_deviation": ("日累计与月值偏差超过5%", "Days and monthly value are over 5 % apart"),
    "feeder_deviation": ("总表与分表之和偏差超过5%", "Feeder and sub-meters are over 5 % apart"),
}


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
    return {"items": [_titled(row) for row in rows], "next_cursor": following}


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
    return _titled(found)


def _titled(row: dict[str, Any]) -> dict[str, Any]:
    title_zh, title_en = REASONS.get(row["reason"], (row["reason"], row["reason"]))
    return {**row, "title_zh": title_zh, "title_en": title_en}
