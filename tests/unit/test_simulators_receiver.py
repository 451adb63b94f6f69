"""The receiver trusts a signature made by another implementation, and nothing else."""

import base64
import json
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from simulators.receiver import Mailbox, notice
from simulators.signature import SignatureError, secret_bytes, verify

SECRET = "whsec_" + base64.b64encode(b"an example secret of 32 bytes ok").decode()
OTHER = "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()
NOW_S = 1_790_000_000
BODY = json.dumps({"type": "alert.opened", "data": {"line": {"name_zh": "1号熟料窑"}}}, ensure_ascii=False)


def signed(secret: str = SECRET, body: str = BODY, at_s: int = NOW_S, message_id: str = "msg_1") -> dict[str, str]:
    signature = Webhook(secret).sign(message_id, datetime.fromtimestamp(at_s, UTC), body)
    return {"webhook-id": message_id, "webhook-timestamp": str(at_s), "webhook-signature": signature}


def test_a_signature_of_the_reference_implementation_is_verified() -> None:
    assert verify([SECRET], signed(), BODY.encode(), NOW_S) == "msg_1"


def test_the_published_example_is_verified() -> None:
    # Vector of the Standard Webhooks specification's reference tests.
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    body = b'{"test": 2432232314}'
    assert verify(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], headers, body, 1_614_265_330)


def test_any_secret_and_any_signature_will_do_while_one_replaces_another() -> None:
    headers = signed()
    several = f"v1a,AAAA v1,not-base64! {signed(OTHER)['webhook-signature']} {headers['webhook-signature']}"
    assert verify([OTHER, SECRET], headers, BODY.encode(), NOW_S)
    assert verify([SECRET], headers | {"webhook-signature": several}, BODY.encode(), NOW_S)


@pytest.mark.parametrize("off_s", [-301, 301])
def test_an_old_or_future_timestamp_is_refused(off_s: int) -> None:
    with pytest.raises(SignatureError, match="off"):
        verify([SECRET], signed(), BODY.encode(), NOW_S + off_s)
    assert verify([SECRET], signed(), BODY.encode(), NOW_S + off_s // 301 * 300)


@pytest.mark.parametrize(
    "altered",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": str(NOW_S + 1)},
        {"webhook-timestamp": "soon"},
        {"webhook-timestamp": "²"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,"},
        {"webhook-signature": signed(OTHER)["webhook-signature"]},
        {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
    ],
)
def test_anything_altered_is_refused(altered: dict[str, str]) -> None:
    with pytest.raises(SignatureError):
        verify([SECRET], signed() | altered, BODY.encode(), NOW_S)


def test_an_altered_body_is_refused() -> None:
    with pytest.raises(SignatureError):
        verify([SECRET], signed(), BODY.encode() + b" ", NOW_S)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64", "whsec_YWJ"])
def test_a_broken_secret_is_refused(secret: str) -> None:
    with pytest.raises(SignatureError):
        secret_bytes(secret)


ALERT: dict[str, Any] = {
    "type": "alert.opened",
    "data": {
        "district": {"code": "120119", "name_zh": "蓟州区", "name_en": "Jizhou District"},
        "enterprise": {"uscc": "91120119MA0000015W", "name_zh": "天津岭岳水泥有限公司", "name_en": "Lingyue Cement"},
        "line": {"code": "kiln-1", "name_zh": "1号熟料窑", "name_en": "Clinker kiln 1"},
        "period": "2026-10", "product_zh": "水泥熟料", "product_en": "cement clinker", "unit": "kgce/t",
        "actual": "120.94", "benchmark": "100", "baseline": "117", "ratio": "1.2094", "measured_share": "0.9987",
        "level": {"edition": "2021/2023", "source": "GB 16780", "confidence": "confirmed"},
        "text_zh": "单位产品综合能耗高于基准水平", "text_en": "above the baseline",
    },
}  # fmt: skip


def test_the_notice_names_all_that_an_official_needs() -> None:
    text = notice(ALERT)
    for part in (
        "天津岭岳水泥有限公司", "91120119MA0000015W", "蓟州区", "1号熟料窑", "kiln 1", "2026-10",
        "actual 120.94 kgce/t", "benchmark 100 kgce/t", "baseline 117 kgce/t", "99.87 %", "confirmed", "高于基准",
        "签名已验证 signature verified",
    ):  # fmt: skip
        assert part in text


def test_a_notice_with_little_in_it_is_still_readable() -> None:
    assert "-" in notice({"type": "alert.opened"})


def test_the_mailbox_takes_a_webhook_once(capsys: pytest.CaptureFixture[str]) -> None:
    now_s = int(datetime.now(UTC).timestamp())
    mailbox, headers = Mailbox([SECRET]), signed(at_s=now_s)
    assert mailbox.take(headers, BODY.encode()) == (200, "verified")
    assert mailbox.take(headers, BODY.encode()) == (200, "duplicate")
    status, outcome = mailbox.take(signed(OTHER, at_s=now_s, message_id="msg_9"), BODY.encode())
    assert (status, outcome.partition(":")[0]) == (401, "refused")
    assert capsys.readouterr().out.count("signature verified") == 1


def test_the_mailbox_fails_as_often_as_asked(tmp_path: Path) -> None:
    mailbox = Mailbox([SECRET], log=tmp_path / "log.jsonl", fail="500", fail_first=2)
    assert [mailbox.failure() for _ in range(3)] == ["500", "500", None]
    mailbox.write({"outcome": "收到"})
    assert json.loads((tmp_path / "log.jsonl").read_text("utf-8")) == {"outcome": "收到"}
