"""Alerts: what the rules look at, the one alert alive per rule and subject, and its changes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT
from app.domain.alerting import Alive, State

# Taken by the worker that looks for silent gateways: one look at a time is enough.
SILENCE_LOCK = 7_230_031
# So many closed months are read of a line: the latest with a value is judged.
MONTHS_READ = 24


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the rule table."""

    rule_id: int
    key: str
    kind: str
    severity: str
    params: Mapping[str, Any]
    is_enabled: bool


def rules(connection: Connection, kinds: tuple[str, ...]) -> list[Rule]:
    """Return the rules of some kinds, switched-off ones too: their alerts have to end."""
    rows = connection.execute(
        text("SELECT id, key, kind, severity, params, is_enabled FROM rule WHERE kind = ANY(:kinds) ORDER BY id"),
        {"kinds": list(kinds)},
    )
    return [Rule(*row) for row in rows]


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert is about, with the names an official needs."""

    kind: str
    subject_id: int
    enterprise_id: int
    district_code: str | None
    facts: Mapping[str, Any]  # district, enterprise and line or gateway, as in the webhook


_PLACE = (
    "jsonb_build_object('district', jsonb_build_object('code', d.code, 'name_zh', d.name_zh, 'name_en', d.name_en),"
    " 'enterprise', jsonb_build_object('uscc', e.uscc, 'name_zh', e.name_zh, 'name_en', e.name_en))"
)
_DISTRICT = f" LEFT JOIN {CURRENT_ASSIGNMENT} c ON true LEFT JOIN district d ON d.code = c.district_code"


def line_subject(connection: Connection, line_id: int) -> Subject | None:
    """Return a line as the subject of an alert, or None when it is not there."""
    row = connection.execute(
        text(
            f"SELECT e.id, d.code, {_PLACE} || jsonb_build_object('line', jsonb_build_object("
            "'code', l.code, 'name_zh', l.name_zh, 'name_en', l.name_en))"
            " FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id{_DISTRICT} WHERE l.id = :line"
        ),
        {"line": line_id},
    ).first()
    return None if row is None else Subject("line", line_id, row[0], row[1], row[2])


def closed_months(connection: Connection, line_id: int, open_month: date) -> list[dict[str, Any]]:
    """Return a line's monthly ratios before the open month, latest first, with level and product."""
    return _closed(connection, line_id, "month", open_month)


def closed_years(connection: Connection, line_id: int, open_year: date) -> list[dict[str, Any]]:
    """Return a line's yearly ratios before the open year, as `closed_months`: for indicators judged on a full year."""
    return _closed(connection, line_id, "year", open_year)


def _closed(connection: Connection, line_id: int, grain: str, open_period: date) -> list[dict[str, Any]]:
    rows = connection.execute(
        text(
            "SELECT r.grain, v.judged_on, r.period, r.actual, r.unit, r.benchmark, r.baseline, r.ratio, r.position,"
            " r.status, r.reason,"
            " r.is_provisional, r.level_confidence, r.windows_expected, r.windows_received, r.windows_estimated,"
            " v.product_zh, v.product_en, lv.edition, lv.source"
            " FROM ratio r JOIN production_line l ON l.id = r.line_id AND l.variant_key = r.variant_key"
            " JOIN catalogue_variant v ON v.variant_key = r.variant_key"
            " LEFT JOIN efficiency_level lv ON lv.id = r.level_id"
            " WHERE r.line_id = :line AND r.grain = :grain AND r.period < :open_period"
            " ORDER BY r.period DESC LIMIT :limit"
        ),
        {"line": line_id, "grain": grain, "open_period": open_period, "limit": MONTHS_READ},
    ).mappings()
    return [dict(row) for row in rows]


@dataclass(frozen=True, slots=True)
class AliveAlert:
    """The alert alive for a rule and subject, with what officials were told of it."""

    alive: Alive
    facts: Mapping[str, Any]
    was_told: bool


def alive(connection: Connection, rule_id: int, subject_kind: str, subject_id: int) -> AliveAlert | None:
    """Return the alert of a rule and subject that is pending, open or acknowledged."""
    row = connection.execute(
        text(
            "SELECT id, state, pending_at, first_period, last_period, facts, opened_at IS NOT NULL FROM alert"
            " WHERE rule_id = :rule AND subject_kind = :kind AND subject_id = :subject AND period IS NULL"
            " AND state IN ('pending', 'open', 'acknowledged')"
        ),
        {"rule": rule_id, "kind": subject_kind, "subject": subject_id},
    ).first()
    if row is None:
        return None
    alert_id, state, pending_at, first_month, last_month, facts, was_told = row
    return AliveAlert(Alive(alert_id, State(state), pending_at, first_month, last_month), facts, was_told)


def begin(
    connection: Connection,
    rule: Rule,
    subject: Subject,
    *,
    is_open: bool,
    month: date | None,
    reason: str,
    facts: Mapping[str, Any],
    now: datetime,
) -> int | None:
    """Insert an alert, pending or open, and return its id; None when one is alive already (another worker's)."""
    return connection.execute(
        text(
            "INSERT INTO alert (rule_id, subject_kind, subject_id, enterprise_id, state, first_period, last_period,"
            " reason, facts, pending_at, opened_at) VALUES (:rule, :kind, :subject, :enterprise, :state, :month,"
            " :month, :reason, CAST(:facts AS jsonb), :now, :opened_at)"
            " ON CONFLICT (rule_id, subject_kind, subject_id, period)"
            " WHERE state IN ('pending', 'open', 'acknowledged') DO NOTHING RETURNING id"
        ),
        {
            "rule": rule.rule_id,
            "kind": subject.kind,
            "subject": subject.subject_id,
            "enterprise": subject.enterprise_id,
            "state": State.OPEN if is_open else State.PENDING,
            "month": month,
            "reason": reason,
            "facts": json.dumps(facts, ensure_ascii=False),
            "now": now,
            "opened_at": now if is_open else None,
        },
    ).scalar()


