"""How words, numbers, reasons and instants are shown on the pages."""

from datetime import date, datetime
from decimal import Decimal

from markupsafe import Markup

from app.domain.calendar import BUSINESS_ZONE
from app.domain.rounding import round_places
from app.web.vocabulary import PAIRS, REASONS

NOTHING = "—"

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
    pair = REASONS.get(name)
    return name if pair is None else pair[0 if language == "zh" else 1]


def cause(names: str, language: str) -> str:
    """Return in words what made a revision: several causes are joined by +; an unknown one keeps its own word."""
    return " + ".join(WORDS[language].get(f"cause_{name}", name) for name in names.split(" + "))


def month(day: date | None) -> str:
    """Return a month as it is written: 2026-10."""
    return NOTHING if day is None else day.strftime("%Y-%m")


def business_date(at: datetime) -> str:
    """Return the business day of an instant: 2026-10-01."""
    return at.astimezone(BUSINESS_ZONE).strftime("%Y-%m-%d")
