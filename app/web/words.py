"""How words, numbers, reasons and instants are shown on the pages."""

import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal

from markupsafe import Markup

from app.domain.calendar import BUSINESS_ZONE
from app.domain.rounding import round_places
from app.web.vocabulary import FACTOR_SETS, FIELDS, INDICATORS, PAIRS, REASONS, UNIT_WORDS, Pair

NOTHING = "—"
_HAN, _LATIN = re.compile(r"[\u4e00-\u9fff]"), re.compile(r"[A-Za-z]")
# A Chinese sentence names standards and addresses in Latin letters, an English one the titles of documents in Chinese:
# a character says about as much as two letters.
_LETTERS_A_HAN = 2

WORDS: dict[str, dict[str, str]] = {
    language: {name: pair[place] for name, pair in PAIRS.items()} for place, language in enumerate(("zh", "en"))
}


def number(digits: object, places: int = 2) -> str:
    """Return an exact number rounded for showing (GB/T 8170), with thousands apart."""
    if digits is None:
        return NOTHING
    return f"{round_places(Decimal(str(digits)), places):,.{places}f}"


def plain(digits: object) -> str:
    """Return an exact number as it is, with thousands apart."""
    return NOTHING if digits is None else f"{Decimal(str(digits)):,f}"


def percent(share: object) -> str:
    """Return a share as a percentage with two decimals."""
    return NOTHING if share is None else f"{round_places(Decimal(str(share)) * 100, 2):.2f} %"


def instant(at: datetime | None) -> str:
    """Return an instant in business time to the minute."""
    return NOTHING if at is None else at.astimezone(BUSINESS_ZONE).strftime("%Y-%m-%d %H:%M")


def figure(digits: object, places: int = 2) -> str | Markup:
    """Return an exact number rounded for showing, the full value in the title where rounding took something."""
    if digits is None:
        return NOTHING
    exact = Decimal(str(digits))
    shown = number(exact, places)
    if Decimal(shown.replace(",", "")) == exact:
        return shown
    return Markup('<span title="{}">{}</span>').format(plain(exact), shown)


def reason(name: str | None, language: str) -> str:
    """Return in words why a figure is missing, provisional or left out; an unknown reason keeps its own word."""
    if name is None:
        return ""
    return _word(REASONS, name, language)


def _word(pairs: Mapping[str, Pair], name: str, language: str) -> str:
    pair = pairs.get(name)
    return name if pair is None else pair[0 if language == "zh" else 1]


def indicator(name: str | None, language: str) -> str:
    """Return an indicator of the catalogue in words; one that has no English ones keeps its Chinese name."""
    return "" if name is None else name if language == "zh" else INDICATORS.get(name, name)


def unit(name: str | None, language: str) -> str:
    """Return a unit with the keys in it put into words; symbols stay: t water, kgce/weight case."""
    shown = name or ""
    for key, pair in UNIT_WORDS.items():
        shown = shown.replace(key, pair[0 if language == "zh" else 1])
    return shown


def factor_set(names: str, language: str) -> str:
    """Return in words which set of factors was used; one that bears the name of a document keeps it."""
    sets = [[_word(FACTOR_SETS, word, language) for word in name.split(", ")] for name in names.split(" + ")]
    return " + ".join(", ".join(words) for words in sets)


def columns(names: Iterable[str], language: str) -> str:
    """Return in words which columns of a figure are meant; an unknown one keeps its own word."""
    return ("、" if language == "zh" else ", ").join(_word(FIELDS, name, language) for name in names)


def in_script(text: str | None, language: str) -> str | Markup:
    """Return a citation or a name as it is, marked where it is not in the page's language: a screen reader needs it."""
    own = text or ""
    han, latin = len(_HAN.findall(own)) * _LETTERS_A_HAN, len(_LATIN.findall(own))
    written = "zh" if han > latin else "en" if latin else language
    return own if written == language else Markup('<span lang="{}">{}</span>').format(written, own)


def cause(names: str, language: str) -> str:
    """Return in words what made a revision: several causes are joined by +; an unknown one keeps its own word."""
    return " + ".join(WORDS[language].get(f"cause_{name}", name) for name in names.split(" + "))


def month(day: date | None) -> str:
    """Return a month as it is written: 2026-10."""
    return NOTHING if day is None else day.strftime("%Y-%m")


def business_date(at: datetime) -> str:
    """Return the business day of an instant: 2026-10-01."""
    return at.astimezone(BUSINESS_ZONE).strftime("%Y-%m-%d")
