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


def write_resolved(rule_kind: str, told: Facts, reason: str, present: Facts | None) -> tuple[str, str]:
    """Return the sentences that take back what was told: why it ended, what the figure is now, what was opened.

    `told`: the `data` of the breach with its sentences. `reason`: of the decision; another one is shown as it stands.
    `present`: the figures that were judged now, or stand now in the period of the alert; None where there are none.
    """
    shown = {**told, **(present or {})}
    named_zh, named_en = _named(told)
    endings = {"below_baseline": _BASELINE_ENDED, "gateway_silent": _SILENCE_ENDED, "data_quality": _QUALITY_ENDED}
    ended_zh, ended_en = {**_ENDED, **endings[rule_kind]}.get(reason, (f"原因：{reason}", f"reason: {reason}"))
    now_zh, now_en = _now(rule_kind, shown) if present else ("", "")
    period = {"period": shown.get("period"), "before": _shown(told.get("baseline"))}
    return (
        f"已解除：{named_zh}{ended_zh.format(**period)}。{now_zh}原告警：{told.get('text_zh', '')}",
        f"Resolved: {named_en}: {ended_en.format(**period)}.{now_en} It had been opened with:"
        f" {told.get('text_en', '')}",
    )


# Why an alert ended, by `app.domain.alerting.Reason`.
_ENDED = {
    "rule_disabled": ("的该项规则已停用", "the rule was switched off"),
    "basis_withdrawn": ("已无可判定的指标值", "there is no figure to judge any more"),
    "not_consecutive": (
        "{period}再次出现，与前次时段不连续，另开告警",
        "it is found again in {period}, not in consecutive periods, and told as a new alert",
    ),
}
_BASELINE_ENDED = {
    "no_longer_in_breach": (
        "{period}指标已变化，不再劣于基准水平",
        "the figure of {period} changed and is not worse any more",
    ),
    "later_period_in_order": (
        "后一期{period}不劣于基准水平",
        "the later period {period} is not worse than the baseline",
    ),
    "level_changed": (
        "{period}所比的基准水平已改变（原为{before}），不再劣于基准水平",
        "{period} is compared with another level (the baseline was {before}) and is not worse any more",
    ),
    "level_is_recalled": (
        "{period}水平值出处待核，不据此认定违规",
        "the level of {period} is not confirmed and is no ground for a violation",
    ),
}
_QUALITY_ENDED = {
    "no_longer_in_breach": ("{period}数据已满足要求", "the data of {period} are sufficient now"),
    "later_period_in_order": ("后一期{period}数据满足要求", "the data of the later period {period} are sufficient"),
}
_SILENCE_ENDED = {
    "no_longer_in_breach": ("恢复通信", "it speaks again"),
    "basis_withdrawn": ("已停用", "it was switched off"),
}


def _now(rule_kind: str, facts: Facts) -> tuple[str, str]:
    """The present figure, as a sentence; of a line with how much of it was measured."""
    if rule_kind == "gateway_silent":
        heard = facts.get("last_heard_at")
        return (f"最后一次通信{heard}。", f" Last heard {heard}.") if heard else ("", "")
    shares_zh, shares_en = _shares(facts)
    if rule_kind == "data_quality":
        return f"现为：{shares_zh}。", f" Now: {shares_en}."
    if facts.get("actual") is None:
        return "", ""
    period, actual = facts.get("period"), _with_unit(facts, "actual")
    low_zh = f"基准水平{_with_unit(facts, 'baseline')}" if facts.get("baseline") else "无适用的基准水平"
    low_en = f"baseline {_with_unit(facts, 'baseline')}" if facts.get("baseline") else "no baseline applies"
    return (
        f"{period}能耗现为{actual}（{low_zh}），{shares_zh}。",
        f" {period} is now {actual} ({low_en}), {shares_en}.",
    )


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


def _with_unit(facts: Facts, name: str) -> str:
    return f"{_shown(facts.get(name))} {facts.get('unit') or ''}".rstrip()


def _named(facts: Facts) -> tuple[str, str]:
    """Whom it is about: of a line district, enterprise and line, of a gateway its code."""
    code = (facts.get("gateway") or {}).get("code", "")
    what = f"{_name(facts.get('line'), EN)}{f'gateway {code}' if code else ''}"
    return (
        f"{_name(facts.get('district'), ZH)}{_name(facts.get('enterprise'), ZH)}{_name(facts.get('line'), ZH)}"
        + (f"端设备{code}" if code else ""),
        ", ".join(part for part in (_name(facts.get("enterprise"), EN), what) if part),
    )


def _shares(facts: Facts) -> tuple[str, str]:
    """How much of the figure was measured, estimated, and is missing: together the whole."""
    measured, estimated, missing = (
        _percent(facts.get(f"{name}_share")) for name in ("measured", "estimated", "missing")
    )
    return (
        f"实测{measured}，估算{estimated}，缺失{missing}",
        f"measured {measured}, estimated {estimated}, missing {missing}",
    )


def _baseline(facts: Facts) -> tuple[str, str]:
    unit, actual = facts.get("unit", ""), _shown(facts.get("actual"))
    level, low = _shown(facts.get("benchmark")), _shown(facts.get("baseline"))
    shares_zh, shares_en = _shares(facts)
    cited = facts.get("level") or {}
    period, edition = facts.get("period"), cited.get("edition") or ""
    doubt_zh, doubt_en = (
        ("水平值出处待核。", " The level is not confirmed.") if cited.get("confidence") == RECALLED else ("", "")
    )
    return (
        f"{_named(facts)[0]}（{facts.get('product_zh')}）{period}能耗{actual} {unit}，"
        f"劣于基准水平{low} {unit}（标杆水平{level} {unit}，{edition}）。{doubt_zh}{shares_zh}。",
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('line'), EN)}"
        f" ({facts.get('product_en')}), {_name(facts.get('district'), EN)}: {actual} {unit} in {period},"
        f" worse than the baseline {low} {unit} (benchmark {level} {unit}, {edition}).{doubt_en}"
        f" {shares_en.capitalize()}.",
    )


def _quality(facts: Facts) -> tuple[str, str]:
    (shares_zh, shares_en), period = _shares(facts), facts.get("period")
    return (
        f"{_named(facts)[0]}{period}数据不足：{shares_zh}，要求实测不低于90 %；该月指标仅供参考，不作判定。",
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('line'), EN)},"
        f" {_name(facts.get('district'), EN)}: data of {period} is not sufficient, {shares_en} where 90 %"
        " measured is asked for; the figure of the month is provisional and not judged.",
    )


def _silent(facts: Facts) -> tuple[str, str]:
    gateway = (facts.get("gateway") or {}).get("code", "")
    heard = facts.get("last_heard_at")
    return (
        f"{_named(facts)[0]}失联，" + (f"最后一次通信{heard}。" if heard else "登记后从未通信。"),
        f"{_name(facts.get('enterprise'), EN)}, {_name(facts.get('district'), EN)}: gateway {gateway} is silent, "
        + (f"last heard {heard}." if heard else "never heard since it was registered."),
    )
