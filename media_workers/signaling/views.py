"""What clients are shown of presence: participants, tracks and snapshots, and what a join tells the room."""

from typing import cast

from msgspec import UNSET

from conference.ports.presence import Present, RoomView
from conference.protocol import messages as m
from media_workers.signaling.rooms import rfc3339


def participant(present: Present) -> m.ParticipantJoined:
    """A person as the others see them; also the payload of ParticipantJoined."""
    state = present.state
    return m.ParticipantJoined(
        user_id=present.user_id,
        participant_id=present.participant_id,
        display_name=present.display_name,
        role=cast(m.Role, present.role),
        joined_at=rfc3339(present.joined_at),
        is_muted=state.get("isMuted", False),
        is_video_on=state.get("isVideoOn", False),
        is_sharing=state.get("isSharing", False),
        is_hand_raised=state.get("isHandRaised", False),
    )


def entering(present: Present, replaced: Present | None) -> list[m.Payload]:
    """What the room is told when the person enters, `replaced` having been there. A new connection of the same stay
    starts afresh: the others forget the former one's tracks and flags."""
    if replaced is None:
        return [participant(present)]
    if replaced.participant_id != present.participant_id:
        left = m.ParticipantLeft(user_id=present.user_id, participant_id=replaced.participant_id, reason="replaced")
        return [left, participant(present)]
    shown = participant(present)
    return [
        *(track_unpublished(replaced, track["trackId"]) for track in replaced.tracks),
        m.StateChanged(
            user_id=present.user_id,
            is_muted=shown.is_muted,
            is_video_on=shown.is_video_on,
            is_sharing=shown.is_sharing,
            is_hand_raised=shown.is_hand_raised,
            role=shown.role if present.role != replaced.role else UNSET,
        ),
    ]


def track_unpublished(present: Present, track_id: str) -> m.TrackUnpublished:
    return m.TrackUnpublished(track_id=track_id, participant_id=present.participant_id, user_id=present.user_id)


def tracks(present: Present) -> list[m.TrackInfo]:
    return [
        m.TrackInfo(
            track_id=track["trackId"],
            kind=cast(m.Kind, track["kind"]),
            source=cast(m.Source, track["source"]),
            participant_id=present.participant_id,
            user_id=present.user_id,
        )
        for track in present.tracks
    ]


def stored_track(track: m.TrackInfo) -> dict[str, str]:
    """A track as presence keeps it."""
    return {"trackId": track.track_id, "kind": track.kind, "source": track.source}


def snapshot(view: RoomView, viewer: Present) -> m.Snapshot:
    """The room as `viewer` gets it on joining."""
    present = sorted(view.participants.values(), key=lambda person: (person.joined_at, person.user_id))
    people: list[m.ParticipantInfo] = [participant(person) for person in present]
    return m.Snapshot(
        room_id=view.room_id,
        participants=people,
        tracks=[track for person in present for track in tracks(person)],
        is_recording=view.is_recording,
        grants=cast(list[m.Grant], sorted(viewer.grants)),
    )
