"""Accounts of gateways and of the service on the broker, through Mosquitto's dynamic security plugin.

An account's name is the gateway's code; its one role lets it write only its own `up/live`, `up/backfill` and
`up/state`, and read only its own `down/#`. It connects with its code as the client identifier and no other: whoever
takes an identifier that is in use ends the session that has it, be it another gateway's or that of ingest (tried,
Mosquitto 2.0.21). Passwords are made here, returned once, and kept nowhere but (hashed) in the broker.
"""

import json
import queue
import secrets
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from app.errors import Invalid, NotFound, Unavailable
from app.settings import Settings

CONTROL_TOPIC = "$CONTROL/dynamic-security/v1"
SERVICE_ACCOUNT = "nenghao-ingest"
ANSWER_TIMEOUT_S = 15.0
# 192 random bits: no number of hash iterations could add to that.
PASSWORD_BYTES = 24
# The broker refuses packets over 256 KiB; a gateway takes two commands of at most 700 bytes.
COMMANDS_PER_MESSAGE = 100
UP_TOPICS = ("live", "backfill", "state")
NAMES_PER_PAGE = 2000

Command = dict[str, Any]


class Control:
    """An open connection to the broker's account management; made by `connect`."""

    def __init__(self, client: Client, answers: "queue.Queue[dict[str, Any]]") -> None:
        self._client = client
        self._answers = answers

    def send(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Run commands in order, many to a message, and return their answers; one may hold an `error`."""
        answers: list[dict[str, Any]] = []
        for start in range(0, len(commands), COMMANDS_PER_MESSAGE):
            answers += self._exchange(commands[start : start + COMMANDS_PER_MESSAGE])
        return answers

    def _exchange(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        mark = uuid.uuid4().hex
        marked = [{**command, "correlationData": mark} for command in commands]
        self._client.publish(CONTROL_TOPIC, json.dumps({"commands": marked}), qos=1)
        answers: list[dict[str, Any]] = []
        while len(answers) < len(commands):
            try:
                answer = self._answers.get(timeout=ANSWER_TIMEOUT_S)
            except queue.Empty:
                raise Unavailable(
                    f"the broker did not answer {commands[0]['command']} within {ANSWER_TIMEOUT_S:.0f} s; some"
                    " accounts may have been made: run the same again",
                    detail_zh="消息服务器未及时响应账户操作：请重试",
                ) from None
            answers += [a for a in answer["responses"] if a.get("correlationData") == mark]
        return answers


@contextmanager
def connect(settings: Settings) -> Iterator[Control]:
    """Connect as the broker's account administrator; a broker that is away or refuses raises Unavailable."""
    ready: queue.Queue[str] = queue.Queue()
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=f"nenghao-accounts-{uuid.uuid4().hex[:12]}",
        protocol=MQTTProtocolVersion.MQTTv5,
    )
    client.username_pw_set(settings.broker_admin_user, settings.broker_admin_password.get_secret_value())

    def connected(c: Client, _: object, __: ConnectFlags, reason: ReasonCode, ___: Properties | None) -> None:
        if reason.is_failure:
            ready.put(str(reason))
        elif c.subscribe(f"{CONTROL_TOPIC}/response", qos=1)[0] is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            ready.put("it cannot be subscribed to")

    def subscribed(_: Client, __: object, ___: int, reasons: list[ReasonCode], ____: Properties | None) -> None:
        ready.put(str(reasons[0]) if reasons[0].is_failure else "")

    def answered(_: Client, __: object, message: MQTTMessage) -> None:
        answers.put(json.loads(message.payload))

    client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, answered
    _open(client, settings, ready)
    try:
        yield Control(client, answers)
    finally:
        client.disconnect()
        client.loop_stop()


def _open(client: Client, settings: Settings, ready: "queue.Queue[str]") -> None:
    where = f"{settings.broker_host}:{settings.broker_port}"
    try:
        if settings.broker_ca_file is not None:
            client.tls_set(str(settings.broker_ca_file))
        client.connect(settings.broker_host, settings.broker_port, keepalive=30)
    except OSError as error:
        raise Unavailable(
            f"the broker at {where} does not answer ({error}): start it, or set NENGHAO_BROKER_HOST and _PORT",
            detail_zh=f"消息服务器 {where} 无响应",
        ) from error
    client.loop_start()
    try:
        refusal = ready.get(timeout=ANSWER_TIMEOUT_S)
    except queue.Empty:
        refusal = "no answer in time"
    if refusal:
        client.disconnect()
        client.loop_stop()
        raise Unavailable(
            f"the broker at {where} refuses its administrator {settings.broker_admin_user!r} ({refusal}): check"
            " NENGHAO_BROKER_ADMIN_USER and NENGHAO_BROKER_ADMIN_PASSWORD",
            detail_zh=f"消息服务器 {where} 拒绝管理员登录",
        )


