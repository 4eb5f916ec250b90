"""How presence is written: a person's JSON, a room's hash, an event on the wire. Text in, values out, nothing else."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec

from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId
from conference.ports.presence import Present, RoomEvent, RoomView

_TRIGGER: Final = "trigger:"
FLAGS: Final = ("isMuted", "isVideoOn", "isSharing", "isHandRaised")


class _Person(msgspec.Struct, rename="camel", frozen=True, omit_defaults=True):
    """The JSON in `room:{id}:participants`; the flags lie beside role, as the specification has them."""

    connection_id: str
    participant_id: str
    process_id: str
    role: str
    display_name: str
    joined_at: datetime
    is_muted: bool | None = None
    is_video_on: bool | None = None
    is_sharing: bool | None = None
    is_hand_raised: bool | None = None
    grants: tuple[str, ...] = ()
    resume_hashes: tuple[str, ...] = ()
    disconnected_at: datetime | None = None
    tracks: tuple[dict[str, str], ...] = ()
    can_mesh: bool = False
    ready_epoch: int = 0
    ready_peers: tuple[str, ...] = ()


_decode_person: Final = msgspec.json.Decoder(_Person).decode
_encode: Final = msgspec.json.Encoder().encode


def person_text(present: Present) -> str:
    state = present.state
    person = _Person(
        connection_id=present.connection_id,
        participant_id=present.participant_id,
        process_id=present.process_id,
        role=present.role,
        display_name=present.display_name,
        joined_at=present.joined_at,
        is_muted=state.get("isMuted"),
        is_video_on=state.get("isVideoOn"),
        is_sharing=state.get("isSharing"),
        is_hand_raised=state.get("isHandRaised"),
        grants=present.grants,
        resume_hashes=present.resume_hashes,
        disconnected_at=present.disconnected_at,
        tracks=tuple(dict(track) for track in present.tracks),
        can_mesh=present.can_mesh,
        ready_epoch=present.ready_epoch,
        ready_peers=present.ready_peers,
    )
    return _encode(person).decode()


def person_of(user_id: str, text: str) -> Present:
    person = _decode_person(text)
    flags = (person.is_muted, person.is_video_on, person.is_sharing, person.is_hand_raised)
    return Present(
        user_id=UserId(user_id),
        participant_id=ParticipantId(person.participant_id),
        connection_id=person.connection_id,
        process_id=person.process_id,
        role=person.role,
        display_name=person.display_name,
        joined_at=person.joined_at,
        state={name: flag for name, flag in zip(FLAGS, flags, strict=True) if flag is not None},
        grants=person.grants,
        resume_hashes=person.resume_hashes,
        disconnected_at=person.disconnected_at,
        tracks=person.tracks,
        can_mesh=person.can_mesh,
        ready_epoch=person.ready_epoch,
        ready_peers=person.ready_peers,
    )


def pairs(flat: Sequence[str]) -> Iterator[tuple[str, str]]:
    """A script's HGETALL: field, value, field, value."""
    return zip(flat[::2], flat[1::2], strict=True)


def room_of(room_id: MeetingId, fields: Mapping[str, str], people: Mapping[str, str]) -> RoomView:
    node = fields.get("sfuNode")
    return RoomView(
        room_id=room_id,
        generation=fields["generation"],
        seq=int(fields["seq"]),
        epoch=int(fields["epoch"]),
        topology=fields["topology"],
        is_recording=fields.get("isRecording") == "1",
        sfu_node=NodeId(node) if node else None,
        sfu_region=fields.get("sfuRegion"),
        participants={UserId(user): person_of(user, text) for user, text in people.items()},
        triggers=frozenset(name.removeprefix(_TRIGGER) for name in fields if name.startswith(_TRIGGER)),
    )


def event_of_message(room_id: MeetingId, text: str) -> RoomEvent:
    """What `fan_out` of prelude.lua sends; the payload is last and may hold line ends."""
    seq, generation, type_, to, origin, id_, payload = text.split("\n", 6)
    return RoomEvent(room_id, generation, int(seq), type_, payload, UserId(to) if to else None, origin, id_)


def event_of_entry(room_id: MeetingId, generation: str, entry_id: str, flat: Sequence[str]) -> RoomEvent:
    """A stream entry as a script gives it."""
    fields = dict(pairs(flat))
    to = fields["to"]
    return RoomEvent(
        room_id,
        generation,
        int(entry_id.partition("-")[0]),
        fields["type"],
        fields["payload"],
        UserId(to) if to else None,
        fields["origin"],
        fields["id"],
    )
