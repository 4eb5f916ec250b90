"""`python -m tests.bench.dataplane_server ENGINE HOST`: a data plane of ours without signaling, in its own process.

ENGINE is `native` or `reference`. Lines of JSON come in and go out: `peers` opens a transport with its DTLS endpoint
for each, `tracks` and `senders` are the engine's commands with their fields, `stats` asks for its counters.
"""

import asyncio
import json
import secrets
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.reference import ReferenceEngine
from conference.ports.dtls import DtlsCallbacks, DtlsEndpoint
from conference.ports.forwarding import (
    AddTransport,
    DtlsReceived,
    ExtensionIds,
    ForwardingEngine,
    SendDtls,
    SetKeys,
    SetSender,
    SetTrack,
    TrackCodec,
)

Words = dict[str, Any]
EVENTS: Final = 1_000
_LINE_LIMIT: Final = 1 << 24


def _native(host: str) -> ForwardingEngine:
    from conference.adapters.media.native import NativeEngine

    engine: ForwardingEngine = NativeEngine(host, 0, workers=1, seed=secrets.randbits(63))
    return engine


ENGINES: Final[dict[str, Callable[[str], ForwardingEngine]]] = {
    "native": _native,
    "reference": lambda host: ReferenceEngine(host, 0, time.monotonic),
}


def _codec(fields: Words) -> TrackCodec:
    return TrackCodec(**fields)


class Server:
    """An engine and the associations of its transports."""

    def __init__(self, engine: ForwardingEngine) -> None:
        self._engine = engine
        self._endpoints = AiortcEndpoints()
        self._dtls: dict[str, DtlsEndpoint] = {}
        self._started: set[str] = set()
        self._address = ("", 0)
        engine.on_wakeup(self._events)

    async def start(self) -> None:
        self._address = await self._engine.start()

    async def stop(self) -> None:
        for endpoint in self._dtls.values():
            await endpoint.close()
        await self._engine.stop()

    def _events(self) -> None:
        while events := self._engine.poll_events(EVENTS):
            for event in events:
                if isinstance(event, DtlsReceived):
                    self._receive(event.transport_id, event.datagram)

    def _receive(self, transport: str, datagram: bytes) -> None:
        endpoint = self._dtls.get(transport)
        if endpoint is None:
            return
        endpoint.receive(datagram)
        if transport not in self._started:
            self._started.add(transport)
            endpoint.start()

    def _open(self, transport: str, fingerprint: str) -> Words:
        engine = self._engine

        def send(datagram: bytes) -> None:
            engine.apply([SendDtls(transport, (datagram,))])

        callbacks = DtlsCallbacks(
            send=send,
            on_keys=lambda profile, receive, sending: engine.apply([SetKeys(transport, profile, receive, sending)]),
            on_state=lambda _: None,
            on_data=lambda _: None,
        )
        ufrag, pwd = f"u{transport}", f"password-of-the-transport-{transport}"
        engine.apply([AddTransport(transport, ufrag, pwd)])
        self._dtls[transport] = self._endpoints.open([("sha-256", fingerprint)], callbacks, with_data=False)
        host, port = self._address
        remote = {"ip": host, "port": port, "ufrag": ufrag, "pwd": pwd, "fingerprint": self._endpoints.fingerprint}
        return {"id": transport, "remote": remote}

    def obey(self, command: Words) -> Words:
        """The answer to a command."""
        if "peers" in command:
            return {"connections": [self._open(peer["id"], peer["fingerprint"]) for peer in command["peers"]]}
        if "tracks" in command:
            self._engine.apply([self._track(fields) for fields in command["tracks"]])
            self._engine.apply([self._sender(fields) for fields in command["senders"]])
            return {"tracks": len(command["tracks"]), "senders": len(command["senders"])}
        stats = self._engine.stats()
        return {"forwarded": stats.forwarded_packets, "received": stats.received_packets, "dropped": stats.dropped}

    @staticmethod
    def _track(fields: Words) -> SetTrack:
        pairs = tuple((ssrc, None) for ssrc in fields.get("ssrcs", ()))
        return SetTrack(
            fields["transport_id"],
            fields["track_id"],
            fields["mid"],
            _codec(fields["codec"]),
            ExtensionIds(**fields["extensions"]),
            pairs,
            tuple(fields.get("rids", ())),
        )

    @staticmethod
    def _sender(fields: Words) -> SetSender:
        return SetSender(
            f"{fields['transport_id']}/{fields['track_id']}",
            fields["transport_id"],
            fields["track_id"],
            fields["mid"],
            _codec(fields["codec"]),
            ExtensionIds(**fields["extensions"]),
            fields["ssrc"],
            fields["rtx_ssrc"],
            "bench",
        )


async def _serve(name: str, host: str) -> None:
    server = Server(ENGINES[name](host))
    await server.start()
    reader = asyncio.StreamReader(_LINE_LIMIT)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        sys.stdout.write(json.dumps(server.obey(json.loads(line))) + "\n")
        sys.stdout.flush()
    await server.stop()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2]))
