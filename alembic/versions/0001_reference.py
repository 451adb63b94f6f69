"""Reference tables: what the law and the statistics office publish, each row with its source and confidence."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# `confidence` says whether a public copy of the source was read (confirmed) or the figure is from memory (recalled).
# `valid_from` is null where the source states no date: a missing date is never invented.
CITATION = """
    source      text NOT NULL,
    edition     text,
    confidence  text NOT NULL CHECK (confidence IN ('confirmed', 'recalled')),
    valid_from  date,
    valid_to    date,
    note        text NOT NULL DEFAULT ''
"""

# Levels are never overwritten: a row that was put right stands beside the one it supersedes, so that a citation of the
# former still says what was compared with.
RECORDED = """
    recorded_at timestamptz NOT NULL DEFAULT now(), recorded_by text NOT NULL DEFAULT 'reference',
    superseded_at timestamptz
"""

TABLES = f"""
CREATE EXTENSION IF NOT EXISTS timescaledb;
CREATE EXTENSION IF NOT EXISTS btree_gist;

CREATE TABLE district (
    code text PRIMARY KEY, name_zh text NOT NULL, name_en text NOT NULL, level text NOT NULL,
    parent_code text REFERENCES district, group_name text, {CITATION}
);

CREATE TABLE industry (
    code text PRIMARY KEY, level text NOT NULL, name_zh text NOT NULL, name_en text NOT NULL,
    parent_code text, two_high_label text, in_723_catalogue text, mapping_confidence text, {CITATION}
);

CREATE TABLE unit_of_measure (
    unit text PRIMARY KEY, canonical_unit text NOT NULL, canonical_per_unit numeric NOT NULL,
    kind text NOT NULL DEFAULT 'amount' CHECK (kind IN ('amount', 'rate')), written_as text, {CITATION}
);
COMMENT ON COLUMN unit_of_measure.kind IS 'rate: canonical units in one hour (kW, m3/h), for gauges';
COMMENT ON COLUMN unit_of_measure.written_as IS
    'what a registry file writes, the carrier tells the rest: t of water is kept apart from t of coal; null: as unit';

CREATE TABLE carrier (
    carrier_key text PRIMARY KEY, name_zh text NOT NULL, name_en text NOT NULL,
    unit text NOT NULL, kind text NOT NULL CHECK (kind IN ('primary', 'secondary', 'medium')),
    equivalent_factor_key text NOT NULL, equal_factor_key text, emission_type text, emission_key text, {CITATION}
);

CREATE TABLE standard_coal_factor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    factor_key text NOT NULL, factor_set text NOT NULL, name_zh text NOT NULL, name_en text NOT NULL,
    unit text NOT NULL, kgce_per_unit numeric, kgce_min numeric, kgce_max numeric,
    lhv numeric, lhv_min numeric, lhv_max numeric, lhv_unit text, basis text NOT NULL, category text,
    nbs_code text, nbs_code_confidence text, nhjc_energy_type text, {CITATION}, {RECORDED}
);
CREATE UNIQUE INDEX standard_coal_factor_current ON standard_coal_factor (factor_key, factor_set, valid_from)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL;

CREATE TABLE emission_factor (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    factor_type text NOT NULL, factor_key text NOT NULL, factor_set text NOT NULL, year smallint,
    name_zh text NOT NULL, name_en text NOT NULL, lhv numeric, lhv_unit text, carbon_content_tc_per_gj numeric,
    oxidation_rate_pct numeric, factor_value numeric, factor_unit text NOT NULL, {CITATION}, {RECORDED}
);
CREATE UNIQUE INDEX emission_factor_current ON emission_factor (factor_type, factor_key, factor_set, year)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL;

-- What is compared (a product by a process) and how its indicator is made: which carriers and flows, which
-- conversion, feedstock in or out, which unit. The levels themselves are dated rows of efficiency_level.
CREATE TABLE catalogue_variant (
    variant_key text PRIMARY KEY, family text NOT NULL, domain_no smallint, industry_code text,
    domain_zh text NOT NULL, domain_en text NOT NULL, product_zh text NOT NULL, product_en text NOT NULL,
    indicator_zh text NOT NULL, unit text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('lower_is_better', 'higher_is_better')),
    carriers text[], conversion text NOT NULL CHECK (conversion IN ('equivalent', 'equal', 'physical')),
    feedstock text NOT NULL CHECK (feedstock IN ('in', 'out')),
    base_per_indicator_unit numeric NOT NULL, output_kind text NOT NULL, output_unit text NOT NULL,
    judged_on text NOT NULL CHECK (judged_on IN ('month', 'year')), {CITATION}
);
COMMENT ON COLUMN catalogue_variant.carriers IS 'null: every carrier inside the boundary';
COMMENT ON COLUMN catalogue_variant.base_per_indicator_unit IS
    'kgce (or the physical unit) in one numerator unit of the indicator: 1 for kgce/t, 1.4286 for kgoe/t';

