"""What is wrong with a value, in our words and both languages, from an error of pydantic: the one road for them."""

from collections.abc import Mapping
from typing import Any

# By pydantic's code: Chinese, English. A code that is not here keeps pydantic's English sentence.
SENTENCES: dict[str, tuple[str, str]] = {
    "missing": ("缺少必填项", "required"),
    "json_invalid": ("不是合法的 JSON", "this is no JSON: {error}"),
    "extra_forbidden": ("不认识的字段", "unknown field"),
    "string_type": ("应为字符串", "must be text"),
    "string_too_short": ("长度不足，至少 {min_length} 个字符", "too short: at least {min_length} character(s)"),
    "string_too_long": ("过长，最多 {max_length} 个字符", "too long: at most {max_length} character(s)"),
    "string_pattern_mismatch": ("格式不符：{pattern}", "must have the form {pattern}"),
    "int_parsing": ("应为整数", "must be a whole number"),
    "int_type": ("应为整数", "must be a whole number"),
    "int_from_float": ("应为整数", "must be a whole number"),
    "decimal_parsing": ("应为十进制数", "must be a decimal number, e.g. 1234.5"),
    "decimal_type": ("应为十进制数", "must be a decimal number, e.g. 1234.5"),
    "decimal_max_digits": ("位数过多，最多 {max_digits} 位", "too many digits: at most {max_digits}"),
    "float_parsing": ("应为数字", "must be a number"),
    "float_type": ("应为数字", "must be a number"),
    "finite_number": ("应为有限数", "must be a finite number"),
    "bool_parsing": ("应为 true 或 false", "must be true or false"),
    "bool_type": ("应为 true 或 false", "must be true or false"),
    "greater_than": ("应大于 {gt}", "must be greater than {gt}"),
    "greater_than_equal": ("应不小于 {ge}", "must be {ge} or more"),
    "less_than": ("应小于 {lt}", "must be less than {lt}"),
    "less_than_equal": ("应不大于 {le}", "must be {le} or less"),
    "literal_error": ("应为以下之一：{expected}", "must be one of {expected}"),
    "enum": ("应为以下之一：{expected}", "must be one of {expected}"),
    "date_from_datetime_parsing": ("应为日期，如 2026-10-01", "must be a day, e.g. 2026-10-01"),
    "date_from_datetime_inexact": ("应为日期，如 2026-10-01", "must be a day, e.g. 2026-10-01"),
    "date_parsing": ("应为日期，如 2026-10-01", "must be a day, e.g. 2026-10-01"),
    "date_type": ("应为日期，如 2026-10-01", "must be a day, e.g. 2026-10-01"),
    "datetime_parsing": ("应为时刻，如 2026-10-01T08:00:00+08:00", "must be a time, e.g. 2026-10-01T08:00:00+08:00"),
    "datetime_type": ("应为时刻，如 2026-10-01T08:00:00+08:00", "must be a time, e.g. 2026-10-01T08:00:00+08:00"),
    "datetime_from_date_parsing": (
        "应为时刻，如 2026-10-01T08:00:00+08:00",
        "must be a time, e.g. 2026-10-01T08:00:00+08:00",
    ),
    "timezone_aware": ("时刻须带时区，如 +08:00", "give the instant with its zone, e.g. 2026-01-01T00:00:00+08:00"),
    "list_type": ("应为数组", "must be a list"),
    "too_short": ("项数不足，至少 {min_length} 项", "too few: at least {min_length} item(s)"),
    "too_long": ("项数过多，最多 {max_length} 项", "too many: at most {max_length} item(s)"),
    "model_attributes_type": ("应为对象", "must be an object"),
    "model_type": (
        "应为字段与值（文件以 enterprises: 开头）",
        "must be fields with values (a file begins with `enterprises:`)",
    ),
    "dict_type": ("应为对象", "must be an object"),
    "url_parsing": ("不是合法的网址", "is no address: {error}"),
    "union_tag_not_found": ("缺少 {discriminator}", "{discriminator} is missing: it says which kind this is"),
    "union_tag_invalid": (
        "{discriminator} 应为以下之一：{expected_tags}",
        "{discriminator} must be one of {expected_tags}",
    ),
}  # fmt: skip


def worded(error: Mapping[str, Any], language: str) -> str:
    """Return the sentence without the value, which may be a secret."""
    own = str(error["msg"]).removeprefix("Value error, ")
    pair = SENTENCES.get(error["type"])
    try:
        return pair[0 if language == "zh" else 1].format(**error.get("ctx", {})) if pair else own
    except (KeyError, IndexError):
        return own


def sentence(error: Mapping[str, Any]) -> str:
    """Return the English sentence behind the value that it is about: what a reader of a file or a terminal needs."""
    given = error["input"]
    is_shown = isinstance(given, str | int | float) and error["type"] not in ("value_error", "extra_forbidden")
    return f"{given!r}: {worded(error, 'en')}" if is_shown else worded(error, "en")
