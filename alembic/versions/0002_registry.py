"""Registry: who is monitored and with what. Whatever alters a figure lives in a dated row."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE enterprise (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    uscc text NOT NULL UNIQUE CHECK (uscc ~ '^[0-9A-HJ-NPQRTUWXY]{18}$'),
    name_zh text NOT NULL, name_en text NOT NULL DEFAULT '', created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN enterprise.uscc IS 'unified social credit code, GB 32100-2015, check digit verified on entry';

CREATE TABLE enterprise_assignment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    enterprise_id bigint NOT NULL REFERENCES enterprise,
    from_on date NOT NULL, to_on date, CHECK (to_on > from_on),
    district_code text NOT NULL REFERENCES district, industry_code text NOT NULL REFERENCES industry,
    EXCLUDE USING gist (enterprise_id WITH =, daterange(from_on, to_on) WITH &&)
);
CREATE INDEX ON enterprise_assignment (district_code, enterprise_id);

-- The list of a year is published whole; a figure of that year is ranked with that year's list for ever.
CREATE TABLE key_unit_list (
    year smallint NOT NULL, enterprise_id bigint NOT NULL REFERENCES enterprise,
    tier text NOT NULL REFERENCES key_unit_tier, two_high boolean NOT NULL DEFAULT false, source text NOT NULL,
    recorded_by text NOT NULL DEFAULT '', recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (year, enterprise_id)
);

CREATE TABLE energy_manager (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    enterprise_id bigint NOT NULL REFERENCES enterprise, holder text NOT NULL, title text NOT NULL DEFAULT '',
    appointed_on date NOT NULL, expires_on date, filed_on date, recorded_by text NOT NULL DEFAULT '',
    recorded_at timestamptz NOT NULL DEFAULT now(), UNIQUE (enterprise_id, appointed_on),
    CHECK (expires_on >= appointed_on)
);
COMMENT ON COLUMN energy_manager.expires_on IS 'the last day of the term; null: without end';
COMMENT ON COLUMN energy_manager.filed_on IS 'when the appointment was filed with the energy authority (Art. 55)';

CREATE TABLE process_unit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    enterprise_id bigint NOT NULL REFERENCES enterprise, parent_id bigint REFERENCES process_unit,
    scope smallint NOT NULL CHECK (scope BETWEEN 1 AND 4),
    code text NOT NULL, name_zh text NOT NULL, name_en text NOT NULL DEFAULT '',
    UNIQUE (enterprise_id, code), CHECK ((scope = 1) = (parent_id IS NULL))
);
COMMENT ON COLUMN process_unit.scope IS '1 plant, 2 process, 3 process unit, 4 equipment (NHJC scope)';
CREATE INDEX ON process_unit (parent_id);

CREATE TABLE production_line (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    process_unit_id bigint NOT NULL REFERENCES process_unit, code text NOT NULL,
    name_zh text NOT NULL, name_en text NOT NULL DEFAULT '',
    variant_key text NOT NULL REFERENCES catalogue_variant,
    capacity numeric, capacity_unit text, from_on date NOT NULL, to_on date, CHECK (to_on > from_on),
    UNIQUE (process_unit_id, code)
);

CREATE TABLE gateway (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code ~ '^[a-z0-9][a-z0-9-]{2,62}$'),
    enterprise_id bigint NOT NULL REFERENCES enterprise, zone text NOT NULL DEFAULT 'Asia/Shanghai',
    heartbeat_s integer NOT NULL DEFAULT 900 CHECK (heartbeat_s BETWEEN 10 AND 86400),
    is_enabled boolean NOT NULL DEFAULT true, created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE point (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway_id bigint NOT NULL REFERENCES gateway, code text NOT NULL CHECK (length(code) BETWEEN 1 AND 64),
    name_zh text NOT NULL DEFAULT '', name_en text NOT NULL DEFAULT '',
    carrier_key text REFERENCES carrier, signal text NOT NULL CHECK (signal IN ('register', 'interval', 'gauge')),
    unit text NOT NULL REFERENCES unit_of_measure, data_item_code text, value_min numeric, value_max numeric,
    UNIQUE (gateway_id, code)
);
COMMENT ON COLUMN point.unit IS 'unit on the wire; usage is kept in the canonical unit of the carrier';
COMMENT ON COLUMN point.data_item_code IS 'sixteen-digit code of the national monitoring documents, if any';

CREATE TABLE meter_installation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id integer NOT NULL REFERENCES point, from_at timestamptz NOT NULL, to_at timestamptz,
    CHECK (to_at > from_at), serial text NOT NULL, multiplier numeric NOT NULL DEFAULT 1 CHECK (multiplier > 0),
    digits smallint CHECK (digits BETWEEN 1 AND 14), rated_load numeric CHECK (rated_load > 0),
    initial_register numeric, final_register numeric, verified_until date,
    EXCLUDE USING gist (point_id WITH =, tstzrange(from_at, to_at) WITH &&)
);
COMMENT ON COLUMN meter_installation.digits IS 'integer digits: the rollover modulus is 10^digits; null: never rolls';
COMMENT ON COLUMN meter_installation.rated_load IS 'carrier units per hour at rated load (kW for electricity)';

CREATE TABLE point_assignment (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    point_id integer NOT NULL REFERENCES point, from_at timestamptz NOT NULL, to_at timestamptz,
    CHECK (to_at > from_at), process_unit_id bigint NOT NULL REFERENCES process_unit,
    flow text NOT NULL CHECK (flow IN ('in', 'out', 'recovered', 'feedstock')),
    in_boundary boolean NOT NULL DEFAULT true,
    expected_interval_s integer NOT NULL DEFAULT 900 CHECK (expected_interval_s BETWEEN 1 AND 2678400),
    parent_point_id integer REFERENCES point, checks_point_id integer REFERENCES point,
    line_id bigint REFERENCES production_line, output_kind text,
    EXCLUDE USING gist (point_id WITH =, tstzrange(from_at, to_at) WITH &&)
);
COMMENT ON COLUMN point_assignment.in_boundary IS 'counts to the total of its process unit, or only checks it';
COMMENT ON COLUMN point_assignment.output_kind IS 'the usage of a day is an output of line_id, of this kind';
CREATE INDEX ON point_assignment (process_unit_id);
CREATE INDEX ON point_assignment (line_id) WHERE output_kind IS NOT NULL;

-- Who entered which event, when and why. What it did stands in the dated rows above.
CREATE TABLE point_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, point_id integer NOT NULL REFERENCES point,
    kind text NOT NULL CHECK (kind IN ('replacement', 'multiplier_change', 'meter_correction', 'move')),
    at timestamptz NOT NULL, stated jsonb NOT NULL, actor text NOT NULL, reason text NOT NULL, evidence text,
    recorded_at timestamptz NOT NULL
);
COMMENT ON COLUMN point_event.stated IS 'the event as it was entered';
CREATE INDEX ON point_event (point_id, at);
"""


def upgrade() -> None:
    """Create the registry."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop the registry."""
    op.execute(
        "DROP TABLE point_event, point_assignment, meter_installation, point, gateway, production_line, process_unit,"
        " energy_manager, key_unit_list, enterprise_assignment, enterprise"
    )
