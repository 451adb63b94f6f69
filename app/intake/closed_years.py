"""The right that changing a closed year takes: an operator's, with a reason that the audit keeps."""

from collections.abc import Sequence
from datetime import datetime

from app.domain.closing import closed_year_of
from app.errors import Forbidden


def check(changed: Sequence[tuple[str, datetime]], role: str, reason: str | None, now: datetime) -> dict[int, str]:
    """Return the closed years of changed instants (location, instant), each with the reason; without it Forbidden.

    Convention of this product (P): see app.domain.closing. Anybody but an operator is refused, and an operator who
    does not say in `closed_year_reason` why; blanks say nothing.
    """
    found = [(location, year) for location, at in changed if (year := closed_year_of(at, now)) is not None]
    years = sorted({year for _, year in found})
    if not years:
        return {}
    if role == "operator" and reason and reason.strip():
        return dict.fromkeys(years, reason)
    named = ", ".join(map(str, years))
    errors = [{"location": location, "message": f"year {year} is closed"} for location, year in found]
    if role == "operator":
        raise Forbidden(
            f"year {named} is closed: say in closed_year_reason why it is changed all the same; nothing was written",
            detail_zh=f"{named} 年度已关账：请在 closed_year_reason 中说明修改原因；未写入任何内容",
            errors=errors,
        )
    raise Forbidden(
        f"year {named} is closed: only an operator may change it, with a closed_year_reason; nothing was written",
        detail_zh=f"{named} 年度已关账：仅运维人员可凭 closed_year_reason 修改；未写入任何内容",
        errors=errors,
    )
