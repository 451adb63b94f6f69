"""What waits for a person: alerts to acknowledge, quarantined items to release, receipts to look up."""

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT
from app.db.scope import Scope
from app.errors import Conflict, Invalid, NotFound

# So much of a quarantined packet is shown; the whole stays in the database.
RAW_SHOWN_BYTES = 400

_ALERT = (
    "SELECT a.id, r.key AS rule, r.kind, r.severity, r.title_zh, r.title_en, r.basis, a.subject_kind, a.subject_id,"
    " a.state, a.period, a.first_period, a.last_period, a.reason, a.facts, a.pending_at, a.opened_at,"
    " a.acknowledged_at, a.acknowledged_by, a.acknowledge_note, a.resolved_at, a.enterprise_id,"
    " e.uscc, e.name_zh AS enterprise_name_zh, e.name_en AS enterprise_name_en, c.district_code"
    " FROM alert a JOIN rule r ON r.id = a.rule_id LEFT JOIN enterprise e ON e.id = a.enterprise_id"
    f" LEFT JOIN {CURRENT_ASSIGNMENT} c ON true"
)


def list_alerts(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    before_id: int | None = None,
    states: list[str] | None = None,
    severity: str | None = None,
    enterprise_id: int | None = None,
    district_code: str | None = None,
) -> list[dict[str, Any]]:
    """Return alerts, newest first, below an id."""
    rows = connection.execute(
        text(
            f"{_ALERT} WHERE {scope.enterprises_sql()}"
            " AND (CAST(:before AS bigint) IS NULL OR a.id < :before)"
            " AND (CAST(:states AS text[]) IS NULL OR a.state = ANY(:states))"
            # what passed while it was still held back was never anybody's matter
            " AND (a.state <> 'resolved' OR a.opened_at IS NOT NULL)"
            " AND (CAST(:severity AS text) IS NULL OR r.severity = :severity)"
            " AND (CAST(:enterprise AS bigint) IS NULL OR a.enterprise_id = :enterprise)"
            " AND (CAST(:district AS text) IS NULL OR c.district_code = :district)"
            " ORDER BY a.id DESC LIMIT :limit"
        ),
        {
            "before": before_id,
            "states": states or None,
            "severity": severity,
            "enterprise": enterprise_id,
            "district": district_code,
            "limit": limit,
            **scope.parameters(),
        },
    ).mappings()
    return [dict(row) for row in rows]


def alert(connection: Connection, scope: Scope, alert_id: int) -> dict[str, Any]:
    """Return one alert as in the list; outside the scope it raises NotFound like one that is not there."""
    row = (
        connection.execute(
            text(f"{_ALERT} WHERE a.id = :id AND {scope.enterprises_sql()}"),
            {"id": alert_id, **scope.parameters()},
        )
        .mappings()
        .first()
    )
    if row is None:
        raise NotFound(f"there is no alert {alert_id} in your scope", detail_zh=f"您的范围内没有告警 {alert_id}")
    return dict(row)


def events_of(connection: Connection, alert_id: int) -> list[dict[str, Any]]:
    """Return the events of an alert (already found in scope) and how far their deliveries have come."""
    rows = connection.execute(
        text(
            "SELECT v.id, v.kind, v.occurred_at, count(d.id) AS deliveries,"
            " count(d.id) FILTER (WHERE d.state = 'delivered') AS delivered,"
            " count(d.id) FILTER (WHERE d.state = 'dead') AS dead"
            " FROM event v LEFT JOIN delivery d ON d.event_id = v.id WHERE v.alert_id = :id"
            " GROUP BY v.id ORDER BY v.occurred_at, v.id"
        ),
        {"id": alert_id},
    ).mappings()
    return [dict(row) for row in rows]


def acknowledge(connection: Connection, scope: Scope, alert_id: int, *, actor: str, note: str, now: datetime) -> None:
    """Take an open alert as seen, once; one that is acknowledged, resolved or not open yet raises Conflict."""
    alert(connection, scope, alert_id)
    changed = connection.execute(
        text(
            "UPDATE alert SET state = 'acknowledged', acknowledged_at = :now, acknowledged_by = :actor,"
            " acknowledge_note = :note WHERE id = :id AND state = 'open'"
        ),
        {"id": alert_id, "now": now, "actor": actor, "note": note},
    )
    if changed.rowcount:
        return
    found = alert(connection, scope, alert_id)
    if found["state"] == "pending":
        raise Conflict(
            f"alert {alert_id} is not open yet: it is held back until it is confirmed, and told then",
            detail_zh=f"告警 {alert_id} 尚待确认，未对外通知：确认后再处理",
        )
    raise Conflict(
        f"alert {alert_id} is {found['state']} already: nothing to acknowledge",
        detail_zh=f"告警 {alert_id} 已处于 {found['state']} 状态，无需确认",
        acknowledged_by=found["acknowledged_by"],
    )


def _quarantine_tables(scope: Scope) -> str:
    """Items of a gateway that no registry row names belong to nobody: only the whole city's scope shows them."""
    return (
        "quarantine q LEFT JOIN gateway g ON g.code = q.gateway_code"
        f" LEFT JOIN enterprise e ON e.id = g.enterprise_id WHERE {scope.enterprises_sql()}"
    )


