"""Control: rules, alerts, their delivery, who may see what, and who did what."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE principal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
    role text NOT NULL CHECK (role IN ('operator', 'regulator', 'official', 'enterprise', 'gateway')),
    district_code text REFERENCES district, enterprise_id bigint REFERENCES enterprise,
    is_enabled boolean NOT NULL DEFAULT true, created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (role <> 'official' OR district_code IS NOT NULL),
    CHECK ((role IN ('enterprise')) = (enterprise_id IS NOT NULL))
);
COMMENT ON COLUMN principal.district_code IS 'null: the whole city';

CREATE TABLE api_key (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, principal_id bigint NOT NULL REFERENCES principal,
    prefix text NOT NULL, sha256 bytea NOT NULL UNIQUE, created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz, last_used_at timestamptz, revoked_at timestamptz
);

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),
    actor text NOT NULL, action text NOT NULL, subject text NOT NULL, detail jsonb NOT NULL DEFAULT '{}'
);

CREATE TABLE intensity_target (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, district_code text NOT NULL REFERENCES district,
    target_key text NOT NULL, base_year smallint NOT NULL, target_year smallint NOT NULL,
    reduction_pct numeric NOT NULL CHECK (reduction_pct > 0 AND reduction_pct < 100), revision integer NOT NULL,
    source text NOT NULL, confidence text NOT NULL CHECK (confidence IN ('confirmed', 'recalled')),
    recorded_by text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(), CHECK (target_year > base_year),
    UNIQUE (district_code, target_key, base_year, target_year, revision)
);

CREATE VIEW intensity_target_current AS
SELECT DISTINCT ON (district_code, target_key, base_year, target_year) * FROM intensity_target
ORDER BY district_code, target_key, base_year, target_year, revision DESC;

CREATE TABLE entered_figure (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, district_code text REFERENCES district,
    enterprise_id bigint REFERENCES enterprise, kind text NOT NULL, year smallint NOT NULL, value numeric NOT NULL,
    unit text NOT NULL, price_base_year smallint, source text NOT NULL, revision integer NOT NULL DEFAULT 1,
    recorded_by text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(),
    CHECK ((district_code IS NULL) <> (enterprise_id IS NULL)),
    UNIQUE NULLS NOT DISTINCT (district_code, enterprise_id, kind, year, revision)
);

CREATE VIEW entered_figure_current AS
SELECT DISTINCT ON (district_code, enterprise_id, kind, year) * FROM entered_figure
ORDER BY district_code, enterprise_id, kind, year, revision DESC;

CREATE TABLE energy_budget (
    enterprise_id bigint NOT NULL REFERENCES enterprise, year smallint NOT NULL, revision integer NOT NULL,
    method text NOT NULL CHECK (method IN ('baseline', 'historical')), budget_tce numeric NOT NULL
        CHECK (budget_tce > 0), conversion text NOT NULL CHECK (conversion IN ('equivalent', 'equal')),
    basis jsonb NOT NULL DEFAULT '{}',
    source text NOT NULL, recorded_by text NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (enterprise_id, year, revision)
);
COMMENT ON COLUMN energy_budget.basis IS 'what the method was fed with, where it was not stated as a figure alone';

CREATE VIEW energy_budget_current AS
SELECT DISTINCT ON (enterprise_id, year) * FROM energy_budget ORDER BY enterprise_id, year, revision DESC;

CREATE TABLE rule (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key text NOT NULL UNIQUE,
    kind text NOT NULL CHECK (kind IN ('below_baseline', 'gateway_silent', 'data_quality')),
    severity text NOT NULL CHECK (severity IN ('violation', 'data', 'notice')),
    title_zh text NOT NULL, title_en text NOT NULL, params jsonb NOT NULL DEFAULT '{}',
    basis text NOT NULL, is_enabled boolean NOT NULL DEFAULT true
);

CREATE TABLE alert (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, rule_id bigint NOT NULL REFERENCES rule,
    subject_kind text NOT NULL CHECK (subject_kind IN ('line', 'gateway', 'point', 'enterprise', 'district')),
    subject_id bigint NOT NULL, period date, enterprise_id bigint REFERENCES enterprise,
    state text NOT NULL CHECK (state IN ('pending', 'open', 'acknowledged', 'resolved')),
    first_period date, last_period date, reason text NOT NULL, facts jsonb NOT NULL DEFAULT '{}',
    pending_at timestamptz NOT NULL, opened_at timestamptz, acknowledged_at timestamptz, acknowledged_by text,
    acknowledge_note text, resolved_at timestamptz
);
COMMENT ON COLUMN alert.period IS 'null for month rules: one identity over consecutive months (first_/last_period)';
CREATE UNIQUE INDEX alert_one_alive ON alert (rule_id, subject_kind, subject_id, period) NULLS NOT DISTINCT
    WHERE state IN ('pending', 'open', 'acknowledged');
CREATE INDEX ON alert (state, opened_at);

CREATE TABLE event (
    id text PRIMARY KEY, kind text NOT NULL, alert_id bigint REFERENCES alert, district_code text,
    enterprise_id bigint, payload text NOT NULL, occurred_at timestamptz NOT NULL
);
CREATE INDEX ON event (alert_id) WHERE alert_id IS NOT NULL;
COMMENT ON COLUMN event.payload IS 'the JSON body as it is signed and sent, byte for byte';

CREATE TABLE endpoint (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, url text NOT NULL,
    secret text NOT NULL, previous_secret text, previous_until timestamptz,
    district_code text REFERENCES district,
    kinds text[] NOT NULL DEFAULT '{alert.*}', is_enabled boolean NOT NULL DEFAULT true, disabled_reason text,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN endpoint.previous_until IS 'until then both secrets sign, so that a receiver can change over';

CREATE TABLE delivery (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, event_id text NOT NULL REFERENCES event,
    endpoint_id bigint NOT NULL REFERENCES endpoint,
    state text NOT NULL CHECK (state IN ('pending', 'delivered', 'dead')) DEFAULT 'pending',
    attempts integer NOT NULL DEFAULT 0, next_attempt_at timestamptz NOT NULL, leased_until timestamptz,
    last_status integer, last_error text, delivered_at timestamptz, UNIQUE (event_id, endpoint_id)
);
CREATE INDEX delivery_due ON delivery (endpoint_id, next_attempt_at) WHERE state = 'pending';
"""


def upgrade() -> None:
    """Create the control tables."""
    op.execute(TABLES)


def downgrade() -> None:
    """Drop the control tables."""
    op.execute("DROP VIEW energy_budget_current, entered_figure_current, intensity_target_current")
    op.execute(
        "DROP TABLE delivery, endpoint, event, alert, rule, energy_budget, entered_figure,"
        " intensity_target, audit, api_key, principal"
    )
