"""What the regulator asks of many lines at once: figures of any period, an enterprise's index, the share of capacity.

Nothing is written. A month, quarter or year is read as it is stored; what runs with the present, and any period as it
was known at an instant, is made from the months by the rules of app.pipeline.periods.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection

from app.db import energy
from app.db.figures import periods as figures_db
from app.db.figures.periods import Question
from app.db.scope import Scope
from app.domain import benchmark
from app.domain import periods as rules
from app.domain.benchmark import Direction, Indicator, Status
from app.domain.calendar import next_month
from app.domain.periods import Grain, months_of
from app.domain.rounding import plain, round_places
from app.pipeline import periods

SHARE_TARGET = "benchmark_share"
_CONVERTED = Context(prec=50)
_DECIMALS = (
    *("actual", "energy", "output", "benchmark", "baseline", "ratio", "position"),
    *("quota_level_1", "quota_level_2", "quota_level_3"),
)
_LINE_FACTS = (
    *("enterprise_id", "uscc", "enterprise_name_zh", "enterprise_name_en", "district_code", "district_name_zh"),
    *("district_name_en", "line_id", "line_code", "line_name_zh", "line_name_en", "variant_key", "domain_no"),
    *("domain_zh", "domain_en", "product_zh", "product_en", "indicator_zh", "direction", "judged_on", "unit"),
)
_LEVEL_FACTS = ("level_edition", "level_source", "level_valid_from", "level_referenced_standard")
_QUOTA_FACTS = ("quota_standard", "quota_edition", "quota_confidence")


@dataclass(frozen=True, slots=True)
class _Line:
    """A line as the rules of periods take it."""

    indicator: Indicator
    unit: str
    from_on: date
    to_on: date | None


def question(grain: Grain, period: date, **filters: Any) -> Question:
    """Return the question for the months of the period that a month names."""
    months = months_of(grain, period)
    return Question(months[0], next_month(months[-1]), **filters)


def figures(
    connection: Connection, scope: Scope, grain: Grain, period: date, asked: Question, now: datetime
) -> list[dict[str, Any]]:
    """Return every line in service in the period with its figure, as a row of `ratios` plus `grain` and `months`."""
    found = figures_db.lines(connection, scope, asked)
    rows = figures_db.months(
        connection,
        asked,
        [line["line_id"] for line in found],
        sorted({line["variant_key"] for line in found}),
    )
    by_line: dict[tuple[int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_line[row["line_id"], row["variant_key"]].append(_numbers(row))
    yearly = _yearly_outputs(connection, grain, found, asked)
    first = months_of(grain, period)[-1 if grain in (Grain.YEAR_TO_DATE, Grain.ROLLING_12_MONTHS) else 0]
    answer = []
    for line in found:
        of_months = by_line[line["line_id"], line["variant_key"]]
        if of_months or line["is_own"]:
            row = _row(line, grain, period, of_months, yearly.get(line["line_id"]), now)
            answer.append({**row, "grain": grain.value, "period": first, "months": len(of_months)})
    return answer


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, **{name: None if row[name] is None else Decimal(row[name]) for name in _DECIMALS}}


def _yearly_outputs(
    connection: Connection, grain: Grain, lines: Sequence[Mapping[str, Any]], asked: Question
) -> dict[int, Decimal]:
    """Return by line the output reported for the whole year, in the unit of its indicator."""
    if grain is not Grain.YEAR:
        return {}
    given = figures_db.yearly_outputs(connection, [line["line_id"] for line in lines], asked.start, asked.as_of)
    units = energy.units_of_measure(connection) if given else {}
    found = {}
    for line in lines:
        value, unit = given.get((line["line_id"], line["output_kind"]), (None, None))
        if value is None or unit is None:
            continue
        canonical, per_unit = units.get(unit, (unit, Decimal(1)))
        wanted, per_wanted = units.get(line["output_unit"], (line["output_unit"], Decimal(1)))
        if unit == line["output_unit"]:
            found[line["line_id"]] = value
        elif canonical == wanted:
            found[line["line_id"]] = _CONVERTED.divide(_CONVERTED.multiply(value, per_unit), per_wanted)
    return found


def _indicator(line: Mapping[str, Any]) -> Indicator:
    return Indicator(
        conversion=line["conversion"],
        carriers=None if line["carriers"] is None else frozenset(line["carriers"]),
        feedstock_counts=line["feedstock_counts"],
        base_per_unit=line["base_per_indicator_unit"],
        direction=Direction(line["direction"]),
        is_judged_on_year=line["judged_on"] == "year",
    )


def _row(
    line: Mapping[str, Any],
    grain: Grain,
    period: date,
    rows: Sequence[dict[str, Any]],
    yearly: Decimal | None,
    now: datetime,
) -> dict[str, Any]:
    """A line's figure in the columns of a ratio row; a line whose months were never computed says so."""
    facts = {name: line[name] for name in _LINE_FACTS}
    of_line = _Line(_indicator(line), line["unit"], line["from_on"], line["to_on"])
    made = periods.figures(of_line, grain, period, {row["period"]: row for row in rows}, now, yearly)
    if grain is Grain.MONTH and rows:  # what is stored of a month says more than a sum of one
        made = {name: rows[0][name] for name in made or ()}
    if made is None or not rows:
        return {**facts, **_nothing()}
    first = rows[0]
    shown = {name: plain(made[name], periods.ENERGY_PLACES) for name in _DECIMALS}
    kept = {name: made[name] for name in made if name not in (*_DECIMALS, "level_id", "quota_limit_id")}
    is_cited = made["level_id"] is not None
    return {
        **facts,
        **kept,
        **shown,
        **{name: first[name] if is_cited else None for name in _LEVEL_FACTS},
        **{name: first[name] if made["quota_limit_id"] is not None else None for name in _QUOTA_FACTS},
        "corrections": made["corrections"] or [],
        "measured_share": _share(made["windows_received"], made["windows_expected"]),
        "estimated_share": _share(made["windows_estimated"], made["windows_expected"]),
        "missing_share": _missing_share(made),
        "computed_at": max(row["computed_at"] for row in rows),
    }


