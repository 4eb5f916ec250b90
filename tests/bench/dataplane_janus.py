"""Janus under the same load: Debian's package with its videoroom, driven over its WebSocket.

Janus refuses loopback addresses, so it needs a network namespace. It is an ICE-lite server there, as ours is, logs
nothing, and loads the videoroom only; everything else is as the package has it. OpenSSL lets the server choose the SRTP
profile, and Janus prefers AES-256, so that the generator offers the one profile that is compared.
"""

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp

from tests.bench import dataplane_janus_sdp as descriptions
from tests.bench.dataplane_generator import Generator, LoadError, LoadPeer, generator
from tests.bench.dataplane_network import GENERATOR_CORE
from tests.bench.dataplane_scenario import MIDS, Scenario, Track
from tests.bench.dataplane_systems import PROFILE, Running, Site, check_profiles

Words = dict[str, Any]
T = TypeVar("T")
PROGRAM: Final = "janus"
FIRST_PORT: Final = 8188  # of the API; each kind of Janus has its own
ROOM: Final = 1
_START_S: Final = 15.0
_ANSWER_S: Final = 15.0
_BITRATE: Final = 100_000_000  # a cap by REMB, which the generator does not heed; Janus wants a number
_LIBRARIES: Final = Path("/usr/lib")

_CORE: Final = """
general: {{
  configs_folder = "{folder}"
  debug_level = 0
  debug_timestamps = false
  session_timeout = 0
  server_name = "bench"
  {loops}
}}
nat: {{
  nice_debug = false
  ice_lite = true
  ice_enforce_list = "{host}"
}}
plugins: {{ disable = "{plugins}" }}
transports: {{ disable = "{transports}" }}
loggers: {{ disable = "libjanus_jsonlog.so" }}
"""
_WEBSOCKETS: Final = """
general: {{ json = "compact"  ws = true  ws_port = {port}  wss = false }}
admin: {{ admin_ws = false }}
"""


def why_not(site: Site) -> str | None:
    """What keeps Janus from running here; None where it can."""
    if site.network.why_not is not None:
        return site.network.why_not
    if shutil.which(PROGRAM) is None:
        return "janus is not installed (Debian: apt-get install janus)"
    return None


def _others(kind: str, wanted: str) -> str:
    """The modules of a kind that are not wanted."""
    found = {path.name for path in _LIBRARIES.glob(f"*/janus/{kind}/*.so")}
    return ",".join(sorted(found - {wanted}))


def _configure(folder: Path, host: str, port: int, loops: int | None) -> None:
    core = _CORE.format(
        folder=folder,
        host=host,
        loops="" if loops is None else f"event_loops = {loops}",
        plugins=_others("plugins", "libjanus_videoroom.so"),
        transports=_others("transports", "libjanus_websockets.so"),
    )
    (folder / "janus.jcfg").write_text(core)
    (folder / "janus.transport.websockets.jcfg").write_text(_WEBSOCKETS.format(port=port))
    (folder / "janus.plugin.videoroom.jcfg").write_text("general: { string_ids = false }\n")


class Handle:
    """One peer's handle on the videoroom."""

    def __init__(self, session: "Session", number: int) -> None:
        self._session = session
        self._number = number

    async def ask(self, body: Words, description: tuple[str, str] | None = None) -> Words:
        """The plugin's answer to a request. Raises LoadError for a refusal."""
        words: Words = {"janus": "message", "handle_id": self._number, "body": body}
        if description is not None:
            words["jsep"] = {"type": description[0], "sdp": description[1], "trickle": False}
            self._session.expect(self._number)
        answer = await self._session.ask(words)
        data = answer["plugindata"]["data"]
        if "error" in data:
            raise LoadError(f"Janus refused {body['request']}: {data['error']}")
        return {"data": data, "sdp": answer.get("jsep", {}).get("sdp", "")}

    async def up(self) -> None:
        """Waits until Janus has the keys of the peer. Raises LoadError."""
        await self._session.up(self._number)


class Session:
    """A session of Janus's API. Of what comes without being asked for only `webrtcup` is heeded."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._waiting: dict[str, asyncio.Future[Words]] = {}
        self._up: dict[int, asyncio.Future[None]] = {}
        self._numbers = itertools.count()
        self._id: int | None = None
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            words: Words = message.json()
            waiting = self._waiting.get(words.get("transaction", ""))
            if words["janus"] != "ack" and waiting is not None and not waiting.done():
                waiting.set_result(words)
            up = self._up.get(words.get("sender", 0))
            if words["janus"] == "webrtcup" and up is not None and not up.done():
                up.set_result(None)

    def expect(self, handle: int) -> None:
        """A handle's peer is about to connect."""
        self._up[handle] = asyncio.get_running_loop().create_future()

    async def up(self, handle: int) -> None:
        """Waits until it has. Raises LoadError."""
        try:
            await asyncio.wait_for(self._up[handle], _ANSWER_S)
        except TimeoutError:
            raise LoadError("Janus has no connection") from None

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._socket.close()

    async def ask(self, words: Words) -> Words:
        """The answer, past the acknowledgement. Raises LoadError."""
        transaction = str(next(self._numbers))
        future = self._waiting[transaction] = asyncio.get_running_loop().create_future()
        session = {} if self._id is None else {"session_id": self._id}
        await self._socket.send_json({**words, **session, "transaction": transaction})
        try:
            answer: Words = await asyncio.wait_for(future, _ANSWER_S)
        except TimeoutError:
            raise LoadError(f"Janus did not answer {words['janus']}") from None
        finally:
            del self._waiting[transaction]
        if answer["janus"] == "error":
            raise LoadError(f"Janus: {answer['error'].get('reason')}")
        return answer

    async def open(self) -> None:
        self._id = int((await self.ask({"janus": "create"}))["data"]["id"])

    async def attach(self) -> Handle:
        answer = await self.ask({"janus": "attach", "plugin": "janus.plugin.videoroom"})
        return Handle(self, int(answer["data"]["id"]))


