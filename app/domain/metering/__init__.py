"""Readings of one point into usage: the only place where the rules of metering are written.

Calculation rules, sections 9 and 10. `judge` turns the readings that count into accepted steps and findings;
`usage_hours` splits the steps into hours. Everything is exact: decimals in, decimals out, rationals in between.
"""

from app.domain.metering.hours import UsageHour, hour_pieces, is_steady, usage_hours, windows_in_service
from app.domain.metering.judge import judge, stated_registers
from app.domain.metering.objections import Objection
from app.domain.metering.rules import (
    CONTEXT_AFTER,
    CONTEXT_BEFORE,
    PROOF,
    ZONE_AFTER,
    ZONE_BEFORE,
    is_within_load,
)
from app.domain.metering.terms import (
    DEFAULT_INTERVAL_S,
    Finding,
    Installation,
    Judgement,
    Meter,
    Reading,
    Reason,
    Service,
    Signal,
    Step,
)

__all__ = [
    "CONTEXT_AFTER",
    "CONTEXT_BEFORE",
    "DEFAULT_INTERVAL_S",
    "PROOF",
    "ZONE_AFTER",
    "ZONE_BEFORE",
    "Finding",
    "Installation",
    "Judgement",
    "Meter",
    "Objection",
    "Reading",
    "Reason",
    "Service",
    "Signal",
    "Step",
    "UsageHour",
    "hour_pieces",
    "is_steady",
    "is_within_load",
    "judge",
    "stated_registers",
    "usage_hours",
    "windows_in_service",
]
