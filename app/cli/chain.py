"""An explanation as lines that a person reads, in Chinese or English; the figures stay as they are, unrounded."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from app.domain.calendar import BUSINESS_ZONE
from app.domain.reception import LANES

WORDS: Mapping[str, tuple[str, str]] = {
    "usage": ("用量", "usage"),
    "energy": ("能耗", "energy"),
    "ratio": ("能效比值", "ratio"),
    "total": ("能耗合计", "energy total"),
    "stored": ("在册", "stored"),
    "derived": ("由原始数据重新推导", "derived again from the raw rows"),
    "nothing": ("无", "nothing"),
    "agrees": ("一致", "they agree"),
    "differs": ("不一致：", "they differ in "),
    "installations": ("电表（仪表）", "meters"),
    "assignments": ("归属", "counted to"),
    "events": ("事件", "events"),
    "conditions": ("产线条件", "conditions of the line"),
    "metered_outputs": ("计量产量", "metered outputs"),
    "more_readings": ("读数过多，仅列出前一部分：请按小时查看", "more readings than are listed: ask hour by hour"),
    "parts": ("组成", "made of"),
    "points": ("计量点", "points"),
    "steps": ("采用的区间", "accepted steps"),
    "readings": ("读数与回执", "readings and receipts"),
    "conversions": ("折算系数", "conversion"),
    "indicator": ("指标", "indicator"),
    "level": ("标杆与基准", "level"),
    "outputs": ("产量", "outputs"),
    "findings": ("数据质量问题", "findings"),
    "revisions": ("修订", "revisions"),
    "multiplier": ("倍率", "multiplier"),
    "digits": ("位数", "digits"),
    "from": ("自", "from"),
    "until": ("至", "until"),
    "now": ("今", "now"),
    "measured": ("实测", "measured"),
    "estimated": ("估算", "estimated"),
    "counts": ("计入", "counts"),
    "voided": ("作废", "voided"),
    "not_counted": ("不计入", "does not count"),
    "edit": ("人工修改", "edit"),
    "outside": ("界外", "outside the boundary"),
    "lot": ("批次", "lot"),
}


class Chain:
    """Writes explanations in one language."""

    def __init__(self, language: str) -> None:
        self._place = 0 if language == "zh" else 1

    def word(self, name: str) -> str:
        """Return a word in the language."""
        return WORDS[name][self._place]

    def lines(self, kind: str, found: Mapping[str, Any]) -> Iterator[str]:
        """Yield an explanation line by line, what is nearest to the figure first."""
        unit = f", {found['unit']}" if found.get("unit") else ""
        yield f"{self.word(kind)} {self._subject(found)} {_start(found)}{unit}"
        yield from self._figures(found)
        sections = (
            ("indicator", self._indicator), ("level", self._level), ("conditions", self._condition),
            ("outputs", self._output), ("metered_outputs", self._metered), ("conversions", self._conversion),
            ("points", self._point), ("parts", self._part), ("installations", self._installation),
            ("assignments", self._assignment), ("events", self._event), ("steps", self._step),
            ("readings", self._reading), ("findings", self._finding), ("revisions", self._revision),
        )  # fmt: skip
        for name, write in sections:
            rows = found.get(name) or []
            rows = [rows] if isinstance(rows, Mapping) else rows
            if rows:
                yield f"{self.word(name)} ({len(rows)})"
            for row in rows:
                for number, line in enumerate(write(row).split("\n")):
                    yield ("    " if number else "  ") + line
        if found.get("has_more_readings"):
            yield f"  … {self.word('more_readings')}"

    def _subject(self, found: Mapping[str, Any]) -> str:
        names = [found.get("gateway_code"), found.get("code"), found.get("carrier_key"), found.get("flow")]
        enterprise = found.get(("enterprise_name_zh", "enterprise_name_en")[self._place])
        own = found.get(("name_zh", "name_en")[self._place])
        return " ".join(str(name) for name in (enterprise, "/".join(n for n in names if n), own) if name)

    def _figures(self, found: Mapping[str, Any]) -> Iterator[str]:
        for name in ("stored", "derived"):
            row = found[name]
            shown = _fields(row) if row else self.word("nothing")
            yield f"  {self.word(name)}: {shown}"
        differing = ", ".join(found["differing"])
        yield "  → " + (self.word("agrees") if found["agrees"] else self.word("differs") + differing)

    def _stretch(self, row: Mapping[str, Any]) -> str:
        to_at = _at(row["to_at"]) if row["to_at"] else self.word("now")
        return f"{self.word('from')} {_at(row['from_at'])} {self.word('until')} {to_at}"

    def _installation(self, row: Mapping[str, Any]) -> str:
        facts = f"{row['serial']}: {self.word('multiplier')} {_number(row['multiplier'])}"
        digits = f", {self.word('digits')} {row['digits']}" if row["digits"] else ""
        registers = [_number(row[name]) for name in ("initial_register", "final_register") if row[name] is not None]
        return f"{facts}{digits}, {self._stretch(row)}{' ' + ' → '.join(registers) if registers else ''}"

    def _assignment(self, row: Mapping[str, Any]) -> str:
        boundary = "" if row["in_boundary"] else f", {self.word('outside')}"
        return f"{row['process_unit']}, {row['flow']}{boundary}, {self._stretch(row)}"

    def _step(self, row: Mapping[str, Any]) -> str:
        how = self.word("measured" if row["is_measured"] else "estimated")
        totals = f"{_number(row['from_total'])} → {_number(row['to_total'])}"
        return f"{_at(row['from_at'])} – {_at(row['to_at'])}: {totals}, {_number(row['quantity_inside'])} {how}"

    def _reading(self, row: Mapping[str, Any]) -> str:
        how = self.word("counts" if row["counts"] else "not_counted")
        line = f"{_at(row['ts'])}: {self.word('voided') if row['value'] is None else _number(row['value'])} {how}"
        if row["origin"] == "edit":
            return f"{line}, {self.word('edit')}: {row['actor']}, {row['reason']}, {row['evidence'] or '–'}"
        if row["epoch"] is None:
            return line
        lane = LANES[row["lane"]]
        return f"{line}, {row['gateway_code']} {row['epoch']} {lane} {row['seq']} ({_at(row['committed_at'])})"

    def _event(self, row: Mapping[str, Any]) -> str:
        stated = " ".join(f"{name}={value}" for name, value in row["stated"].items())
        who = f"{row['actor']} {_at(row['recorded_at'])}, {row['reason']}, {row['evidence'] or '–'}"
        return f"{_at(row['at'])} {row['kind']} {stated}: {who}"

    def _point(self, row: Mapping[str, Any]) -> str:
        lines = [f"{row['gateway_code']}/{row['code']}: {_number(row['quantity'])}"]
        return "\n".join([*lines, *(self._event(event) for event in row["events"])])

    def _metered(self, row: Mapping[str, Any]) -> str:
        windows = f"{row['windows_received']}/{row['windows_expected']}"
        return (
            f"{row['start']} {row['gateway_code']}/{row['code']}: {_number(row['quantity'])} {row['unit']}, {windows}"
        )

    def _condition(self, row: Mapping[str, Any]) -> str:
        told = f"{row['evidence']}, {row['reported_by']} {_at(row['reported_at'])}"
        return f"{row['input_key']} {_number(row['value'])}, {self.word('from')} {row['from_month']}: {told}"

    def _part(self, row: Mapping[str, Any]) -> str:
        names = [row.get("uscc"), row.get("process_unit"), row.get("carrier_key"), row.get("flow")]
        sign = {1: "+", -1: "−", 0: "0 ×"}[row["sign"]] if "sign" in row else ""
        kgce = "" if "equivalent_kgce" not in row else f" {_number(row['equivalent_kgce'])} kgce"
        quantity = "" if row.get("quantity") is None else f"{_number(row['quantity'])} {row.get('unit', '')}".rstrip()
        at = _start(row) if "start" in row else ""
        return " ".join(piece for piece in (at, "/".join(n for n in names if n), sign, quantity + kgce) if piece)

    def _conversion(self, row: Mapping[str, Any]) -> str:
        used = row["coefficients"]
        lines = [
            f"{_at(row['from_at'])} – {_at(row['to_at'])}: {_number(used.equivalent)} kgce, {_number(used.equal)} kgce,"
            f" {_number(used.co2_kg)} kgCO2 ({used.factor_set}; {used.emission_set or '–'})"
        ]
        for name in ("equivalent_factor", "equal_factor", "emission_factor"):
            if factor := row[name]:
                value = factor.get("kgce_per_unit", factor.get("factor_value"))
                lines.append(f"{factor['factor_key']} {_number(value)}: {_cited(factor)}")
        lines += [
            f"{self.word('lot')} {lot['lot']}: {_number(lot['mass'])} × {_number(lot['lhv_kj'])} kJ, {lot['evidence']},"
            f" {lot['reported_by']}"
            for lot in row["measured_lots"]
        ]
        return "\n".join(lines)

    def _indicator(self, row: Mapping[str, Any]) -> str:
        product = row[("product_zh", "product_en")[self._place]]
        return f"{product}: {row['indicator_zh']} {row['unit']}, {row['conversion']}, feedstock {row['feedstock']}"

    def _level(self, row: Mapping[str, Any]) -> str:
        return f"{_number(row['benchmark'])} / {_number(row['baseline'])}: {_cited(row)}"

    def _output(self, row: Mapping[str, Any]) -> str:
        who = f"{row['reported_by']} {_at(row['reported_at'])} {row['reason']}".rstrip()
        return f"{row['period']} {row['grain']} #{row['revision']}: {_number(row['value'])} {row['unit']}, {who}"

    def _finding(self, row: Mapping[str, Any]) -> str:
        detail = ", ".join(f"{name} {value}" for name, value in row["detail"].items())
        return f"{row['reason']}: {_at(row['from_at'])} – {_at(row['to_at'])} {detail}".rstrip()

    def _revision(self, row: Mapping[str, Any]) -> str:
        value = _fields(row["value"]) if row["value"] else self.word("nothing")
        return f"#{row['revision']} {_at(row['recorded_at'])} {row['cause']}: {value}"


def _start(row: Mapping[str, Any]) -> str:
    start = row["start"]
    if isinstance(start, datetime):
        return _at(start)
    return str(start)[: 7 if row["grain"] == "month" else 10]


def _at(at: datetime) -> str:
    return at.astimezone(BUSINESS_ZONE).strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00")


def _number(value: Decimal | int | None) -> str:
    if value is None:
        return "–"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _fields(row: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {_number(value) if isinstance(value, Decimal) else value}"
        for name, value in row.items()
        if value is not None
    )


def _cited(row: Mapping[str, Any]) -> str:
    since: date | None = row.get("valid_from")
    edition = row.get("edition") or row.get("factor_set") or ""
    return f"{edition}{f' ({since}–)' if since else ''}, {row['confidence']}, {row['source']}"
