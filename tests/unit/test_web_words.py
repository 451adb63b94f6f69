"""The words of the pages: both languages complete, every reason in words, numbers rounded only for show."""

import importlib
import pkgutil
from decimal import Decimal

import pytest

from app import intake
from app.domain.accounting import MEASURED, NO_FACTOR_SET
from app.domain.benchmark import Reason
from app.domain.targets import NoFigure
from app.pipeline.explain import ENERGY_COLUMNS, RATIO_COLUMNS, USAGE_COLUMNS
from app.reference import tables
from app.web import words
from app.web.vocabulary import FACTOR_SETS, FIELDS, INDICATORS, PAIRS, REASONS


def test_every_word_is_there_in_both_languages() -> None:
    for name, (chinese, english) in {**PAIRS, **REASONS}.items():
        assert chinese, name
        assert english, name
    assert {name for name, (_, english) in PAIRS.items() if not english.isascii()} == {
        "co2_this_month", "distance_hint", "coverage_hint", "intensity_unit", "other_language",
    }  # fmt: skip


@pytest.mark.parametrize("reason", [*Reason, *NoFigure, "not_computed", "no_level", "no_target", "outside_plan"])
def test_every_reason_is_told_in_words(reason: str) -> None:
    for language in ("zh", "en"):
        assert words.reason(str(reason), language) != str(reason)


def test_what_made_a_revision_is_told_in_words() -> None:
    modules = [importlib.import_module(f"app.intake.{one.name}") for one in pkgutil.iter_modules(intake.__path__)]
    known = {module.CAUSE for module in modules if hasattr(module, "CAUSE")}
    assert len(known) > 5
    for cause in (*known, "reading", "month_closed", "recomputation"):
        assert not words.cause(cause, "zh").isascii(), cause
        assert "_" not in words.cause(cause, "en"), cause
    assert words.cause("edit + reading", "zh") == "人工修正 + 迟到读数"
    assert words.cause("edit + reading", "en") == "edit + late reading"


@pytest.mark.parametrize(
    ("digits", "places", "shown"),
    [
        (None, 2, "—"),
        ("117.40", 2, "117.40"),
        ("117.4", 2, "117.40"),
        ("-20.7249", 2, '<span title="-20.7249">-20.72</span>'),
        ("1234567.125", 2, '<span title="1,234,567.125">1,234,567.12</span>'),  # half to even, GB/T 8170
        (Decimal("0.5063291139"), 4, '<span title="0.5063291139">0.5063</span>'),
        (0, 2, "0.00"),
    ],
)
def test_a_figure_is_rounded_for_show_and_keeps_its_full_value(digits: object, places: int, shown: str) -> None:
    assert str(words.figure(digits, places)) == shown


def test_an_unknown_reason_keeps_its_own_word() -> None:
    assert words.reason("something_new", "zh") == "something_new"


def test_every_indicator_of_the_catalogue_has_english_words() -> None:
    catalogue = {row.indicator_zh for row in tables.table("catalogue_variant")}
    assert catalogue
    assert catalogue <= INDICATORS.keys()
    assert words.indicator("单位产品综合能耗", "en") == "comprehensive energy per unit of product"
    assert words.indicator("单位产品综合能耗", "zh") == "单位产品综合能耗"
    assert (words.indicator("某指标", "en"), words.indicator(None, "en")) == ("某指标", "")


@pytest.mark.parametrize(
    ("unit", "chinese", "english"),
    [
        ("t water", "t（水）", "t (water)"),
        ("10^4 m3 water", "万 m3（水）", "10⁴ m3 (water)"),
        ("kgce/weight case", "kgce/重量箱", "kgce/weight case"),
        ("tce/10^4 yuan", "tce/万元", "tce/10⁴ yuan"),
        ("kgoe/(t·energy factor)", "kgoe/(t·能量因数)", "kgoe/(t·energy factor)"),
        ("kgce/t", "kgce/t", "kgce/t"),
    ],
)
def test_keys_in_units_are_put_into_words(unit: str, chinese: str, english: str) -> None:
    assert (words.unit(unit, "zh"), words.unit(unit, "en")) == (chinese, english)


def test_a_set_of_factors_is_named_in_words_and_a_document_by_its_name() -> None:
    assert words.factor_set(f"guideline_default{MEASURED}", "zh") == "核算指南缺省值, 实测热值"
    joined = f"GB/T 2589-2020 + {NO_FACTOR_SET}"
    assert words.factor_set(joined, "en") == "GB/T 2589-2020 + no factor"
    by_key = {row.factor_set for row in tables.table("emission_factor") if "_" in row.factor_set}
    assert by_key
    assert by_key <= FACTOR_SETS.keys()


def test_every_column_that_may_differ_has_its_words() -> None:
    named = {*USAGE_COLUMNS, *RATIO_COLUMNS}
    assert named <= FIELDS.keys()
    assert {"quantity", "factor_set"} <= {*ENERGY_COLUMNS} & FIELDS.keys()
    assert words.columns(["is_provisional", "windows_received", "x"], "zh") == "暂定、实收时段、x"
    assert words.columns(["is_provisional", "windows_received"], "en") == "provisional, windows received"


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("public repository file citing GB/T 2589-2020", "en"),
        ("GB/T 2589-2020 综合能耗计算通则 Annex A (issued 2020-09-29, in force 2021-04-01)", "en"),
        ("生态环境部公告2025年第47号", "zh"),
    ],
)
def test_a_citation_keeps_its_words_and_says_its_language(text: str, marked: str) -> None:
    other = "zh" if marked == "en" else "en"
    assert words.in_script(text, marked) == text
    assert words.in_script(text, other) == f'<span lang="{marked}">{text}</span>'
    assert words.in_script("2021/2023", other) == "2021/2023"
    assert words.in_script("<b>", "zh") == '<span lang="en">&lt;b&gt;</span>'
