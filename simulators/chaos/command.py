"""`nenghao-sim chaos`: the whole run, from registration to verdict."""

import json
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from simulators.chaos import verdict
from simulators.chaos.blows import draw_blows
from simulators.chaos.conductor import Conductor, StreamDied, StreamProcess
from simulators.chaos.processes import VictimError, Victims
from simulators.chaos.site import SiteError, register, site_plan, store_path
from simulators.chaos.stream import START_S, Order
from simulators.console import complain
from simulators.plan import EnterprisePlan
from simulators.sampling import iso

SERVERS = ("ingest-1", "ingest-2", "worker", "postgres", "mosquitto")
ANSWERED_WITHIN_S = 300.0
SUMMED_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class ChaosOptions:
    """What a run was asked for. `state` must be empty or new: a run is a site of its own."""

    processes: Path
    state: Path
    api: str
    key: str
    host: str
    port: int
    kills: int
    seed: int
    streams: int
    gateways: int
    ticks_per_s: float


def chaos(
    *,
    processes: Annotated[Path, typer.Option(help="processes.json of the supervisor: name, pid, start. 进程清单")],
    state: Annotated[Path, typer.Option(help="New folder for the gateways' stores. 状态目录")],
    api: Annotated[str, typer.Option(help="Address of the API. 接口地址")],
    key: Annotated[str, typer.Option(envvar="NENGHAO_API_KEY", help="An operator's key. 管理员密钥")],
    host: Annotated[str, typer.Option(envvar="NENGHAO_BROKER_HOST", help="Broker. 消息代理地址")] = "127.0.0.1",
    port: Annotated[int, typer.Option(envvar="NENGHAO_BROKER_PORT", min=1, max=65535, help="Its port. 端口")] = 1883,
    kills: Annotated[int, typer.Option(min=0, help="How many SIGKILLs. 杀进程次数")] = 12,
    seed: Annotated[int, typer.Option(help="Draws who is killed when, and what is sent. 随机种子")] = 1,
    streams: Annotated[int, typer.Option(min=1, max=16, help="Processes of gateways. 网关进程数")] = 3,
    gateways: Annotated[int, typer.Option(min=1, max=99, help="Gateways in all of them. 网关数")] = 12,
    rate: Annotated[float, typer.Option(min=0.1, help="Messages a second and gateway. 每秒消息数")] = 4.0,
) -> None:
    """Kill processes while gateways stream, then prove that nothing was lost. 混沌测试：随机杀进程并核对。

    Kills ingest, worker, database, broker and gateways, cuts connections, moves clocks. Prints one JSON line per blow
    and the result; the exit code is 0 only if everything held.
    """
    options = ChaosOptions(processes, state, api, key, host, port, kills, seed, streams, gateways, rate)
    try:
        result = run_chaos(options)
    except (SiteError, VictimError, StreamDied) as error:
        complain(f"nenghao-sim: {error}")
        raise typer.Exit(2) from None
    print(json.dumps(result, ensure_ascii=False), flush=True)
    raise typer.Exit(0 if result["holds"] else 1)


def run_chaos(options: ChaosOptions) -> dict[str, Any]:
    """Run and judge; returns the result. Raises SiteError, VictimError, StreamDied."""
    if options.state.exists() and any(options.state.iterdir()):
        raise SiteError(f"{options.state} is not empty: a run is a site of its own, give it a new folder")
    options.state.mkdir(parents=True, exist_ok=True)
    victims = Victims(options.processes)
    servers = [name for name in victims.names() if name in SERVERS]
    name = f"chaos-{secrets.token_hex(3)}"
    plan = site_plan(name, options.gateways)
    streams = _streams(options, name, register(plan, options.api, options.key))
    conductor = Conductor(streams, victims, lambda facts: print(json.dumps(facts), flush=True))
    # Gateways are drawn by their place: their names differ from run to run.
    blows = draw_blows(options.kills, options.seed, servers + list(conductor.streams), [e.gateway for e in plan])
    begun_s = time.monotonic()
    try:
        conductor.run(blows)
        blown_s = time.monotonic()
        is_answered = conductor.finish(ANSWERED_WITHIN_S)
    finally:
        conductor.close()
    answered_s = time.monotonic()
    facts = _judge(options, plan)
    seconds = {"blows": blown_s - begun_s, "answers": answered_s - blown_s, "sums": time.monotonic() - answered_s}
    return {
        "holds": is_answered and facts["waiting_messages"] == 0 and not facts["disputed"] and not facts["unequal"],
        "seed": options.seed,
        "site": name,
        **asdict(conductor.dealt),
        **facts,
        "seconds": {what: round(taken_s, 1) for what, taken_s in seconds.items()},
    }


def _streams(options: ChaosOptions, name: str, passwords: dict[str, str]) -> list[StreamProcess]:
    codes = sorted(passwords)
    orders = [
        Order(
            name,
            options.gateways,
            {code: passwords[code] for code in codes[number :: options.streams]},
            str(store_path(options.state, number)),
            options.host,
            options.port,
            options.seed,
            options.ticks_per_s,
        )
        for number in range(options.streams)
    ]
    log = options.state / "streams.log"
    return [StreamProcess(f"gateways-{number + 1}", order, log) for number, order in enumerate(orders)]


def _judge(options: ChaosOptions, plan: list[EnterprisePlan]) -> dict[str, Any]:
    paths = [store_path(options.state, number) for number in range(options.streams)]
    sent = verdict.look_at_stores(paths, [enterprise.gateway for enterprise in plan])
    sums = verdict.own_sums(plan, options.seed, sent.counted)
    from_month = iso(START_S)[:7]
    return {
        "waiting_messages": sent.waiting_messages,
        **sent.tallies,
        "reasons": sent.reasons,
        "readings_that_count": len(sent.counted),
        "points_with_usage": len(sums),
        "unequal": verdict.unequal(sums, options.api, options.key, from_month, SUMMED_WITHIN_S),
    }
