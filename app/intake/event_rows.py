"""What an event means for the dated rows of a point: which row ends, which begins, what is carried over. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import Any

from app.domain.calendar import local
from app.errors import Invalid
from app.intake.event_entries import AnyEvent, MeterCorrection, Move, MultiplierChange, Replacement
from app.intake.registry_records import Key, Registered

Row = Mapping[str, Any]
Entries = dict[str, list[dict[str, Any]]]
CARRIED = ("multiplier", "digits", "rated_load")
CORRECTED = (*("serial", "multiplier", "digits", "rated_load", "initial_register", "final_register", "verified_until"),)
ASSIGNED = ("flow", "in_boundary", "expected_interval_s", "output_kind")


@dataclass(frozen=True, slots=True)
class Situation:
    """What is registered, of which point an event tells, and what that point showed at the event's instant."""

    registered: Registered
    point: Key
    shown: Decimal | None = None

    def rows(self, kind: str) -> list[Row]:
        """Return the point's dated rows of a kind, in order of time."""
        mine = [row for key, row in self.registered[kind].items() if key[:2] == self.point]
        return sorted(mine, key=lambda row: row["from_at"])

    def name(self, kind: str, row_id: int | None) -> str | None:
        """Return how a registry file names a row, with its owner in front where it has one in the enterprise."""
        for key, row in self.registered[kind].items():
            if row_id is not None and row["id"] == row_id:
                return "/".join(key[-2:]) if kind in ("point", "production_line") else str(key[-1])
        return None


@dataclass(frozen=True, slots=True)
class Planned:
    """The entries of the point in a registry file, from when figures change, and whether rows begin at the instant
    already: then the file must change nothing, or something else was recorded for that instant.
    """

    entry: Entries
    from_at: datetime
    is_known: bool = False


def plan(situation: Situation, event: AnyEvent) -> Planned:
    """Return what an event writes; raise Invalid where it cannot have happened to this point."""
    if isinstance(event, Move):
        return _move(situation, event)
    if isinstance(event, MeterCorrection):
        return _correction(situation, event)
    return _exchange(situation, event)


def _exchange(situation: Situation, event: Replacement | MultiplierChange) -> Planned:
    """A meter ends at the instant, and another one, or the same with another multiplier, begins."""
    before, following = _around(situation, "meter_installation", event.at)
    new: dict[str, Any]
    if isinstance(event, Replacement):
        final = event.final_register
        new = {
            "serial": event.serial,
            "initial_register": event.initial_register,
            "verified_until": event.verified_until,
        }
    else:
        final = _parting_register(situation, event)
        new = {"serial": before["serial"], "initial_register": final, "verified_until": before["verified_until"]}
    for name in CARRIED:
        stated = getattr(event, name, None)
        new[name] = before[name] if stated is None else stated
    ended = {"from_at": before["from_at"], "to_at": event.at, "final_register": final}
    # What ended later than the event ended with the new meter, and so did its last register.
    begun = {"from_at": event.at, "to_at": before["to_at"], "final_register": before["final_register"], **new}
    if following is not None:
        begun |= {"to_at": following["to_at"], "final_register": following["final_register"]}
    return Planned({"installations": [ended, begun]}, event.at, is_known=following is not None)


def _parting_register(situation: Situation, event: MultiplierChange) -> Decimal | None:
    if situation.registered["point"][situation.point]["signal"] != "register":
        return None
    register = event.register_at if event.register_at is not None else situation.shown
    if register is None:
        raise _invalid(
            "register_at",
            f"no reading of {local(event.at)} counts, so it must be said what the meter showed then: energy before it"
            " counts with the old multiplier, energy after it with the new one",
            "该时刻没有有效读数：请填写当时的表底数 register_at",
        )
    return register


def _correction(situation: Situation, event: MeterCorrection) -> Planned:
    meter = _in_place(situation, "meter_installation", event.at)
    stated = {name: value for name in CORRECTED if (value := getattr(event, name)) is not None}
    if not stated:
        raise _invalid("", f"nothing is corrected: state one of {', '.join(CORRECTED)}", "未填写任何更正内容")
    if "final_register" in stated and meter["to_at"] is None:
        raise _invalid("final_register", "this meter is still in place: it has no final register", "该表计仍在用")
    return Planned({"installations": [{"from_at": meter["from_at"], **stated}]}, meter["from_at"])


def _move(situation: Situation, event: Move) -> Planned:
    before, following = _around(situation, "point_assignment", event.at)
    unit = situation.name("process_unit", before["process_unit_id"])
    if unit == event.process_unit and not event.model_fields_set & {*ASSIGNED, "line", "parent_point", "checks_point"}:
        raise _invalid("process_unit", f"the point counts to {unit!r} already", "测点已归属该工序")
    new: dict[str, Any] = {"from_at": event.at, "to_at": before["to_at"], "process_unit": event.process_unit}
    if following is not None:
        new["to_at"] = following["to_at"]
    for name in ASSIGNED:
        stated = getattr(event, name)
        new[name] = before[name] if stated is None else stated
    for name, kind, column in (
        ("line", "production_line", "line_id"),
        ("parent_point", "point", "parent_point_id"),
        ("checks_point", "point", "checks_point_id"),
    ):
        new[name] = getattr(event, name) or situation.name(kind, before[column])
    ended = {"from_at": before["from_at"], "to_at": event.at}
    return Planned({"assignments": [ended, new]}, event.at, is_known=following is not None)


def _around(situation: Situation, kind: str, at: datetime) -> tuple[Row, Row | None]:
    """Return the row that ends at an instant, and the one that begins there if the event was entered before."""
    rows = situation.rows(kind)
    for before, following in pairwise(rows):
        if before["to_at"] == at == following["from_at"]:
            return before, following
    row = _in_place(situation, kind, at)
    if row["from_at"] == at:
        what = "meter" if kind == "meter_installation" else "assignment"
        raise _invalid("at", f"the first {what} begins at {local(at)}: nothing came before it", "该时刻之前没有记录")
    return row, None


def _in_place(situation: Situation, kind: str, at: datetime) -> Row:
    what, what_zh = ("meter", "表计") if kind == "meter_installation" else ("assignment", "归属")
    rows = situation.rows(kind)
    for row in rows:
        if row["from_at"] <= at and (row["to_at"] is None or at < row["to_at"]):
            return row
    if not rows:
        raise _invalid("at", f"this point never had any {what}: register it first", f"测点没有{what_zh}记录：请先登记")
    if at < rows[0]["from_at"]:
        raise _invalid(
            "at",
            f"{local(at)} is before the first {what} of this point, which begins at {local(rows[0]['from_at'])}",
            f"早于该测点首个{what_zh}的起始时间",
        )
    last = max(row["to_at"] for row in rows if row["to_at"] is not None and row["to_at"] <= at)
    raise _invalid(
        "at",
        f"no {what} is registered for {local(at)}: the one before ended at {local(last)}",
        f"该时刻没有{what_zh}",
    )


def _invalid(field: str, message: str, message_zh: str) -> Invalid:
    location = f"event, {field}" if field else "event"
    return Invalid(message, detail_zh=message_zh, errors=[{"location": location, "message": message}])
