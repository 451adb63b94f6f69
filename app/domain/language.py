"""Which of the two languages to answer in."""

LANGUAGES = ("zh", "en")


def preferred_language(accept_language: str | None) -> str:
    """Return "zh" or "en" by an Accept-Language header (RFC 9110, 12.5.4); Chinese where it names neither.

    The higher weight wins, the earlier on a tie; a weight that cannot be read counts as 1.
    """
    best, best_weight = "zh", 0.0
    for item in (accept_language or "").split(","):
        tag, _, parameters = item.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language in LANGUAGES and _weight(parameters) > best_weight:
            best, best_weight = language, _weight(parameters)
    return best


def _weight(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    try:
        return float(value) if name.strip() == "q" else 1.0
    except ValueError:
        return 1.0