CREATE TABLE efficiency_level (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    variant_key text NOT NULL REFERENCES catalogue_variant, benchmark numeric, baseline numeric,
    referenced_standard text NOT NULL DEFAULT '', deadline_on date, {CITATION}, {RECORDED}
);
CREATE UNIQUE INDEX efficiency_level_current ON efficiency_level (variant_key, edition, valid_from)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL;

CREATE TABLE quota_limit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    family text NOT NULL, industry_code text, domain_zh text NOT NULL, domain_en text NOT NULL,
    product_zh text NOT NULL, product_en text NOT NULL, indicator_zh text NOT NULL, unit text NOT NULL,
    level_1 numeric, level_2 numeric, level_3 numeric, direction text NOT NULL, standard text NOT NULL,
    variant_key text REFERENCES catalogue_variant, {CITATION}, {RECORDED}
);
CREATE UNIQUE INDEX quota_limit_current ON quota_limit (standard, domain_en, product_en, indicator_zh, valid_from)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL;
CREATE INDEX ON quota_limit (variant_key);

-- What a standard adds to its limits for the conditions of a line: per point by which the input stands off its base.
CREATE TABLE level_correction (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    variant_key text NOT NULL REFERENCES catalogue_variant, input_key text NOT NULL,
    input_zh text NOT NULL, input_en text NOT NULL, input_unit text NOT NULL,
    level text NOT NULL CHECK (level IN ('1', '2', '3', 'benchmark', 'baseline')),
    side text NOT NULL CHECK (side IN ('above', 'below', 'both')), base numeric, per_point numeric NOT NULL,
    most_points numeric CHECK (most_points > 0), {CITATION}, {RECORDED}
);
COMMENT ON COLUMN level_correction.base IS 'null: the input is the number of points itself';
CREATE UNIQUE INDEX level_correction_current ON level_correction (variant_key, input_key, level, edition, valid_from)
    NULLS NOT DISTINCT WHERE superseded_at IS NULL;

CREATE TABLE policy_target (
    target_key text PRIMARY KEY, name_zh text NOT NULL, name_en text NOT NULL, operator text NOT NULL,
    value numeric, unit text NOT NULL, direction text NOT NULL, base_year smallint, target_year smallint,
    period text NOT NULL, scope text NOT NULL, scope_detail text NOT NULL, energy_relevant text NOT NULL,
    plan_line text NOT NULL, section_zh text NOT NULL, {CITATION}
);

CREATE TABLE key_unit_tier (
    tier text PRIMARY KEY, at_least_tce numeric NOT NULL, name_zh text NOT NULL, name_en text NOT NULL,
    managed_by_zh text NOT NULL, managed_by_en text NOT NULL, {CITATION}
);

CREATE TABLE carrier_class (
    carrier_key text PRIMARY KEY REFERENCES carrier,
    counts_as text NOT NULL CHECK (counts_as IN ('coal', 'non_fossil')), {CITATION}
);

CREATE TABLE warning_rule_set (
    key text PRIMARY KEY, title_zh text NOT NULL, title_en text NOT NULL, rules jsonb NOT NULL, {CITATION}
);
COMMENT ON COLUMN warning_rule_set.valid_from IS 'the last day of the graded period lies in [valid_from, valid_to)';

-- Working days decide fault clocks. Effective-dated: make-up workdays and holidays are announced year by year.
CREATE TABLE calendar_day (
    day date PRIMARY KEY, is_workday boolean NOT NULL, name_zh text NOT NULL DEFAULT '', {CITATION}
);
"""


def upgrade() -> None:
    """Create the reference tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop the reference tables; the extensions stay, other databases' objects may use them."""
    op.execute(
        "DROP TABLE calendar_day, warning_rule_set, carrier_class, key_unit_tier, policy_target,"
        " level_correction, quota_limit, efficiency_level, catalogue_variant,"
        " emission_factor, standard_coal_factor, carrier, unit_of_measure, industry, district"
    )
