"""One signaling connection as a state machine without I/O: awaiting a join, entering, joined, closed.

Messages, results and time go in; what to send, what to do and when to come back go out. The machine holds the rules of
the wire (who may say what and when, limits, time-outs, close codes); the worker performs the effects and feeds their
results back. It never raises on what a peer sends. Times are seconds of one monotonic clock.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.protocol import messages as m
from conference.protocol.dialect import ClientCodec, Dialect
from conference.protocol.envelope import Message, WireError
from conference.protocol.rate import TokenBucket


class CloseCode(IntEnum):
    """Why a connection closes. 4408 and above are Parley's, their last digits are HTTP's."""

    NORMAL = 1000
    GOING_AWAY = 1001
    UNSUPPORTED = 1003
    MALFORMED = 1007
    TOO_BIG = 1009
    INTERNAL = 1011
    RESUME = 1012  # events were lost for good: resume, and get a snapshot
    TOO_SLOW = 1013
    REFUSED = 4401
    REMOVED = 4403
    TIMED_OUT = 4408  # no JoinRoom within the time, or no sign of life
    TAKEN_OVER = 4409
    ROOM_ENDED = 4410
    TOO_MANY = 4429


class State(Enum):
    AWAITING = "awaiting"
    ENTERING = "entering"
    JOINED = "joined"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one connection. A message counts once for every 4 KiB begun, and five times where the whole room is told."""

    join_s: float = 10.0
    ping_s: float = 20.0
    silence_s: float = 45.0
    messages_per_s: float = 50.0
    burst: int = 200


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a connection is, once joined; at `seq` of `generation` its knowledge of the room begins."""

    room_id: MeetingId
    user_id: UserId
    participant_id: ParticipantId
    role: m.Role
    generation: str
    epoch: int
    seq: int


# --- outputs ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Send:
    message: Message


@dataclass(frozen=True, slots=True)
class Ping:
    pass


@dataclass(frozen=True, slots=True)
class Close:
    """Nothing follows it."""

    code: CloseCode
    reason: str


@dataclass(frozen=True, slots=True)
class Enter:
    """Verify the token and join. Answer with `joined`, `refused` or `unavailable`."""

    message: Message
    token: str


@dataclass(frozen=True, slots=True)
class Reattach:
    """Resume. Answer as to `Enter`."""

    message: Message


@dataclass(frozen=True, slots=True)
class ToSfu:
    """SDP or a candidate that keeps the rules, for the participant's SFU session."""

    message: Message


@dataclass(frozen=True, slots=True)
class ToPeer:
    """SDP or a candidate for another person of the room."""

    message: Message
    target: UserId


@dataclass(frozen=True, slots=True)
class Serve:
    """Any other request of a joined person, by the type of its payload."""

    message: Message


@dataclass(frozen=True, slots=True)
class Depart:
    """The person leaves; the connection closes next."""


Effect: TypeAlias = Enter | Reattach | ToSfu | ToPeer | Serve | Depart
Output: TypeAlias = Send | Ping | Close | Effect
Signal: TypeAlias = m.SendOffer | m.SendAnswer | m.SendIceCandidate
Direction = Literal["publish", "subscribe"]


class _Transport:
    """One transport of the SFU session; candidates wait until it was offered."""

    __slots__ = ("direction", "offered")

    def __init__(self, direction: Direction, offered: bool) -> None:
        self.direction = direction
        self.offered = offered


