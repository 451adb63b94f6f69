"""The registers that an event states, held against the stored readings around it, after its rows were written.

A register below a reading before it contradicts that reading (calculation rules, section 9): one of the two is wrong,
and only who enters the event can say which, so it is refused. Nothing is lost by that: a register that is not known may
be stated as such, and its side stays empty. A rollover is no contradiction where the meter's digits and its rated load
allow it. A rise that is only too fast to be believed is a warning: the rated load that says so may be the error.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from app.db import metering as metering_db
from app.domain import metering
from app.domain.calendar import local
from app.domain.metering import Meter, Objection
from app.errors import Invalid
from app.intake.event_entries import AnyEvent, MeterCorrection, Move, MultiplierChange, Replacement


@dataclass(frozen=True, slots=True)
class Warned:
    """What is doubtful of an event that was taken."""

    location: str
    text_zh: str
    text_en: str


def check(connection: Connection, point_id: int, event: AnyEvent) -> list[Warned]:
    """Return the warnings about the registers that an event states; Invalid where they contradict stored readings."""
    if isinstance(event, Move):
        return []
    meter = metering_db.meters(connection, [point_id])[point_id]
    fields = _stated(event, meter)
    known = metering_db.extents(connection, [point_id])
    if not fields or point_id not in known:
        return []
    ats = sorted({at for at, _ in fields})
    around = metering_db.surroundings(connection, [(point_id, at, at) for at in ats], known)
    found: list[tuple[str, Objection]] = []
    for at, (readings, (low_at, high_at)) in zip(ats, around, strict=True):
        for objection in metering.stated_registers(meter, readings, known_from=low_at, known_to=high_at):
            field = fields.get((at, objection.is_initial))
            if field is not None and objection.register.at == at:
                found.append((field, objection))
    refused = [(field, *_contradiction(field, objection)) for field, objection in found if objection.is_contradiction]
    if refused:
        raise Invalid(
            ". ".join(message for _, message, _ in refused),
            detail_zh="。".join(message_zh for _, _, message_zh in refused),
            errors=[{"location": f"event, {field}", "message": message} for field, message, _ in refused],
        )
    return [_doubt(field, objection) for field, objection in found]


def _stated(event: Replacement | MultiplierChange | MeterCorrection, meter: Meter) -> dict[tuple[datetime, bool], str]:
    """Return (instant, whether a meter begins with it) -> field, of the registers that the event itself states."""
    if isinstance(event, MultiplierChange):
        return {(event.at, False): "register_at", (event.at, True): "register_at"}
    if isinstance(event, Replacement):
        return {(event.at, False): "final_register", (event.at, True): "initial_register"}
    fields: dict[tuple[datetime, bool], str] = {}
    for installation in meter.installations:
        if installation.from_at <= event.at and (installation.to_at is None or event.at < installation.to_at):
            if event.initial_register is not None:
                fields[installation.from_at, True] = "initial_register"
            if event.final_register is not None and installation.to_at is not None:
                fields[installation.to_at, False] = "final_register"
    return fields


def _contradiction(field: str, objection: Objection) -> tuple[str, str]:
    """Return what is wrong and what to do, in English and Chinese."""
    register, beside = format(objection.register.value, "f"), format(objection.beside.value, "f")
    source, source_zh = _source(objection)
    at = local(objection.beside.at)
    than, than_zh = ("above", "大于") if objection.is_initial else ("below", "小于")
    unknown, unknown_zh = ("", "")
    if field != "register_at":
        unknown = f"; if the meter was reset between the two, state {field} as not known (null, on the shell `unknown`)"
        unknown_zh = f"；若表计在两者之间被清零，则 {field} 填未知（null，命令行为 unknown）"
    digits = objection.digits
    rolls = (
        ""
        if digits is None
        else f" (by a rollover at {digits} digits the rise would be more than the meter can have counted)"
    )
    rolls_zh = "" if digits is None else f"（按 {digits} 位表底翻转计算则超出表计可能的用量）"
    record = "; if it rolled over, first enter its digits with a meter_correction" if digits is None else ""
    record_zh = "；若表底翻转，先用 meter_correction 登记整数位数" if digits is None else ""
    return (
        f"{field} {register} is {than} {beside}, the {source} {at}, and a register does not run backward{rolls}."
        f" Correct {field}; or, if that reading is wrong, first correct or void it (`nenghao edits`, /api/v1/edits)"
        f"{record}{unknown}",
        f"{field} {register} {than_zh}{at} 的{source_zh} {beside}，而表底不会倒走{rolls_zh}。请更正 {field}；"
        f"若错的是该读数，先用 nenghao edits 或 /api/v1/edits 修正或作废{record_zh}{unknown_zh}",
    )


def _doubt(field: str, objection: Objection) -> Warned:
    register, beside = format(objection.register.value, "f"), format(objection.beside.value, "f")
    source, source_zh = _source(objection)
    at = local(objection.beside.at)
    return Warned(
        f"event, {field}",
        f"{field} {register} 与 {at} 的{source_zh} {beside} 之间的增量大于表计可能或平常的用量："
        "请核对两者、事件时刻、倍率和额定负荷",
        f"from {field} {register} to {beside}, the {source} {at}, is more than the meter can have counted, or a hundred"
        " times its usual pace: check the two values, the instant of the event, the multiplier and the rated load",
    )


def _source(objection: Objection) -> tuple[str, str]:
    return ("register stated for", "登记表底") if objection.beside.is_event else ("reading of", "读数")
