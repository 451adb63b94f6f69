"""`make run`: the servers, the service and a simulated city, from nothing to a page with figures on it."""

import base64
import json
import os
import shlex
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.local.errors import LocalRuntimeError
from deploy.local.folder import secret, secret_path, write_atomically
from deploy.local.ports import kept_ports
from deploy.local.servers import LocalServers, prepare_servers
from deploy.local.supervisor import Child, Supervisor

DATABASE = "nenghao"
PORTS = ("api", "receiver", "ingest-1-metrics", "ingest-2-metrics", "worker-metrics")
READY_TIMEOUT_S = 60.0
# Meters are read every 10 s instead of every 15 min, so that a visitor sees figures move.
DEFAULT_SPEED_UP = 90
FIRST_RATIO_PATIENCE_S = 300.0
# "off": the service alone, without its simulated city, for gateways of one's own.
CITY_VARIABLE = "NENGHAO_CITY"


def say(line: str) -> None:
    """Print a line at once; the terminal is the only reader."""
    print(line, flush=True)


@dataclass(frozen=True)
class Place:
    """Where this run keeps things and which ports are its own."""

    folder: Path
    ports: Mapping[str, int]
    broker_port: int

    @property
    def credentials(self) -> Path:
        """The passwords of the simulated gateways, as the registry import wrote them."""
        return secret_path(self.folder, "gateways.json")

    @property
    def key_file(self) -> Path:
        """The operator's key of this installation."""
        return secret_path(self.folder, "operator.key")

    @property
    def shell(self) -> Path:
        """What a shell reads to have `nenghao` and this installation's settings."""
        return secret_path(self.folder, "shell")

    @property
    def fleet(self) -> Path:
        """The simulated city: its registry file and its gateways' stores."""
        return self.folder / "fleet"

    @property
    def notices(self) -> Path:
        """One JSON line for each notice that the simulated official received."""
        return self.folder / "notices.jsonl"

    @property
    def address(self) -> str:
        """The address of the page and of the API."""
        return f"http://127.0.0.1:{self.ports['api']}"


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _webhook_secret(folder: Path) -> str:
    return "whsec_" + base64.b64encode(secret(folder, "webhook").encode()).decode()


def _environment(place: Place, servers: LocalServers) -> dict[str, str]:
    """The settings of every service process of this run."""
    user, password = servers.broker.admin_credentials
    return {
        "NENGHAO_DATABASE_URL": servers.postgres.dsn(DATABASE),
        "NENGHAO_BROKER_HOST": "127.0.0.1",
        "NENGHAO_BROKER_PORT": str(servers.broker.port),
        "NENGHAO_BROKER_ADMIN_USER": user,
        "NENGHAO_BROKER_ADMIN_PASSWORD": password,
        "NENGHAO_PUBLIC_URL": place.address,
        "NENGHAO_INGEST_PASSWORD": secret(place.folder, "ingest"),
        "NENGHAO_WORKER_METRICS_PORT": str(place.ports["worker-metrics"]),
        # The simulated official's receiver listens on this machine.
        "NENGHAO_WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "PYTHONUNBUFFERED": "1",
    }


def _prepare(supervisor: Supervisor, place: Place, env: Mapping[str, str]) -> None:
    """Bring the database, the broker's accounts and (the first time) the simulated city's registry in."""

    def nenghao(step: str, *words: str) -> None:
        with supervisor.step(step):
            supervisor.run_to_end(Child("setup", [_program("nenghao"), *words], env))

    nenghao("database migrated", "migrate")
    nenghao("official tables loaded", "reference", "load")
    secret(place.folder, "ingest")
    password_file = str(secret_path(place.folder, "ingest"))
    nenghao("broker account of the service", "broker", "prepare", "--ingest-password-file", password_file)
    if not place.key_file.exists():
        _create_key(supervisor, place, env)
    if not place.credentials.exists():
        with supervisor.step("simulated city planned"):
            words = ["fleet", "plan", "--out", str(place.fleet)]
            supervisor.run_to_end(Child("setup", [_program("nenghao-sim"), *words], env))
        draft = place.credentials.with_suffix(".new")
        registry = str(place.fleet / "registry.yaml")
        nenghao("enterprises registered", "registry", "import", registry, "--credentials", str(draft))
        url = f"http://127.0.0.1:{place.ports['receiver']}/notices"
        endpoint = ["endpoints", "add", "--name", "simulated-official", "--url", url]
        nenghao("official's endpoint added", *endpoint, "--secret", _webhook_secret(place.folder))
        draft.replace(place.credentials)


def _create_key(supervisor: Supervisor, place: Place, env: Mapping[str, str]) -> None:
    """Make the operator's key; the command prints it once, the secrets folder keeps it for the next run."""
    log = place.folder / "secrets" / "key.out"
    log.unlink(missing_ok=True)
    words = [_program("nenghao"), "keys", "create", "--role", "operator", "--name", "make-run"]
    with supervisor.step("key made"):
        supervisor.run_to_end(Child("key", words, env, log_path=log))
    keys = [word for word in log.read_text().split() if word.startswith("nh_")]
    log.unlink()
    if len(keys) != 1:
        raise LocalRuntimeError("`nenghao keys create` printed no key; run it by hand and look at its message")
    write_atomically(place.key_file, keys[0])


def _service(place: Place, env: Mapping[str, str]) -> list[Child]:
    """The service's own processes: the API, two ingest processes on one subscription, one worker."""
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "app.main:app_factory", "--host", "127.0.0.1"]
    ingest = [
        Child(
            f"ingest-{number}",
            [_program("nenghao-ingest")],
            {
                **env,
                "NENGHAO_INGEST_CLIENT": str(number),
                "NENGHAO_INGEST_METRICS_PORT": str(place.ports[f"ingest-{number}-metrics"]),
            },
        )
        for number in (1, 2)
    ]
    api = Child("api", [*uvicorn, "--port", str(place.ports["api"]), "--log-level", "warning"], env)
    return [api, *ingest, Child("worker", [sys.executable, "-m", "app.worker"], env)]


