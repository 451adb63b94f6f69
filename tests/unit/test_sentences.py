"""What is wrong with a value is said in our words, in both languages, wherever pydantic found it."""

from datetime import date
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator

from app.intake.sentences import SENTENCES, sentence, worded


class Sheet(BaseModel):
    """A field of every usual kind."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field("x", min_length=1, max_length=3, pattern="^[a-z]*$")
    count: int = Field(1, ge=1, le=9)
    value: Decimal = Field(Decimal(1), gt=0, max_digits=5)
    share: float = Field(0.5, lt=1, allow_inf_nan=False)
    day: date = date(2026, 10, 1)
    at: AwareDatetime | None = None
    is_known: bool = True
    kind: Literal["day", "month"] = "day"
    parts: list[int] = Field([1], min_length=1, max_length=2)

    @field_validator("kind", mode="before")
    @classmethod
    def _own(cls, given: object) -> object:
        if given == "own":
            raise ValueError("say day or month 请写 day 或 month")
        return given


def _error(**given: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as raised:
        Sheet.model_validate(given)
    return dict(raised.value.errors(include_url=False)[0])


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""}, {"name": "long"}, {"name": "A"}, {"name": 5}, {"count": "x"}, {"count": 1.5}, {"count": 0},
        {"count": 10}, {"value": "x"}, {"value": []}, {"value": "1234567"}, {"value": 0}, {"share": "x"}, {"share": 1},
        {"share": "inf"}, {"day": "x"}, {"day": "2026-10-01T08:00:00"}, {"day": []}, {"at": "x"}, {"at": []},
        {"at": "2026-10-01T08:00:00"}, {"is_known": "x"}, {"is_known": []}, {"kind": "x"}, {"parts": 1},
        {"parts": []}, {"parts": [1, 2, 3]}, {"other": 1},
    ],
)  # fmt: skip
def test_the_usual_faults_are_said_in_our_words(given: dict[str, Any]) -> None:
    error = _error(**given)
    chinese, english = worded(error, "zh"), worded(error, "en")
    assert english != error["msg"], f"{error['type']} is pydantic's own"
    assert "{" not in english + chinese
    assert not chinese.isascii()


def test_a_rule_of_our_own_is_said_without_what_pydantic_puts_before_it() -> None:
    error = _error(kind="own")
    assert worded(error, "en") == worded(error, "zh") == "say day or month 请写 day 或 month"


def test_a_value_is_shown_to_who_reads_a_file_and_to_nobody_else() -> None:
    error = _error(count="hush")
    assert sentence(error) == "'hush': must be a whole number"
    assert worded(error, "en") == "must be a whole number"


def test_what_is_not_foreseen_keeps_its_own_sentence() -> None:
    assert worded({"type": "unheard_of", "msg": "Something else", "input": 1}, "zh") == "Something else"
    assert worded({"type": "greater_than", "msg": "Own words", "input": 1}, "en") == "Own words", "without its context"


def test_every_sentence_is_there_in_both_languages() -> None:
    for code, (chinese, english) in SENTENCES.items():
        assert not chinese.isascii() or chinese.startswith("{"), code
        assert english.isascii(), code
