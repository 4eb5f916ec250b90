"""Framing of signaling and control messages: `{type, id?, replyTo?, seq?, payload, traceparent?}`.

`decode` is the only door for a peer's text. It never raises anything but `ProtocolError`, whose `fatal` tells whether
the connection must close (malformed JSON, close code 1007; oversize, 1009) or goes on after an Error message.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from conference.domain.errors import ProtocolError
from conference.protocol.messages import Payload

MAX_MESSAGE_BYTES: Final = 256 * 1024
TRACEPARENT = Annotated[str, Meta(pattern=r"^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")]
MessageId = Annotated[str, Meta(min_length=1, max_length=64)]


class WireError(ProtocolError):
    """A message that could not be read. `reply_to` is its id where that could be read."""

    def __init__(self, code: str, detail: str, *, fatal: bool = False, reply_to: str | None = None) -> None:
        super().__init__(code, detail)
        self.fatal = fatal
        self.reply_to = reply_to


class _Envelope(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    type: Annotated[str, Meta(min_length=1, max_length=64)]
    id: MessageId | UnsetType = UNSET
    reply_to: MessageId | UnsetType = UNSET
    seq: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    payload: msgspec.Raw = msgspec.Raw(b"{}")
    traceparent: TRACEPARENT | UnsetType = UNSET


class Message(NamedTuple):
    """One message; `payload` is a struct of a message table."""

    type: str
    payload: Payload
    id: str | None = None
    reply_to: str | None = None
    seq: int | None = None
    traceparent: str | None = None


_decoder: Final = msgspec.json.Decoder(_Envelope)
_encoder: Final = msgspec.json.Encoder()


def _known(value: Any) -> Any:
    return None if value is UNSET else value


class Codec:
    """Decodes the types of one table. Build it once: the payload decoders are compiled here."""

    def __init__(self, table: Mapping[str, type[Payload]]) -> None:
        self._decoders = {name: msgspec.json.Decoder(struct) for name, struct in table.items()}

    def decode(self, text: str | bytes) -> Message:
        """The message in `text`. Raises WireError: malformed, too-large, unknown-type or invalid-message."""
        # A str of n characters has at least n bytes; encode only when it could be over.
        size = len(text) if isinstance(text, bytes) else len(text.encode()) if len(text) * 4 > MAX_MESSAGE_BYTES else 0
        if size > MAX_MESSAGE_BYTES:
            raise WireError("too-large", f"a message has at most {MAX_MESSAGE_BYTES} bytes", fatal=True)
        try:
            envelope = _decoder.decode(text)
        except msgspec.ValidationError as error:
            raise WireError("invalid-message", str(error)) from None
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise WireError("malformed", "the message is not JSON", fatal=True) from None
        reply_to = _known(envelope.id)
        decoder = self._decoders.get(envelope.type)
        if decoder is None:
            raise WireError("unknown-type", "this message type is not known here", reply_to=reply_to)
        try:
            payload = decoder.decode(envelope.payload)
        except (msgspec.ValidationError, RecursionError) as error:
            raise WireError("invalid-message", str(error), reply_to=reply_to) from None
        except (msgspec.DecodeError, UnicodeError):
            raise WireError("malformed", "the payload is not JSON", fatal=True) from None
        return Message(
            envelope.type,
            payload,
            reply_to,
            _known(envelope.reply_to),
            _known(envelope.seq),
            _known(envelope.traceparent),
        )


def encode(message: Message) -> str:
    """The wire form of a message; absent members are left out."""
    return encode_raw(
        message.type,
        _encoder.encode(message.payload),
        id=message.id,
        reply_to=message.reply_to,
        seq=message.seq,
        traceparent=message.traceparent,
    )


def encode_raw(
    type_: str,
    payload: bytes,
    *,
    id: str | None = None,
    reply_to: str | None = None,
    seq: int | None = None,
    traceparent: str | None = None,
) -> str:
    """As `encode`, for a payload that is JSON already (fan-out encodes once for a room)."""
    envelope = _Envelope(
        type=type_,
        id=UNSET if id is None else id,
        reply_to=UNSET if reply_to is None else reply_to,
        seq=UNSET if seq is None else seq,
        payload=msgspec.Raw(payload),
        traceparent=UNSET if traceparent is None else traceparent,
    )
    return _encoder.encode(envelope).decode()


def encode_payload(payload: Payload) -> bytes:
    """The JSON of a payload alone."""
    return _encoder.encode(payload)
