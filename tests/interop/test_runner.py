"""The runner with small processes: order, restarts, giving up, taken ports, and that nothing is left behind."""

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.runner import machine
from local.runner.readiness import is_ready
from local.runner.specs import Site, Spec
from local.runner.supervisor import Patience, StartFailed, Supervisor
from local.runner.wiring import turn_ports
from tests.support.ports import free_port
from tests.support.small_system import SERVER
from tests.support.system import ROOT

pytestmark = pytest.mark.interop

DEADLINE_S = 20
PATIENCE = Patience(ready_s=10, pause_s=0.01, longest_pause_s=0.05, drain_s=0.2, stop_s=0.3)


def server(name: str, *after: str, stops: int = 0) -> Spec:
    port = free_port()
    argv = (sys.executable, "-c", SERVER, str(port))
    return Spec(name, argv, f"http://127.0.0.1:{port}/", after, stops, dict(os.environ))


def script(name: str, text: str, *, ready: str = "") -> Spec:
    return Spec(name, (sys.executable, "-c", text), ready, environment=dict(os.environ))


class Stage:
    """Supervisors that a test starts, and what they say."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.lines: list[str] = []
        self.started: list[Supervisor] = []

    def supervisor(self, *specs: Spec) -> Supervisor:
        made = Supervisor(specs, self.logs, self.lines.append, PATIENCE)
        self.started.append(made)
        return made

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path / "logs")
    yield made
    for supervisor in made.started:
        await supervisor.stop(asyncio.Event())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the process table has no event to wait for
            await asyncio.sleep(0.01)


async def test_a_process_starts_when_those_before_it_are_ready(stage: Stage) -> None:
    await stage.supervisor(server("last", "middle"), server("middle", "step"), script("step", "print('hi')")).start()
    order = [line.split()[0] for line in stage.lines]
    assert order == ["step", "middle", "last"]
    assert (stage.logs / "step.log").read_text() == "hi\n"


async def test_a_process_that_dies_is_started_again_and_this_is_said(stage: Stage) -> None:
    supervisor = stage.supervisor(server("one"), server("two"))
    await supervisor.start()
    before = supervisor.pids
    os.kill(before["one"], signal.SIGKILL)
    await until(lambda: "one        ready again" in stage.text)
    assert "one ended (signal SIGKILL)" in stage.text
    assert supervisor.pids["one"] != before["one"]
    assert supervisor.pids["two"] == before["two"]


async def test_a_process_that_keeps_failing_ends_the_start_with_its_last_lines(stage: Stage) -> None:
    failing = script("bad", "import sys; print('no such table'); sys.exit(3)", ready="http://127.0.0.1:9/")
    with pytest.raises(StartFailed, match=r"(?s)bad failed 5 times \(exit code 3\).*no such table"):
        await stage.supervisor(failing, server("good")).start()


async def test_a_step_that_fails_ends_the_start_at_once(stage: Stage) -> None:
    with pytest.raises(StartFailed, match=r"step failed \(exit code 1\)"):
        await stage.supervisor(script("step", "raise SystemExit(1)"), server("good", "step")).start()


async def test_a_program_that_does_not_exist_ends_the_start(stage: Stage) -> None:
    with pytest.raises(StartFailed, match="No such file"):
        await stage.supervisor(Spec("ghost", ("/no/such/program",), "http://127.0.0.1:9/")).start()


async def test_a_process_that_is_given_up_later_leaves_the_others_alone(stage: Stage, tmp_path: Path) -> None:
    once = tmp_path / "once"
    text = f"import os, sys\nif os.path.exists({str(once)!r}): sys.exit(4)\nopen({str(once)!r}, 'w').close()\n"
    port = free_port()
    flaky = Spec(
        "flaky", (sys.executable, "-c", text + SERVER, str(port)), f"http://127.0.0.1:{port}/", (), 0, dict(os.environ)
    )
    supervisor = stage.supervisor(flaky, server("good"))
    await supervisor.start()
    os.kill(supervisor.pids["flaky"], signal.SIGKILL)
    await until(lambda: "flaky failed 5 times (exit code 4) and is given up" in stage.text)
    assert set(supervisor.pids) == {"good"}


async def test_errors_in_a_log_are_shown_but_not_all_of_them(stage: Stage) -> None:
    text = "for n in range(20): print('ERROR number', n)"
    await stage.supervisor(script("loud", text)).start()
    assert "[loud] ERROR number 0" in stage.lines
    assert sum(line.startswith("[loud]") for line in stage.lines) == PATIENCE.errors_per_minute + 1
    assert len((stage.logs / "loud.log").read_text().splitlines()) == 20


async def test_a_line_without_end_does_not_stop_the_copying(stage: Stage) -> None:
    await stage.supervisor(script("long", "print('x' * 1_000_000); print('after')")).start()
    assert (stage.logs / "long.log").read_text().endswith("after\n")


async def test_the_end_is_in_order_and_a_stubborn_process_is_killed(stage: Stage) -> None:
    stubborn = server("stubborn")
    stubborn = Spec("stubborn", stubborn.argv, stubborn.ready, environment={**os.environ, "STUBBORN": "1"})
    supervisor = stage.supervisor(stubborn, server("later", stops=1))
    await supervisor.start()
    pids = list(supervisor.pids.values())
    await supervisor.stop(asyncio.Event())
    assert supervisor.pids == {}
    assert_gone(pids)


async def test_a_process_that_drains_is_told_twice_and_ends_by_itself(stage: Stage) -> None:
    plain = server("draining")
    supervisor = stage.supervisor(Spec("draining", plain.argv, plain.ready, environment={**os.environ, "DRAINS": "1"}))
    await supervisor.start()
    await supervisor.stop(asyncio.Event())
    assert "ended by itself" in (stage.logs / "draining.log").read_text()


def test_a_taken_port_is_named_with_a_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(machine.NotPossible, match=rf"Port {port} is taken.*PORT={port + 1} make run"):
            machine.claim_port("127.0.0.1", port)
    assert machine.claim_port("127.0.0.1", port) == port


def test_an_address_of_another_machine_is_named() -> None:
    with pytest.raises(machine.NotPossible, match=r"HOST=192\.0\.2\.1"):
        machine.claim_port("192.0.2.1", 0)


def test_a_taken_media_port_gives_way_to_a_free_one() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("0.0.0.0", 0))
        taken = holder.getsockname()[1]
        assert machine.free_media_port(taken) != taken


async def test_the_redis_server_of_the_wheel_starts_and_answers(stage: Stage, tmp_path: Path) -> None:
    port = free_port()
    await stage.supervisor(
        Spec("redis", machine.redis_server(port, tmp_path / "r"), f"redis://127.0.0.1:{port}")
    ).start()
    assert stage.lines[0].startswith("redis      ready")


@contextmanager
def small_system(data_dir: Path, port: int, **more: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.small_system"],
        cwd=ROOT,
        env={**os.environ, "PORT": str(port), "DATA_DIR": str(data_dir), **more},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()  # does nothing to a process that has ended
            process.wait(DEADLINE_S)


def read_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    assert process.stdout
    seen = ""
    for line in process.stdout:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"never said {pattern!r}:\n{seen}")


def children_of(process: "subprocess.Popen[str]") -> list[int]:
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(pid) for pid in listed.split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # a zombie has ended; whoever reaps orphans here may take a while


def assert_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "a process was left behind"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_and_the_exit_code_is_0(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    with small_system(tmp_path, port) as process:
        assert f"Parley is ready at http://127.0.0.1:{port} " in read_until(process, "Parley is ready")
        children = children_of(process)
        assert len(children) == 2
        process.send_signal(number)
        read_until(process, "Parley has stopped")
        assert process.wait(DEADLINE_S) == 0
        assert_gone(children)


def test_nothing_outlives_a_runner_that_is_killed(tmp_path: Path) -> None:
    with small_system(tmp_path, free_port(), STUBBORN="1") as process:
        read_until(process, "Parley is ready")
        children = children_of(process)
        assert len(children) == 2
        process.kill()
        assert_gone(children)


def test_a_second_ctrl_c_does_not_wait_for_a_stubborn_process(tmp_path: Path) -> None:
    with small_system(tmp_path, free_port(), STUBBORN="1") as process:
        read_until(process, "Parley is ready")
        children = children_of(process)
        process.send_signal(signal.SIGINT)
        read_until(process, "Press Ctrl-C again")
        process.send_signal(signal.SIGINT)
        assert process.wait(4) == 0, "each of the two ranks would take 5 s"
        assert_gone(children)


def test_a_second_runner_on_the_same_folder_says_why_it_cannot_start(tmp_path: Path) -> None:
    with small_system(tmp_path, free_port()) as process:
        read_until(process, "Parley is ready")
        with small_system(tmp_path, free_port()) as second:
            read_until(second, "Parley already runs on the data folder")
            assert second.wait(DEADLINE_S) == 1


def test_a_taken_port_is_said_before_anything_is_started(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        for host in ("127.0.0.1", "0.0.0.0"):
            with small_system(tmp_path / host, port, HOST=host) as process:
                read_until(process, f"Parley cannot start. Port {port} is taken")
                assert process.wait(DEADLINE_S) == 1
                assert not (tmp_path / host).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_make_that_is_told_to_end_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """The signal goes to make alone, as from another program; Ctrl-C goes to both."""
    environment = {**os.environ, "PORT": str(free_port()), "DATA_DIR": str(tmp_path)}
    command = ["make", "run", "RUNNER=tests.support.small_system"]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        read_until(process, "Parley is ready")
        (runner,) = children_of(process)
        below = [int(pid) for pid in Path(f"/proc/{runner}/task/{runner}/children").read_text().split()]
        assert len(below) == 2
        process.send_signal(number)
        process.wait(DEADLINE_S)
        assert_gone([runner, *below])


def test_the_turn_server_gets_the_ports_that_were_given_by_hand_or_says_why_not() -> None:
    site = Site("127.0.0.1", 8443, True, "https://127.0.0.1:8443", "https://127.0.0.1:8443", turn_host="127.0.0.3")
    port, tls_port = free_port(), free_port()
    by_hand = {"PARLEY_TURN_PORT": str(port), "PARLEY_TURN_TLS_PORT": str(tls_port)}
    assert turn_ports(site, by_hand) == (port, tls_port)
    assert turn_ports(site, {**by_hand, "PARLEY_TURN_TLS_PORT": "0"}) == (port, 0)
    with pytest.raises(machine.NotPossible, match="PARLEY_TURN_PORT=x is no port"):
        turn_ports(site, {"PARLEY_TURN_PORT": "x"})
    with (
        socket.create_server((site.turn_host, port)),
        pytest.raises(machine.NotPossible, match=f"PARLEY_TURN_PORT={port} on 127.0.0.3"),
    ):
        turn_ports(site, by_hand)


async def test_a_process_that_answers_neither_http_nor_redis_is_ready_when_it_listens() -> None:
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    assert not await is_ready(address)
    listening = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port)
    async with listening:
        assert await is_ready(address)
    assert not await is_ready(address)
