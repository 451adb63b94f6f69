"""What users of peer systems met, each under the name of its thread, with the outcome that is right here.

A case gives registers fifteen minutes apart (a dot leaves an instant out), the meter, the usage in all, and the reasons
of the findings. Usage over a reading that was left out is kept; a step that cannot be explained gives none.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.domain.metering import Installation, Meter, Reading, Reason, Signal, judge, usage_hours

START = datetime(2026, 3, 1, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
RATED = Decimal(400)  # at most 125 in a quarter of an hour


@dataclass(frozen=True)
class Case:
    registers: str
    usage: str
    reasons: set[Reason] = field(default_factory=set)
    facts: dict[str, Any] = field(default_factory=dict)


CASES = {
    "home-assistant/core#182493": Case("88000 88010 0 88030 88040", "40", {Reason.DROPPED_TO_ZERO}),
    "home-assistant/core#182493 with a rated load": Case(
        "88000 88010 0 88030 88040", "40", {Reason.DROPPED_TO_ZERO}, {"rated_load": RATED}
    ),
    "home-assistant/core#140300": Case("500 510 509.5 520", "20", {Reason.BACKWARD_STEP}),
    "home-assistant/core#59491": Case("500 510 3 8 12", "19", {Reason.RESET}),
    "home-assistant/core#75312": Case("500 510 90000 520 530", "30", {Reason.IMPLAUSIBLE_JUMP}),
    "home-assistant/core#76973": Case(
        "500 510 90000 90010 90015", "25", {Reason.IMPLAUSIBLE_JUMP}, {"rated_load": RATED}
    ),
    "home-assistant/core#95154": Case("0 88000 88005 88010", "10", {Reason.IMPLAUSIBLE_JUMP}),
    "home-assistant/core#60341": Case("7000 7010 0 0 0 7050 7060", "60", {Reason.DROPPED_TO_ZERO}),
    "home-assistant/core#60341 with a rated load": Case(
        "7000 7010 0 0 0 7050 7060", "60", {Reason.DROPPED_TO_ZERO}, {"rated_load": RATED}
    ),
    "home-assistant/core#60341 for two hours": Case(
        "7000 7010 0 0 0 0 0 0 0 0 7050 7060", "20", {Reason.RESET, Reason.IMPLAUSIBLE_JUMP}
    ),
    "home-assistant.io#38946": Case(
        "5400 5422 6 10", "45.5", set(), {"exchange": ("5435.5", "0", 20), "rated_load": RATED}
    ),
    "dsmrreader/dsmr-reader#507": Case("5400 5422 0 5", "27", {Reason.RESET}),
    "dsmrreader/dsmr-reader#666": Case("17000 17077 9000 9010", "87", {Reason.METER_EXCHANGE_WITHOUT_EVENT}),
    "dsmrreader/dsmr-reader#863": Case("17077 17080 17079.4 17082", "5", {Reason.BACKWARD_STEP}),
    "dsmrreader/dsmr-reader#1422": Case("100 110 4000 4010", "20", {Reason.IMPLAUSIBLE_JUMP}, {"rated_load": RATED}),
    "dsmrreader/dsmr-reader#1601": Case("5422 . . . . 3 7", "4", {Reason.RESET}, {"rated_load": RATED}),
    "dsmrreader/dsmr-reader#1632": Case(
        "990 995 12 20", "40", set(), {"exchange": ("1010", "0", 20), "digits": 6, "rated_load": RATED}
    ),
    "dsmrreader/dsmr-reader#2018": Case(
        "990 995 12 20", "60", set(), {"exchange": ("1010", "0", 20), "new_multiplier": Decimal(2)}
    ),
    "dsmrreader/dsmr-reader#2052": Case("990 995 8 20", "27", {Reason.BACKWARD_STEP}, {"exchange": ("900", "-2", 20)}),
    "dsmrreader/dsmr-reader#2089": Case("17077 0.5 0.9 1.4", "0.9", {Reason.RESET}, {"digits": 5}),
    "xirixiz/dsmr-reader-docker#120": Case("17077 0 0 0 0 4 9", "9", {Reason.RESET}),
    "traktore-org/sem-community#782": Case(
        "15508 15508 0 15508 15509", "1", {Reason.DROPPED_TO_ZERO}, {"rated_load": RATED}
    ),
    "traktore-org/sem-community#782, stood still and caught up": Case(
        "500 500 500 500 500 500 1100 1110", "610", set(), {"rated_load": RATED}
    ),
    "cornelius-mund/energy-optimizer#104": Case("500 510 40 50 60", "30", {Reason.RESET}),
    "andrew-blake/melcloudhome#37": Case(
        "100 105 45981 45986 45990", "14", {Reason.IMPLAUSIBLE_JUMP}, {"rated_load": RATED}
    ),
    "andrew-blake/melcloudhome#54": Case("4587.6 4588 4588900 4590 4591", "3.4", {Reason.UNIT_FLIP}),
    "emoncms/emoncms#1137": Case("300 310 305 306 307", "7", {Reason.BACKWARD_STEP}),
    "emoncms/emoncms#1939": Case("300 . . . . . . . 380", "80", set(), {"rated_load": RATED}),
    "Lamarqe/ha_openems#50": Case("6000 6001 6000 6002 6003", "3", {Reason.JITTER}),
    "Lamarqe/ha_openems#50 flickering": Case("6000 6001 6000 6001 6000 6001 6001", "1", {Reason.JITTER}),
    "Lamarqe/ha_openems#50 on the last reading": Case("6000 6001 6000", "1", {Reason.JITTER}),
    "Lamarqe/ha_openems#50 with three decimals": Case("6.239 6.240 6.239 6.239 6.241", "0.002", {Reason.JITTER}),
    "Lamarqe/ha_openems#52": Case("6239.1 6239.432 6239433 6239.6", "0.5", {Reason.UNIT_FLIP}),
    "Lamarqe/ha_openems#52 for good": Case(
        "6239.1 6239.432 6239433 6239434 6239436 6239438", "5.332", {Reason.UNIT_FLIP}
    ),
    "Lamarqe/ha_openems#56": Case(
        "800 805 4294967295 810 815", "15", {Reason.IMPLAUSIBLE_JUMP}, {"rated_load": RATED, "digits": 8}
    ),
    "magico13/ha-emporia-vue#150": Case("23 24 0 1 2", "3", {Reason.RESET}, {"digits": 6}),
    "magico13/ha-emporia-vue#264": Case("900 910 905 906", "6", {Reason.BACKWARD_STEP}, {"digits": 6}),
    "suaveolent/ha-hoymiles-wifi#96": Case("12 13 . . 0 1", "2", {Reason.RESET}),
    "Koenkk/zigbee2mqtt#8272": Case("99990 99998 3 12", "22", {Reason.ROLLOVER}, {"digits": 5}),
    "Koenkk/zigbee2mqtt#8272 without registered digits": Case("99990 99998 3 12", "17", {Reason.RESET}),
    "AlexxIT/SonoffLAN#1610": Case("90000 90010 10 20", "20", {Reason.RESET}, {"digits": 5, "rated_load": RATED}),
    "home-assistant/core#60341 again and again": Case(
        "500 510 0 511 0 512 0 513 0 514 520", "20", {Reason.DROPPED_TO_ZERO}
    ),
    "home-assistant/core#59491 between two levels": Case(
        "500 510 7 511 7 512 7 520 530", "30", {Reason.BACKWARD_STEP, Reason.IMPLAUSIBLE_JUMP}
    ),
    # Too long to say which of the two levels is the meter's: nothing is claimed across it.
    "home-assistant/core#59491 between two levels for hours": Case(
        "500 510 7 511 7 512 7 513 7 520 530", "20", {Reason.BACKWARD_STEP, Reason.IMPLAUSIBLE_JUMP}
    ),
    "andrew-blake/melcloudhome#54, a young meter": Case("2 20 35", "33"),
    "Lamarqe/ha_openems#50 without the zero at the end": Case("5.01 5.11 5.1 5.12", "0.11", {Reason.JITTER}),
    "mclare/grizzl_e-for-HA#43": Case("44 45 0 0 0 0 7 14", "15", {Reason.RESET}),
}


def meter_of(facts: dict[str, Any]) -> Meter:
    facts = dict(facts)
    exchange, new_multiplier = facts.pop("exchange", None), facts.pop("new_multiplier", Decimal(1))
    began = START - timedelta(days=30)
    if exchange is None:
        return Meter(Signal.REGISTER, (Installation(began, **facts),))
    final, initial, minute = exchange
    at = START + timedelta(minutes=minute)
    old = Installation(began, at, final_register=Decimal(final), **facts)
    new = Installation(at, multiplier=new_multiplier, initial_register=Decimal(initial), **facts)
    return Meter(Signal.REGISTER, (old, new))


def readings_of(registers: str) -> list[Reading]:
    words = enumerate(registers.split())
    return [Reading(START + i * QUARTER, Decimal(word)) for i, word in words if word != "."]


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_thread(case: Case) -> None:
    meter = meter_of(case.facts)
    judgement = judge(meter, readings_of(case.registers))
    hours = usage_hours(meter, judgement.steps)
    assert sum(h.quantity for h in hours) == Decimal(case.usage)
    assert {f.reason for f in judgement.findings} == case.reasons
    assert all(h.quantity >= 0 for h in hours)


def test_there_are_cases_enough() -> None:
    threads = {name.split()[0].rstrip(",") for name in CASES}
    assert len(threads) >= 25


def test_jitter_counts_as_received() -> None:
    meter = meter_of({})
    (first, *_) = usage_hours(meter, judge(meter, readings_of("6000 6001 6000 6001 6000 6001 6001")).steps)
    assert (first.windows_received, first.windows_estimated) == (4, 0)


def test_finding_of_a_left_out_reading_says_what_it_was() -> None:
    (finding,) = judge(meter_of({}), readings_of("88000 88010 0 88030")).findings
    assert (finding.from_at, finding.to_at) == (START + 2 * QUARTER, START + 2 * QUARTER)
    assert finding.detail == {"count": 1, "value": "0"}


def test_steps_of_one_hour_that_the_load_cannot_have_drawn_are_one_finding() -> None:
    readings = readings_of("0 200 400 600 800 1000")
    first, second = judge(meter_of({"rated_load": RATED}), readings).findings
    assert (first.from_at, first.to_at) == (START, START + 4 * QUARTER)
    assert first.detail == {"from_value": "0", "to_value": "800", "count": 4}
    assert (second.from_at, second.detail) == (START + 4 * QUARTER, {"from_value": "800", "to_value": "1000"})


def test_readings_that_do_not_count_leave_findings() -> None:
    readings = [
        Reading(START - timedelta(days=31), Decimal(1)),
        Reading(START, Decimal(100)),
        Reading(START + QUARTER, None, is_disputed=True),
        Reading(START + 2 * QUARTER, Decimal(1), quality=2),
        Reading(START + 3 * QUARTER, Decimal(130), quality=1),
        Reading(START + 4 * QUARTER, None),
    ]
    judgement = judge(meter_of({}), readings)
    assert [(s.start, s.end, s.is_measured) for s in judgement.steps] == [(Decimal(100), Decimal(130), False)]
    assert [f.reason for f in judgement.findings] == [
        Reason.NO_INSTALLATION,
        Reason.DISPUTED,
        Reason.BAD_QUALITY,
        Reason.UNCERTAIN_QUALITY,
    ]


def test_a_number_too_large_for_any_meter_is_left_out() -> None:
    judgement = judge(meter_of({}), readings_of("100 1e300 110"))
    assert [f.reason for f in judgement.findings] == [Reason.IMPLAUSIBLE_JUMP]
    assert [(s.start, s.end) for s in judgement.steps] == [(Decimal(100), Decimal(110))]
