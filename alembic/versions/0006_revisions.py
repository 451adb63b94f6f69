"""Revisions: no published figure changes silently, whoever changes it.

Statement triggers on the tables of published grains write `figure_revision` in the transaction of the change itself.
They stand in the schema and not in the stages, so that there is no road around them; a run that changes nothing, and an
unpublished figure, cost one comparison.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# A day is published at noon of the next business day, a month on the 5th of the next month (app.domain.calendar).
DAY_PUBLISHED = "(({period} + 1)::timestamp + interval '12 hours') AT TIME ZONE 'Asia/Shanghai'"
MONTH_PUBLISHED = "(({period} + interval '1 month')::date + 4)::timestamp AT TIME ZONE 'Asia/Shanghai'"

# table: (kind, grain, period column, key columns, when it is published, rows that are published at all)
TABLES = {
    "usage_day": ("usage", "'day'", "day", ("point_id",), DAY_PUBLISHED, "true"),
    "usage_month": ("usage", "'month'", "month", ("point_id",), MONTH_PUBLISHED, "true"),
    "energy_day": ("energy", "'day'", "day", ("process_unit_id", "carrier_key", "flow"), DAY_PUBLISHED, "true"),
    "energy_month": ("energy", "'month'", "month", ("process_unit_id", "carrier_key", "flow"), MONTH_PUBLISHED, "true"),
    "ratio": ("ratio", "'month'", "period", ("line_id", "variant_key"), MONTH_PUBLISHED, "grain = 'month'"),
}

COLUMNS = """
ALTER TABLE figure_revision ADD COLUMN xid xid8 NOT NULL DEFAULT pg_current_xact_id();
ALTER TABLE figure_revision ADD COLUMN was_known boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN figure_revision.value IS 'the figure as a row of its table; JSON null: there was none';
COMMENT ON COLUMN figure_revision.revision IS
    '0 is what was published, written when it first changes; a figure that came into being late begins with 1';
COMMENT ON COLUMN figure_revision.was_known IS 'false: it had no value before, so nobody was told another one';
COMMENT ON COLUMN figure_revision.xid IS 'changes of one run are one revision';
CREATE INDEX figure_revision_run ON figure_revision (xid);

-- The present of a run, and what made it: set by the stages for their transaction, else the transaction's own.
CREATE FUNCTION revision_now() RETURNS timestamptz LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('nenghao.now', true), '')::timestamptz, now()) $$;
CREATE FUNCTION revision_cause() RETURNS text LANGUAGE sql STABLE AS
$$ SELECT coalesce(nullif(current_setting('nenghao.cause', true), ''), 'recomputation') $$;
"""


def _value(row: str, kept: tuple[str, ...]) -> str:
    names = ", ".join(f"'{name}'" for name in (*kept, "grain", "computed_at"))
    return f"to_jsonb({row}) - ARRAY[{names}]"


def _function(table: str, operation: str) -> str:
    """One trigger function: the changed figures of a statement that are published become revisions."""
    kind, grain, period, keys, published, condition = TABLES[table]
    kept = (period, *keys)
    joined = ", ".join((*kept, "grain") if table == "ratio" else kept)
    source, row = {
        "insert": ("new_rows n", "n"),
        "delete": ("old_rows o", "o"),
        "update": (f"old_rows o JOIN new_rows n USING ({joined})", "n"),
    }[operation]
    key = " || ':' || ".join(f"{row}.{name}::text" if operation != "update" else f"{name}::text" for name in keys)
    column = period if operation == "update" else f"{row}.{period}"
    before = "NULL::jsonb" if operation == "insert" else _value("o", kept)
    after = "NULL::jsonb" if operation == "delete" else _value("n", kept)
    is_changed = "before IS DISTINCT FROM after" if operation == "update" else "true"
    return f"""
CREATE FUNCTION revise_{table}_{operation}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  present_at timestamptz := revision_now();  -- once a statement, not once a row
  made_by text := revision_cause();
  run xid8 := pg_current_xact_id();
BEGIN
  WITH changed AS MATERIALIZED (
    SELECT {key} AS key, {column} AS period, {published.format(period=column)} AS published_at,
           {before} AS before, {after} AS after
    FROM {source} WHERE {condition} AND {published.format(period=column)} <= present_at
  ), due AS MATERIALIZED (
    SELECT c.*, l.revision AS latest, l.id AS latest_id, l.xid = run AS is_this_run
    FROM changed c LEFT JOIN LATERAL (
      SELECT f.id, f.revision, f.xid FROM figure_revision f
      WHERE f.kind = '{kind}' AND f.key = c.key AND f.grain = {grain} AND f.period = c.period
      ORDER BY f.revision DESC LIMIT 1) l ON true
    WHERE {is_changed}
  ), same_run AS (
    UPDATE figure_revision f SET value = coalesce(d.after, 'null') FROM due d
    WHERE d.is_this_run AND f.id = d.latest_id
  )
  INSERT INTO figure_revision (kind, key, grain, period, revision, value, cause, recorded_at, was_known, xid)
  SELECT '{kind}', key, {grain}, period, 0, before, 'published', published_at, true, run
  FROM due WHERE latest IS NULL AND before IS NOT NULL
  UNION ALL
  SELECT '{kind}', key, {grain}, period, coalesce(latest, 0) + 1, coalesce(after, 'null'), made_by,
         present_at, before IS NOT NULL, run
  FROM due WHERE is_this_run IS NOT TRUE;
  RETURN NULL;
END $$;
"""


def _trigger(table: str, operation: str) -> str:
    tables = {
        "insert": "NEW TABLE AS new_rows",
        "delete": "OLD TABLE AS old_rows",
        "update": "OLD TABLE AS old_rows NEW TABLE AS new_rows",
    }[operation]
    return (
        f"CREATE TRIGGER revise_{operation} AFTER {operation.upper()} ON {table} REFERENCING {tables}"
        f" FOR EACH STATEMENT EXECUTE FUNCTION revise_{table}_{operation}();"
    )


def upgrade() -> None:
    """Create the triggers of every published table."""
    op.execute(COLUMNS)
    for table in TABLES:
        for operation in ("insert", "update", "delete"):
            op.execute(_function(table, operation))
            op.execute(_trigger(table, operation))


def downgrade() -> None:
    """Drop the triggers; revisions that were written stay."""
    for table in TABLES:
        for operation in ("insert", "update", "delete"):
            op.execute(f"DROP TRIGGER revise_{operation} ON {table}")
            op.execute(f"DROP FUNCTION revise_{table}_{operation}()")
    op.execute("DROP FUNCTION revision_now(), revision_cause()")
    op.execute("DROP INDEX figure_revision_run")
    op.execute("ALTER TABLE figure_revision DROP COLUMN xid, DROP COLUMN was_known")