def open_pending(
    connection: Connection, alert_id: int, *, reason: str, facts: Mapping[str, Any], now: datetime
) -> None:
    """Open a pending alert."""
    connection.execute(
        text(
            "UPDATE alert SET state = 'open', opened_at = :now, reason = :reason, facts = CAST(:facts AS jsonb)"
            " WHERE id = :id"
        ),
        {"id": alert_id, "now": now, "reason": reason, "facts": json.dumps(facts, ensure_ascii=False)},
    )


def renew(connection: Connection, alert_id: int, *, month: date | None, reason: str, facts: Mapping[str, Any]) -> None:
    """Bring an alert's figures, and the months it covers, up to date; its state stays."""
    connection.execute(
        text(
            "UPDATE alert SET reason = :reason, facts = CAST(:facts AS jsonb),"
            " first_period = least(first_period, :month), last_period = greatest(last_period, :month)"
            " WHERE id = :id"
        ),
        {"id": alert_id, "month": month, "reason": reason, "facts": json.dumps(facts, ensure_ascii=False)},
    )


def resolve(connection: Connection, alert_id: int, *, reason: str, facts: Mapping[str, Any], now: datetime) -> None:
    """End an alert; `facts`: those of its breach, with what ended it."""
    connection.execute(
        text(
            "UPDATE alert SET state = 'resolved', resolved_at = :now, reason = :reason, facts = CAST(:facts AS jsonb)"
            " WHERE id = :id"
        ),
        {"id": alert_id, "now": now, "reason": reason, "facts": json.dumps(facts, ensure_ascii=False)},
    )


def lock_silence(connection: Connection) -> bool:
    """Take the lock on the look for silent gateways for this transaction; False when another worker looks."""
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": SILENCE_LOCK}).scalar_one())


@dataclass(frozen=True, slots=True)
class HeardGateway:
    """A gateway that is silent, or has an alert of silence alive."""

    subject: Subject
    last_heard_at: datetime
    was_ever_heard: bool
    is_enabled: bool
    heartbeat_s: int
    alert: AliveAlert | None


def quiet_gateways(connection: Connection, rule: Rule, missed_heartbeats: int, now: datetime) -> list[HeardGateway]:
    """Return the gateways that missed their heartbeats, and those whose alert is alive; one never heard counts from
    its registration."""
    rows = connection.execute(
        text(
            "SELECT g.id, e.id, d.code,"
            f" {_PLACE} || jsonb_build_object('gateway', jsonb_build_object('code', g.code)),"
            " greatest(s.seen_at, s.last_commit_at, g.created_at), s.gateway_id IS NOT NULL, g.is_enabled,"
            " g.heartbeat_s, a.id, a.state, a.pending_at, a.facts, a.opened_at IS NOT NULL"
            " FROM gateway g JOIN enterprise e ON e.id = g.enterprise_id"
            f" LEFT JOIN gateway_state s ON s.gateway_id = g.id{_DISTRICT}"
            " LEFT JOIN alert a ON a.rule_id = :rule AND a.subject_kind = 'gateway' AND a.subject_id = g.id"
            " AND a.period IS NULL AND a.state IN ('pending', 'open', 'acknowledged')"
            " WHERE a.id IS NOT NULL OR (g.is_enabled AND :now"
            " - greatest(s.seen_at, s.last_commit_at, g.created_at) > make_interval(secs => g.heartbeat_s * :missed))"
            " ORDER BY g.id"
        ),
        {"rule": rule.rule_id, "now": now, "missed": missed_heartbeats},
    )
    return [_heard_gateway(row) for row in rows]


def _heard_gateway(row: Any) -> HeardGateway:
    gateway_id, enterprise_id, district_code, facts, heard_at, was_heard, is_enabled, heartbeat_s, *alert = row
    alert_id, state, pending_at, told, was_told = alert
    return HeardGateway(
        subject=Subject("gateway", gateway_id, enterprise_id, district_code, facts),
        last_heard_at=heard_at,
        was_ever_heard=was_heard,
        is_enabled=is_enabled,
        heartbeat_s=heartbeat_s,
        alert=None if alert_id is None else AliveAlert(Alive(alert_id, State(state), pending_at), told, was_told),
    )


def count_enabled_gateways(connection: Connection) -> int:
    """Return how many gateways are expected to speak."""
    return int(connection.execute(text("SELECT count(*) FROM gateway WHERE is_enabled")).scalar_one())


def count_alive(connection: Connection) -> list[tuple[str, str, int]]:
    """Return (rule kind, state, alerts) of what is alive, for the metric."""
    rows = connection.execute(
        text(
            "SELECT r.kind, a.state, count(*) FROM alert a JOIN rule r ON r.id = a.rule_id"
            " WHERE a.state IN ('pending', 'open', 'acknowledged') GROUP BY r.kind, a.state"
        )
    )
    return [(kind, state, count) for kind, state, count in rows]