def account_names(control: Control) -> set[str]:
    """Return the names of all accounts."""
    names: set[str] = set()
    while True:
        page = {"command": "listClients", "verbose": False, "count": NAMES_PER_PAGE, "offset": len(names)}
        data = _succeed(control.send([page]))[0]["data"]
        names.update(data["clients"])
        if not data["clients"] or len(names) >= data["totalCount"]:
            return names


def ensure_gateway_accounts(settings: Settings, codes: Iterable[str]) -> dict[str, str]:
    """Make the accounts of gateways that have none, and return their new passwords by code.

    An account that exists keeps its password; its role is written again, so that rights that were changed by hand
    are put right. Running it again after a failure makes exactly what is missing.
    """
    wanted = sorted(set(codes))
    for code in wanted:
        if code in (settings.broker_admin_user, SERVICE_ACCOUNT):
            raise Invalid(f"{code!r} is an account of the service: give the gateway another code")
    with connect(settings) as control:
        existing = account_names(control)
        passwords = {code: secrets.token_urlsafe(PASSWORD_BYTES) for code in wanted if code not in existing}
        _write_roles(control, {f"gateway-{code}": _gateway_rights(code) for code in wanted})
        bound = [
            {**_create(code, password, f"gateway-{code}"), "clientid": code} for code, password in passwords.items()
        ]
        _succeed(control.send(bound))
    return passwords


def ensure_service_account(settings: Settings, password: str) -> None:
    """Make the account of the ingest process, or give it this password; its role is written again."""
    with connect(settings) as control:
        role = f"service-{SERVICE_ACCOUNT}"
        _write_roles(control, {role: _service_rights()})
        if SERVICE_ACCOUNT in account_names(control):
            change = {"command": "setClientPassword", "username": SERVICE_ACCOUNT, "password": password}
            _succeed(control.send([change]))
        else:
            _succeed(control.send([_create(SERVICE_ACCOUNT, password, role)]))


def rotate_password(settings: Settings, code: str) -> str:
    """Give a gateway's account a new password and return it; open connections with the old one are ended."""
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    _change(settings, code, {"command": "setClientPassword", "username": code, "password": password})
    return password


def set_enabled(settings: Settings, code: str, *, is_enabled: bool) -> None:
    """Let a gateway's account connect, or refuse it; disabling ends its open connection."""
    _change(settings, code, {"command": "enableClient" if is_enabled else "disableClient", "username": code})


def delete_account(settings: Settings, code: str) -> None:
    """Remove a gateway's account and role; its open connection is ended."""
    role = {"command": "deleteRole", "rolename": f"gateway-{code}"}
    _change(settings, code, {"command": "deleteClient", "username": code}, role)


def _change(settings: Settings, code: str, *commands: Command) -> None:
    with connect(settings) as control:
        answers = control.send(commands)
        if any("not found" in answer.get("error", "") for answer in answers[:1]):
            raise NotFound(
                f"gateway {code!r} has no account on the broker: `nenghao gateways add {code}` makes one",
                detail_zh=f"网关 {code} 在消息服务器上没有账户",
            )
        _succeed(answers)


def _create(name: str, password: str, role: str) -> Command:
    return {"command": "createClient", "username": name, "password": password, "roles": [{"rolename": role}]}


def _write_roles(control: Control, roles: dict[str, list[dict[str, Any]]]) -> None:
    """Create each role, or set the rights of one that is there."""
    made = control.send([{"command": "createRole", "rolename": r, "acls": acls} for r, acls in roles.items()])
    there = [role for role, answer in zip(roles, made, strict=True) if "already exists" in answer.get("error", "")]
    _succeed([answer for answer in made if "already exists" not in answer.get("error", "")])
    _succeed(control.send([{"command": "modifyRole", "rolename": r, "acls": roles[r]} for r in there]))


def _rights(*pairs: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"acltype": kind, "topic": topic, "priority": 0, "allow": True} for kind, topic in pairs]


def _gateway_rights(code: str) -> list[dict[str, Any]]:
    down = f"nenghao/v1/{code}/down/#"
    # Each topic by name: under up/# one gateway could fill the broker's memory with retained messages.
    return _rights(
        *(("publishClientSend", f"nenghao/v1/{code}/up/{what}") for what in UP_TOPICS),
        ("subscribePattern", down),
        ("publishClientReceive", down),
    )


def _service_rights() -> list[dict[str, Any]]:
    up = "nenghao/v1/+/up/#"
    return _rights(
        ("publishClientSend", "nenghao/v1/+/down/#"),
        ("publishClientReceive", up),
        ("subscribePattern", up),
        # Mosquitto 2.0.21 compares a shared subscription with its `$share/group/` in front (tried: refused without).
        ("subscribePattern", f"$share/+/{up}"),
    )


def _succeed(answers: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Return the answers when none is an error."""
    for answer in answers:
        if "error" in answer:
            raise Unavailable(
                f"the broker refuses {answer['command']}: {answer['error']}; what came before is done: run it again",
                detail_zh=f"消息服务器拒绝账户操作 {answer['command']}",
            )
    return answers
