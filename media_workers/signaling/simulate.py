"""Debug hooks: faults on demand, known only where the setting allows them, never in production."""

from collections.abc import Callable
from typing import Final

from msgspec import UNSET

from conference.protocol import control as c
from conference.protocol import messages as m
from conference.protocol.envelope import Message
from conference.protocol.session import error_message
from media_workers.signaling.connection import Connection
from media_workers.signaling.media import Media
from media_workers.signaling.rooms import Member


class Simulation:
    """`drain` starts the worker's own draining."""

    def __init__(self, media: Media, drain: Callable[[], None]) -> None:
        self._media = media
        self._drain = drain

    def run(self, connection: Connection, member: Member | None, message: Message) -> None:
        payload = message.payload
        if not isinstance(payload, m.Simulate):
            return
        if member is None:
            connection.send(error_message("not-joined", "Join first.", message.id))
            return
        _SCENARIOS[payload.scenario](self, connection, member, payload)

    def _cut(self, connection: Connection, member: Member, payload: m.Simulate) -> None:
        connection.abort()

    def _lose(self, connection: Connection, member: Member, payload: m.Simulate) -> None:
        """From now on nothing reaches the client, until it notices and resumes."""
        connection.drop_outgoing = True

    def _drain_worker(self, connection: Connection, member: Member, payload: m.Simulate) -> None:
        self._drain()

    def _sfu(self, connection: Connection, member: Member, payload: m.Simulate) -> None:
        if payload.scenario in ("node-failure", "bandwidth-cap", "drop-transports"):
            request = c.Simulate(scenario=payload.scenario, participant_id=member.participant_id)
            if payload.bitrate_bps is not UNSET:
                request = c.Simulate(
                    scenario=payload.scenario, participant_id=member.participant_id, bitrate_bps=payload.bitrate_bps
                )
            self._media.send(member, request)


_SCENARIOS: Final[dict[str, Callable[[Simulation, Connection, Member, m.Simulate], None]]] = {
    "signal-drop": Simulation._cut,
    "signal-drop-lossy": Simulation._lose,
    "drain": Simulation._drain_worker,
    "node-failure": Simulation._sfu,
    "bandwidth-cap": Simulation._sfu,
    "drop-transports": Simulation._sfu,
}
