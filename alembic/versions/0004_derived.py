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
    point_id integer REFERENCES point, gateway_id bigint REFERENCES gateway, reason text NOT NULL,
    grain text CHECK (grain IN ('day', 'month')), from_at timestamptz NOT NULL,
    to_at timestamptz NOT NULL, detail jsonb NOT NULL DEFAULT '{{}}', found_at timestamptz NOT NULL DEFAULT now(),
    due_on date, closed_at timestamptz, closed_by text, note text,
    CHECK ((point_id IS NULL) <> (gateway_id IS NULL))
);
COMMENT ON COLUMN finding.gateway_id IS 'a fault of the whole gateway; else null';
COMMENT ON COLUMN finding.grain IS 'validation judges a day or a month, which identifies the finding; else null';
COMMENT ON COLUMN finding.due_on IS 'fault clock: three working days after it was found';
CREATE INDEX ON finding (point_id, from_at);
CREATE UNIQUE INDEX finding_of_period ON finding (point_id, gateway_id, reason, grain, from_at)
    NULLS NOT DISTINCT WHERE grain IS NOT NULL;
CREATE INDEX finding_without_clock ON finding (found_at) WHERE due_on IS NULL AND closed_at IS NULL;

-- The days that the clock has handed to validation: what never arrived leaves no other mark.
CREATE TABLE validated_day (day date PRIMARY KEY, handed_at timestamptz NOT NULL);

CREATE TABLE output (
    line_id bigint NOT NULL REFERENCES production_line, kind text NOT NULL
        CHECK (kind IN ('production', 'output_value', 'value_added', 'it_electricity', 'capacity')),
    grain text NOT NULL CHECK (grain IN ('day', 'month', 'year')), period date NOT NULL, revision integer NOT NULL,
    value numeric NOT NULL CHECK (value >= 0), unit text NOT NULL, reported_by text NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(), reason text NOT NULL DEFAULT '',
    PRIMARY KEY (line_id, kind, grain, period, revision)
);

COMMENT ON COLUMN output.kind IS 'capacity: what holds from the period''s first day on, until the next one';

CREATE VIEW output_current AS
SELECT DISTINCT ON (line_id, kind, grain, period) * FROM output
ORDER BY line_id, kind, grain, period, revision DESC;

-- Conditions of a line that correct its limits (level_correction), from a month on. Without a value: withdrawn.
CREATE TABLE correction_input (
    line_id bigint NOT NULL REFERENCES production_line, input_key text NOT NULL, from_month date NOT NULL,
    revision integer NOT NULL, value numeric, evidence text NOT NULL, reported_by text NOT NULL,
    reported_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (line_id, input_key, from_month, revision)
);

CREATE VIEW correction_input_current AS
SELECT DISTINCT ON (line_id, input_key, from_month) * FROM correction_input
ORDER BY line_id, input_key, from_month, revision DESC;

-- Heating values by lot. Their mass-weighted mean stands in for the annex in that month, at the unit and all below it
-- (the nearest unit with lots counts). A lot without a mass was withdrawn.
CREATE TABLE measured_lhv (
    process_unit_id bigint NOT NULL REFERENCES process_unit, carrier_key text NOT NULL REFERENCES carrier,
    month date NOT NULL, lot text NOT NULL, revision integer NOT NULL,
    mass numeric CHECK (mass > 0), lhv_kj numeric CHECK (lhv_kj > 0), sampled_on date, evidence text NOT NULL,
    reason text NOT NULL DEFAULT '', reported_by text NOT NULL, reported_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((mass IS NULL) = (lhv_kj IS NULL)), PRIMARY KEY (process_unit_id, carrier_key, month, lot, revision)
);
COMMENT ON COLUMN measured_lhv.mass IS 'in the canonical unit of the carrier (kg, m3); lhv_kj is per one of these';

CREATE VIEW measured_lhv_current AS
SELECT DISTINCT ON (process_unit_id, carrier_key, month, lot) * FROM measured_lhv
ORDER BY process_unit_id, carrier_key, month, lot, revision DESC;

CREATE TABLE ratio (
    line_id bigint NOT NULL REFERENCES production_line, variant_key text NOT NULL,
    grain text NOT NULL CHECK (grain IN ('month', 'quarter', 'year_to_date', 'year', 'rolling_12_months')),
    period date NOT NULL, actual numeric, unit text NOT NULL, energy numeric, output numeric,
    level_id bigint REFERENCES efficiency_level, benchmark numeric, baseline numeric, level_confidence text,
    status text NOT NULL CHECK (status IN ('at_benchmark', 'between', 'below_baseline', 'unknown')),
    ratio numeric, position numeric, reason text, is_provisional boolean NOT NULL,
    quota_limit_id bigint REFERENCES quota_limit, quota_level_1 numeric, quota_level_2 numeric, quota_level_3 numeric,
    quota_grade text CHECK (quota_grade IN ('1', '2', '3', 'none')), corrections jsonb,
    output_source text CHECK (output_source IN ('reported', 'metered', 'both')),
    windows_expected integer NOT NULL, windows_received integer NOT NULL, windows_estimated integer NOT NULL,
    factor_set text, has_recalled_factor boolean NOT NULL DEFAULT false, computed_at timestamptz NOT NULL,
    PRIMARY KEY (line_id, variant_key, grain, period)
);
COMMENT ON COLUMN ratio.grain IS
    'month, quarter and year are stored; what runs with the present is made of the months when it is asked for';
COMMENT ON COLUMN ratio.quota_grade IS 'none: over the limit of existing plants; null: no limit or no value';
COMMENT ON COLUMN ratio.corrections IS 'what limits (and levels) of this month were corrected by: level_correction';
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
    op.execute("DROP VIEW measured_lhv_current")
    op.execute("DROP VIEW output_current")
    op.execute("DROP VIEW correction_input_current")
    for table in (
        *("figure_revision", "ratio", "measured_lhv", "correction_input", "output", "validated_day", "finding"),
        *("energy_month", "energy_day", "energy_hour", "usage_month", "usage_day", "usage_hour"),
    ):
        op.execute(f"DROP TABLE {table}")  # one by one: a hypertable may not be dropped along with others
