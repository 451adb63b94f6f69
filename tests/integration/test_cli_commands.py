"""The `nenghao` command: what it prints, writes, and answers."""

import json
import secrets
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from sqlalchemy import Engine, text

from app import broker as accounts
from app import settings
from app.db import access
from app.domain.calendar import business_day
from app.domain.credit_code import with_check_digit
from deploy.local.broker import Broker
from tests.conftest import Nenghao

USCC = with_check_digit("91120000MA0000001")


@pytest.fixture(autouse=True)
def address_of_broker(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands find this run's broker."""
    user, password = broker.admin_credentials
    monkeypatch.setenv("NENGHAO_BROKER_PORT", str(broker.port))
    monkeypatch.setenv("NENGHAO_BROKER_ADMIN_USER", user)
    monkeypatch.setenv("NENGHAO_BROKER_ADMIN_PASSWORD", password)


@pytest.fixture
def gateway() -> str:
    return f"gw-cli-{secrets.token_hex(4)}"


@pytest.fixture
def file(tmp_path: Path, gateway: str) -> Path:
    point = {
        "code": "E001", "carrier_key": "electricity", "signal": "register", "unit": "kWh",
        "installations": [{"from_at": "2026-01-01T00:00:00+08:00", "serial": "S1"}],
        "assignments": [{"from_at": "2026-01-01T00:00:00+08:00", "process_unit": "plant", "flow": "in"}],
    }  # fmt: skip
    content = {"enterprises": [{
        "uscc": USCC, "name_zh": "示例水泥", "from_on": "2026-01-01", "district_code": "120119",
        "industry_code": "3011", "process_units": [{"code": "plant", "scope": 1, "name_zh": "全厂"}],
        "lines": [{"code": "l1", "process_unit": "plant", "name_zh": "一线", "from_on": "2026-01-01",
                   "variant_key": "ndrc723-15-cement-clinker"}],
        "gateways": [{"code": gateway, "points": [point]}],
    }]}  # fmt: skip
    path = tmp_path / "registry.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def credentials(path: Path) -> dict[str, str]:
    return {row["code"]: row["password"] for row in json.loads(path.read_text())["gateways"]}


def test_from_an_empty_database_to_a_registered_city(nenghao: Nenghao, file: Path, gateway: str) -> None:
    passwords = file.with_name("out.json")
    assert nenghao("migrate")[0] == 0
    assert nenghao("reference", "load")[0] == 0
    status, out, _ = nenghao("registry", "import", str(file), "--dry-run", "--credentials", str(passwords))
    assert (status, passwords.exists()) == (0, False)
    assert f"+ gateway {gateway}" in out
    assert "would be inserted" in out
    status, out, _ = nenghao("registry", "import", str(file), "--credentials", str(passwords))
    assert status == 0
    assert passwords.stat().st_mode & 0o777 == 0o600
    assert gateway in credentials(passwords)
    assert credentials(passwords)[gateway] not in out
    kept = credentials(passwords)
    status, out, _ = nenghao("registry", "import", str(file), "--credentials", str(passwords))
    assert (status, credentials(passwords)) == (0, kept)
    assert "0 row(s) inserted, 0 updated, 8 unchanged" in out


def test_a_missing_account_is_made_by_the_same_import(nenghao: Nenghao, file: Path, gateway: str) -> None:
    nenghao("reference", "load")
    nenghao("registry", "import", str(file))
    accounts.delete_account(settings.load(), gateway)
    status, out, _ = nenghao("registry", "import", str(file))
    assert status == 0
    assert "unchanged" in out
    assert len(dict(line.split(" ") for line in out.splitlines() if line.startswith(gateway))[gateway]) == 32


def test_bad_rows_are_listed_on_standard_error(nenghao: Nenghao, file: Path) -> None:
    nenghao("reference", "load")
    file.write_text(file.read_text(encoding="utf-8").replace("120119", "120999").replace("kWh", "kwh"))
    status, out, err = nenghao("registry", "import", str(file))
    assert (status, out) == (1, "")
    assert "2 entries are not right; nothing was written" in err
    assert "enterprises[0].district_code: unknown district code '120999'; nearest known: " in err
    assert "enterprises[0].gateways[0].points[0].unit: unknown unit 'kwh'; known units" in err


def test_without_a_broker_nothing_is_written(
    nenghao: Nenghao, file: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    nenghao("reference", "load")
    monkeypatch.setenv("NENGHAO_BROKER_PORT", "1")
    settings.load.cache_clear()
    status, _, err = nenghao("registry", "import", str(file))
    assert status == 1
    assert "does not answer" in err
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM enterprise")).scalar() == 0


def test_gateways_are_added_rotated_and_disabled(nenghao: Nenghao, file: Path, engine: Engine) -> None:
    nenghao("reference", "load")
    nenghao("registry", "import", str(file))
    code = f"gw-add-{secrets.token_hex(4)}"
    status, out, _ = nenghao("gateways", "add", code, "--enterprise", USCC)
    assert (status, out.splitlines()[-1].split()[0]) == (0, code)
    first = out.split()[-1]
    status, out, _ = nenghao("gateways", "add", code, "--enterprise", USCC)
    assert (status, f"`nenghao gateways rotate {code}` gives it a new one" in out, first in out) == (0, True, False)
    status, out, _ = nenghao("gateways", "rotate", code)
    assert (status, out.split()[0]) == (0, code)
    assert out.split()[-1] != first
    assert nenghao("gateways", "disable", code)[0] == 0
    with engine.connect() as connection:
        enabled = connection.execute(text("SELECT is_enabled FROM gateway WHERE code = :code"), {"code": code})
        assert enabled.scalar() is False
    assert nenghao("gateways", "enable", code)[0] == 0
    status, _, err = nenghao("gateways", "rotate", "gw-nobody")
    assert (status, "no gateway 'gw-nobody'" in err) == (1, True)
    status, _, err = nenghao("gateways", "add", "gw-x-1", "--enterprise", USCC[:-1] + "0")
    assert (status, "check digit" in err) == (1, True)


def test_a_key_and_an_endpoint(nenghao: Nenghao, engine: Engine) -> None:
    nenghao("reference", "load")
    status, out, _ = nenghao("keys", "create", "--role", "official", "--district", "120101", "--name", "heping")
    assert status == 0
    assert [word for word in out.split() if word.startswith("nh_")] == [out.strip()]
    status, _, err = nenghao("keys", "create", "--role", "official", "--name", "nobody")
    assert (status, "district" in err) == (1, True)
    secret = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY="
    endpoint = ("endpoints", "add", "--name", "official", "--url", "http://127.0.0.1:9/notices", "--secret", secret)
    assert nenghao(*endpoint)[0] == 0
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name, kinds FROM endpoint")).all() == [("official", ["alert.*"])]


def table(said: str) -> list[dict[str, str]]:
    header, *lines = (line.split("\t") for line in said.splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_what_was_made_is_listed_and_withdrawn(nenghao: Nenghao, file: Path, engine: Engine, gateway: str) -> None:
    nenghao("reference", "load")
    nenghao("registry", "import", str(file))
    for words in ((), ("--enterprise", USCC)):
        (row,) = table(nenghao("gateways", "list", *words)[1])
        assert (row["code"], row["uscc"], row["is_enabled"]) == (gateway, USCC, "True")
        assert row["created_at"].endswith("+08:00")
    other = with_check_digit("91120000MA0000002")
    status, _, err = nenghao("gateways", "list", "--enterprise", other)
    assert (status, f"no enterprise '{other}'" in err) == (1, True)

    key = nenghao("keys", "create", "--role", "official", "--district", "120101", "--name", "和平值班")[1].strip()
    status, said, _ = nenghao("keys", "list")
    (row,) = table(said)
    assert (key in said, key.startswith(row["prefix"]), row["name"], row["district_code"], row["revoked_at"]) == (
        False, True, "和平值班", "120101", "",
    )  # fmt: skip
    for _ in range(2):
        assert nenghao("keys", "revoke", row["id"])[:2] == (0, f"key {row['id']} is revoked\n")
    assert table(nenghao("keys", "list")[1])[0]["revoked_at"].endswith("+08:00")
    with engine.connect() as connection:
        assert access.authenticate(connection, key, datetime.now(UTC)) is None
    status, _, err = nenghao("keys", "revoke", "99")
    assert (status, "there is no key 99" in err) == (1, True)

    secret = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY="
    endpoint = ("endpoints", "add", "--name", "duty", "--url", "http://127.0.0.1:9/", "--secret", secret)
    assert nenghao(*endpoint, "--kinds", "alert.*", "--kinds", "figure.*")[0] == 0
    status, said, _ = nenghao("endpoints", "list")
    (row,) = table(said)
    assert (secret in said, row["kinds"], row["is_enabled"], row["pending"]) == (False, "alert.*,figure.*", "True", "0")
    assert (
        nenghao("endpoints", "disable", row["id"], "--reason", "停机维护")[1] == f"endpoint {row['id']} is disabled\n"
    )
    (row,) = table(nenghao("endpoints", "list")[1])
    assert (row["is_enabled"], row["disabled_reason"]) == ("False", "停机维护")
    assert nenghao("endpoints", "enable", row["id"])[0] == 0
    assert table(nenghao("endpoints", "list")[1])[0]["is_enabled"] == "True"
    assert nenghao("endpoints", "disable", "99")[0] == 1
    with engine.connect() as connection:
        actions = set(connection.execute(text("SELECT action FROM audit WHERE actor LIKE 'cli:%'")).scalars())
    assert actions >= {"key.revoke", "endpoint.change"}


def test_outputs_come_from_csv(nenghao: Nenghao, file: Path) -> None:
    month = f"{business_day(datetime.now(UTC)):%Y-%m}"  # of no closed year
    nenghao("reference", "load")
    nenghao("registry", "import", str(file))
    csv = file.with_name("outputs.csv")
    csv.write_text(
        f"uscc,process_unit,line,kind,grain,period,value,unit\n{USCC},plant,l1,production,month,{month},1e5,t\n"
    )
    assert nenghao("outputs", "import", str(csv))[:2] == (0, "1 accepted, 0 unchanged\n")
    assert nenghao("outputs", "import", str(csv))[:2] == (0, "0 accepted, 1 unchanged\n")
    csv.write_text(csv.read_text().replace(",t", ",m3"))
    status, _, err = nenghao("outputs", "import", str(csv))
    assert (status, "line 2, unit: unit 'm3' does not convert to t" in err) == (1, True)


def test_outputs_of_a_closed_year_take_a_reason(nenghao: Nenghao, file: Path, engine: Engine) -> None:
    nenghao("reference", "load")
    file.write_text(file.read_text(encoding="utf-8").replace("from_on: '2026-01-01'", "from_on: '2020-01-01'"))
    assert nenghao("registry", "import", str(file))[0] == 0
    csv = file.with_name("outputs.csv")
    csv.write_text(
        f"uscc,process_unit,line,kind,grain,period,value,unit\n{USCC},plant,l1,production,month,2023-08,1e5,t\n"
    )
    status, _, err = nenghao("outputs", "import", str(csv))
    assert (status, "closed_year_reason" in err, "line 2, period: year 2023 is closed" in err) == (1, True, True)
    assert nenghao("outputs", "import", str(csv), "--closed-year-reason", "court order 7")[:2] == (
        0, "1 accepted, 0 unchanged\n",
    )  # fmt: skip
    assert nenghao("outputs", "import", str(csv))[:2] == (0, "0 accepted, 1 unchanged\n")
    with engine.connect() as connection:
        details = connection.execute(text("SELECT detail->'closed_years' FROM audit WHERE action = 'outputs.report'"))
        assert sorted(details.scalars(), key=str) == [None, {"2023": "court order 7"}]


def quarantine(engine: Engine, count: int) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO quarantine (gateway_code, lane, reason, raw, received_at)"
                " SELECT 'gw-q', 0, 'unknown_point', '{}', now() FROM generate_series(1, :count)"
            ),
            {"count": count},
        )


def test_a_file_in_another_encoding_is_named_without_a_traceback(nenghao: Nenghao, tmp_path: Path) -> None:
    from_excel = tmp_path / "outputs.csv"
    from_excel.write_bytes("uscc,备注".encode("gbk"))
    status, _, error = nenghao("outputs", "import", str(from_excel))
    assert status == 1
    assert "not UTF-8" in error
    assert "Traceback" not in error


def test_a_release_that_nobody_works_on_says_so(nenghao: Nenghao, engine: Engine) -> None:
    quarantine(engine, 3)
    listed = nenghao("quarantine", "list", "--gateway", "gw-q")[1]
    assert {row["gateway_code"] for row in table(listed)} == {"gw-q"}
    assert "unknown_point" in listed
    assert (listed.count("+08:00"), listed.count("+00:00")) == (3, 0)
    status, out, err = nenghao("quarantine", "release", "--gateway", "gw-q", "--timeout-s", "0.3")
    assert (status, out) == (1, "3 item(s) asked for\n")
    assert "3 item(s) still wait after 0.3 s" in err
    assert "nenghao-ingest" in err


def test_a_release_waits_until_it_is_done(nenghao: Nenghao, engine: Engine) -> None:
    quarantine(engine, 2)

    def ingest() -> None:
        with engine.begin() as connection:
            connection.execute(text("UPDATE quarantine SET released_at = now() WHERE release_requested_at IS NOT NULL"))

    later = threading.Timer(0.6, ingest)
    later.start()
    status, out, _ = nenghao("quarantine", "release", "--reason", "unknown_point", "--timeout-s", "20")
    later.join()
    assert (status, "all have been through" in out) == (0, True)


@pytest.mark.parametrize("words", [("bogus",), ("registry", "import"), ("keys", "create")])
def test_wrong_usage_answers_2(nenghao: Nenghao, words: tuple[str, ...]) -> None:
    assert nenghao(*words)[0] == 2


def test_missing_settings_are_named(nenghao: Nenghao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NENGHAO_DATABASE_URL")
    settings.load.cache_clear()
    status, _, err = nenghao("reference", "load")
    assert (status, "NENGHAO_DATABASE_URL" in err) == (1, True)


def test_a_mistyped_network_is_named_at_the_start(nenghao: Nenghao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NENGHAO_WEBHOOK_ALLOWED_NETWORKS", "10.0.0.1/8")
    settings.load.cache_clear()
    status, _, err = nenghao("reference", "load")
    assert (status, "NENGHAO_WEBHOOK_ALLOWED_NETWORKS" in err, "host bits set" in err) == (1, True, True)


def test_broker_prepare_takes_the_password_from_a_file(nenghao: Nenghao, tmp_path: Path) -> None:
    secret = tmp_path / "ingest.password"
    secret.write_text("some-password\n")
    assert nenghao("broker", "prepare", "--ingest-password-file", str(secret))[0] == 0
    secret.write_text("\n")
    assert nenghao("broker", "prepare", "--ingest-password-file", str(secret))[0] == 1


def test_a_refused_endpoint_lists_every_breach_without_a_traceback(nenghao: Nenghao) -> None:
    words = ("endpoints", "add", "--name", "x", "--url", "ftp://a", "--secret", "whsec_aaaa")
    code, _out, said = nenghao(*words)
    assert code == 1
    assert "url:" in said
    assert "secret:" in said
    assert (said.count("https://"), said.count("24 to 64 bytes")) == (1, 1), "nothing is said twice"


def test_a_single_breach_is_said_once_and_with_its_place(nenghao: Nenghao, tmp_path: Path) -> None:
    known = "whsec_" + "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVoxMjM0NTY="
    _, _, said = nenghao("endpoints", "add", "--name", "x", "--url", "ftp://a", "--secret", known)
    assert said == "error: url: 'ftp://a': a webhook address starts with https:// (or http://) and a host name\n"
    broken = tmp_path / "targets.csv"
    broken.write_text('district_code,target_key\n"12\n' + "x" * 200_000)
    _, _, said = nenghao("targets", "import", str(broken))
    assert said.count("error: ") == 1
    assert len(said.strip().splitlines()) == 1, said


def test_a_refusal_is_not_preceded_by_an_empty_line(nenghao: Nenghao, tmp_path: Path) -> None:
    file = tmp_path / "registry.yaml"
    file.write_text("enterprises: 5\n")
    assert nenghao("registry", "import", str(file))[2].startswith("error: 1 entry is not right")


def test_levels_import_shows_then_writes(nenghao: Nenghao, tmp_path: Path) -> None:
    nenghao("reference", "load")
    file = tmp_path / "levels.csv"
    header = (
        "variant_key,benchmark,baseline,referenced_standard,deadline_on,note,source,edition,confidence,valid_from,"
        "valid_to"
    )
    file.write_text(f"{header}\nndrc723-15-cement-clinker,95,110,,,,document,2027,confirmed,2027-01-01,\n")
    status, said, _ = nenghao("levels", "import", str(file), "--dry-run")
    assert status == 0
    assert "benchmark 100, baseline 117 (2021/2023, confirmed) → benchmark 95, baseline 110 from 2027-01-01" in said
    assert "1 row(s) would be inserted" in said
    assert "1 row(s) inserted" in nenghao("levels", "import", str(file))[1]
    assert "0 row(s) inserted, 0 superseded, 1 unchanged" in nenghao("levels", "import", str(file))[1]
    file.write_text(f"{header}\nx,95,110,,,,document,2027,confirmed,2027-01-01,\ny,9,z,,,,d,2027,confirmed,,\n")
    status, _, err = nenghao("levels", "import", str(file))
    assert status == 1
    assert "line 2, variant_key: there is no product 'x' in the catalogue" in err
    assert "line 3, baseline" in err


def test_factors_import_shows_then_writes(nenghao: Nenghao, tmp_path: Path) -> None:
    nenghao("reference", "load")
    file = tmp_path / "factors.csv"
    header = (
        "factor_type,factor_key,factor_set,year,name_zh,name_en,lhv,lhv_unit,carbon_content_tc_per_gj,"
        "oxidation_rate_pct,factor_value,factor_unit,note,source,edition,confidence,valid_from,valid_to"
    )
    row = "grid_electricity,CN-120000,MEE/NBS average,2024,天津市,Tianjin,,,,,0.5,kgCO2/kWh,,made,,recalled,,"
    file.write_text(f"{header}\n{row}\n")
    status, said, _ = nenghao("factors", "import", str(file), "--dry-run")
    assert status == 0
    assert "no figure of 2024 (MEE/NBS average, confirmed) → 0.5 kgCO2/kWh of 2024 (MEE/NBS average, recalled)" in said
    assert "0 row(s) would be inserted, 1 would be superseded, 0 unchanged; 0 month(s) of 0 process unit(s)" in said
    assert "0 row(s) inserted, 1 superseded" in nenghao("factors", "import", str(file))[1]
    assert "0 superseded, 1 unchanged" in nenghao("factors", "import", str(file))[1]
    file.write_text(f"{header}\n{row.replace('0.5', '-1')}\n{row.replace('made', '').replace('2024', '2022')}\n")
    status, _, err = nenghao("factors", "import", str(file))
    assert status == 1
    assert "line 2, factor_value: -1 is not over zero" in err
    assert "line 3, source: say where the figures come from" in err
    assert "line 3, year: this row comes with the project" in err
