"""nenghao-sim: gateways, a city of them, and an official's mailbox, for trying the service out."""

import json
import threading
from datetime import date
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Never

import typer
import yaml

from simulators import fleet as fleet_module
from simulators import totals as totals_module
from simulators.chaos.command import chaos
from simulators.console import complain, say
from simulators.faults import KINDS, FaultError
from simulators.gateway import Broker
from simulators.plan import load_plan, registry
from simulators.receiver import FAILURES, Mailbox, make_server
from simulators.replay import ReplayError, ReplayOptions, ReplayResult, replay
from simulators.signature import SignatureError, secret_bytes
from simulators.stop import Stop
from simulators.store import StoreError

app = typer.Typer(
    help="Simulators of Nenghao: devices and officials as outsiders. 能耗监测模拟器：端设备与主管人员。",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
fleet = typer.Typer(help="A simulated city of enterprises. 模拟城市的企业与网关。", no_args_is_help=True)
app.add_typer(fleet, name="fleet")
app.command("chaos")(chaos)


class Signal(StrEnum):
    """What the readings of a point are."""

    REGISTER = "register"
    INTERVAL = "interval"


class LaneName(StrEnum):
    """On which lane to send."""

    LIVE = "live"
    BACKFILL = "backfill"


Host = Annotated[str, typer.Option(envvar="NENGHAO_BROKER_HOST", help="Broker. 消息代理地址")]
Port = Annotated[int, typer.Option(envvar="NENGHAO_BROKER_PORT", min=1, max=65535, help="Its port. 端口")]
CaFile = Annotated[
    Path | None,
    typer.Option(
        "--cafile", envvar="NENGHAO_BROKER_CA_FILE", exists=True, dir_okay=False, help="TLS authority. 证书文件"
    ),
]
State = Annotated[Path, typer.Option(help="Folder that the fleet keeps its queues in. 状态目录")]


def _fail(error: Exception | str) -> Never:
    complain(f"nenghao-sim: {error}")
    raise typer.Exit(2)


@fleet.command("plan")
def fleet_plan(
    out: Annotated[Path, typer.Option(help="Folder for registry.yaml. 输出目录")],
) -> None:
    """Write the registry of the simulated city, for `nenghao registry import`. 生成登记文件。"""
    plan = load_plan()
    try:
        out.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(registry(plan), allow_unicode=True, sort_keys=False, width=120)
        (out / "registry.yaml").write_text(text, "utf-8")
    except OSError as error:
        _fail(f"{out}: cannot be written ({error.strerror})")
    points = sum(len(enterprise.points) for enterprise in plan)
    lines = sum(len(enterprise.lines) for enterprise in plan)
    say(f"{out / 'registry.yaml'}: {len(plan)} enterprises, {lines} lines, {points} points")


@fleet.command("run")
def fleet_run(
    *,
    credentials: Annotated[Path, typer.Option(help="Passwords that the registry import wrote. 网关口令文件")],
    state: State,
    api: Annotated[str | None, typer.Option(help="Address of the API, for production output. 接口地址")] = None,
    key: Annotated[str | None, typer.Option(envvar="NENGHAO_API_KEY", help="API key. 接口密钥")] = None,
    host: Host = "127.0.0.1",
    port: Port = 1883,
    cafile: CaFile = None,
    speed_up: Annotated[
        int,
        typer.Option(min=1, max=900, help="Sample so many times as often; readings are never dated ahead. 采样加速"),
    ] = 1,
    faults: Annotated[str, typer.Option(help=f"Comma-separated: {', '.join(KINDS)}. 故障")] = "",
    seed: Annotated[int, typer.Option(help="Another city of the same shape. 随机种子")] = 1,
    start: Annotated[
        str | None, typer.Option("--from", help="First day of the history, YYYY-MM-DD. 历史起始日")
    ] = None,
) -> None:
    """Run the city: history first, then live until stopped. 运行：先补传历史，再实时上报。"""
    if (api is None) != (key is None):
        _fail("--api and --key belong together: output is posted with both, or not at all")
    stop = Stop()
    try:
        options = fleet_module.FleetOptions(
            passwords=fleet_module.read_credentials(credentials),
            broker=Broker(host, port, cafile),
            state=state,
            api_url=api,
            api_key=key,
            speed_up=speed_up,
            faults=frozenset(name.strip() for name in faults.split(",") if name.strip()),
            seed=seed,
            from_on=_day(start) if start else None,
        )
        fleet_module.run_fleet(options, stop)
    except (fleet_module.FleetError, StoreError, FaultError) as error:
        _fail(error)


@fleet.command("totals")
def fleet_totals(state: State) -> None:
    """Print what was sent in total, point by point, as JSON; also while it runs. 打印已发送的总量。"""
    try:
        print(json.dumps(totals_module.totals(state), ensure_ascii=False, indent=1))
    except StoreError as error:
        _fail(error)


@app.command("replay")
def replay_file(
    *,
    file: Annotated[Path, typer.Argument(help="CSV with a header. 数据文件")],
    gateway: Annotated[str, typer.Option(help="Code of the gateway. 网关编码")],
    password: Annotated[str, typer.Option(envvar="NENGHAO_GATEWAY_PASSWORD", help="Its password. 口令")],
    point: Annotated[str, typer.Option(help="Code of the point. 测点编码")],
    column: Annotated[str, typer.Option(help="Column with the quantity of the interval. 数值列")] = "usage_kwh",
    time_column: Annotated[str, typer.Option(help="Column with its start. 时间列")] = "interval_start",
    signal: Annotated[Signal, typer.Option("--as", help="Send a cumulative register, or intervals. 信号类型")] = (
        Signal.REGISTER
    ),
    initial: Annotated[str, typer.Option(help="Register before the first interval. 初始读数")] = "0",
    shuffle: Annotated[int | None, typer.Option(help="Send in random order of this seed. 乱序种子")] = None,
    lane: Annotated[LaneName, typer.Option(help="Lane. 通道")] = LaneName.BACKFILL,
    host: Host = "127.0.0.1",
    port: Port = 1883,
    cafile: CaFile = None,
    batch: Annotated[int, typer.Option(min=1, max=2000, help="Readings in a message. 每条消息的读数")] = 50,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for all acks. 等待确认的秒数")] = 120.0,
    state: Annotated[Path | None, typer.Option(help="Store to keep; else a new one each time. 存储文件")] = None,
) -> None:
    """Send a CSV of interval readings as a gateway and wait for every ack. 以网关身份回放数据文件。"""
    try:
        options = ReplayOptions(
            file=file,
            gateway=gateway,
            password=password,
            point=point,
            column=column,
            time_column=time_column,
            signal=signal.value,
            initial=_decimal("--initial", initial),
            shuffle_seed=shuffle,
            lane=lane.value,
            batch=batch,
            timeout_s=timeout,
            state=state,
        )
        result = replay(options, Broker(host, port, cafile))
    except (ReplayError, StoreError) as error:
        _fail(error)
    _print_result(result)
    raise typer.Exit(0 if result.is_complete else 1)


def _print_result(result: ReplayResult) -> None:
    tally = result.tally
    say(
        f"{result.readings:,} readings in {result.messages:,} messages: accepted {tally.accepted:,}, duplicate"
        f" {tally.duplicate:,}, disputed {tally.disputed:,}, rejected {tally.rejected:,}"
    )
    for reason, items in result.reasons.items():
        complain(f"rejected {reason}: {items:,}")
    if result.waiting:
        complain(f"{result.waiting:,} messages were not acknowledged: {result.refusal or 'the time is over'}")


@app.command("receiver")
def receiver(
    *,
    secret: Annotated[
        list[str],
        typer.Option(envvar="NENGHAO_WEBHOOK_SECRET", help="whsec_…; several while one replaces another. 签名密钥"),
    ],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port, 0 for any free one. 端口")] = 8099,
    host: Annotated[str, typer.Option(help="Address to listen on. 监听地址")] = "127.0.0.1",
    fail: Annotated[str | None, typer.Option(help=f"Fail on purpose: {', '.join(FAILURES)}. 故意失败")] = None,
    fail_first: Annotated[int | None, typer.Option(min=0, help="Only so many requests fail. 失败次数")] = None,
    log: Annotated[Path | None, typer.Option(help="File of JSON lines, one per request. 日志文件")] = None,
) -> None:
    """Receive signed webhooks and print what an official would read. 接收并验证告警通知。"""
    if fail is not None and fail not in FAILURES:
        _fail(f"--fail {fail}: there are {', '.join(FAILURES)}")
    try:
        for one in secret:
            secret_bytes(one)
        server = make_server(Mailbox(secret, log, fail, fail_first), host, port)
    except SignatureError as error:
        _fail(f"--secret: {error}")
    except OSError as error:
        _fail(f"{host}:{port}: cannot listen ({error.strerror}); choose another --port")
    Stop(on_stop=lambda: threading.Thread(target=server.shutdown, daemon=True).start())
    say(f"listening on http://{host}:{server.server_address[1]}/ 正在接收通知")
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    say("stopped 已停止")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        _fail(f"--from {text}: not a day of the form YYYY-MM-DD")


def _decimal(option: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        _fail(f"{option} {text}: not a number")


def main() -> None:
    """Entry point of `nenghao-sim`."""
    app()


if __name__ == "__main__":
    main()
