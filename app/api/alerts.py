"""Alerts: what is wrong where, since when, and who has seen it."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from app.api.access import EVERYONE, Caller, Now, Transaction, allow
from app.api.shapes import (
    Answer,
    Cursor,
    DistrictFilter,
    Id,
    IdFilter,
    Instant,
    Limit,
    decode_cursor,
    next_cursor,
)
from app.db import access, inbox

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])
State = Literal["pending", "open", "acknowledged", "resolved"]
Severity = Literal["violation", "data", "notice"]


class Alert(Answer):
    """One matter: a rule, a subject and a period; it stays the same alert while the matter lasts."""

    id: int = Field(examples=[41])
    rule: str = Field(examples=["below_baseline"])
    kind: str = Field(examples=["below_baseline"])
    severity: Severity = Field(description="violation, data (bad data opens no violation) or notice")
    title_zh: str = Field(examples=["能效低于基准水平"])
    title_en: str = Field(examples=["Below the baseline level"])
    basis: str = Field(description="the document that the rule stands on", examples=["发改产业〔2023〕723号"])
    subject_kind: str = Field(description="line, gateway, point, enterprise or district", examples=["line"])
    subject_id: int = Field(examples=[7])
    state: State
    period: date | None = Field(description="null for monthly rules: see first_period and last_period")
    first_period: date | None = Field(examples=["2026-09-01"])
    last_period: date | None = Field(examples=["2026-10-01"])
    reason: str = Field(description="why it is in this state", examples=["breach_found", "no_longer_in_breach"])
    facts: dict[str, Any] = Field(
        description="the figures it rests on; of a resolved one as they last were in breach, with `resolution`:"
        " the reason and the present figures",
        examples=[
            {
                "actual": "118.4632", "benchmark": "100", "baseline": "117", "measured_share": "0.9983",
                "resolution": {"reason": "no_longer_in_breach", "present": {"actual": "110.2", "baseline": "117"}},
            }
        ],
    )  # fmt: skip
    pending_at: Instant
    opened_at: Instant | None
    acknowledged_at: Instant | None
    acknowledged_by: str | None = Field(examples=["蓟州区值班"])
    acknowledge_note: str | None = Field(examples=["已电话联系企业，预计 11 月 5 日前反馈"])
    resolved_at: Instant | None
    enterprise_id: int | None = Field(examples=[7])
    uscc: str | None = Field(examples=["91120000MA0000001X"])
    enterprise_name_zh: str | None = Field(examples=["示例水泥有限公司"])
    enterprise_name_en: str | None = Field(examples=["Example Cement Co., Ltd."])
    district_code: str | None = Field(examples=["120119"])


class AlertPage(Answer):
    """One page of alerts, newest first."""

    items: list[Alert]
    next_cursor: str | None


class AlertEvent(Answer):
    """One change of an alert that endpoints are told about."""

    id: str = Field(description="also the webhook-id of its deliveries")
    kind: str = Field(examples=["alert.opened"])
    occurred_at: Instant
    deliveries: int = Field(examples=[1])
    delivered: int = Field(examples=[1])
    dead: int = Field(description="given up after the last attempt; may be replayed", examples=[0])


class AlertDetail(Alert):
    """An alert with its events."""

    events: list[AlertEvent]


class Acknowledgement(Answer):
    """Why and how it was taken as seen."""

    note: str = Field(min_length=1, max_length=2000, examples=["已电话联系企业，预计 11 月 5 日前反馈"])


@router.get("", response_model=AlertPage, summary="List alerts 告警列表")
def list_alerts(
    *,
    caller: Annotated[Caller, Depends(allow(*EVERYONE))],
    connection: Transaction,
    state: Annotated[list[State] | None, Query(description="may be repeated; default: all")] = None,
    severity: Severity | None = None,
    enterprise_id: IdFilter = None,
    district: DistrictFilter = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> dict[str, Any]:
    """Newest first."""
    rows = inbox.list_alerts(
        connection,
        caller.scope,
        limit=limit + 1,
        before_id=decode_cursor(cursor),
        states=[str(s) for s in state] if state else None,
        severity=severity,
        enterprise_id=enterprise_id,
        district_code=district,
    )
    return {"next_cursor": next_cursor(rows, limit), "items": rows}


@router.get("/{alert_id}", response_model=AlertDetail, summary="One alert 告警详情")
def get_alert(
    alert_id: Id, caller: Annotated[Caller, Depends(allow(*EVERYONE))], connection: Transaction
) -> dict[str, Any]:
    """With the events that endpoints were told about and how their deliveries went."""
    found = inbox.alert(connection, caller.scope, alert_id)
    return {**found, "events": inbox.events_of(connection, alert_id)}


@router.post("/{alert_id}/acknowledge", response_model=AlertDetail, summary="Acknowledge an alert 确认告警")
def acknowledge_alert(
    alert_id: Id,
    body: Acknowledgement,
    caller: Annotated[Caller, Depends(allow(*access.MAY_ACKNOWLEDGE))],
    connection: Transaction,
    now: Now,
) -> dict[str, Any]:
    """Once it is open; a second time answers 409 and names who was first."""
    inbox.acknowledge(connection, caller.scope, alert_id, actor=caller.name, note=body.note, now=now)
    access.record(connection, caller.name, "alert.acknowledge", f"alert/{alert_id}", {"note": body.note})
    return {**inbox.alert(connection, caller.scope, alert_id), "events": inbox.events_of(connection, alert_id)}
