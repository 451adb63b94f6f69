"""A broker account for a measurement, made through the broker's own control topic."""

import json
import secrets
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from deploy.local.broker import Broker

CONTROL = "$CONTROL/dynamic-security/v1"


def open_account(broker: Broker, user: str, topics: list[str]) -> str:
    """Create an account that may read and write the topics; return its password."""
    password = secrets.token_urlsafe(16)
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    acls = [{"acltype": k, "topic": t, "allow": True} for k in kinds for t in topics]
    commands = [
        {"command": "createRole", "rolename": user, "acls": acls},
        {"command": "createClient", "username": user, "password": password, "roles": [{"rolename": user}]},
    ]
    answered = threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=f"{user}-admin", protocol=mqtt.MQTTv5)
    client.username_pw_set(*broker.admin_credentials)
    client.on_message = lambda _c, _u, _m: answered.set()
    client.on_subscribe = lambda c, _u, _m, _r, _p: c.publish(CONTROL, json.dumps({"commands": commands}), qos=1)
    client.connect("127.0.0.1", broker.port)
    client.subscribe(f"{CONTROL}/response", qos=1)
    client.loop_start()
    if not answered.wait(10):
        raise RuntimeError(f"the broker on port {broker.port} did not answer within 10 s")
    client.disconnect()
    client.loop_stop()
    return password