def _share(part: int | None, whole: int | None) -> str | None:
    return str(round_places(Fraction(part or 0, whole), 4)) if whole else None


def _missing_share(made: Mapping[str, Any]) -> str | None:
    expected, received, estimated = (made[f"windows_{name}"] or 0 for name in ("expected", "received", "estimated"))
    return _share(max(expected - received - estimated, 0), expected)


def _nothing() -> dict[str, Any]:
    names = (
        *_DECIMALS, *_LEVEL_FACTS, *_QUOTA_FACTS, "windows_expected", "windows_received", "windows_estimated",
        "measured_share", "estimated_share", "missing_share", "factor_set", "computed_at", "level_confidence",
        "quota_grade", "output_source",
    )  # fmt: skip
    return {
        **dict.fromkeys(names),
        "status": Status.UNKNOWN.value,
        "reason": "not_computed",
        "is_provisional": True,
        "has_recalled_factor": False,
        "corrections": [],
    }


def indexes(rows: Sequence[Mapping[str, Any]], bases: Mapping[str, tuple[str, Decimal]]) -> list[dict[str, Any]]:
    """Return the indexes of an enterprise: actual energy over what its output may take at the benchmark.

    `bases`: conversion and base units of each variant. Energy of two kinds (standard coal, kWh) is never added: one
    index for each. Lines without a value or a benchmark, and provisional ones, are left out, with the reason.
    """
    groups: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[_energy_kind(row, bases)].append(row)
    return [_index(kind, of_kind, bases) for kind, of_kind in sorted(groups.items())]


def _energy_kind(row: Mapping[str, Any], bases: Mapping[str, tuple[str, Decimal]]) -> str:
    conversion, _ = bases[row["variant_key"]]
    return str(row["unit"]).split("/", 1)[0] if conversion == "physical" else f"kgce, {conversion}"


def _index(kind: str, rows: Sequence[Mapping[str, Any]], bases: Mapping[str, tuple[str, Decimal]]) -> dict[str, Any]:
    left_out = {row["line_id"]: reason for row in rows if (reason := _why_left_out(row))}
    counted = [row for row in rows if row["line_id"] not in left_out]
    parts = [
        (Decimal(row["energy"]), Decimal(row["output"]), Decimal(row["benchmark"]), bases[row["variant_key"]][1])
        for row in counted
    ]
    allowed = [Fraction(output) * Fraction(level) * Fraction(base) for _, output, level, base in parts]
    return {
        "energy_unit": kind,
        "index": plain(rules.index(parts)),
        "energy": plain(sum((Fraction(part[0]) for part in parts), Fraction(0))) if parts else None,
        "energy_at_benchmark": plain(sum(allowed, Fraction(0))) if parts else None,
        "has_recalled_level": any(_is_recalled(row) for row in counted),
        "level_editions": sorted({row["level_edition"] for row in counted if row["level_edition"]}),
        **_basis(counted),
        "lines": [row["line_id"] for row in counted],
        "left_out": [{"line_id": line_id, "because": why} for line_id, why in left_out.items()],
    }


def _why_left_out(row: Mapping[str, Any]) -> str | None:
    if row["actual"] is None or row["is_provisional"]:
        return str(row["reason"] or "provisional")
    return "no_level" if row["benchmark"] is None else None


