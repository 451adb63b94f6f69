"""The application over registered enterprises with energy and ratios written directly, for regional figures."""

from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal

from fastapi.testclient import TestClient
from sqlalchemy import Connection, Engine, text

from app.db.access import create_key
from app.domain.calendar import next_month
from app.domain.credit_code import with_check_digit
from app.intake import reference_load
from app.main import create_app
from app.settings import Settings
from tests.integration.api_site import CLINKER, NOW, api_now

DONGLI, JIZHOU, CITY_CODE = "120110", "120119", "120000"


@dataclass(frozen=True, slots=True)
class Works:
    """An enterprise with one plant and one line on it."""

    id: int
    uscc: str
    plant_id: int
    line_id: int


@dataclass
class Region:
    """The application, its database and a few works; `at` is the present, which a test may move."""

    engine: Engine
    client: TestClient
    at: datetime
    keys: dict[str, str]

    def get(self, path: str, who: str = "operator", **query: object) -> object:
        asked = {name: value for name, value in query.items() if value is not None}
        answer = self.client.get(f"/api/v1{path}", params=asked, headers=self._headers(who))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path: str, who: str = "operator", **query: object) -> dict[str, object]:
        answer = self.client.get(f"/api/v1{path}", params=query, headers=self._headers(who))
        assert answer.status_code == 422, answer.text
        return dict(answer.json())

    def csv(self, path: str, who: str = "operator", **query: object) -> list[str]:
        answer = self.client.get(f"/api/v1{path}", params={**query, "format": "csv"}, headers=self._headers(who))
        assert answer.status_code == 200, answer.text
        return answer.text.splitlines()

    def post(self, path: str, body: dict[str, object], who: str = "operator", status: int = 200) -> dict[str, object]:
        answer = self.client.post(f"/api/v1{path}", json=body, headers=self._headers(who))
        assert answer.status_code == status, answer.text
        return dict(answer.json())

    def key(self, who: str, role: str, district_code: str | None = None, enterprise_id: int | None = None) -> None:
        with self.engine.begin() as connection:
            self.keys[who] = create_key(connection, who, role, district_code=district_code, enterprise_id=enterprise_id)

    def run(self, statement: str, **values: object) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(statement), values)

    def _headers(self, who: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.keys[who]}", "Accept-Language": "en"}


def build(engine: Engine, database_url: str) -> Region:
    """Return a region with the official tables and keys for an operator and a regulator."""
    app = create_app(Settings(database_url=database_url), engine)  # type: ignore[arg-type]
    region = Region(engine, TestClient(app), NOW, {})
    app.dependency_overrides[api_now] = lambda: region.at
    with engine.begin() as connection:
        reference_load.load(connection, NOW)
    region.key("operator", "operator")
    region.key("regulator", "regulator")
    return region


def add_works(
    region: Region, number: int, *, district_code: str = DONGLI, industry_code: str = "3011", variant: str = CLINKER
) -> Works:
    """Register an enterprise since 2020."""
    uscc = with_check_digit(f"91120000MA{number:07d}")
    with region.engine.begin() as connection:
        enterprise_id = _one(
            connection, "INSERT INTO enterprise (uscc, name_zh) VALUES (:u, :n) RETURNING id", u=uscc, n=f"厂{number}"
        )
        connection.execute(
            text(
                "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
                " VALUES (:e, '2020-01-01', :d, :i)"
            ),
            {"e": enterprise_id, "d": district_code, "i": industry_code},
        )
        plant_id = _one(
            connection,
            "INSERT INTO process_unit (enterprise_id, scope, code, name_zh) VALUES (:e, 1, 'plant', '全厂')"
            " RETURNING id",
            e=enterprise_id,
        )
        line_id = _one(
            connection,
            "INSERT INTO production_line (process_unit_id, code, name_zh, variant_key, from_on)"
            " VALUES (:u, :c, :c, :v, '2020-01-01') RETURNING id",
            u=plant_id, c=f"line-{number}", v=variant,
        )  # fmt: skip
    return Works(enterprise_id, uscc, plant_id, line_id)


