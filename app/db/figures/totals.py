"""Totals of the city and of its districts."""

from datetime import date, timedelta
from typing import Any

from sqlalchemy import Connection, text

from app.db.assignments import CURRENT_ASSIGNMENT, district_on
from app.db.figures.sums import LATEST_RATIO, energy_sums
from app.db.scope import Scope
from app.domain.calendar import month_of

_SHARE_RECEIVED = "round(sum(x.windows_received)::numeric / nullif(sum(x.windows_expected), 0), 4)::text"
STATUSES = ("at_benchmark", "between", "below_baseline", "unknown")


def summary(connection: Connection, scope: Scope, today: date) -> dict[str, Any]:
    """Return the totals of everything in scope: counts, energy of this and the last month, alerts, lines by status."""
    counts = connection.execute(
        text(
            f"WITH seen AS (SELECT e.id FROM enterprise e WHERE {scope.enterprises_sql()}),"
            " gateways AS (SELECT g.id, s.is_online FROM gateway g LEFT JOIN gateway_state s ON s.gateway_id = g.id"
            "  WHERE g.enterprise_id IN (SELECT id FROM seen) AND g.is_enabled)"
            " SELECT (SELECT count(*) FROM seen) AS enterprises,"
            " (SELECT count(*) FROM gateways) AS gateways,"
            " (SELECT count(*) FROM gateways WHERE is_online) AS gateways_online,"
            " (SELECT coalesce(sum(u.windows_received), 0) FROM usage_day u JOIN point p ON p.id = u.point_id"
            "  JOIN gateway g ON g.id = p.gateway_id WHERE u.day = :today AND g.enterprise_id IN (SELECT id FROM seen))"
            "  AS windows_received_today,"
            " (SELECT count(*) FROM alert a WHERE a.state IN ('open', 'acknowledged') AND a.enterprise_id IN"
            "  (SELECT id FROM seen)) AS alerts_open"
        ),
        {"today": today, **scope.parameters()},
    ).mappings()
    return {
        **counts.one(),
        **energy_of_months(connection, scope, today),
        "lines_by_status": lines_by_status(connection, scope).get(None, dict.fromkeys(STATUSES, 0)),
    }


def coverage(connection: Connection, scope: Scope, grain: str, start: date) -> dict[str, Any]:
    """Return of everything in scope the metering windows expected, received and estimated in a day or month."""
    table = {"day": "usage_day", "month": "usage_month"}[grain]
    row = connection.execute(
        text(
            "SELECT coalesce(sum(x.windows_expected), 0)::bigint AS windows_expected,"
            " coalesce(sum(x.windows_received), 0)::bigint AS windows_received,"
            f" coalesce(sum(x.windows_estimated), 0)::bigint AS windows_estimated, {_SHARE_RECEIVED} AS measured_share"
            f" FROM {table} x JOIN point p ON p.id = x.point_id JOIN gateway g ON g.id = p.gateway_id"
            f" JOIN enterprise e ON e.id = g.enterprise_id WHERE x.{grain} = :start AND {scope.enterprises_sql()}"
        ),
        {"start": start, **scope.parameters()},
    )
    return dict(row.mappings().one())


def previous_month(day: date) -> date:
    """Return the first day of the month before a day's month."""
    return month_of(month_of(day) - timedelta(days=1))


def energy_of_months(connection: Connection, scope: Scope, today: date) -> dict[str, dict[str, Any]]:
    """Return the energy in tce and the CO2 in t: `energy_this_month` and `energy_last_month`."""
    months = {month_of(today): "energy_this_month", previous_month(today): "energy_last_month"}
    rows = connection.execute(
        text(
            f"SELECT w.month, {energy_sums(scale='0.001', unit='tce', mass='t')}"
            " FROM unnest(CAST(:months AS date[])) AS w(month) LEFT JOIN (energy_month x"
            " JOIN process_unit u ON u.id = x.process_unit_id JOIN enterprise e ON e.id = u.enterprise_id"
            f" AND {scope.enterprises_sql()}) ON x.month = w.month GROUP BY w.month"
        ),
        {"months": list(months), **scope.parameters()},
    ).mappings()
    return {months[row["month"]]: {key: row[key] for key in row if key != "month"} for row in rows}


