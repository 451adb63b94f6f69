"""Ratios and clocks to alerts: what the rules see of a line or a gateway, what becomes of the alert, who is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Engine

from app.db import alerts, deliveries, stale
from app.db.alerts import AliveAlert, HeardGateway, Rule, Subject
from app.domain import alerting, benchmark, calendar, notice
from app.domain.alerting import Alive, Change, Decision, MonthFigure, Observation, Reason, Verdict
from app.domain.rounding import round_places
from app.settings import Settings

STAGE = "alert"
LINE_RULES = ("below_baseline", "data_quality")


def run(engine: Engine, now: datetime, settings: Settings) -> int:
    """Judge the closed months (or years) of one marked line by every rule; return the marks taken, 0 when idle."""
    with engine.begin() as connection:
        claim = stale.claim(connection, STAGE)
        if claim is None:
            return 0
        subject = alerts.line_subject(connection, claim.subject_id)
        if subject is not None:
            open_month = calendar.month_of(calendar.business_day(now))
            months = alerts.closed_months(connection, claim.subject_id, open_month)
            years = _years(connection, claim.subject_id, months, open_month)
            for rule in alerts.rules(connection, LINE_RULES):
                figures = months if years is None or rule.kind == "data_quality" else years
                _judge_months(connection, rule, subject, figures, now=now, settings=settings)
        return len(claim.marks)


def _years(
    connection: Connection, line_id: int, months: Sequence[Mapping[str, Any]], open_month: date
) -> list[dict[str, Any]] | None:
    """The closed years of a line whose indicator is judged on a full year (PUE), None for one judged by the month."""
    if not any(row["judged_on"] == "year" for row in months):
        return None
    return alerts.closed_years(connection, line_id, open_month.replace(month=1))


def _judge_months(
    connection: Connection,
    rule: Rule,
    subject: Subject,
    months: Sequence[Mapping[str, Any]],
    *,
    now: datetime,
    settings: Settings,
) -> None:
    figures = [_month_figure(row, rule) for row in months]
    if not rule.is_enabled:
        seen = Observation(Verdict.WITHDRAWN, Reason.RULE_DISABLED)
    elif rule.kind == "below_baseline":
        seen = alerting.observe_baseline(figures, recalled_counts=settings.recalled_levels_open_violations)
    else:
        seen = alerting.observe_data_quality(figures, now)
    alert = alerts.alive(connection, rule.rule_id, subject.kind, subject.subject_id)
    # Where nothing is judged any more, what became of the period of the alert is shown.
    shown = seen.month or (alert.alive.last_month if alert else None)
    row = next((row for row in months if row["period"] == shown), None)
    facts = {**subject.facts, **(_month_facts(row) if row else {})}
    hold = _hold(rule, alerting.DATA_QUALITY_HOLD if rule.kind == "data_quality" else timedelta(0))
    decision = alerting.decide(_alive(rule, alert), seen, now, hold=hold)
    _apply(connection, Case(rule, subject, alert, decision, seen.month), facts, now, settings)


def _alive(rule: Rule, alert: AliveAlert | None) -> Alive | None:
    """What the decision must know of an alert: of the baseline rule also with what its figure was compared."""
    if alert is None or rule.kind != "below_baseline" or not alert.facts.get("baseline"):
        return alert.alive if alert else None
    return replace(alert.alive, baseline=Decimal(alert.facts["baseline"]))


def look_for_silence(engine: Engine, now: datetime, settings: Settings) -> int:
    """Open, confirm and end alerts of silent gateways; return how many changed.

    When most of the gateways fall silent together the fault is taken to be ours, and nothing new is opened.
    """
    changed = 0
    with engine.begin() as connection:
        if not alerts.lock_silence(connection):
            return 0
        for rule in alerts.rules(connection, ("gateway_silent",)):
            missed = int(rule.params.get("missed_heartbeats", 3))
            quiet = alerts.quiet_gateways(connection, rule, missed, now)
            seen = [_observe_silence(rule, gateway, missed, now) for gateway in quiet]
            told = sum(gateway.alert is not None and gateway.alert.was_told for gateway in quiet)
            newly = sum(
                observation.verdict is Verdict.BREACH and not (gateway.alert and gateway.alert.was_told)
                for gateway, observation in zip(quiet, seen, strict=True)
            )
            storm = alerting.is_storm(newly, alerts.count_enabled_gateways(connection) - told)
            for gateway, observation in zip(quiet, seen, strict=True):
                held = storm and observation.verdict is Verdict.BREACH
                changed += not held and _judge_silence(
                    connection, rule, gateway, observation, now=now, settings=settings
                )
    return changed


def _observe_silence(rule: Rule, gateway: HeardGateway, missed: int, now: datetime) -> Observation:
    if not rule.is_enabled:
        return Observation(Verdict.WITHDRAWN, Reason.RULE_DISABLED)
    if not gateway.is_enabled:
        return Observation(Verdict.WITHDRAWN, Reason.BASIS_WITHDRAWN)
    silent = alerting.is_silent(gateway.last_heard_at, now, heartbeat_s=gateway.heartbeat_s, missed_heartbeats=missed)
    return Observation(Verdict.BREACH, Reason.BREACH_FOUND) if silent else Observation(Verdict.CLEAR, Reason.IN_ORDER)


def _judge_silence(
    connection: Connection,
    rule: Rule,
    gateway: HeardGateway,
    seen: Observation,
    *,
    now: datetime,
    settings: Settings,
) -> bool:
    heard_at = gateway.last_heard_at.astimezone(calendar.BUSINESS_ZONE).isoformat(timespec="seconds")
    facts = {**gateway.subject.facts, "last_heard_at": heard_at if gateway.was_ever_heard else None}
    alert = gateway.alert
    decision = alerting.decide(alert.alive if alert else None, seen, now, hold=_hold(rule, alerting.SILENCE_HOLD))
    if decision.change in {Change.NONE, Change.UPDATE}:
        return False
    _apply(connection, Case(rule, gateway.subject, alert, decision), facts, now, settings)
    return True


def _hold(rule: Rule, convention: timedelta) -> timedelta:
    return timedelta(seconds=float(rule.params.get("hold_s", convention.total_seconds())))


@dataclass(frozen=True, slots=True)
class Case:
    """A decision with what it is about."""

    rule: Rule
    subject: Subject
    alert: AliveAlert | None
    decision: Decision
    month: date | None = None


def _apply(
    connection: Connection, case: Case, seen_facts: Mapping[str, Any], now: datetime, settings: Settings
) -> None:
    """Write the change of an alert, and in the same transaction what officials are told of it."""
    facts = _complete(case, seen_facts, settings)
    if case.alert is not None:
        present = {name: value for name, value in seen_facts.items() if name not in case.subject.facts}
        _change(connection, case, case.alert, facts, present, now)
    opens = case.decision.opens
    if case.decision.change is Change.PEND or (
        opens and (case.alert is None or case.decision.change is Change.REPLACE)
    ):
        begun = alerts.begin(
            connection,
            case.rule,
            case.subject,
            is_open=opens,
            month=case.month,
            reason=case.decision.reason,
            facts=facts,
            now=now,
        )
        if begun is not None and opens:
            _tell(connection, "alert.opened", begun, case.subject, facts, now=now)


def _change(
    connection: Connection,
    case: Case,
    alert: AliveAlert,
    facts: Mapping[str, Any],
    present: Mapping[str, Any],
    now: datetime,
) -> None:
    """`facts`: all that is told of a breach; `present`: of these the figures alone, as they stand now."""
    alert_id, reason = alert.alive.alert_id, case.decision.reason
    match case.decision.change:
        case Change.UPDATE | Change.EXTEND:
            alerts.renew(connection, alert_id, month=case.month, reason=reason, facts=facts)
        case Change.OPEN:
            alerts.open_pending(connection, alert_id, reason=reason, facts=facts, now=now)
            _tell(connection, "alert.opened", alert_id, case.subject, facts, now=now)
        case Change.RESOLVE | Change.REPLACE | Change.DROP:
            ended = {"reason": reason, "present": present or None}
            alerts.resolve(connection, alert_id, reason=reason, facts={**alert.facts, "resolution": ended}, now=now)
            # Only what officials were told of is taken back, from the same ones, wherever the enterprise is now.
            if alert.was_told:
                told = replace(case.subject, district_code=deliveries.district_told(connection, alert_id))
                taken_back = _taken_back(case.rule, alert.facts, ended)
                _tell(connection, "alert.resolved", alert_id, told, taken_back, now=now)


def _tell(
    connection: Connection,
    kind: str,
    alert_id: int,
    subject: Subject,
    facts: Mapping[str, Any],
    *,
    now: datetime,
) -> None:
    deliveries.write_event(
        connection,
        kind=kind,
        alert_id=alert_id,
        district_code=subject.district_code,
        enterprise_id=subject.enterprise_id,
        payload=notice.body(kind, {"alert_id": alert_id, **facts}, now),
        now=now,
    )


def _complete(case: Case, facts: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    rule, subject = case.rule, case.subject
    text_zh, text_en = notice.write(rule.kind, facts)
    return {
        "rule": rule.key,
        "severity": rule.severity,
        **facts,
        "text_zh": text_zh,
        "text_en": text_en,
        "url": f"{settings.public_url.rstrip('/')}/enterprises/{subject.enterprise_id}",
    }


def _taken_back(rule: Rule, told: Mapping[str, Any], ended: Mapping[str, Any]) -> dict[str, Any]:
    text_zh, text_en = notice.write_resolved(rule.kind, told, ended["reason"], ended["present"])
    return {**told, "text_zh": text_zh, "text_en": text_en, "resolution": ended}


def _windows(row: Mapping[str, Any]) -> benchmark.Windows:
    return benchmark.Windows(row["windows_expected"], row["windows_received"], row["windows_estimated"])


def _month_figure(row: Mapping[str, Any], rule: Rule) -> MonthFigure:
    minimum = Decimal(str(rule.params.get("completeness_min", "0.90")))
    windows = _windows(row)
    return MonthFigure(
        month=row["period"],
        has_value=row["actual"] is not None,
        is_below_baseline=row["status"] == benchmark.Status.BELOW_BASELINE,
        is_provisional=row["is_provisional"],
        is_level_recalled=row["level_confidence"] == "recalled",
        is_complete=windows.expected > 0 and windows.measured_share >= minimum,
        has_missing_outputs=row["reason"] == benchmark.Reason.MISSING_OUTPUT_DAYS,
        months=12 if row["grain"] == "year" else 1,
        baseline=row["baseline"],
    )


def _month_facts(row: Mapping[str, Any]) -> dict[str, Any]:
    windows = _windows(row)
    figures = {
        name: None if row[name] is None else format(row[name], "f")
        for name in ("actual", "benchmark", "baseline", "ratio", "position")
    }
    return {
        "period": row["period"].strftime("%Y" if row["grain"] == "year" else "%Y-%m"),
        "product_zh": row["product_zh"],
        "product_en": row["product_en"],
        "unit": row["unit"],
        **figures,
        "status": row["status"],
        "figure_reason": row["reason"],
        "level": {
            "edition": row["edition"],
            "source": row["source"],
            "confidence": row["level_confidence"],
        },
        "measured_share": str(round_places(windows.measured_share, 4)),
        "estimated_share": str(round_places(windows.estimated_share, 4)),
        "missing_share": str(round_places(windows.missing_share, 4)),
    }
