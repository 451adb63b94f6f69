"""Files of conversion factors for the tests, brought in or refused. Their figures are made; none was published."""

import csv
import io
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, text

from app.api.access import now as api_now
from app.db.access import create_key
from app.errors import Invalid
from app.intake import factors
from app.main import create_app
from app.reference import tables
from app.settings import Settings

LATER = datetime(2026, 11, 20, tzinfo=UTC)
COAL_ROW = {
    "factor_key": "electricity_equal", "factor_set": "GB/T 2589-2020", "name_zh": "电力（等价值）",
    "name_en": "electricity, equal value", "category": "secondary", "unit": "kWh", "kgce_per_unit": "0.3",
    "basis": "equal value 等价值", "source": "city document", "edition": "2026", "confidence": "confirmed",
    "valid_from": "2026-07-01",
}  # fmt: skip
GRID_ROW = {
    "factor_type": "grid_electricity", "factor_key": "CN-120000", "factor_set": "MEE/NBS average", "year": "2024",
    "name_zh": "天津市", "name_en": "Tianjin", "factor_value": "0.5", "factor_unit": "kgCO2/kWh",
    "source": "announcement", "confidence": "confirmed",
}  # fmt: skip


def lines(*rows: Mapping[str, str], table: str = "standard_coal_factor") -> str:
    """Return a file with the columns of a table."""
    names = [field.name for field in fields(tables.FILES[table][1])]
    written = io.StringIO()
    writer = csv.DictWriter(written, names, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def equal(**more: str) -> dict[str, str]:
    return {**COAL_ROW, **more}


def grid(**more: str) -> str:
    return lines({**GRID_ROW, **more}, table="emission_factor")


EQUAL = lines(COAL_ROW)


def bring_in(engine: Engine, content: str, *, now: datetime = LATER, is_dry_run: bool = False) -> factors.FactorReport:
    with engine.begin() as connection:
        return factors.bring_in(connection, content, actor="admin", now=now, is_dry_run=is_dry_run)


def refused(engine: Engine, content: str) -> list[tuple[str, str]]:
    before = counts(engine)
    with pytest.raises(Invalid) as error:
        bring_in(engine, content)
    assert counts(engine) == before
    assert error.value.extra["detail_zh"]
    return [(one["location"], one["message"]) for one in error.value.extra["errors"]]


def counts(engine: Engine) -> tuple[Any, ...]:
    tables_ = ("standard_coal_factor", "emission_factor", "stale", "audit")
    with engine.connect() as connection:
        return tuple(connection.execute(text(f"SELECT count(*), max(id) FROM {name}")).one() for name in tables_)


def operator(engine: Engine, database_url: str) -> TestClient:
    """The API as an operator sees it."""
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    app.dependency_overrides[api_now] = lambda: LATER
    with engine.begin() as connection:
        key = create_key(connection, "operator", "operator")
    return TestClient(app, headers={"Authorization": f"Bearer {key}", "Accept-Language": "en"})
