"""Tables as CSV, readable by Excel in Chinese and safe against cells that would run as formulas."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Response

from app.domain.calendar import local

Format = Annotated[Literal["json", "csv"], Query(description="json, or csv as a file")]
Excel = Annotated[bool, Query(description="CSV starts with a byte order mark, without which Excel garbles Chinese")]
DOCUMENTED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "JSON, or CSV with format=csv"}
}
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")


def guarded(cell: object) -> str:
    """Return a cell's text; one that a spreadsheet would run as a formula gets an apostrophe in front.

    Plain numbers, negative ones too, stay numbers; instants are in business time, as in JSON.
    """
    if isinstance(cell, datetime):
        return local(cell)
    written = "" if cell is None else str(cell)
    if written.startswith(("=", "+", "-", "@", "\t", "\r")) and not _NUMBER.fullmatch(written):
        return f"'{written}"
    return written


def csv_response(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, is_for_excel: bool
) -> Response:
    """Return a CSV file with a header line; the answer is bounded by the route's own limits."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(columns)
    writer.writerows([guarded(cell) for cell in row] for row in rows)
    content = written.getvalue().encode("utf-8-sig" if is_for_excel else "utf-8")
    return Response(
        content,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


def rows_csv(name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, is_for_excel: bool) -> Response:
    """Return rows by column name as a CSV file; a column that a row does not have stays empty."""
    return csv_response(name, columns, ([row.get(c) for c in columns] for row in rows), is_for_excel=is_for_excel)
