"""What timers do: leases and idle rooms, retention, key rotation. Each run is bounded; the next one goes on."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId
from conference.domain.meetings import Participant
from conference.protocol.envelope import encode_payload
from conference.protocol.messages import ParticipantLeft
from functions.services import Services

log = logging.getLogger(__name__)
KEY_AGE: Final = timedelta(days=30)
_BATCH: Final = 1_000
_DELETIONS: Final = 100
_ROUNDS: Final = 20
ATTEMPTS_KEPT: Final = timedelta(days=7)
_PRUNED: Final = 10_000
_PRUNE_ROUNDS: Final = 200


async def expire(services: Services) -> None:
    """Ends the stays whose lease is over, in the store and in the directory, and the sessions of rooms that stand
    empty. Raises Unavailable where the store is away."""
    now = services.clock.now()
    for _ in range(_ROUNDS):
        ended = await services.meetings.expire_leases(now, limit=_BATCH)
        await _forget(services, ended)
        if len(ended) < _BATCH:
            break
    rooms = await services.meetings.expire_rooms(now, idle_s=services.config.idle_room_s)
    if rooms:
        log.info("idle sessions ended", extra={"rooms": len(rooms)})


async def _forget(services: Services, ended: Sequence[Participant]) -> None:
    """Takes those who have lost their place out of the directory; while that is away, its own TTL does."""
    by_room: dict[MeetingId, list[Participant]] = defaultdict(list)
    for participant in ended:
        if participant.joined_at is not None:
            by_room[participant.meeting_id].append(participant)
    for room_id, gone in by_room.items():
        try:
            await _leave(services, room_id, gone)
        except Unavailable:
            log.warning("directory away: presence is left to its own expiry")
            return


async def _leave(services: Services, room_id: MeetingId, gone: Sequence[Participant]) -> None:
    view = await services.presence.view(room_id)
    if view is None:
        return
    for participant in gone:
        present = view.participants.get(participant.user_id)
        if present is None or present.participant_id != participant.id:
            continue
        left = ParticipantLeft(user_id=participant.user_id, participant_id=participant.id, reason="timeout")
        await services.presence.leave(
            room_id, participant.user_id, connection_id=present.connection_id, left=encode_payload(left).decode()
        )


async def retain(services: Services) -> int:
    """Deletes meetings that ended longer ago than the retention; gives how many. Raises Unavailable."""
    before = services.clock.now() - services.config.retention
    deleted = 0
    for _ in range(_ROUNDS):
        batch = await services.meetings.delete_ended_before(before, limit=_DELETIONS)
        deleted += len(batch)
        if len(batch) < _DELETIONS:
            break
    if deleted:
        log.info("retention deleted meetings", extra={"meetings": deleted})
    return deleted


async def prune_webhooks(services: Services) -> int:
    """Deletes attempts to deliver that are older than ATTEMPTS_KEPT; gives how many. Raises Unavailable."""
    before = services.clock.now() - ATTEMPTS_KEPT
    pruned = 0
    for _ in range(_PRUNE_ROUNDS):
        batch = await services.webhooks.prune(before, limit=_PRUNED)
        pruned += batch
        if batch < _PRUNED:
            break
    return pruned


async def rotate_keys(services: Services) -> bool:
    """Publishes a new signing key when the newest is older than KEY_AGE. Raises Unavailable."""
    now = services.clock.now()
    await services.signing_keys.current(now)
    newest = max(key.published_at for key in await services.signing_keys.published(now))
    if now - newest < KEY_AGE:
        return False
    await services.signing_keys.rotate(now)
    log.info("signing key published")
    return True
