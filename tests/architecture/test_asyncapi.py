"""docs/asyncapi.json is what the message types say, and is sound by itself."""

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from conference.protocol.envelope import Message, encode
from conference.protocol.messages import CLIENT_MESSAGES, SERVER_MESSAGES, KeepAlive, Moving
from media_workers.signaling.asyncapi import PATH, document, text

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).parents[2]


def refs(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in refs(value)]
    return [ref for value in node for ref in refs(value)] if isinstance(node, list) else []


def resolve(whole: dict[str, Any], ref: str) -> Any:
    node: Any = whole
    for part in ref.removeprefix("#/").split("/"):
        node = node[part.replace("~1", "/")]
    return node


def test_the_document_that_is_checked_in_is_the_generated_one() -> None:
    made = (ROOT / PATH).read_text(encoding="utf-8")
    assert made == text(), "run: python -m media_workers.signaling.asyncapi"


def test_every_reference_leads_somewhere_and_every_message_is_described() -> None:
    whole = document()
    found = refs(whole)
    assert len(found) > 100
    for ref in found:
        assert resolve(whole, ref) is not None
    names = set(whole["components"]["messages"])
    assert names == {f"client.{name}" for name in CLIENT_MESSAGES} | {f"server.{name}" for name in SERVER_MESSAGES}


@pytest.mark.parametrize(
    ("side", "message"),
    [
        ("client", Message("KeepAlive", KeepAlive(), id="1")),
        ("server", Message("Moving", Moving(retry_in_ms=1, spread_ms=2))),
    ],
)
def test_an_encoded_message_fits_its_schema(side: str, message: Message) -> None:
    whole = document()
    schema = whole["components"]["messages"][f"{side}.{message.type}"]["payload"]
    validator = Draft202012Validator({**schema, "components": whole["components"]})
    validator.validate(json.loads(encode(message)))
    assert not validator.is_valid({"type": message.type, "payload": {"unknown": 1}})
