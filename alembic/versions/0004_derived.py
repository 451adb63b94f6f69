"""Derived figures: all recomputable, all numeric, so that a sum does not depend on the order of addition."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

USAGE = """
    point_id integer NOT NULL, {key} NOT NULL, quantity numeric(24, 6),
    windows_expected integer NOT NULL, windows_received integer NOT NULL, windows_estimated integer NOT NULL,
    PRIMARY KEY (point_id, {name})
"""

ENERGY = """
    process_unit_id bigint NOT NULL, carrier_key text NOT NULL, flow text NOT NULL, {key} NOT NULL,
    quantity numeric NOT NULL, equivalent_kgce numeric, equal_kgce numeric, co2_kg numeric,
    factor_set text NOT NULL, emission_set text, is_co2_provisional boolean NOT NULL DEFAULT false,
    has_recalled_factor boolean NOT NULL DEFAULT false,
    windows_expected integer NOT NULL, windows_received integer NOT NULL, windows_estimated integer NOT NULL,
    PRIMARY KEY (process_unit_id, {name}, carrier_key, flow)
"""

TABLES = f"""
-- hour_at is the start of the hour; day and month are Asia/Shanghai calendar days (a month by its first day).
CREATE TABLE usage_hour ({USAGE.format(key="hour_at timestamptz", name="hour_at")});
SELECT create_hypertable('usage_hour', by_range('hour_at', INTERVAL '90 days'), create_default_indexes => false);
CREATE TABLE usage_day ({USAGE.format(key="day date", name="day")});
CREATE TABLE usage_month ({USAGE.format(key="month date", name="month")});
CREATE INDEX ON usage_day (day);

CREATE TABLE energy_hour ({ENERGY.format(key="hour_at timestamptz", name="hour_at")});
SELECT create_hypertable('energy_hour', by_range('hour_at', INTERVAL '90 days'), create_default_indexes => false);
CREATE TABLE energy_day ({ENERGY.format(key="day date", name="day")});
CREATE TABLE energy_month ({ENERGY.format(key="month date", name="month")});
CREATE INDEX ON energy_day (day);
CREATE INDEX ON energy_month (month);

-- A judgement on the readings that gives no usage, or usage with a doubt. Replaced when its stretch is judged again.
CREATE TABLE finding (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id integer NOT NULL REFERENCES point, reason text NOT NULL, from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL, detail jsonb NOT NULL DEFAULT '{{}}', found_at timestamptz NOT NULL DEFAULT now(),
    due_on date, closed_at timestamptz, closed_by text, note text
);
CREATE INDEX ON finding (point_id, from_at);

CREATE TABLE output (
    line_id bigint NOT NULL REFERENCES production_line, kind text NOT NULL
        CHECK (kind IN ('production', 'output_value', 'value_added', 'it_electricity')),
    grain text NOT NULL CHECK (grain IN ('day', 'month', 'year')), period date NOT NULL, revision integer NOT NULL,
    value numeric NOT NULL CHECK (value >= 0), unit text NOT NULL, reported_by text NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(), reason text NOT NULL DEFAULT '',
    PRIMARY KEY (line_id, kind, grain, period, revision)
);

CREATE VIEW output_current AS
SELECT DISTINCT ON (line_id, kind, grain, period) * FROM output
ORDER BY line_id, kind, grain, period, revision DESC;

CREATE TABLE ratio (
    line_id bigint NOT NULL REFERENCES production_line, variant_key text NOT NULL,
    grain text NOT NULL CHECK (grain IN ('month', 'quarter', 'year_to_date', 'year', 'rolling_12_months')),
    period date NOT NULL, actual numeric, unit text NOT NULL, energy numeric, output numeric,
    level_id bigint REFERENCES efficiency_level, benchmark numeric, baseline numeric, level_confidence text,
    status text NOT NULL CHECK (status IN ('at_benchmark', 'between', 'below_baseline', 'unknown')),
    ratio numeric, position numeric, reason text, is_provisional boolean NOT NULL,
    windows_expected integer NOT NULL, windows_received integer NOT NULL, windows_estimated integer NOT NULL,
    factor_set text, has_recalled_factor boolean NOT NULL DEFAULT false, computed_at timestamptz NOT NULL,
    PRIMARY KEY (line_id, variant_key, grain, period)
);
CREATE INDEX ON ratio (grain, period, status);

CREATE TABLE figure_revision (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL, key text NOT NULL, grain text NOT NULL, period date NOT NULL, revision integer NOT NULL,
    value jsonb NOT NULL, cause text NOT NULL, recorded_at timestamptz NOT NULL,
    UNIQUE (kind, key, grain, period, revision)
);
"""


def upgrade() -> None:
    """Create the derived tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop the derived tables; readings can rebuild all but the revisions and the outputs."""
    op.execute("DROP VIEW output_current")
    for table in (
        *("figure_revision", "ratio", "output", "finding"),
        *("energy_month", "energy_day", "energy_hour", "usage_month", "usage_day", "usage_hour"),
    ):
        op.execute(f"DROP TABLE {table}")  # one by one: a hypertable may not be dropped along with others
