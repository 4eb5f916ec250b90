"""The two vocabularies of `/v1/signal`: canonical names (the specification's part F) and snake_case names (part A).

The first message of a connection decides; it is answered in the same vocabulary from then on. Only `type` differs,
payloads are the same. In part A `offer`, `answer` and `ice_candidate` name both directions; every other type is the
snake_case of its canonical name.
"""

import re
from enum import Enum
from typing import Final

from conference.protocol.envelope import Codec, Message, WireError
from conference.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES, Payload


class Dialect(Enum):
    CANONICAL = "canonical"
    SNAKE = "snake"


_SENT: Final = {"SendOffer": "offer", "SendAnswer": "answer", "SendIceCandidate": "ice_candidate"}
_RECEIVED: Final = {"ReceiveOffer": "offer", "ReceiveAnswer": "answer", "IceCandidate": "ice_candidate"}
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def snake(name: str) -> str:
    """`RoomJoined` as `room_joined`."""
    return _HUMP.sub("_", name).lower()


def snake_table(table: dict[str, type[Payload]]) -> dict[str, type[Payload]]:
    """The client's messages under their names in part A."""
    return {_SENT.get(name) or snake(name): struct for name, struct in table.items()}


_OUT: Final = {name: _RECEIVED.get(name) or snake(name) for name in SERVER_MESSAGES}


def wire_name(dialect: Dialect, canonical: str) -> str:
    """What a server message of that canonical type is called on the wire."""
    return canonical if dialect is Dialect.CANONICAL else _OUT.get(canonical) or snake(canonical)


class ClientCodec:
    """Decodes client messages of both dialects. One object serves all connections."""

    def __init__(self, extra: dict[str, type[Payload]] | None = None) -> None:
        """`extra`: further message types, of the debug hooks."""
        table = {**CLIENT_MESSAGES, **(extra or {})}
        self._snake_names = dict(zip(snake_table(table), table, strict=True))
        self._codecs = {Dialect.CANONICAL: Codec(table), Dialect.SNAKE: Codec(snake_table(table))}

    def decode(self, dialect: Dialect, text: str | bytes) -> Message:
        """The message under its canonical type. Raises WireError."""
        message = self._codecs[dialect].decode(text)
        if dialect is Dialect.SNAKE:
            return message._replace(type=self._snake_names[message.type])
        return message

    def decode_first(self, text: str | bytes) -> tuple[Dialect, Message]:
        """The first message that can be read decides the dialect. Raises WireError."""
        try:
            return Dialect.CANONICAL, self.decode(Dialect.CANONICAL, text)
        except WireError as error:
            if error.code != "unknown-type":
                raise
        return Dialect.SNAKE, self.decode(Dialect.SNAKE, text)
