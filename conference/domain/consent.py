"""Consent: what a room asks, what a person decided, and the hash chain that proves the log was only appended to.

A decision is a new ConsentLog entry; withdrawal too. A meeting's entries form one chain: each hash covers the entry and
the previous hash, UNIQUE(meetingId, previousHash) makes two writers agree on one order.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from conference.domain.ids import ConsentId, MeetingId, ParticipantId, Redacted, UserId
from conference.domain.meetings import MeetingSettings

TEXT_VERSION: Final = "2026-11"
GENESIS: Final = "0" * 64  # previousHash of a meeting's first entry


class ConsentType(StrEnum):
    RECORDING = "recording"
    AI = "ai"
    RECORDING_AI = "recording_ai"

    @property
    def grants(self) -> frozenset["Grant"]:
        return _GRANTS[self]


class ConsentStatus(StrEnum):
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"


class Grant(StrEnum):
    """What a participant's media may be used for beyond forwarding."""

    RECORDING = "recording"
    AI = "ai"


_GRANTS: Final = {
    ConsentType.RECORDING: frozenset({Grant.RECORDING}),
    ConsentType.AI: frozenset({Grant.AI}),
    ConsentType.RECORDING_AI: frozenset({Grant.RECORDING, Grant.AI}),
}

TEXTS: Final = {
    Grant.RECORDING: (
        "This meeting may be recorded: your voice, video, shared screen and name. The recording is kept with the "
        "meeting for its host and participants. You can withdraw at any time; recording of you then stops."
    ),
    Grant.AI: (
        "AI services may process your voice to make captions, a transcript, translations and a summary of this "
        "meeting. You can withdraw at any time; processing of your voice then stops."
    ),
}


@dataclass(frozen=True, slots=True)
class ConsentNeeded:
    """A text that needs a decision before joining."""

    type: Grant
    text: str
    version: str


@dataclass(frozen=True, slots=True, repr=False)
class ConsentLog(Redacted):
    """One decision. `participant_id` is empty where it was taken before the first join."""

    id: ConsentId
    meeting_id: MeetingId
    user_id: UserId
    participant_id: ParticipantId | None
    consent_type: ConsentType
    status: ConsentStatus
    text_version: str
    timestamp: datetime
    previous_hash: str = GENESIS
    hash: str = ""


def required_grants(settings: MeetingSettings) -> tuple[Grant, ...]:
    """What a room with these settings asks of everyone who joins."""
    asked = ((Grant.RECORDING, settings.is_recording_enabled), (Grant.AI, settings.ai_enabled))
    return tuple(grant for grant, wanted in asked if wanted and not settings.e2ee)


def consent_required(settings: MeetingSettings) -> tuple[ConsentNeeded, ...]:
    return tuple(ConsentNeeded(grant, TEXTS[grant], TEXT_VERSION) for grant in required_grants(settings))


def decisions(entries: Iterable[ConsentLog]) -> dict[Grant, ConsentStatus]:
    """The latest decision per grant of one user, from their entries in chain order."""
    latest: dict[Grant, ConsentStatus] = {}
    for entry in entries:
        for grant in entry.consent_type.grants:
            latest[grant] = entry.status
    return latest


def granted(entries: Sequence[ConsentLog], settings: MeetingSettings) -> frozenset[Grant]:
    """The grants a participant joins with."""
    latest = decisions(entries)
    return frozenset(g for g in required_grants(settings) if latest.get(g) is ConsentStatus.ACCEPTED)


def undecided(entries: Sequence[ConsentLog], settings: MeetingSettings) -> tuple[Grant, ...]:
    """The grants the user has taken no decision on; a withdrawal is a decision."""
    latest = decisions(entries)
    return tuple(g for g in required_grants(settings) if g not in latest)


def decided_version(entries: Sequence[ConsentLog]) -> str | None:
    """The text version of a user's latest decision."""
    return entries[-1].text_version if entries else None


def chain_hash(entry: ConsentLog) -> str:
    """SHA-256 in hex over the entry's fields and its previous hash, as canonical JSON."""
    content = [
        entry.id,
        entry.meeting_id,
        entry.user_id,
        entry.participant_id,
        entry.consent_type,
        entry.status,
        entry.text_version,
        entry.timestamp.astimezone(UTC).isoformat(timespec="microseconds"),
        entry.previous_hash,
    ]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def chained(entry: ConsentLog, previous_hash: str) -> ConsentLog:
    """The entry as it stands in the chain, after the one with `previous_hash`."""
    linked = replace(entry, previous_hash=previous_hash)
    return replace(linked, hash=chain_hash(linked))


def broken_link(chain: Sequence[ConsentLog]) -> int | None:
    """Index of the first entry that does not follow from the one before it; None for a sound chain."""
    previous = GENESIS
    for index, entry in enumerate(chain):
        if entry.previous_hash != previous or entry.hash != chain_hash(entry):
            return index
        previous = entry.hash
    return None
