"""Signatures, answers, retries and allowed addresses of webhooks."""

import base64
import ipaddress
from datetime import UTC, datetime, timedelta

import pytest
import standardwebhooks

from app.domain import notice, webhook
from app.domain.webhook import Answer, Outcome

NOW = datetime(2026, 10, 1, tzinfo=UTC)
SECRET = webhook.write_secret(bytes(range(32)))
OTHER = webhook.write_secret(bytes(range(1, 33)))


def test_the_signature_is_that_of_the_reference_implementation():
    body = '{"text":"能耗"}'
    reference = standardwebhooks.Webhook(SECRET).sign("evt_1", NOW, body)
    assert webhook.sign(SECRET, "evt_1", int(NOW.timestamp()), body.encode()) == reference


def test_the_published_vector_of_the_specification():
    signature = webhook.sign(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_both_secrets_verify_during_a_rotation(secret):
    now = datetime.now(UTC)
    headers = webhook.headers([SECRET, OTHER], "evt_1", now, b"{}")
    assert len(headers["webhook-signature"].split(" ")) == 2
    standardwebhooks.Webhook(secret).verify(b"{}", headers)


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("abc", "starts with"),
        ("whsec_***", "does not decode"),
        (webhook.write_secret(b"short"), "24 to 64 bytes"),
        (webhook.write_secret(bytes(65)), "24 to 64 bytes"),
    ],
)
def test_secrets_that_are_refused(secret, message):
    with pytest.raises(ValueError, match=message):
        webhook.parse_secret(secret)
    assert base64.b64decode(SECRET.removeprefix("whsec_")) == webhook.parse_secret(SECRET)


@pytest.mark.parametrize("pattern", ["*", "alert.*", "figure.*", "alert.resolved"])
def test_patterns_that_some_event_matches(pattern):
    assert webhook.parse_kind(pattern) == pattern


@pytest.mark.parametrize("pattern", ["", "alert", "alerts.*", "alert_opened", "figure.*.x", "[a-z]*"])
def test_patterns_that_no_event_would_ever_match_are_refused(pattern):
    with pytest.raises(ValueError, match=r"there are alert\.opened"):
        webhook.parse_kind(pattern)


def test_the_schedule_has_ten_steps_inside_a_day_and_ends():
    at, attempts = NOW, 1
    while (step := webhook.next_step(Answer(500), attempts, at, 0.0)).outcome is Outcome.RETRY:
        assert step.next_attempt_at is not None
        at, attempts = step.next_attempt_at, attempts + 1
    assert step.outcome is Outcome.DEAD
    assert attempts == 11
    assert timedelta(hours=23) < at - NOW <= timedelta(hours=24)


def test_jitter_only_shortens():
    steps = [webhook.next_step(Answer(500), 2, NOW, jitter).next_attempt_at for jitter in (0.0, 0.999)]
    assert steps[0] == NOW + timedelta(seconds=30)
    assert NOW + timedelta(seconds=27) < steps[1] < steps[0]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Answer(200), Outcome.DELIVERED),
        (Answer(204), Outcome.DELIVERED),
        (Answer(302), Outcome.RETRY),
        (Answer(400), Outcome.RETRY),
        (Answer(410), Outcome.GONE),
        (Answer(429), Outcome.RETRY),
        (Answer(503), Outcome.RETRY),
        (Answer(None, "connection refused"), Outcome.RETRY),
    ],
)
def test_answers(answer, outcome):
    assert webhook.next_step(answer, 1, NOW, 0.5).outcome is outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("Thu, 01 Oct 2026 00:10:00 GMT", 600),
        ("Thu, 01 Oct 2025 00:10:00 GMT", 0),
        ("999999999999", 86400),
        ("soon", 0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 0),
        ("-5", 0),
        (None, 0),
    ],
)
def test_retry_after(header, seconds):
    assert webhook.retry_after_s(header, NOW) == seconds
    step = webhook.next_step(Answer(429, None, header), 1, NOW, 0.0)
    assert step.next_attempt_at == NOW + timedelta(seconds=max(5, seconds))


