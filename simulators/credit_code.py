"""Unified social credit codes (统一社会信用代码) of fictional enterprises, with valid check characters."""

# GB 32100-2015, 5.2: 31 characters without I, O, S, V, Z; weights 3^i mod 31; check = (31 - sum mod 31) mod 31.
_CHARACTERS = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_WEIGHTS = tuple(pow(3, place, 31) for place in range(17))

# GB 11714-1997, 4.2: the organisation code inside (places 9..17) has a check character of its own.
_ORGANISATION_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def check_character(first_17: str) -> str:
    """Return the 18th character for the first 17; a character outside the alphabet raises ValueError."""
    total = sum(_CHARACTERS.index(character) * weight for character, weight in zip(first_17, _WEIGHTS, strict=True))
    return _CHARACTERS[(31 - total % 31) % 31]


def is_valid(code: str) -> bool:
    """Tell whether an 18-character code has the right alphabet and check character."""
    if len(code) != 18 or any(character not in _CHARACTERS for character in code):
        return False
    return check_character(code[:17]) == code[17]


def organisation_code(first_8: str) -> str:
    """Return the 9-character organisation code (GB 11714) for its first 8 characters (0-9, A-Z)."""
    total = sum(int(character, 36) * weight for character, weight in zip(first_8, _ORGANISATION_WEIGHTS, strict=True))
    remainder = 11 - total % 11
    return first_8 + {10: "X", 11: "0"}.get(remainder, str(remainder))


def fictional_code(district_code: str, number: int) -> str:
    """Return the code of the number-th fictional enterprise of a district.

    91 = registered with the market regulator, an enterprise; then the district, then an organisation code in the
    MA series. MA00 serves as the series of this fictional city.
    """
    first_17 = f"91{district_code}{organisation_code(f'MA00{number:04d}')}"
    return first_17 + check_character(first_17)
