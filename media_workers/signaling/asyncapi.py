"""The AsyncAPI 3 document of `/v1/signal`, generated from the message types.

`python -m media_workers.signaling.asyncapi` writes docs/asyncapi.json; tests/architecture compares the two.
"""

import json
from pathlib import Path
from typing import Any, Final

import msgspec

from conference.protocol.dialect import Dialect, snake_table, wire_name
from conference.protocol.envelope import MAX_MESSAGE_BYTES
from conference.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES, Payload
from conference.protocol.session import CloseCode

PATH: Final = Path("docs/asyncapi.json")
_ENVELOPE: Final[dict[str, Any]] = {
    "id": {"type": "string", "minLength": 1, "maxLength": 64, "description": "Chosen by the sender of a request."},
    "replyTo": {"type": "string", "description": "The id of the request that this answers."},
    "seq": {"type": "integer", "minimum": 0, "description": "The room's number of a room event; gaps are normal."},
    "traceparent": {"type": "string", "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
}


def document() -> dict[str, Any]:
    """The whole document, with members in a fixed order."""
    tables = {"client": CLIENT_MESSAGES, "server": SERVER_MESSAGES}
    structs: list[type[Payload]] = list({struct: None for table in tables.values() for struct in table.values()})
    _, schemas = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Parley signaling",
            "version": "1.0.0",
            "description": _description(),
            "license": {"name": "MIT"},
        },
        "servers": {"origin": {"host": "{host}", "protocol": "wss", "variables": {"host": {"default": "127.0.0.1"}}}},
        "channels": {"signal": _channel(tables)},
        "operations": {
            "send": _operation("receive", "client", CLIENT_MESSAGES, "What a client sends."),
            "receive": _operation("send", "server", SERVER_MESSAGES, "What a client receives."),
        },
        "components": {"messages": _messages(tables), "schemas": dict(sorted(schemas.items()))},
    }


def _description() -> str:
    codes = ", ".join(f"{int(code)} {code.name.lower().replace('_', '-')}" for code in CloseCode)
    return (
        "JSON text frames `{type, id?, replyTo?, seq?, payload, traceparent?}`, at most "
        f"{MAX_MESSAGE_BYTES} bytes. Each message also has a snake_case name; a connection keeps to the vocabulary of "
        f"its first message. Close codes: {codes}. See docs/signaling-protocol.md."
    )


def _channel(tables: dict[str, dict[str, type[Payload]]]) -> dict[str, Any]:
    names = [f"{side}.{name}" for side, table in tables.items() for name in table]
    return {
        "address": "/v1/signal",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
        "bindings": {
            "ws": {
                "method": "GET",
                "headers": {
                    "type": "object",
                    "properties": {"Sec-WebSocket-Protocol": {"type": "string", "examples": ["parley.v1"]}},
                },
            }
        },
    }


def _operation(action: str, side: str, table: dict[str, type[Payload]], summary: str) -> dict[str, Any]:
    messages = [{"$ref": f"#/channels/signal/messages/{side}.{name}"} for name in table]
    return {"action": action, "channel": {"$ref": "#/channels/signal"}, "summary": summary, "messages": messages}


def _messages(tables: dict[str, dict[str, type[Payload]]]) -> dict[str, Any]:
    client_names = dict(zip(CLIENT_MESSAGES, snake_table(CLIENT_MESSAGES), strict=True))
    described = {}
    for side, table in tables.items():
        for name, struct in table.items():
            snake = client_names[name] if side == "client" else wire_name(Dialect.SNAKE, name)
            described[f"{side}.{name}"] = {
                "name": name,
                "title": name,
                "summary": (struct.__doc__ or "").strip().split("\n")[0],
                "contentType": "application/json",
                "payload": {
                    "type": "object",
                    "required": ["type", "payload"],
                    "additionalProperties": False,
                    "properties": {
                        "type": {"enum": [name, snake] if snake != name else [name]},
                        "payload": {"$ref": f"#/components/schemas/{struct.__name__}"},
                        **_ENVELOPE,
                    },
                },
            }
    return described


def text() -> str:
    """The document as it is checked in."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
