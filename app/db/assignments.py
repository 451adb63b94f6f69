"""Which district and industry an enterprise belongs to on a day; each is a literal of this file, never a caller's text.

An assignment is registered as soon as it is known, often before its first day: until then the one before it holds.
"""

# The business day of the transaction's present (migration 0006): the run's, the request's, else the clock's.
TODAY = "(revision_now() AT TIME ZONE 'Asia/Shanghai')::date"


def assignment_on(day: str) -> str:
    """Return a lateral row with district and industry of enterprise `e` on a day: in force then, else the nearest."""
    return (
        "LATERAL (SELECT a.district_code, a.industry_code FROM enterprise_assignment a WHERE a.enterprise_id = e.id"
        f" ORDER BY (a.from_on <= {day}) DESC, abs(a.from_on - {day}) LIMIT 1)"
    )


def district_on(day: str) -> str:
    """Return the district code of enterprise `e` on a day, by the same rule."""
    return f"(SELECT on_day.district_code FROM {assignment_on(day)} on_day)"


CURRENT_ASSIGNMENT = assignment_on(TODAY)
CURRENT_DISTRICT = district_on(TODAY)