HTTPS = webhook.Target("https", "receiver.example", 443)
HTTP = webhook.Target("http", "receiver.example", 80)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
        "192.0.0.192", "fec0::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public_are_refused(address):
    with pytest.raises(webhook.RefusedTarget, match="not public"):
        webhook.allowed_address([address], HTTPS, ())


def test_an_address_is_not_explained_by_itself():
    target = webhook.parse_target("https://10.1.1.1/in")
    with pytest.raises(webhook.RefusedTarget, match=r"^10\.1\.1\.1 is not public: add its network"):
        webhook.allowed_address(["10.1.1.1"], target, ())


def test_public_addresses_are_allowed_over_https_only():
    assert webhook.allowed_address(["8.8.8.8"], HTTPS, ()) == "8.8.8.8"
    assert webhook.allowed_address(["2606:4700::1111"], HTTPS, ()) == "2606:4700::1111"
    with pytest.raises(webhook.RefusedTarget, match="https only"):
        webhook.allowed_address(["8.8.8.8"], HTTP, ())


def test_private_networks_are_opened_by_name_and_half_private_names_are_refused():
    allowed = webhook.parse_networks("10.20.0.0/16, fd00::/8")
    assert allowed == (ipaddress.ip_network("10.20.0.0/16"), ipaddress.ip_network("fd00::/8"))
    assert webhook.allowed_address(["10.20.3.4"], HTTP, allowed) == "10.20.3.4"
    assert webhook.allowed_address(["::ffff:10.20.3.4"], HTTP, allowed) == "::ffff:a14:304"
    with pytest.raises(webhook.RefusedTarget):
        webhook.allowed_address(["10.21.3.4"], HTTP, allowed)
    with pytest.raises(webhook.RefusedTarget):
        webhook.allowed_address(["8.8.8.8", "127.0.0.1"], HTTPS, allowed)
    with pytest.raises(webhook.RefusedTarget, match="no address"):
        webhook.allowed_address([], HTTPS, allowed)
    assert webhook.parse_networks("") == ()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/", "https://", "https://u:p@x/", "https://x/#f", "https://x:99999/", "//x/", "https://[::1/",
        "https://x/\r\nHost: y", "https://x/\ta", "https://x y/", "https://x/\0", "https://x\u202ey/", "https://x/\ud800",
    ],
)  # fmt: skip
def test_addresses_that_are_no_webhook_address(url):
    with pytest.raises(webhook.RefusedTarget):
        webhook.parse_target(url)


def test_the_parts_of_an_address():
    assert webhook.parse_target("https://x.example/a?b=c") == webhook.Target("https", "x.example", 443)
    assert webhook.parse_target("http://[::1]:8080/a") == webhook.Target("http", "::1", 8080)


FACTS = {
    "district": {"code": "120110", "name_zh": "东丽区", "name_en": "Dongli District"},
    "enterprise": {"uscc": "x", "name_zh": "某水泥厂", "name_en": "Some Cement"},
    "line": {"code": "kiln-1", "name_zh": "一号窑", "name_en": "Kiln 1"},
    "period": "2026-10", "product_zh": "水泥熟料", "product_en": "cement clinker", "unit": "kgce/t",
    "actual": "121.4350", "benchmark": "100", "baseline": "117", "level": {"edition": "2021/2023"},
    "measured_share": "0.99870", "estimated_share": "0", "missing_share": "0.0013",
}  # fmt: skip


def test_a_notice_names_everything_an_official_needs():
    text_zh, text_en = notice.write("below_baseline", FACTS)
    assert text_zh == (
        "东丽区某水泥厂一号窑（水泥熟料）2026-10能耗121.44 kgce/t，"
        "劣于基准水平117 kgce/t（标杆水平100 kgce/t，2021/2023）。实测99.87 %，估算0.00 %，缺失0.13 %。"
    )
    for part in (
        "Some Cement",
        "Kiln 1",
        "121.44 kgce/t",
        "baseline 117",
        "benchmark 100",
        "Measured 99.87 %, estimated 0.00 %, missing 0.13 %.",
    ):
        assert part in text_en