class Session:
    """See the module. `token` is the one that came as a subprotocol."""

    __slots__ = (
        "_bucket",
        "_codec",
        "_heard",
        "_limits",
        "_next_ping",
        "_opened",
        "_requested",
        "_token",
        "_transports",
        "dialect",
        "identity",
        "seq",
        "state",
    )

    def __init__(self, codec: ClientCodec, limits: Limits, now: float, *, token: str | None = None) -> None:
        self._codec = codec
        self._limits = limits
        self._bucket = TokenBucket(limits.messages_per_s, limits.burst, now)
        self._token = token
        self._opened = self._heard = now
        self._next_ping = now + limits.ping_s
        self._requested: str | None = None  # id of the JoinRoom or Resume under way
        self._transports: dict[str, _Transport] = {}
        self.dialect: Dialect | None = None
        self.state = State.AWAITING
        self.identity: Identity | None = None
        self.seq = 0  # of the last room event that was sent

    # --- what the peer does ---
    def receive(self, text: str | bytes, now: float) -> list[Output]:
        """A text message."""
        if self.state is State.CLOSED:
            return []
        self._heard = now
        if not self._bucket.take(now, 1 + len(text) // _COUNTED_BYTES):
            return self._close(CloseCode.TOO_MANY, "rate-limited")
        try:
            if self.dialect is None:
                dialect, message = self._codec.decode_first(text)
                self.dialect = dialect
            else:
                message = self._codec.decode(self.dialect, text)
        except WireError as error:
            return self._unreadable(error)
        if isinstance(message.payload, _TOLD_TO_ALL) and not self._bucket.take(now, _TELLING_COST - 1):
            return self._close(CloseCode.TOO_MANY, "rate-limited")
        return self._dispatch(message)

    def binary(self) -> list[Output]:
        """A binary frame; there are none in this protocol."""
        return self._close(CloseCode.UNSUPPORTED, "binary")

    def alive(self, now: float) -> None:
        """A pong or a ping came."""
        self._heard = now

    def tick(self, now: float) -> list[Output]:
        """Call at `deadline` or later."""
        if self.state is State.CLOSED:
            return []
        if self.state is State.AWAITING and now >= self._opened + self._limits.join_s:
            return self._close(CloseCode.TIMED_OUT, "no-join")
        if now >= self._heard + self._limits.silence_s:
            return self._close(CloseCode.TIMED_OUT, "silence")
        if now < self._next_ping:
            return []
        self._next_ping = now + self._limits.ping_s
        return [Ping()]

    @property
    def deadline(self) -> float:
        """When `tick` wants to be called; infinity once closed."""
        if self.state is State.CLOSED:
            return float("inf")
        silence = self._heard + self._limits.silence_s
        if self.state is State.AWAITING:
            return min(self._opened + self._limits.join_s, silence, self._next_ping)
        return min(silence, self._next_ping)

    # --- results ---
    def joined(self, identity: Identity, reply: m.RoomJoined | m.Resumed, traceparent: str | None) -> list[Output]:
        """The person is in the room."""
        if self.state is not State.ENTERING:
            return []
        self.state = State.JOINED
        self._token = None
        self.identity = identity
        self.seq = identity.seq
        return [Send(Message(type(reply).__name__, reply, reply_to=self._requested, traceparent=traceparent))]

    def refused(self, refused: Refused) -> list[Output]:
        """Policy said no: told, then closed."""
        if self.state is State.CLOSED:
            return []
        error = _error(refused.reason, str(refused), self._requested)
        return [error, *self._close(close_code(refused.reason), refused.reason)]

    def unavailable(self, now: float, what: str) -> list[Output]:
        """A dependency failed; the client may try again on this connection."""
        if self.state is not State.ENTERING:
            return []
        self.state = State.AWAITING
        self._opened = now
        return [_error("unavailable", f"{what} does not answer at the moment. Try again.", self._requested, True)]

    def end(self, code: CloseCode, reason: str) -> list[Output]:
        """The server ends the connection: removed, taken over, room ended, draining, too slow."""
        return self._close(code, reason)

    def transports(self, ids: Iterable[tuple[str, Direction]], *, offered: bool = False) -> None:
        """The SFU session's transports, instead of former ones. `offered` for those of a session that lives already:
        a client that resumes may repeat its answer, which may have been lost with the socket."""
        self._transports = {id_: _Transport(direction, offered) for id_, direction in ids}

    def offered(self, transport_id: str) -> None:
        """The SFU's offer on its transport goes to the client."""
        transport = self._transports.get(transport_id)
        if transport is not None:
            transport.offered = True

    def wants(self, seq: int, to: UserId | None) -> bool:
        """True where a room event is for this connection and was not sent before; remembers its seq."""
        if self.identity is None or (to is not None and to != self.identity.user_id):
            return False
        if seq == 0:
            return True
        if seq <= self.seq:
            return False
        self.seq = seq
        return True

    # --- inside ---
    def _unreadable(self, error: WireError) -> list[Output]:
        if not error.fatal:
            return [_error(error.code, error.detail, error.reply_to)]
        return self._close(CloseCode.TOO_BIG if error.code == "too-large" else CloseCode.MALFORMED, error.code)

    def _close(self, code: CloseCode, reason: str) -> list[Output]:
        if self.state is State.CLOSED:
            return []
        self.state = State.CLOSED
        self._token = None
        return [Close(code, reason)]

    def _dispatch(self, message: Message) -> list[Output]:
        if self.state is State.JOINED:
            handler = _JOINED.get(type(message.payload))
            return [Serve(message)] if handler is None else handler(self, message)
        if self.state is State.ENTERING:
            return [_error("not-joined", "Wait for the answer to the join.", message.id)]
        handler = _AWAITING.get(type(message.payload))
        if handler is None:
            return [_error("not-joined", "Send JoinRoom or Resume first.", message.id)]
        return handler(self, message)

    def _join(self, message: Message) -> list[Output]:
        payload = message.payload
        assert isinstance(payload, m.JoinRoom)  # by the table
        token = payload.token if payload.token is not UNSET else self._token
        if not token:
            return [_error("token-missing", "Send the token in JoinRoom or as a subprotocol.", message.id)]
        self._token = token  # until it was used: the directory may be away now
        return self._enter(message, Enter(message, token))

    def _resume(self, message: Message) -> list[Output]:
        return self._enter(message, Reattach(message))

    def _enter(self, message: Message, effect: Effect) -> list[Output]:
        self.state = State.ENTERING
        self._requested = message.id
        return [effect]

    def _keep_alive_early(self, message: Message) -> list[Output]:
        return [Serve(message)]

    def _already(self, message: Message) -> list[Output]:
        return [_error("already-joined", "This connection has joined.", message.id)]

    def _leave(self, message: Message) -> list[Output]:
        return [Depart(), *self._close(CloseCode.NORMAL, "left")]

    def _moderate(self, message: Message) -> list[Output]:
        if self.identity is None or self.identity.role != "host":
            return [_refusal("not-host", message.id)]
        return [Serve(message)]

    def _signal(self, message: Message) -> list[Output]:
        payload = message.payload
        assert isinstance(payload, m.SendOffer | m.SendAnswer | m.SendIceCandidate)  # by the table
        identity = self.identity
        assert identity is not None  # joined
        # 0: not given. Peers go on talking by the former topology until both have made the new one.
        former = identity.epoch - 1 if payload.target_user_id != m.SFU else identity.epoch
        if payload.epoch and not former <= payload.epoch <= identity.epoch:
            return [_error("stale-epoch", "The room's topology has changed.", message.id)]
        if payload.target_user_id == identity.user_id:
            return [_error("invalid-message", "targetUserId is the sender.", message.id)]
        if payload.target_user_id != m.SFU:
            return [ToPeer(message, UserId(payload.target_user_id))]
        transport_id = payload.transport_id or self._default_transport(payload)
        transport = self._transports.get(transport_id)
        if transport is None:
            return [_error("unknown-transport", "transportId is none of this connection's.", message.id)]
        problem = _misuse(payload, transport)
        if problem is not None:
            return [_error(*problem, message.id)]
        if isinstance(payload, m.SendOffer):
            transport.offered = True
        if not payload.transport_id:
            message = message._replace(payload=msgspec.structs.replace(payload, transport_id=transport_id))
        return [ToSfu(message)]

    def _default_transport(self, payload: Signal) -> str:
        """Where a minimal client names none: its only transport of the direction that fits."""
        direction = "subscribe" if isinstance(payload, m.SendAnswer) else "publish"
        return next((id_ for id_, transport in self._transports.items() if transport.direction == direction), "")


def close_code(reason: str) -> CloseCode:
    """The close code of a refusal."""
    return _REFUSALS.get(reason, CloseCode.REFUSED)


def error_message(code: str, text: str, reply_to: str | None = None, *, retryable: bool = False) -> Message:
    return Message("Error", m.Error(code=code, message=text, retryable=retryable), reply_to=reply_to)


def _error(code: str, text: str, reply_to: str | None, retryable: bool = False) -> Send:
    return Send(error_message(code, text, reply_to, retryable=retryable))


def _refusal(reason: str, reply_to: str | None) -> Send:
    return _error(reason, str(Refused(reason)), reply_to)


def _misuse(payload: Signal, transport: _Transport) -> tuple[str, str] | None:
    if isinstance(payload, m.SendOffer) and transport.direction != "publish":
        return "wrong-direction", "The SFU offers on this transport."
    if isinstance(payload, m.SendAnswer) and transport.direction != "subscribe":
        return "wrong-direction", "The client offers on this transport."
    if not isinstance(payload, m.SendOffer) and not transport.offered:
        return "before-offer", "There was no offer on this transport yet."
    return None


_COUNTED_BYTES: Final = 4_096
_TELLING_COST: Final = 5
_TOLD_TO_ALL: Final = (m.SendMessage, m.UpdateState)
_REFUSALS: Final = {
    "removed": CloseCode.REMOVED,
    "room-ended": CloseCode.ROOM_ENDED,
    "meeting-ended": CloseCode.ROOM_ENDED,
    "duplicate": CloseCode.TAKEN_OVER,
    "rate-limited": CloseCode.TOO_MANY,
}
_Handler: TypeAlias = Callable[[Session, Message], list[Output]]
_AWAITING: Final[dict[type[m.Payload], _Handler]] = {
    m.JoinRoom: Session._join,
    m.Resume: Session._resume,
    m.KeepAlive: Session._keep_alive_early,
    m.Leave: Session._leave,
}
_JOINED: Final[dict[type[m.Payload], _Handler]] = {
    m.JoinRoom: Session._already,
    m.Resume: Session._already,
    m.SendOffer: Session._signal,
    m.SendAnswer: Session._signal,
    m.SendIceCandidate: Session._signal,
    m.Leave: Session._leave,
    m.Moderate: Session._moderate,
}
