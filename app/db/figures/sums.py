"""Pieces of SQL that all figures share; each is a literal of this file, never a caller's text."""

SIGNED = "CASE WHEN x.flow IN ('in', 'feedstock') THEN 1 ELSE -1 END"


def exact(expression: str) -> str:
    """Return a numeric expression as text without trailing zeros."""
    return f"trim_scale({expression})::text"


def complete_sum(column: str, *, scale: str = "1", only: str = "true") -> str:
    """Return the signed sum of a column of `x` as text, null when a row that counts has none (no factor loaded)."""
    counted = f"FILTER (WHERE x.process_unit_id IS NOT NULL AND {only})"
    total = f"sum({SIGNED} * x.{column}) {counted} * {scale}"
    whole = f"count(*) {counted} = count(x.{column}) {counted}"
    return f"CASE WHEN {whole} THEN {exact(total)} END"


def energy_sums(*, scale: str, unit: str, mass: str) -> str:
    """Return the select list of an energy total over rows `x`: equivalent, equal, feedstock in `unit`, CO2 in `mass`.

    Multiplying by 0.001 is exact in numeric; dividing by 1000 need not be. Carriers without emissions carry no CO2
    factor, so CO2 sums what has one.
    """
    feedstock = complete_sum("equivalent_kgce", scale=scale, only="x.flow = 'feedstock'")
    return (
        f"{complete_sum('equivalent_kgce', scale=scale)} AS equivalent_{unit},"
        f" {complete_sum('equal_kgce', scale=scale)} AS equal_{unit},"
        f" {feedstock} AS feedstock_equivalent_{unit},"
        f" {exact(f'sum({SIGNED} * x.co2_kg) * {scale}')} AS co2_{mass}"
    )


# Of each line, by its own product, the latest month that counts: of its two latest months one that is not provisional,
# else the latest.
LATEST_RATIO = (
    "(SELECT DISTINCT ON (line_id) * FROM (SELECT m.*,"
    " row_number() OVER (PARTITION BY m.line_id ORDER BY m.period DESC) AS age FROM ratio m"
    "  JOIN production_line o ON o.id = m.line_id AND o.variant_key = m.variant_key WHERE m.grain = 'month')"
    " recent WHERE age <= 2 ORDER BY line_id, is_provisional, period DESC)"
)

# The last day of a ratio's period: what an enterprise was on that day, it is in that figure for ever.
RATIO_LAST_DAY = (
    "(x.period + CASE x.grain WHEN 'year' THEN interval '1 year' WHEN 'quarter' THEN interval '3 months'"
    " ELSE interval '1 month' END - interval '1 day')::date"
)

MEASURED_SHARE = "round(x.windows_received::numeric / nullif(x.windows_expected, 0), 4)::text"
ESTIMATED_SHARE = "round(x.windows_estimated::numeric / nullif(x.windows_expected, 0), 4)::text"
# Windows without a reading and without an estimate: what a figure knows nothing of.
MISSING_SHARE = (
    "round(greatest(x.windows_expected - x.windows_received - x.windows_estimated, 0)::numeric"
    " / nullif(x.windows_expected, 0), 4)::text"
)

# The factor sets behind a sum of energy rows `x`.
FACTOR_SETS = "coalesce(array_agg(DISTINCT x.factor_set) FILTER (WHERE x.factor_set IS NOT NULL), '{}')"
