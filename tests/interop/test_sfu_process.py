"""The SFU as a process of its own: start, readiness, announcement in the directory, SIGTERM."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

ROOT = Path(__file__).resolve().parents[2]


@asynccontextmanager
async def sfu_process(**settings: str) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")}
    environment |= {f"PARLEY_{name.upper()}": value for name, value in settings.items()}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "media_workers.sfu", cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def line_with(process: asyncio.subprocess.Process, member: str) -> dict[str, object]:
    """The next log line that has a member."""
    assert process.stderr is not None
    async with asyncio.timeout(20):
        async for line in process.stderr:
            entry: dict[str, object] = json.loads(line)
            if member in entry:
                return entry
    raise AssertionError("the SFU ended before it was ready")


async def ready_line(process: asyncio.subprocess.Process) -> dict[str, object]:
    """The log line that tells the ports."""
    return await line_with(process, "mediaPort")


async def test_a_node_announces_itself_and_leaves_on_sigterm(redis_server: RedisServer) -> None:
    client = RedisClient(connect(redis_server.url))
    nodes = RedisMediaNodes(client)
    settings = {"redis_url": redis_server.url, "sfu_port": "0", "sfu_media_port": "0", "region": "north"}
    async with sfu_process(**settings, sfu_media_host="127.0.0.1", node_id="one") as process:
        port = (await ready_line(process))["port"]
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/ready") as response:
            assert response.status == 200

        async def is_announced() -> bool:
            return [(n.node_id, n.region, n.control_url) for n in await nodes.nodes()] == [
                ("one", "north", f"ws://127.0.0.1:{port}/control")
            ]

        await eventually(is_announced)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
        assert await nodes.nodes() == []
    await client.close()


async def test_a_node_starts_without_the_directory(unused_tcp_port: int) -> None:
    settings = {"redis_url": f"redis://127.0.0.1:{unused_tcp_port}/0", "sfu_port": "0", "sfu_media_port": "0"}
    async with sfu_process(**settings, sfu_media_host="127.0.0.1") as process:
        port = (await ready_line(process))["port"]
        async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/health") as response:
            assert response.status == 200


async def test_the_engine_is_told_at_the_start() -> None:
    settings = {"sfu_port": "0", "sfu_media_port": "0", "sfu_media_host": "127.0.0.1", "sfu_engine": "reference"}
    async with sfu_process(**settings, sfu_workers="3") as process:
        chosen = await line_with(process, "engine")
        assert (chosen["engine"], chosen["workers"]) == ("reference", 1)
        assert "asked for" in str(chosen["reason"])
        ready = await ready_line(process)
        assert ready["mediaPorts"] == [ready["mediaPort"]]


async def test_a_taken_port_is_named_and_ends_the_process(unused_tcp_port: int) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", unused_tcp_port)
    async with server, sfu_process(sfu_port=str(unused_tcp_port), sfu_media_port="0") as process:
        async with asyncio.timeout(20):
            _, errors = await process.communicate()
        assert process.returncode == 1
        assert "cannot start" in errors.decode()
