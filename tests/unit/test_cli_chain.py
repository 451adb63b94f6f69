"""An explanation in words."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from app.cli.chain import Chain


@pytest.mark.parametrize(
    ("value", "language", "told"),
    [
        (None, "en", "voided counts, edit: li"),
        (None, "zh", "作废 计入, 人工修改: li"),
        (Decimal("1.50"), "en", "1.5 counts, edit"),
    ],
)
def test_a_voided_instant_is_called_so(value: Decimal | None, language: str, told: str) -> None:
    reading = {
        "ts": datetime(2026, 10, 10, tzinfo=UTC), "value": value, "counts": True, "origin": "edit", "actor": "li",
        "reason": "misread", "evidence": None,
    }  # fmt: skip
    found = {"start": datetime(2026, 10, 10, tzinfo=UTC).date(), "grain": "day", "stored": None, "derived": None}
    lines = Chain(language).lines("usage", {**found, "agrees": True, "differing": [], "readings": [reading]})
    assert any(told in line for line in lines)