def sum_of_lines(rows: Sequence[Mapping[str, Any]], base_per_unit: Decimal) -> dict[str, Any]:
    """Return energy over output, summed over the lines that report the output (output value, value added)."""
    counted = [row for row in rows if row["actual"] is not None]
    energy_sum = sum((Fraction(Decimal(row["energy"])) for row in counted), Fraction(0))
    output = sum((Fraction(Decimal(row["output"])) for row in counted), Fraction(0))
    return {
        "actual": plain(energy_sum / Fraction(base_per_unit) / output) if output else None,
        "energy": plain(energy_sum) if counted else None,
        "output": plain(output) if counted else None,
        "is_provisional": any(row["is_provisional"] for row in counted),
        **_basis(counted),
        "lines": [row["line_id"] for row in counted],
    }


def _basis(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a sum of lines rests on: the conversions used and the share that was measured."""
    return {
        "factor_sets": sorted({name for row in rows for name in (row["factor_set"] or "").split(" + ") if name}),
        "measured_share": _share(
            sum(row["windows_received"] or 0 for row in rows), sum(row["windows_expected"] or 0 for row in rows)
        ),
    }


def capacity_shares(
    rows: Sequence[Mapping[str, Any]],
    capacities: Mapping[int, tuple[Decimal, str]],
    target: Mapping[str, Any] | None,
) -> list[dict[str, Any]]:
    """Return per domain and unit of capacity the share of capacity at the benchmark against the target.

    A provisional figure reaches nothing: its capacity counts to the total alone. Units of capacity are never mixed: a
    domain whose lines report in two units has two shares.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        unit = capacities[row["line_id"]][1] if row["line_id"] in capacities else None
        groups[row["domain_no"], row["domain_zh"], row["domain_en"], unit].append(row)
    ordered = sorted(
        groups.items(), key=lambda item: (item[0][0] is None, item[0][0] or 0, item[0][2], item[0][3] or "")
    )
    return [_capacity_share(key, of_group, capacities, target) for key, of_group in ordered]


def _capacity_share(
    key: tuple[Any, ...],
    rows: Sequence[Mapping[str, Any]],
    capacities: Mapping[int, tuple[Decimal, str]],
    target: Mapping[str, Any] | None,
) -> dict[str, Any]:
    domain_no, domain_zh, domain_en, unit = key
    share = benchmark.capacity_share(
        [(capacities[row["line_id"]][0], unit, _settled(row)) for row in rows] if unit is not None else []
    )
    is_met = None
    if target is not None and target["value"] is not None and share.total:
        is_met = share.is_above(Decimal(target["value"]), or_equal=target["operator"] == ">=")
    return {
        "domain_no": domain_no,
        "domain_zh": domain_zh,
        "domain_en": domain_en,
        "capacity_unit": unit,
        "capacity": plain(share.total) if unit else None,
        "capacity_at_benchmark": plain(share.at_benchmark) if unit else None,
        "share_pct": plain(share.share_pct),
        "is_target_met": is_met,
        "lines": len(rows),
        "lines_by_status": {status.value: sum(row["status"] == status for row in rows) for status in Status},
        "lines_provisional": sum(row["is_provisional"] for row in rows),
        "lines_with_recalled_level": sum(_is_recalled(row) for row in rows),
        "movers": _movers(rows, capacities, share.total) if unit else [],
    }


def _is_recalled(row: Mapping[str, Any]) -> bool:
    """Whether a line was judged by a level of which no public copy was read."""
    return bool(row["level_confidence"] == "recalled")


def _settled(row: Mapping[str, Any]) -> Status:
    return Status.UNKNOWN if row["is_provisional"] else Status(row["status"])


def _movers(
    rows: Sequence[Mapping[str, Any]], capacities: Mapping[int, tuple[Decimal, str]], total: Fraction
) -> list[dict[str, Any]]:
    """The lines that are not at the benchmark: those first that move the share most, of equals the nearest first."""
    found = []
    for row in rows:
        if row["actual"] is None or row["benchmark"] is None or _settled(row) is Status.AT_BENCHMARK:
            continue
        gap = benchmark.gap(Decimal(row["actual"]), Decimal(row["benchmark"]))
        distance = max(gap if row["direction"] == Direction.LOWER_IS_BETTER else -gap, Fraction(0))
        capacity = Fraction(capacities[row["line_id"]][0])
        found.append((capacity, distance, row))
    found.sort(key=lambda one: (-one[0], one[1], one[2]["line_id"]))
    names = (
        *("enterprise_id", "enterprise_name_zh", "enterprise_name_en", "line_id", "line_code", "status", "unit"),
        *("level_edition", "level_confidence"),
    )
    return [
        {
            **{name: row[name] for name in names},
            "is_provisional": row["is_provisional"],
            "distance": plain(distance),
            "capacity": plain(capacity),
            "share_points": plain(capacity / total * 100),
        }
        for capacity, distance, row in found
    ]
