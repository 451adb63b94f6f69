"""What alerts are looked at with: the stage on one line, and the tables of alerts, events and endpoints."""

import json
from datetime import timedelta

from sqlalchemy import text

from app.db import deliveries, stale
from app.domain import webhook
from app.pipeline import alert
from tests.integration import accounting_city as city

NOW = city.NOVEMBER_5
SECRET = webhook.write_secret(bytes(32))


def judge(engine, settings, now=NOW, line_id=None):
    if line_id is not None:
        with engine.begin() as connection:
            stale.mark(connection, "alert", line_id, NOW, NOW + timedelta(1), cause="clock")
    while alert.run(engine, now, settings):
        pass


def table(engine, sql):
    with engine.connect() as connection:
        return [dict(row) for row in connection.execute(text(sql)).mappings()]


def alerts(engine):
    return table(engine, "SELECT a.*, r.kind FROM alert a JOIN rule r ON r.id = a.rule_id ORDER BY a.id")


def payloads(engine):
    return [json.loads(row["payload"]) for row in table(engine, "SELECT payload FROM event ORDER BY occurred_at, id")]


def endpoint(engine, name, district_code=None, kinds=("alert.*",)):
    with engine.begin() as connection:
        return deliveries.add_endpoint(
            connection, name=name, url="https://receiver.example/", secret=SECRET, district_code=district_code,
            kinds=kinds,
        )  # fmt: skip
