"""The words of the pages: both languages complete, every reason in words, numbers rounded only for show."""

import importlib
import pkgutil
from decimal import Decimal

import pytest

from app import intake
from app.domain.benchmark import Reason
from app.domain.targets import NoFigure
from app.web import words
from app.web.vocabulary import PAIRS, REASONS


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
