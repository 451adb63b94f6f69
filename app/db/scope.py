"""District scope, enforced in one place: every query that shows data of enterprises takes a Scope."""

from dataclasses import dataclass

from app.db.assignments import CURRENT_DISTRICT


@dataclass(frozen=True, slots=True)
class Scope:
    """What a caller may see: the city (both None), one district, or one enterprise."""

    district_code: str | None = None
    enterprise_id: int | None = None

    def enterprises_sql(self) -> str:
        """Return a SQL condition on `e.id` (enterprise) for use inside WHERE; parameters by `parameters()`.

        An enterprise belongs to a district from the day of its assignment; a district sees an enterprise while it is
        (or last was) assigned to it, so that a moved enterprise does not stay visible to its former district.
        """
        return (
            "(CAST(:scope_enterprise AS bigint) IS NULL OR e.id = :scope_enterprise) AND"
            f" (CAST(:scope_district AS text) IS NULL OR :scope_district = {CURRENT_DISTRICT})"
        )

    def parameters(self) -> dict[str, object]:
        """Return the bind parameters of `enterprises_sql`."""
        return {"scope_enterprise": self.enterprise_id, "scope_district": self.district_code}


CITY = Scope()