def list_quarantine(
    connection: Connection,
    scope: Scope,
    *,
    limit: int,
    gateway_code: str | None = None,
    reason: str | None = None,
    before_id: int | None = None,
    is_open: bool | None = None,
) -> list[dict[str, Any]]:
    """Return rows of quarantined items, newest first: who sent them, why they were rejected, how they begin.

    A row holds the items of one message that were rejected for one reason (see ingest.store.quarantine).
    """
    rows = connection.execute(
        text(
            "SELECT q.id, q.gateway_code, e.id AS enterprise_id, q.lane, q.epoch, q.seq, q.item_index, q.item_count,"
            " q.point_code, q.ts, q.reason, q.detail, octet_length(q.raw) AS raw_bytes,"
            " substring(q.raw FOR :shown) AS raw_head, q.received_at, q.release_requested_at, q.release_requested_by,"
            " q.released_at, q.release_note"
            f" FROM {_quarantine_tables(scope)}"
            " AND (CAST(:gateway AS text) IS NULL OR q.gateway_code = :gateway)"
            " AND (CAST(:reason AS text) IS NULL OR q.reason = :reason)"
            " AND (CAST(:before AS bigint) IS NULL OR q.id < :before)"
            " AND (CAST(:is_open AS boolean) IS NULL OR (q.released_at IS NULL) = :is_open)"
            " ORDER BY q.id DESC LIMIT :limit"
        ),
        {
            "gateway": gateway_code,
            "reason": reason,
            "before": before_id,
            "is_open": is_open,
            "limit": limit,
            "shown": RAW_SHOWN_BYTES,
            **scope.parameters(),
        },
    ).mappings()
    return [{**row, "raw_head": bytes(row["raw_head"]).decode("utf-8", "replace").replace("\x00", "�")} for row in rows]


def quarantine_by_reason(connection: Connection, scope: Scope) -> list[dict[str, Any]]:
    """Return how many items each reason has, in all and not yet released."""
    rows = connection.execute(
        text(
            "SELECT q.reason, sum(q.item_count)::bigint AS items,"
            " coalesce(sum(q.item_count) FILTER (WHERE q.released_at IS NULL), 0)::bigint AS waiting,"
            f" max(q.received_at) AS last_received_at FROM {_quarantine_tables(scope)}"
            " GROUP BY q.reason ORDER BY q.reason"
        ),
        scope.parameters(),
    ).mappings()
    return [dict(row) for row in rows]


def request_release(
    connection: Connection, *, gateway_code: str | None, reason: str | None, actor: str, now: datetime
) -> int:
    """Ask for items to go through the ladder again (ingest does it), and return how many; the filters add up.

    Without any filter it raises Invalid: releasing everything at once is never meant.
    """
    if gateway_code is None and reason is None:
        raise Invalid(
            "name a gateway or a reason: everything at once is not released",
            detail_zh="请指定网关或原因：不支持一次全部放行",
        )
    changed = connection.execute(
        text(
            "WITH asked AS ("
            "UPDATE quarantine SET release_requested_at = :now, release_requested_by = :actor"
            " WHERE released_at IS NULL AND release_requested_at IS NULL"
            " AND (CAST(:gateway AS text) IS NULL OR gateway_code = :gateway)"
            " AND (CAST(:reason AS text) IS NULL OR reason = :reason) RETURNING item_count)"
            " SELECT coalesce(sum(item_count), 0) FROM asked"
        ),
        {"gateway": gateway_code, "reason": reason, "actor": actor, "now": now},
    )
    return int(changed.scalar_one())


def count_pending_release(connection: Connection) -> int:
    """Return how many items were asked for and have not been through the ladder yet."""
    return int(
        connection.execute(
            text(
                "SELECT coalesce(sum(item_count), 0) FROM quarantine"
                " WHERE release_requested_at IS NOT NULL AND released_at IS NULL"
            )
        ).scalar_one()
    )


def receipt_counts(connection: Connection, gateway_id: int) -> list[dict[str, Any]]:
    """Return a gateway's receipts summed by message store and lane, the latest first."""
    rows = connection.execute(
        text(
            "SELECT epoch, lane, count(*) AS messages, sum(accepted)::bigint AS accepted,"
            " sum(duplicate)::bigint AS duplicate, sum(disputed)::bigint AS disputed,"
            " sum(coalesce(jsonb_array_length(rejected), 0))::bigint AS rejected, min(seq) AS first_seq,"
            " max(seq) AS last_seq, max(committed_at) AS last_committed_at FROM receipt WHERE gateway_id = :id"
            " GROUP BY epoch, lane ORDER BY max(committed_at) DESC, epoch, lane"
        ),
        {"id": gateway_id},
    ).mappings()
    return [dict(row) for row in rows]


def list_receipts(
    connection: Connection,
    gateway_id: int,
    *,
    limit: int,
    before_id: int | None = None,
    epoch: str | None = None,
    lane: int | None = None,
    seq: int | None = None,
) -> list[dict[str, Any]]:
    """Return a gateway's receipts, newest first, after the one of an id; epoch, lane and seq name one message.

    By commit: ingest draws ids far ahead, so those of two of its processes are no order in time.
    """
    rows = connection.execute(
        text(
            "SELECT id, epoch, lane, seq, accepted, duplicate, disputed, coalesce(rejected, '[]') AS rejected, sent_at,"
            " received_at, committed_at, encode(rows_digest, 'hex') AS rows_sha256 FROM receipt WHERE gateway_id = :id"
            " AND (CAST(:before AS bigint) IS NULL"
            "  OR (committed_at, id) < (SELECT b.committed_at, b.id FROM receipt b WHERE b.id = :before))"
            " AND (CAST(:epoch AS text) IS NULL OR epoch = :epoch)"
            " AND (CAST(:lane AS smallint) IS NULL OR lane = :lane)"
            " AND (CAST(:seq AS bigint) IS NULL OR seq = :seq) ORDER BY committed_at DESC, id DESC LIMIT :limit"
        ),
        {"id": gateway_id, "before": before_id, "epoch": epoch, "lane": lane, "seq": seq, "limit": limit},
    ).mappings()
    return [dict(row) for row in rows]