def resolved(reason, present, kind="below_baseline", facts=FACTS):
    text_zh, text_en = notice.write(kind, facts)
    return notice.write_resolved(kind, {**facts, "text_zh": text_zh, "text_en": text_en}, reason, present)


def test_a_resolved_notice_says_why_and_what_the_figure_is_now():
    told = notice.write("below_baseline", FACTS)
    present = {**FACTS, "actual": "110.2"}
    assert resolved("no_longer_in_breach", present) == (
        "已解除：东丽区某水泥厂一号窑2026-10指标已变化，不再劣于基准水平。"
        "2026-10能耗现为110.2 kgce/t（基准水平117 kgce/t），"
        f"实测99.87 %，估算0.00 %，缺失0.13 %。原告警：{told[0]}",
        "Resolved: Some Cement, Kiln 1: the figure of 2026-10 changed and is not worse any more. 2026-10 is now 110.2"
        " kgce/t (baseline 117 kgce/t), measured 99.87 %, estimated 0.00 %, missing 0.13 %."
        f" It had been opened with: {told[1]}",
    )


@pytest.mark.parametrize(
    ("reason", "present", "parts"),
    [
        ("later_period_in_order", {"period": "2026-11", "actual": "99"}, ("后一期2026-11", "2026-11 is now 99 kgce/t")),
        ("level_changed", {"baseline": "125"}, ("原为117", "the baseline was 117", "baseline 125 kgce/t")),
        ("level_changed", {"baseline": None}, ("无适用的基准水平", "no baseline applies")),
        ("level_is_recalled", {"actual": "121"}, ("不据此认定违规", "no ground for a violation")),
        ("basis_withdrawn", None, ("已无可判定的指标值。原告警", "no figure to judge any more. It had been opened")),
        ("rule_disabled", {"actual": "121"}, ("规则已停用", "switched off", "2026-10 is now 121 kgce/t")),
        ("not_consecutive", {"period": "2026-12"}, ("2026-12再次出现", "found again in 2026-12")),
        ("another_reason", None, ("another_reason",)),
    ],
)
def test_each_reason_of_a_resolution(reason, present, parts):
    said = "\n".join(resolved(reason, present))
    for part in parts:
        assert part in said


def test_what_resolves_the_other_rules():
    shares = {"measured_share": "0.95", "estimated_share": "0.04", "missing_share": "0.01"}
    text_zh, text_en = resolved("no_longer_in_breach", shares, "data_quality")
    assert "2026-10数据已满足要求。现为：实测95.00 %，估算4.00 %，缺失1.00 %。" in text_zh
    assert "are sufficient now. Now: measured 95.00 %, estimated 4.00 %, missing 1.00 %." in text_en
    gateway = {"gateway": {"code": "gw-1"}, "last_heard_at": "2026-11-05T08:00:00+08:00"}
    text_zh, text_en = resolved(
        "no_longer_in_breach", {"last_heard_at": "2026-11-05T09:00:00+08:00"}, "gateway_silent", gateway
    )
    assert text_zh.startswith(
        "已解除：端设备gw-1恢复通信。最后一次通信2026-11-05T09:00:00+08:00。原告警：端设备gw-1失联"
    )
    assert text_en.startswith("Resolved: gateway gw-1: it speaks again. Last heard 2026-11-05T09:00:00+08:00. It had")
    assert "已停用" in resolved("basis_withdrawn", None, "gateway_silent", gateway)[0]


def test_missing_names_do_not_break_a_notice():
    unnamed = {**FACTS, "enterprise": {"name_zh": "某厂", "name_en": ""}}
    text_zh, text_en = resolved("no_longer_in_breach", None, facts=unnamed)
    assert text_zh.startswith("已解除：东丽区某厂")
    assert text_en.startswith("Resolved: 某厂")
    assert "从未通信" in notice.write("gateway_silent", {"gateway": {"code": "gw-1"}, "last_heard_at": None})[0]
    assert "50.00 %" in notice.write("data_quality", {"measured_share": "0.5", "period": "2026-10"})[1]
