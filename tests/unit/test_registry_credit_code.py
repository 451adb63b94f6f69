"""Check digits of the unified social credit code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain import credit_code


# Two codes that are printed in public registers.
@pytest.mark.parametrize("code", ["91350100M000100Y43", "91110000802100433B"])
def test_published_codes_are_valid(code: str) -> None:
    assert credit_code.check(code) == code


def test_message_names_the_digit_that_would_be_right() -> None:
    with pytest.raises(ValueError, match="would be '3'"):
        credit_code.check("91350100M000100Y44")


@pytest.mark.parametrize(("code", "words"), [("9135", "4 characters"), ("91350100I000100Y43", "'I' at place 9")])
def test_wrong_shape_is_named(code: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        credit_code.check(code)


seventeen = st.text(credit_code.ALPHABET, min_size=17, max_size=17)


@given(seventeen, st.integers(0, 17), st.sampled_from(credit_code.ALPHABET))
def test_any_one_mistyped_character_is_found(first17: str, place: int, other: str) -> None:
    code = credit_code.with_check_digit(first17)
    mistyped = code[:place] + other + code[place + 1 :]
    if mistyped == code:
        credit_code.check(mistyped)
    else:
        with pytest.raises(ValueError, match="check digit"):
            credit_code.check(mistyped)