def move(region: Region, works: Works, on: date, district_code: str, industry_code: str) -> None:
    """End the works' present district and industry on a day and begin others."""
    region.run(
        "UPDATE enterprise_assignment SET to_on = :on WHERE enterprise_id = :e AND to_on IS NULL", on=on, e=works.id
    )
    region.run(
        "INSERT INTO enterprise_assignment (enterprise_id, from_on, district_code, industry_code)"
        " VALUES (:e, :on, :d, :i)",
        e=works.id, on=on, d=district_code, i=industry_code,
    )  # fmt: skip


def add_energy(
    region: Region,
    works: Works,
    grain: str,
    start: date,
    kgce: str,
    *,
    carrier: str = "raw_coal",
    flow: str = "in",
    quantity: str | None = None,
    equal: str | None = None,
    windows: tuple[int, int] = (100, 100),
) -> None:
    """Write one energy row of a day or month."""
    region.run(
        f"INSERT INTO energy_{grain} (process_unit_id, carrier_key, flow, {grain}, quantity, equivalent_kgce,"
        " equal_kgce, factor_set, windows_expected, windows_received, windows_estimated)"
        " VALUES (:u, :c, :f, :at, :q, :k, :equal, 'set', :x, :r, 0)",
        u=works.plant_id, c=carrier, f=flow, at=start, q=Decimal(quantity or kgce), k=Decimal(kgce),
        equal=None if equal is None else Decimal(equal), x=windows[0], r=windows[1],
    )  # fmt: skip


def add_year(region: Region, works: Works, year: int, kgce_a_month: str, **more: str) -> None:
    """Write the same energy for each month of a year."""
    month = date(year, 1, 1)
    while month.year == year:
        add_energy(region, works, "month", month, kgce_a_month, **more)  # type: ignore[arg-type]
        month = next_month(month)


def add_ratio(
    region: Region,
    works: Works,
    period: date,
    actual: str | None,
    *,
    grain: str = "month",
    output: str = "1000",
    reason: str | None = None,
    variant: str = CLINKER,
) -> None:
    """Write a ratio row judged by the level that is loaded, by plain SQL arithmetic."""
    region.run(
        "INSERT INTO ratio (line_id, variant_key, grain, period, actual, unit, energy, output, level_id, benchmark,"
        " baseline, level_confidence, status, ratio, position, reason, is_provisional, windows_expected,"
        " windows_received, windows_estimated, factor_set, computed_at)"
        " SELECT :l, v.variant_key, :g, :p, a, v.unit, a * :o, :o, s.id, s.benchmark, s.baseline, s.confidence,"
        " CASE WHEN a <= s.benchmark THEN 'at_benchmark' WHEN a <= s.baseline THEN 'between' WHEN a > s.baseline"
        " THEN 'below_baseline' ELSE 'unknown' END,"
        " round(a / s.benchmark, 12), round((s.baseline - a) / (s.baseline - s.benchmark), 12),"
        " CAST(:r AS text), CAST(:r AS text) IS NOT NULL, 100, 100, 0, 'set', :n"
        " FROM catalogue_variant v CROSS JOIN (SELECT CAST(:a AS numeric) AS a) x LEFT JOIN LATERAL"
        " (SELECT * FROM efficiency_level s WHERE s.variant_key = v.variant_key ORDER BY s.id LIMIT 1) s ON true"
        " WHERE v.variant_key = :v",
        l=works.line_id, v=variant, g=grain, p=period, a=None if actual is None else Decimal(actual),
        o=Decimal(output), r=reason, n=NOW,
    )  # fmt: skip


def _one(connection: Connection, statement: str, **values: object) -> int:
    return int(connection.execute(text(statement), values).scalar_one())
