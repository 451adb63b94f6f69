"""Broker accounts: what a gateway may and may not do, tried on the real broker."""

import secrets
import time

import pytest

from app import broker as accounts
from app.errors import Invalid, NotFound, Unavailable
from app.settings import Settings
from deploy.local.broker import Broker
from tests.integration.registry_site import session

QUIET_S = 0.4


@pytest.fixture
def settings(broker: Broker) -> Settings:
    user, password = broker.admin_credentials
    return Settings(
        database_url="postgresql://unused", broker_host="127.0.0.1", broker_port=broker.port,
        broker_admin_user=user, broker_admin_password=password,
    )  # fmt: skip


@pytest.fixture
def pair(settings: Settings) -> dict[str, str]:
    suffix = secrets.token_hex(4)
    return accounts.ensure_gateway_accounts(settings, [f"gw-a-{suffix}", f"gw-b-{suffix}"])


def test_a_gateway_uses_its_own_topics_alone(settings: Settings, pair: dict[str, str]) -> None:
    (own, password), (other, _) = pair.items()
    with session(settings, own, password) as gateway:
        assert gateway.is_connected
        assert gateway.may_publish(f"nenghao/v1/{own}/up/live")
        assert gateway.may_publish(f"nenghao/v1/{own}/up/backfill")
        assert gateway.may_publish(f"nenghao/v1/{own}/up/state")
        assert not gateway.may_publish(f"nenghao/v1/{own}/up/1")
        assert not gateway.may_publish(f"nenghao/v1/{other}/up/live")
        assert not gateway.may_publish(f"nenghao/v1/{own}/down/ack")
        assert not gateway.may_publish("$CONTROL/dynamic-security/v1")
        assert gateway.may_subscribe(f"nenghao/v1/{own}/down/#")
        foreign = (f"nenghao/v1/{other}/down/#", f"nenghao/v1/{other}/up/#", "nenghao/v1/+/down/ack", "#", "$SYS/#")
        assert [
            topic for topic in (*foreign, f"$share/g/nenghao/v1/{other}/up/#") if gateway.may_subscribe(topic)
        ] == []


def test_the_service_reads_what_gateways_send_and_answers_them(settings: Settings, pair: dict[str, str]) -> None:
    (own, password), (other, _) = pair.items()
    accounts.ensure_service_account(settings, "service-password")
    with session(settings, accounts.SERVICE_ACCOUNT, "service-password") as service, session(
        settings, own, password
    ) as gateway:  # fmt: skip
        assert service.may_subscribe("$share/ingest/nenghao/v1/+/up/live")
        assert not service.may_subscribe("$share/ingest/nenghao/v1/+/down/#")
        assert not service.may_publish(f"nenghao/v1/{own}/up/live")
        assert gateway.may_publish(f"nenghao/v1/{own}/up/live")
        assert service.received.get(timeout=5) == f"nenghao/v1/{own}/up/live"
        gateway.may_subscribe(f"nenghao/v1/{own}/down/#")
        assert service.may_publish(f"nenghao/v1/{other}/down/ack")
        assert service.may_publish(f"nenghao/v1/{own}/down/ack")
        assert gateway.received.get(timeout=5) == f"nenghao/v1/{own}/down/ack"
        time.sleep(QUIET_S)
        assert gateway.received.empty()
    accounts.ensure_service_account(settings, "another-password")
    with session(settings, accounts.SERVICE_ACCOUNT, "service-password") as refused:
        assert not refused.is_connected


def test_strangers_are_refused(settings: Settings, pair: dict[str, str]) -> None:
    code = next(iter(pair))
    for user, password in ((None, None), (code, "wrong"), (code, ""), ("gw-nobody", "x")):
        with session(settings, user, password) as stranger:
            assert not stranger.is_connected, user


def test_a_gateway_cannot_take_over_a_session_of_another_or_of_the_service(
    settings: Settings, pair: dict[str, str]
) -> None:
    (own, password), (other, its_password) = pair.items()
    accounts.ensure_service_account(settings, "service-password")
    with (
        session(settings, other, its_password) as victim,
        session(settings, accounts.SERVICE_ACCOUNT, "service-password", identifier="nenghao-ingest-1-live") as service,
    ):
        for identifier in (other, "nenghao-ingest-1-live", f"{own}-2"):
            with session(settings, own, password, identifier=identifier) as attacker:
                assert not attacker.is_connected, identifier
        assert victim.may_publish(f"nenghao/v1/{other}/up/live")
        assert service.may_subscribe("$share/ingest/nenghao/v1/+/up/live")


def test_an_account_is_made_once(settings: Settings, pair: dict[str, str]) -> None:
    third = f"gw-c-{secrets.token_hex(4)}"
    made = accounts.ensure_gateway_accounts(settings, [*pair, third])
    assert list(made) == [third]
    code, password = next(iter(pair.items()))
    with session(settings, code, password) as gateway:
        assert gateway.is_connected


def test_a_rotated_password_ends_the_old_one(settings: Settings, pair: dict[str, str]) -> None:
    code, old = next(iter(pair.items()))
    with session(settings, code, old) as gateway:
        new = accounts.rotate_password(settings, code)
        assert gateway.was_ended()
    assert len(new) == 32  # 192 bits in base64
    with session(settings, code, old) as refused, session(settings, code, new) as gateway:
        assert (refused.is_connected, gateway.is_connected) == (False, True)


def test_a_disabled_gateway_is_thrown_out_and_comes_back(settings: Settings, pair: dict[str, str]) -> None:
    code, password = next(iter(pair.items()))
    with session(settings, code, password) as gateway:
        accounts.set_enabled(settings, code, is_enabled=False)
        assert gateway.was_ended()
    with session(settings, code, password) as refused:
        assert not refused.is_connected
    accounts.set_enabled(settings, code, is_enabled=True)
    with session(settings, code, password) as gateway:
        assert gateway.is_connected


def test_a_deleted_account_is_gone(settings: Settings, pair: dict[str, str]) -> None:
    code, password = next(iter(pair.items()))
    accounts.delete_account(settings, code)
    with session(settings, code, password) as refused:
        assert not refused.is_connected
    with pytest.raises(NotFound, match="has no account"):
        accounts.rotate_password(settings, code)


def test_the_services_own_accounts_are_left_alone(settings: Settings) -> None:
    with pytest.raises(Invalid):
        accounts.ensure_gateway_accounts(settings, ["admin"])


def test_a_broker_that_is_away_or_refuses_is_named(settings: Settings) -> None:
    away = settings.model_copy(update={"broker_port": 1})
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 does not answer"):
        accounts.rotate_password(away, "gw-a")
    impostor = settings.model_copy(update={"broker_admin_user": "gw-nobody"})
    with pytest.raises(Unavailable, match="refuses its administrator 'gw-nobody'"):
        accounts.rotate_password(impostor, "gw-a")