def lines_by_status(connection: Connection, scope: Scope) -> dict[str | None, dict[str, int]]:
    """Return how many lines have each status, by district code and, under None, in all."""
    rows = connection.execute(
        text(
            "SELECT c.district_code, coalesce(r.status, 'unknown') AS status, count(*) AS lines"
            " FROM production_line l JOIN process_unit u ON u.id = l.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id CROSS JOIN {CURRENT_ASSIGNMENT} c"
            f" LEFT JOIN {LATEST_RATIO} r ON r.line_id = l.id WHERE {scope.enterprises_sql()} GROUP BY 1, 2"
        ),
        scope.parameters(),
    )
    found: dict[str | None, dict[str, int]] = {}
    for district_code, status, lines in rows:
        for key in (district_code, None):
            of_district = found.setdefault(key, dict.fromkeys(STATUSES, 0))
            of_district[status] += lines
    return found


def districts(connection: Connection, scope: Scope, today: date) -> list[dict[str, Any]]:
    """Return the districts in scope with their totals; an enterprise sees its own district with itself alone in it."""
    rows = connection.execute(
        text(
            "SELECT d.code, d.name_zh, d.name_en, d.group_name,"
            " count(s.id) AS enterprises, coalesce(sum(s.alerts), 0)::bigint AS alerts_open"
            " FROM district d LEFT JOIN (SELECT e.id, c.district_code, (SELECT count(*) FROM alert a"
            "  WHERE a.enterprise_id = e.id AND a.state IN ('open', 'acknowledged')) AS alerts"
            f"  FROM enterprise e CROSS JOIN {CURRENT_ASSIGNMENT} c WHERE {scope.enterprises_sql()}) s"
            " ON s.district_code = d.code WHERE d.level = 'district'"
            " AND (CAST(:scope_district AS text) IS NULL OR d.code = :scope_district)"
            " GROUP BY d.code HAVING CAST(:scope_enterprise AS bigint) IS NULL OR count(s.id) > 0 ORDER BY d.code"
        ),
        scope.parameters(),
    ).mappings()
    energy = _energy_of_districts(connection, scope, today)
    statuses = lines_by_status(connection, scope)
    nothing = {"equivalent_tce": "0", "equal_tce": "0", "feedstock_equivalent_tce": "0", "co2_t": None}
    return [
        {
            **row,
            "energy_this_month": energy.get((row["code"], month_of(today)), nothing),
            "energy_last_month": energy.get((row["code"], previous_month(today)), nothing),
            "lines_by_status": statuses.get(row["code"], dict.fromkeys(STATUSES, 0)),
        }
        for row in rows
    ]


def _energy_of_districts(connection: Connection, scope: Scope, today: date) -> dict[tuple[str, date], dict[str, Any]]:
    last_day = "(x.month + interval '1 month' - interval '1 day')::date"
    rows = connection.execute(
        text(
            f"SELECT {district_on(last_day)} AS district_code, x.month,"
            f" {energy_sums(scale='0.001', unit='tce', mass='t')}"
            " FROM energy_month x JOIN process_unit u ON u.id = x.process_unit_id"
            f" JOIN enterprise e ON e.id = u.enterprise_id AND {scope.enterprises_sql()}"
            " WHERE x.month = ANY(:months) GROUP BY 1, 2"
        ),
        {"months": [month_of(today), previous_month(today)], **scope.parameters()},
    ).mappings()
    return {
        (row["district_code"], row["month"]): {key: row[key] for key in row if key not in ("district_code", "month")}
        for row in rows
    }