def _outsiders(place: Place) -> list[Child]:
    """The simulated official and the simulated city; they get no secret of the service but their own."""
    receiver = ["receiver", "--port", str(place.ports["receiver"]), "--log", str(place.notices)]
    speed_up = os.environ.get("NENGHAO_SPEED_UP", str(DEFAULT_SPEED_UP))
    fleet = [
        *("fleet", "run", "--credentials", str(place.credentials), "--state", str(place.fleet)),
        *("--api", place.address, "--speed-up", speed_up),
        *("--host", "127.0.0.1", "--port", str(place.broker_port)),
    ]
    sim, plain = _program("nenghao-sim"), {"PYTHONUNBUFFERED": "1"}
    official = {**plain, "NENGHAO_WEBHOOK_SECRET": _webhook_secret(place.folder)}
    gateways = {**plain, "NENGHAO_API_KEY": place.key_file.read_text().strip()}
    return [Child("receiver", [sim, *receiver], official), Child("fleet", [sim, *fleet], gateways)]


def _write_shell(place: Place, env: Mapping[str, str]) -> None:
    """Write the settings as a shell reads them, with the API's address and the operator's key."""
    key = place.key_file.read_text().strip()
    told = {**env, "NENGHAO_API": f"{place.address}/api/v1", "NENGHAO_API_KEY": key}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in told.items()]
    programs = shlex.quote(str(Path(sys.executable).parent))
    write_atomically(place.shell, "\n".join([f"export PATH={programs}:$PATH", *lines, ""]))


def _get(place: Place, path: str) -> object:
    request = urllib.request.Request(place.address + path)  # noqa: S310 - our own loopback address
    if place.key_file.exists():
        request.add_header("Authorization", f"Bearer {place.key_file.read_text().strip()}")
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
        return json.load(answer)


def _wait_until_ready(supervisor: Supervisor, place: Place) -> None:
    """Wait for the API's own readiness check; a process that dies meanwhile is started again."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            _get(place, "/health/ready")
        except (urllib.error.URLError, OSError, ValueError):
            supervisor.check()
            time.sleep(0.1)
        else:
            return
    raise LocalRuntimeError(
        f"the API is not ready after {READY_TIMEOUT_S:.0f} s; see {place.folder / 'logs' / 'api.log'}"
    )


def _greeting(place: Place) -> str:
    logs = place.folder / "logs"
    return f"""
  page       {place.address}/            页面
  API docs   {place.address}/docs        接口文档
  key        {place.key_file.read_text().strip()}
             sign in with it, or send it as `Authorization: Bearer …`
  shell      . {place.shell}   (then `nenghao --help`; $NENGHAO_API, $NENGHAO_API_KEY)
  notices    {logs / "receiver.log"}   (what the simulated official reads)
  gateways   {logs / "fleet.log"}
  stop       Ctrl-C   (a second `make run` keeps the data, `make clean` removes it)
"""


def _has_value(answer: object) -> bool:
    """Whether any line has a ratio; a row may also say why there is none yet."""
    items = answer.get("items", []) if isinstance(answer, dict) else []
    return any(isinstance(item, dict) and item.get("ratio") is not None for item in items)


def _progress(place: Place, servers_up_at: float) -> Callable[[], None]:
    """Return a check that tells, once each, when the first ratio and the first verified notice were seen."""
    seen: set[str] = set()

    def look() -> None:
        after_s = time.monotonic() - servers_up_at
        is_due = "ratio" not in seen and after_s < FIRST_RATIO_PATIENCE_S
        if is_due and _has_value(_get(place, "/api/v1/ratios")):
            seen.add("ratio")
            say(f"✓ first ratio visible {after_s:.0f} s after the servers were up")
        if "notice" not in seen and place.notices.exists() and place.notices.stat().st_size:
            seen.add("notice")
            say(f"✓ first signed notice received and verified {after_s:.0f} s after the servers were up")

    return look


def _watch(supervisor: Supervisor, look: Callable[[], None]) -> None:
    """Keep everything alive until a signal; look for progress once a second."""
    next_look_at = 0.0
    while True:
        supervisor.check()
        if time.monotonic() >= next_look_at:
            next_look_at = time.monotonic() + 1.0
            with suppress(urllib.error.URLError, OSError, ValueError):  # the API is being started again: look later
                look()
        time.sleep(0.1)


def run(folder: Path) -> None:
    """Start everything, print where it is, and keep it alive until Ctrl-C or SIGTERM."""
    with Supervisor(say, folder) as supervisor:
        with supervisor.step("server programs"):
            servers = prepare_servers(folder, say)
        place = Place(folder, kept_ports(folder, PORTS), servers.broker.port)
        with supervisor.step("PostgreSQL with TimescaleDB"):
            supervisor.keep(servers.postgres)
            servers.postgres.ensure_database(DATABASE)
        with supervisor.step("Mosquitto"):
            supervisor.keep(servers.broker)
        servers_up_at = time.monotonic()
        env = _environment(place, servers)
        _prepare(supervisor, place, env)
        _write_shell(place, env)
        with supervisor.step("API, ingest and worker"):
            for child in _service(place, env):
                supervisor.start(child)
            _wait_until_ready(supervisor, place)
        if os.environ.get(CITY_VARIABLE) != "off":
            with supervisor.step("simulated official and gateways"):
                for child in _outsiders(place):
                    supervisor.start(child)
        say(_greeting(place))
        _watch(supervisor, _progress(place, servers_up_at))
