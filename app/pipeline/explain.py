"""Explain a figure: derive it again from the raw rows, and show the chain down to them.

Nothing is written. `agrees` says whether the figure in the table equals the one derived now; while marks wait for a
stage, or after somebody has tampered with a derived table, it does not. What a figure is made of is listed as parts,
each a figure that can be explained itself.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection

from app.db import evidence, heating_values, ratio_inputs, revisions
from app.db.figures import energy as energy_figures
from app.db.scope import Scope
from app.domain import accounting, calendar
from app.domain.accounting import flow_sign
from app.domain.grid import period_bounds
from app.domain.metering import Step, UsageHour, hour_pieces, windows_in_service
from app.errors import Invalid
from app.pipeline import account, benchmark, derive
from app.pipeline.derive import Part, Usage

# Steps and readings are listed for an hour or a day; a month names its days, each of which can be explained.
MOST_READINGS = 10_000
USAGE_TABLES = {"hour": ("usage_hour", "hour_at"), "day": ("usage_day", "day"), "month": ("usage_month", "month")}
ENERGY_TABLES = {"hour": ("energy_hour", "hour_at"), "day": ("energy_day", "day"), "month": ("energy_month", "month")}
USAGE_COLUMNS = ("quantity", "windows_expected", "windows_received", "windows_estimated")
ENERGY_COLUMNS = (
    *("quantity", "equivalent_kgce", "equal_kgce", "co2_kg", "factor_set"),
    *("windows_received", "windows_estimated"),
)
_GROUP = (
    *("process_unit_id", "process_unit", "carrier_key", "carrier_name_zh", "carrier_name_en", "flow", "unit", "sign"),
)
RATIO_COLUMNS = (
    *("actual", "energy", "output", "benchmark", "baseline", "status", "ratio", "position", "reason"),
    *("is_provisional", "factor_set"),
    *("windows_expected", "windows_received", "windows_estimated"),
)


def usage(connection: Connection, scope: Scope, point_id: int, grain: str, start: date | datetime) -> dict[str, Any]:
    """Explain the usage of a point in one hour (its start), business day, or month (its first day)."""
    subject = evidence.point(connection, scope, point_id)
    from_at, to_at = period_bounds(grain, start)
    found = derive.usage(connection, point_id, from_at, to_at)
    table, column = USAGE_TABLES[grain]
    stored = _columns(evidence.stored_row(connection, table, {"point_id": point_id, column: start}), USAGE_COLUMNS)
    derived = _usage_row(found, grain, from_at, to_at) if found else None
    steps = [step for step in found.judgement.steps if step.from_at < to_at and step.to_at > from_at] if found else []
    place = (connection, point_id, from_at, to_at)
    chain: dict[str, Any] = {
        "installations": evidence.installations(*place),
        "assignments": evidence.assignments(*place),
        "events": evidence.events(*place),
        "findings": evidence.findings(*place),
        "parts": _usage_parts(found.hours, grain) if found else [],
        "steps": [],
        "readings": [],
        "has_more_readings": False,
        "revisions": _revisions(connection, "usage", grain, str(point_id), start),
    }
    if grain != "month":
        ends = [from_at, to_at, *(at for step in steps for at in (step.from_at, step.to_at))]
        entries = evidence.readings(connection, point_id, min(ends), max(ends), MOST_READINGS + 1)
        chain["readings"], chain["has_more_readings"] = entries[:MOST_READINGS], len(entries) > MOST_READINGS
        chain["steps"] = [_step(step, from_at, to_at) for step in steps]
    return _explanation(subject, grain, start, stored, derived) | chain


def energy(
    connection: Connection,
    scope: Scope,
    process_unit_id: int,
    carrier: str,
    flow: str,
    grain: str,
    start: date | datetime,
) -> dict[str, Any]:
    """Explain energy of a process unit, carrier and flow: what each point gave, and every factor with its citation."""
    subject = evidence.owner(connection, scope, "process_unit", process_unit_id)
    from_at, to_at = period_bounds(grain, start)
    found = [
        part
        for part in derive.parts(connection, process_unit_id, from_at, to_at)
        if (part.carrier_key, part.flow) == (carrier, flow)
    ]
    table, column = ENERGY_TABLES[grain]
    keys = {"process_unit_id": process_unit_id, "carrier_key": carrier, "flow": flow, column: start}
    stored = _columns(evidence.stored_row(connection, table, keys), ENERGY_COLUMNS)
    return _explanation(subject, grain, start, stored, derive.energy_row(found)) | {
        "carrier_key": carrier,
        "flow": flow,
        "points": _points(connection, process_unit_id, found, from_at, to_at),
        "conversions": _conversions(connection, process_unit_id, carrier, from_at, to_at),
        "revisions": _revisions(connection, "energy", grain, f"{process_unit_id}:{carrier}:{flow}", start),
    }


def ratio(connection: Connection, scope: Scope, line_id: int, month: date, now: datetime) -> dict[str, Any]:
    """Explain the ratio of a line in a month: energy, output, level, and the judgement made again from the readings.

    A stored figure is judged as of the instant at which it was computed: an open month goes on. Where nothing is
    stored, received or reported, as before the first reading, there is no figure to derive either.
    """
    subject = evidence.owner(connection, scope, "production_line", line_id)
    line = ratio_inputs.line(connection, line_id)
    if line is None:
        raise Invalid(f"line {line_id} has no product in the catalogue", detail_zh=f"产线 {line_id} 无产品目录")
    keys = {"line_id": line_id, "variant_key": line.variant_key, "grain": "month", "period": month}
    row = evidence.stored_row(connection, "ratio", keys)
    at = row["computed_at"] if row else now
    derived = benchmark.figures_of(connection, [(line, [month])], at, derive.energy_of_lines)[0][month]
    made = (connection, line_id, line.output_kind, month, calendar.next_month(month))
    outputs, metered = evidence.output_rows(*made), evidence.metered_outputs(*made)
    days = _output_days(month, outputs, metered)
    rows = evidence.energy_rows(connection, line.process_unit_ids, "day" if days else "month", days or [month])
    is_known = row or derived["windows_received"] or derived["windows_estimated"] or outputs or metered
    judged = _columns(derived, RATIO_COLUMNS) if is_known else None
    return _explanation(subject, "month", month, _columns(row, RATIO_COLUMNS), judged) | {
        "computed_at": row["computed_at"] if row else None,
        "indicator": evidence.indicator(connection, line.variant_key),
        "level": evidence.level(connection, derived["level_id"]),
        "conditions": evidence.conditions(connection, line_id, month),
        "outputs": outputs,
        "metered_outputs": metered,
        "parts": [
            {**part, "grain": "day" if days else "month", "sign": _sign(part, line.indicator.feedstock_counts)}
            for part in rows
            if line.indicator.counts(part["carrier_key"], part["flow"])
        ],
        "revisions": _revisions(connection, "ratio", "month", f"{line_id}:{line.variant_key}", month),
    }


def _output_days(month: date, outputs: evidence.Rows, metered: evidence.Rows) -> list[date]:
    """Return the days whose energy counts, as the benchmark stage chooses them; none for the whole month."""
    if any(output["grain"] == "month" for output in outputs):
        return []
    days = {output["period"] for output in outputs} | {day["start"] for day in metered}
    return sorted(days) if len(days) < (calendar.next_month(month) - month).days else []


def sources(connection: Connection, found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what an explained ratio rests on, by process unit, carrier and flow: its share of the energy, the points
    with meters, deliveries, edits, events and findings of the month, and the coefficients with their citations.
    """
    from_at, to_at = period_bounds("month", found["start"])
    groups: dict[tuple[int, str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for part in found["parts"]:
        groups[part["process_unit_id"], part["carrier_key"], part["flow"]].append(part)
    return [
        {
            **{name: rows[0][name] for name in _GROUP},
            "quantity": sum((row["quantity"] for row in rows), Decimal(0)),
            "equivalent_kgce": _sum(rows, "equivalent_kgce"),
            "equal_kgce": _sum(rows, "equal_kgce"),
            "points": _sources_of_points(connection, *key, found["start"]),
            "conversions": _conversions(connection, *key[:2], from_at, to_at),
        }
        for key, rows in groups.items()
    ]


def _sum(rows: Sequence[Mapping[str, Any]], name: str) -> Decimal | None:
    values = [row[name] for row in rows]
    return None if None in values else sum(values, Decimal(0))


def _sources_of_points(
    connection: Connection, process_unit_id: int, carrier: str, flow: str, month: date
) -> list[dict[str, Any]]:
    place = period_bounds("month", month)
    names = {
        row["point_id"]: row
        for row in evidence.assignments_at(connection, process_unit_id, *place)
        if (row["process_unit_id"], row["carrier_key"], row["flow"]) == (process_unit_id, carrier, flow)
    }
    quantities = evidence.usage_months(connection, list(names), month)
    return [
        {
            "point_id": point_id,
            "gateway_code": row["gateway_code"],
            "code": row["code"],
            "quantity": quantities.get(point_id),
            "installations": evidence.installations(connection, point_id, *place),
            "assignments": evidence.assignments(connection, point_id, *place),
            "delivery": evidence.delivery(connection, point_id, *place),
            "edits": evidence.edits(connection, point_id, *place),
            "events": evidence.events(connection, point_id, *place),
            "findings": evidence.findings(connection, point_id, *place),
        }
        for point_id, row in names.items()
    ]


def total(connection: Connection, scope: Scope, question: energy_figures.Question) -> dict[str, Any]:
    """Explain an energy total by what it is the sum of: a district's by its enterprises, an enterprise's by its rows.

    The question asks for one step of its grain. `agrees` says whether the parts add up to the total.
    """
    shown = energy_figures.total(connection, scope, question)["equivalent_kgce"]
    parts = energy_figures.parts(connection, scope, question)
    amounts = [part["equivalent_kgce"] for part in parts]
    whole = None if not parts or None in amounts else sum(part["sign"] * part["equivalent_kgce"] for part in parts)
    stored = None if shown is None else {"equivalent_kgce": Decimal(shown)}
    derived = None if whole is None else {"equivalent_kgce": whole}
    return _explanation({}, question.grain, question.start, stored, derived) | {"parts": parts}


def _explanation(
    subject: Mapping[str, Any],
    grain: str,
    start: date | datetime,
    stored: dict[str, Any] | None,
    derived: dict[str, Any] | None,
) -> dict[str, Any]:
    """What every explanation begins with; the columns that differ are named."""
    names = (stored or derived or {}).keys()
    differing = [name for name in names if (stored or {}).get(name) != (derived or {}).get(name)]
    return {
        **subject,
        "grain": grain,
        "start": start,
        "stored": stored,
        "derived": derived,
        "agrees": (stored is None) == (derived is None) and not differing,
        "differing": differing,
    }


def _columns(row: Mapping[str, Any] | None, names: Sequence[str]) -> dict[str, Any] | None:
    return None if row is None else {name: row[name] for name in names}


def _revisions(connection: Connection, kind: str, grain: str, key: str, start: date | datetime) -> list[dict[str, Any]]:
    """Hours are not published, so they have none."""
    if isinstance(start, datetime):
        return []
    return revisions.of_figure(connection, kind, grain, key, start)


def _usage_row(found: Usage, grain: str, from_at: datetime, to_at: datetime) -> dict[str, Any] | None:
    if not found.hours:
        return None
    is_hour = grain == "hour"
    return {
        "quantity": sum((hour.quantity for hour in found.hours), Decimal(0)),
        "windows_expected": found.hours[0].windows_expected
        if is_hour
        else windows_in_service(found.meter, from_at, to_at),
        "windows_received": sum(hour.windows_received for hour in found.hours),
        "windows_estimated": sum(hour.windows_estimated for hour in found.hours),
    }


def _usage_parts(hours: Sequence[UsageHour], grain: str) -> list[dict[str, Any]]:
    """The hours of a day, the days of a month; an hour is made of steps."""
    if grain == "day":
        return [{"grain": "hour", "start": hour.hour_at, "quantity": hour.quantity} for hour in hours]
    days: dict[date, Decimal] = defaultdict(Decimal)
    for hour in hours if grain == "month" else ():
        days[calendar.business_day(hour.hour_at)] += hour.quantity
    return [{"grain": "day", "start": day, "quantity": quantity} for day, quantity in sorted(days.items())]


def _step(step: Step, from_at: datetime, to_at: datetime) -> dict[str, Any]:
    inside = sum((q for at, q, _ in hour_pieces(step) if from_at <= at < to_at), Decimal(0))
    return {
        "from_at": step.from_at,
        "to_at": step.to_at,
        "from_total": step.start,
        "to_total": step.end,
        "quantity_inside": inside,
        "is_measured": step.is_measured,
    }


def _points(
    connection: Connection, process_unit_id: int, found: Sequence[Part], from_at: datetime, to_at: datetime
) -> list[dict[str, Any]]:
    names = {row["point_id"]: row for row in evidence.assignments_at(connection, process_unit_id, from_at, to_at)}
    quantities: dict[int, Decimal] = defaultdict(Decimal)
    for part in found:
        quantities[part.point_id] += part.usage.quantity
    return [
        {
            "point_id": point_id,
            "gateway_code": names[point_id]["gateway_code"],
            "code": names[point_id]["code"],
            "quantity": quantity,
            "assignments": evidence.assignments(connection, point_id, from_at, to_at),
            "events": evidence.events(connection, point_id, from_at, to_at),
        }
        for point_id, quantity in quantities.items()
    ]


def _conversions(
    connection: Connection, process_unit_id: int, carrier_key: str, from_at: datetime, to_at: datetime
) -> list[dict[str, Any]]:
    """Return each stretch with one set of coefficients, and the rows that they were taken from."""
    carriers, tables = account.factor_tables(connection, process_unit_id)
    mine = [carrier for carrier in carriers if carrier.carrier_key == carrier_key]
    found = []
    for span in account.conversion_spans(mine, tables, [(from_at, to_at)]):
        if span.from_at >= to_at:
            continue
        day = calendar.business_day(span.from_at)
        chosen = accounting.rows_on(mine[0], tables, day)
        month = calendar.month_of(day)
        is_measured = (carrier_key, month) in tables.measured
        lots = heating_values.lots_at(connection, process_unit_id, month) if is_measured else []
        found.append(
            {
                "from_at": max(span.from_at, from_at),
                "to_at": min(span.to_at, to_at),
                "coefficients": span.conversion,
                "equivalent_factor": evidence.coal_factor(connection, chosen.equivalent),
                "equal_factor": evidence.coal_factor(connection, chosen.equal),
                "emission_factor": evidence.emission_factor(connection, chosen.emission),
                "measured_lots": [lot for lot in lots if lot["carrier_key"] == carrier_key],
            }
        )
    return found


def _sign(part: Mapping[str, Any], feedstock_counts: bool) -> int:
    return flow_sign(part["flow"], feedstock_counts=feedstock_counts)
