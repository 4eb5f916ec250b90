"""The bad network that tests and benches use: delay, losses and order are those that were asked for, and the same seed
loses the same packets. Skipped where TUN devices or namespaces cannot be made, or the program is not built."""

import math
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import pytest

from tests.support.bad_network import GOOD, BadNetwork, bad_network
from tests.support.network import E2E_HOSTS, E2E_SUBNET, NoNetwork, run

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60), pytest.mark.allow_hosts(E2E_HOSTS)]

PORT: Final = 9_009
COUNT: Final = 2_000
PAUSE_S: Final = 0.0005
# Whoever closes resets the connection: a FIN that nobody acknowledges would be sent over the next link again and again.
_ABORT: Final = struct.pack("ii", 1, 0)

# Prints the numbers of the datagrams that come, in order, once none has come for half a second.
_LISTENER: Final = f"""
import socket
heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
heard.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
heard.bind(("{E2E_SUBNET}.2", {PORT}))
print("ready", flush=True)
heard.settimeout(10)
while True:
    try:
        print(int.from_bytes(heard.recv(100)[:4], "big"))
    except TimeoutError:
        break
    heard.settimeout(0.5)
"""
# Answers one TCP connection by its own bytes.
_ECHO: Final = f"""
import socket
with socket.create_server(("{E2E_SUBNET}.2", {PORT})) as server:
    print("ready", flush=True)
    came, _ = server.accept()
    with came:
        while data := came.recv(65536):
            came.sendall(data)
"""


@contextmanager
def link(seed: int = 1) -> Iterator[BadNetwork]:
    with ExitStack() as stack:
        try:
            network = stack.enter_context(bad_network("net", E2E_SUBNET, seed=seed))
        except NoNetwork as reason:
            pytest.skip(str(reason))
        yield network


@contextmanager
def inside(network: BadNetwork, script: str) -> Iterator[subprocess.Popen[str]]:
    command = network.pair.inside(sys.executable, "-c", script)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


def heard(network: BadNetwork, count: int) -> list[int]:
    """The numbers of `count` datagrams that are sent into the namespace, as they come there."""
    with inside(network, _LISTENER) as listener, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for number in range(count):
            sender.sendto(number.to_bytes(4, "big").ljust(60), (network.pair.far_host, PORT))
            time.sleep(PAUSE_S)
        assert listener.stdout is not None
        return [int(line) for line in listener.stdout.read().split()]


def round_trip(network: BadNetwork) -> float:
    """The median of five TCP exchanges, ms."""
    with inside(network, _ECHO), socket.create_connection((network.pair.far_host, PORT), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        taken = []
        for _ in range(5):
            began = time.monotonic()
            connection.sendall(b"ping")
            assert connection.recv(10) == b"ping"
            taken.append((time.monotonic() - began) * 1000)
        return sorted(taken)[2]


def test_tcp_over_a_good_link_takes_little_and_over_a_slow_one_the_delay_of_both_ways() -> None:
    with link() as network:
        good = round_trip(network)
        network.change(near={"delay_ms": 30}, far={"delay_ms": 20})
        slow = round_trip(network)
    assert good < 20
    assert 50 <= slow < 50 + good + 20


def test_losses_are_as_many_as_were_asked_for_and_are_counted() -> None:
    share = 0.1
    with link() as network:
        network.change(near={"loss": share})
        came = heard(network, COUNT)
        counted = network.counts()
    deviation = math.sqrt(COUNT * share * (1 - share))
    assert abs(COUNT - len(came) - COUNT * share) < 4 * deviation
    assert came == sorted(set(came))
    assert counted.near.lost[0] == COUNT - len(came)
    assert counted.near.sent == (COUNT, COUNT * 88)  # 60 bytes, 8 of UDP and 20 of IP
    assert counted.far.sent == (0, 0)


def test_the_kernel_sends_nothing_of_its_own() -> None:
    with link() as network:
        # A router joins groups, and would tell so.
        run(*network.pair.inside("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"))
        time.sleep(2)
        counted = network.counts()
    assert (counted.near.sent, counted.far.sent) == ((0, 0), (0, 0))


def test_the_same_seed_loses_the_same_packets_and_another_one_others() -> None:
    def run(seed: int) -> list[int]:
        with link(seed) as network:
            network.change(near={"loss": 0.2})
            return heard(network, 300)

    first = run(5)
    assert first == run(5)
    assert first != run(6)


def test_jitter_keeps_the_order_and_reordering_does_not() -> None:
    with link() as network:
        network.change(near={"jitter_ms": 20})
        kept = heard(network, 200)
        network.change(near={"reorder": 0.1, "reorder_delay_ms": 20})
        turned = heard(network, 200)
    assert kept == list(range(200))
    assert turned != kept
    assert sorted(turned) == kept


def test_a_rate_lets_no_more_through_and_its_queue_drops_the_rest() -> None:
    with link() as network:
        network.change(near={"rate_bps": 88 * 8 * 200, "queue_ms": 100})  # 200 of these datagrams a second
        began = time.monotonic()
        came = heard(network, 1_000)
        took = time.monotonic() - began
        counted = network.counts()
    assert len(came) < 200 * took
    assert counted.near.dropped[0] == 1_000 - len(came) > 100


def test_a_link_that_is_down_lets_nothing_through_and_a_state_that_is_none_changes_nothing() -> None:
    with link() as network:
        network.both({"is_down": True})
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"nobody hears this", (network.pair.far_host, PORT))
        with pytest.raises(NoNetwork, match="loss is 0 to 1"):
            network.both({"loss": 2})
        assert network.counts().near.lost[0] == 1
        network.both(GOOD)
        assert heard(network, 20) == list(range(20))
