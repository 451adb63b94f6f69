"""Unified social credit code (统一社会信用代码) of a legal person: 18 characters, the last one a check digit."""

# GB 32100-2015, 5.1: digits and capital letters without I, O, S, V, Z; a character's value is its position.
ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
LENGTH = 18


def check_digit(first17: str) -> str:
    """Return the check digit of the first 17 characters: GB 32100-2015, modulus 31, weights 3^(i-1) mod 31."""
    total = sum(ALPHABET.index(character) * pow(3, place, 31) for place, character in enumerate(first17))
    return ALPHABET[(31 - total % 31) % 31]


def with_check_digit(first17: str) -> str:
    """Return the full code for its first 17 characters; raises ValueError for a wrong length or character."""
    _check_characters(first17, LENGTH - 1)
    return first17 + check_digit(first17)


def check(code: str) -> str:
    """Return the code when it is valid; else raise ValueError that says what is wrong and what would be right."""
    _check_characters(code, LENGTH)
    expected = check_digit(code[:-1])
    if code[-1] != expected:
        raise ValueError(
            f"{code!r} is not a unified social credit code: its check digit is {code[-1]!r},"
            f" for these 17 characters it would be {expected!r}; look for a mistyped character"
        )
    return code


def _check_characters(text: str, length: int) -> None:
    if len(text) != length:
        raise ValueError(f"{text!r} has {len(text)} characters, a unified social credit code has {length} here")
    for place, character in enumerate(text, 1):
        if character not in ALPHABET:
            raise ValueError(
                f"{text!r} has {character!r} at place {place}; a credit code uses digits and capital letters"
                " without I, O, S, V, Z"
            )
