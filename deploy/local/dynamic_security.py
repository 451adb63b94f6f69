"""The first state of Mosquitto's dynamic security plugin: one administrator, everything else denied.

Written here rather than by `mosquitto_ctrl dynsec init`, which takes the password on its command line,
lets the administrator read every topic, and lets every client receive whatever is sent to it.
"""

import base64
import hashlib
import json
import secrets

ADMINISTRATOR = "admin"
# The plugin's own number is 101, meant for passwords that are checked at each of many connects. The
# passwords made here have 192 random bits, which no number of iterations could make safer.
ITERATIONS = 101
CONTROL_TOPICS = "$CONTROL/dynamic-security/#"
STATISTICS_TOPICS = "$SYS/#"


def _password_fields(password: str) -> dict[str, object]:
    """PBKDF2 with SHA-512, as the plugin computes it when a client connects."""
    salt = secrets.token_bytes(12)
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, ITERATIONS)
    return {
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": ITERATIONS,
    }


def _allow(kind: str, topic: str) -> dict[str, object]:
    return {"acltype": kind, "topic": topic, "priority": 0, "allow": True}


def _administrator_role() -> dict[str, object]:
    """It manages accounts and reads the broker's statistics; it sees no reading and sends none."""
    rules = [_allow("publishClientSend", CONTROL_TOPICS)]
    for topic in (CONTROL_TOPICS, STATISTICS_TOPICS):
        rules += [_allow("subscribePattern", topic), _allow("publishClientReceive", topic)]
    return {"rolename": ADMINISTRATOR, "acls": rules}


def first_state(password: str) -> str:
    """The JSON that the plugin reads at its first start; from then on the plugin writes it."""
    administrator = {
        "username": ADMINISTRATOR,
        "textName": "administrator of accounts",
        **_password_fields(password),
        "roles": [{"rolename": ADMINISTRATOR}],
    }
    defaults = {"publishClientSend": False, "publishClientReceive": False, "subscribe": False, "unsubscribe": True}
    content = {"defaultACLAccess": defaults, "clients": [administrator], "roles": [_administrator_role()]}
    return json.dumps(content, indent=2) + "\n"