@asynccontextmanager
async def _process(site: Site, port: int, loops: int | None) -> AsyncIterator[asyncio.subprocess.Process]:
    with tempfile.TemporaryDirectory(prefix="parley-janus-") as name:
        folder = Path(name)
        _configure(folder, site.network.server_host, port, loops)
        words = [PROGRAM, "-F", str(folder), "-C", str(folder / "janus.jcfg")]
        nowhere = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(
            *site.network.command(*words), stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def _api(host: str, port: int) -> AsyncIterator[Session]:
    async with aiohttp.ClientSession() as client:
        deadline = asyncio.get_running_loop().time() + _START_S
        while True:
            try:
                socket = await client.ws_connect(f"ws://{host}:{port}", protocols=("janus-protocol",))
                break
            except aiohttp.ClientError:
                if asyncio.get_running_loop().time() > deadline:
                    raise LoadError("Janus did not start") from None
                await asyncio.sleep(0.1)
        session = Session(socket)
        try:
            await session.open()
            yield session
        finally:
            await session.close()


class Janus:
    """A room of the videoroom plugin: each publisher with one track, each subscriber with one connection for all.

    As it comes, Janus has a thread for each connection; with `loops` there are so many threads for all."""

    def __init__(self, loops: int | None = None) -> None:
        self.name = "janus" if loops is None else f"janus-{loops}-loop"
        self._loops = loops

    @asynccontextmanager
    async def serve(self, site: Site, scenario: Scenario) -> AsyncIterator[Running]:
        """Starts Janus and connects the peers. Raises LoadError."""
        reason = why_not(site)
        if reason is not None:
            raise LoadError(reason)
        network, port = site.network, FIRST_PORT + (self._loops or 0)
        async with (
            _process(site, port, self._loops) as process,
            _api(network.server_host, port) as session,
            generator(site.program, core=GENERATOR_CORE, host=network.generator_host) as load,
        ):
            await _create_room(session)
            peers = {p.id: p for p in await load.peers([*scenario.publisher_names(), *scenario.subscriber_names()])}
            published = [await _publish(session, peers[track.publisher], track) for track in scenario.tracks()]
            feeds = await _connect(load, published)
            subscribed = [await _subscribe(session, peers[name], feeds) for name in scenario.subscriber_names()]
            wide = (await _connect(load, subscribed))[0]
            yield Running(self.name, process.pid, load, scenario, transport_cc=wide)


async def _connect(load: Generator, made: Sequence[tuple[Handle, Words, T]]) -> list[T]:
    """Connects peers, and waits until Janus knows it."""
    check_profiles(await load.connect([connection for _, connection, _ in made]))
    for handle, _, _ in made:
        await handle.up()
    return [third for _, _, third in made]


async def _create_room(session: Session) -> None:
    room = {
        "request": "create",
        "room": ROOM,
        "publishers": 100,
        "bitrate": _BITRATE,
        "fir_freq": 0,
        "audiocodec": "opus",
        "videocodec": "vp8",
    }
    await (await session.attach()).ask(room)


async def _publish(session: Session, peer: LoadPeer, track: Track) -> tuple[Handle, Words, Words]:
    """Publishes a track; its handle, where its peer connects to, and what subscribers call it."""
    handle = await session.attach()
    joined = await handle.ask({"request": "join", "ptype": "publisher", "room": ROOM, "display": peer.id})
    text = descriptions.offer(peer, track.kind, track.ssrc)
    answer = await handle.ask({"request": "publish"}, ("offer", text))
    feed = {"feed": joined["data"]["id"], "mid": MIDS[track.kind]}
    return handle, descriptions.connection(peer.id, answer["sdp"], PROFILE), feed


async def _subscribe(session: Session, peer: LoadPeer, feeds: list[Words]) -> tuple[Handle, Words, int | None]:
    """Subscribes to all feeds; the handle, where the peer connects to, and the id of the transport-wide number."""
    handle = await session.attach()
    offered = await handle.ask({"request": "join", "ptype": "subscriber", "room": ROOM, "streams": feeds})
    await handle.ask({"request": "start"}, ("answer", descriptions.answer(offered["sdp"], peer)))
    connection = descriptions.connection(peer.id, offered["sdp"], PROFILE)
    return handle, connection, descriptions.transport_cc(offered["sdp"])
