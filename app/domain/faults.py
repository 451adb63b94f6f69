"""What faults of the data are called, in both languages."""

from collections.abc import Mapping
from typing import Any

# Of metering, of ingest and the worker's clock, of validation.
REASONS = {
    "backward_step": ("表底倒走", "Register went backward"),
    "reset": ("表底清零", "Register was reset"),
    "meter_exchange_without_event": ("疑似换表未登记", "Seems to be another meter, without an event"),
    "implausible_jump": ("超出额定负荷的跳变", "More than the rated load allows"),
    "unit_flip": ("单位疑似变化", "Unit seems to have changed"),
    "dropped_to_zero": ("读数掉零后恢复", "Dropped to zero and came back"),
    "jitter": ("末位抖动", "Last digit went back and forth"),
    "rollover": ("表底翻转", "Register rolled over"),
    "disputed": ("同一时刻有不同数值", "Two values of one instant"),
    "bad_quality": ("数据质量标记为坏", "Marked bad by the gateway"),
    "uncertain_quality": ("数据质量标记为可疑", "Marked uncertain by the gateway"),
    "out_of_range": ("超出上下限", "Outside the point's range"),
    "no_installation": ("当时无表计登记", "No meter was registered then"),
    "overlapping_interval": ("区间重叠", "Two values of one interval"),
    "negative_interval": ("区间用量为负", "Negative energy of an interval"),
    "negative_load": ("负荷为负", "Negative load"),
    "silent": ("测点无数据", "Sends nothing although its gateway does"),
    "incomplete": ("完整率低于90%", "Less than 90 % of the windows received"),
    "no_day_start": ("零点前后1分钟无表底", "No register within a minute of 00:00"),
    "frozen": ("读数长时间不变", "Did not move all day, as it did in the weeks before"),
    "clock_skew": ("端设备时钟偏差超过1分钟", "Gateway's clock is off by more than a minute"),
    "monthly_deviation": ("日累计与月值偏差超过5%", "Days and monthly value are over 5 % apart"),
    "feeder_deviation": ("总表与分表之和偏差超过5%", "Feeder and sub-meters are over 5 % apart"),
}


def titled(finding: Mapping[str, Any]) -> dict[str, Any]:
    """Return a finding with `title_zh` and `title_en`; a reason without a title keeps its own word."""
    title_zh, title_en = REASONS.get(finding["reason"], (finding["reason"], finding["reason"]))
    return {**finding, "title_zh": title_zh, "title_en": title_en}
