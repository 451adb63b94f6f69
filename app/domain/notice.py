"""What is sent, and what an official reads in it: the sentences in Chinese and English, from the facts of an alert."""

import json
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from app.domain.calendar import BUSINESS_ZONE
from app.domain.rounding import round_places

Facts = Mapping[str, Any]
ZH, EN = "zh", "en"
# A level of which no public copy was read: whoever is told of a violation by it is told that too.
RECALLED = "recalled"
TEST: Facts = {"text_zh": "能耗监测平台测试通知，无需处理。", "text_en": "A test notice of Nenghao; nothing to do."}


def body(kind: str, data: Facts, now: datetime) -> str:
    """Return the JSON of a notice, as it is stored, signed and sent byte for byte."""
    timestamp = now.astimezone(BUSINESS_ZONE).isoformat(timespec="seconds")
    return json.dumps({"type": kind, "timestamp": timestamp, "data": data}, ensure_ascii=False)


def write(rule_kind: str, facts: Facts) -> tuple[str, str]:
    """Return (text_zh, text_en) of what a kind of rule found. facts are the `data` of the webhook."""
    return {"below_baseline": _baseline, "gateway_silent": _silent, "data_quality": _quality}[rule_kind](facts)


def write_resolved(text_zh: str, text_en: str) -> tuple[str, str]:
    """Return the sentences that take back what was told."""
    return f"已解除：{text_zh}", f"Resolved: {text_en}"


def _name(part: Any, language: str) -> str:
    if not isinstance(part, Mapping):
        return ""
    other = part.get("name_zh") or part.get("name_en") or part.get("code") or ""
    return str(part.get(f"name_{language}") or other)


def _shown(text: Any, places: int = 2) -> str:
    """A figure as shown: rounded by GB/T 8170 only here; a missing one is a dash."""
    try:
        value = Decimal(str(text))
    except InvalidOperation:
        return "—"
    shown = format(round_places(value, places), "f")
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _percent(text: Any) -> str:
    try:
        return f"{round_places(Decimal(str(text)) * 100, 2)} %"
    except InvalidOperation:
        return "—"


def _baseline(facts: Facts) -> tuple[str, str]:
    unit, actual = facts.get("unit", ""), _shown(facts.get("actual"))
    level, low = _shown(facts.get("benchmark")), _shown(facts.get("baseline"))
    measured, estimated = _percent(facts.get("measured_share")), _percent(facts.get("estimated_share"))
    cited = facts.get("level") or {}
    period, edition = facts.get("period"), cited.get("edition") or ""
    doubt_zh, doubt_en = (
        ("水平值出处待核。", " The level is not confirmed.") if cited.get("confidence") == RECALLED else ("", "")
    )
    return (
        f"{_name(facts.get('district'), ZH)}{_name(facts.get('enterprise'), ZH)}"
        f"{_name(facts.get('line'), ZH)}（{facts.get('product_zh')}）{period}能耗{actual} {unit}，"
        f"劣于基准水平{low} {unit}（标杆水平{level} {unit}，{edition}）。{doubt_zh}实测{measured}，估算{estimated}。",
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('line'), EN)}"
        f" ({facts.get('product_en')}), {_name(facts.get('district'), EN)}: {actual} {unit} in {period},"
        f" worse than the baseline {low} {unit} (benchmark {level} {unit}, {edition}).{doubt_en}"
        f" Measured {measured}, estimated {estimated}.",
    )


def _quality(facts: Facts) -> tuple[str, str]:
    measured, period = _percent(facts.get("measured_share")), facts.get("period")
    return (
        f"{_name(facts.get('district'), ZH)}{_name(facts.get('enterprise'), ZH)}"
        f"{_name(facts.get('line'), ZH)}{period}数据不足：实测{measured}，要求不低于90 %；该月指标仅供参考，不作判定。",
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('line'), EN)},"
        f" {_name(facts.get('district'), EN)}: data of {period} is not sufficient, measured {measured} where 90 %"
        " is asked for; the figure of the month is provisional and not judged.",
    )


def _silent(facts: Facts) -> tuple[str, str]:
    gateway = (facts.get("gateway") or {}).get("code", "")
    heard = facts.get("last_heard_at")
    return (
        f"{_name(facts.get('district'), ZH)}{_name(facts.get('enterprise'), ZH)}端设备{gateway}失联，"
        + (f"最后一次通信{heard}。" if heard else "登记后从未通信。"),
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('district'), EN)}: gateway {gateway} is silent, "
        + (f"last heard {heard}." if heard else "never heard since it was registered."),
    )
