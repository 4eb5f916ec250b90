"""A node without sockets: an engine that remembers commands, DTLS that does what a test says, a clock set by hand."""

from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from conference.ports.dtls import DtlsCallbacks, DtlsRole, Fingerprint
from conference.ports.forwarding import Command, EngineSnapshot, EngineStats, Event, ForwardingEngine
from conference.protocol import control, sdp
from conference.protocol.messages import Payload, Role, TrackInfo
from conference.protocol.sdp import Section
from media_workers.sfu.core import Chance, Core, Identity, Options
from media_workers.sfu.node import Node

DATA = Path(__file__).resolve().parents[1] / "data"
SIMULCAST = (DATA / "chromium-156-offer-simulcast.sdp").read_text()
FINGERPRINT = ":".join(["AB"] * 32)


class QuietEngine:
    """Remembers commands; gives the events that a test pushes."""

    name = "quiet"
    has_tcp = False
    is_healthy = True

    def __init__(self, workers: int = 1) -> None:
        self.ports = tuple(range(7, 7 + workers))
        self.commands: list[Command] = []
        self.events: list[Event] = []

    async def start(self) -> tuple[str, int]:
        return "127.0.0.1", self.ports[0]

    async def stop(self) -> None:
        self.commands.clear()

    def apply(self, commands: Sequence[Command]) -> None:
        self.commands += commands

    def poll_events(self, limit: int) -> list[Event]:
        batch, self.events = self.events[:limit], self.events[limit:]
        return batch

    def on_wakeup(self, callback: Callable[[], None]) -> None:
        callback()

    def stats(self) -> EngineStats:
        return EngineStats(0, 0, 0, 0, 0, 0, 0, 0, {})

    def snapshot(self) -> EngineSnapshot:
        return EngineSnapshot((), (), ())

    def of(self, kind: type[Command]) -> list[Any]:
        return [command for command in self.commands if isinstance(command, kind)]


class QuietEndpoint:
    def __init__(self, callbacks: DtlsCallbacks) -> None:
        self.callbacks = callbacks
        self.received: list[bytes] = []
        self.is_started = False
        self.is_closed = False

    def start(self) -> None:
        self.is_started = True

    def receive(self, datagram: bytes) -> None:
        self.received.append(datagram)

    async def close(self) -> None:
        self.is_closed = True


class QuietEndpoints:
    fingerprint = FINGERPRINT

    def __init__(self) -> None:
        self.opened: list[QuietEndpoint] = []

    def open(
        self,
        fingerprints: Sequence[Fingerprint],
        callbacks: DtlsCallbacks,
        *,
        with_data: bool,
        data_port: int = 5000,
        role: DtlsRole = "server",
    ) -> QuietEndpoint:
        self.opened.append(QuietEndpoint(callbacks))
        return self.opened[-1]


class Inbox:
    """A link that keeps what it is sent."""

    def __init__(self) -> None:
        self.messages: list[Payload] = []

    def send(self, payload: Payload, *, traceparent: str | None = None) -> None:
        self.messages.append(payload)

    def of(self, kind: type[Payload], **fields: Any) -> list[Any]:
        return [m for m in self.messages if isinstance(m, kind) and all(getattr(m, k) == v for k, v in fields.items())]


class NodeBench:
    """A node on an engine, and the link that steers it."""

    def __init__(
        self,
        engine: ForwardingEngine,
        candidates: Callable[[int], tuple[tuple[str, int], ...]],
        *,
        name: str = "node",
        capacity: int = 100,
        hooks: Callable[[str], None] | None = None,
        options: Options | None = None,
        clock: Callable[[], float] | None = None,
        first_number: int = 50_000,
    ) -> None:
        self.now = 1_000.0
        numbers, tokens = count(first_number), count()
        self.dtls, self.link = QuietEndpoints(), Inbox()
        chance = Chance(lambda length: f"{next(tokens):0{length}d}", lambda: next(numbers))
        identity = Identity(name, "region", candidates, capacity, options or Options())
        self.core = Core(identity, engine, self.dtls, clock or (lambda: self.now), chance)
        self.node = Node(self.core, hooks)

    def ask(self, payload: Payload, link: Inbox | None = None) -> Payload:
        try:
            return self.node.handle(link or self.link, type(payload).__name__, payload)
        finally:
            self.node.settle()

    def open(self, name: str, role: Role = "attendee", room: str = "r", **fields: Any) -> dict[str, str]:
        """Opens a session; transport ids by direction."""
        opened = self.ask(
            control.OpenSession(room_id=room, participant_id=name, user_id=f"u-{name}", role=role, **fields)
        )
        assert isinstance(opened, control.SessionOpened)
        return {endpoint.direction: endpoint.transport_id for endpoint in opened.endpoints}

    def publish(self, name: str, transport: str, *, sdp: str = SIMULCAST, negotiation_id: int = 1) -> Payload:
        """Offers a microphone and a camera of three layers."""
        tracks = [
            TrackInfo(track_id=f"{name}-mic", kind="audio", source="microphone", mid="0"),
            TrackInfo(track_id=f"{name}-cam", kind="video", source="camera", mid="1"),
        ]
        return self.ask(
            control.Offer(
                participant_id=name, transport_id=transport, negotiation_id=negotiation_id, sdp=sdp, tracks=tracks
            )
        )

    def accept(self, name: str) -> Payload:
        """Answers the newest offer to a subscriber as a browser would."""
        offer = self.link.of(control.Offer, participant_id=name)[-1]
        return self.ask(
            control.Answer(
                participant_id=name,
                transport_id=offer.transport_id,
                negotiation_id=offer.negotiation_id,
                sdp=browser_answer(offer.sdp),
            )
        )


class QuietNode(NodeBench):
    """A node and the world it sees, without sockets."""

    def __init__(
        self,
        *,
        capacity: int = 100,
        hooks: Callable[[str], None] | None = None,
        workers: int = 1,
        options: Options | None = None,
    ) -> None:
        self.engine = QuietEngine(workers)
        super().__init__(
            self.engine, lambda port: (("192.0.2.1", port),), capacity=capacity, hooks=hooks, options=options
        )

    def raise_event(self, *events: Event) -> None:
        self.engine.events += events
        while self.node.drain_events():
            pass

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.node.tick()


def browser_answer(offer: str) -> str:
    """The answer that receives everything on offer."""
    kept = {"mid", "rtpmap", "fmtp", "rtcp-fb", "extmap", "rtcp-mux"}
    sections = []
    for section in sdp.parse(offer).sections:
        attributes = [(name, value) for name, value in section.attributes if name in kept]
        attributes.append(("inactive" if section.direction == "inactive" else "recvonly", ""))
        attributes += [("ice-ufrag", "peer"), ("ice-pwd", "q" * 24), ("setup", "active")]
        attributes.append(("fingerprint", f"sha-256 {FINGERPRINT}"))
        sections.append(Section(section.kind, section.port, section.protocol, section.formats, attributes))
    return sdp.serialize(sdp.Description(Section(), sections), session_id=1, version=1)
