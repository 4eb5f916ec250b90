"""SDP as text: sections and attributes, within limits, without meaning (RFC 8866).

`parse` is total: it returns a `Description` or raises ProtocolError with code `bad-sdp` or `sdp-too-large`. What the
attributes mean is `negotiation`'s business. Limits are checked while reading, so that a hostile text costs little.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from conference.domain.errors import ProtocolError

MAX_BYTES: Final = 200_000
MAX_SECTIONS: Final = 64
MAX_LINE: Final = 4_096
MAX_ATTRIBUTES: Final = 1_024  # of one section
MAX_CANDIDATES: Final = 128
MAX_FORMATS: Final = 128

Attribute = tuple[str, str]


@dataclass(slots=True)
class Section:
    """One m-section, or with kind "" the session part. Attributes keep their order; a flag's value is ""."""

    kind: str = ""
    port: int = 0
    protocol: str = ""
    formats: tuple[str, ...] = ()
    attributes: list[Attribute] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        """The first value of an attribute; None where it is absent."""
        return next((value for key, value in self.attributes if key == name), None)

    def all(self, name: str) -> Iterator[str]:
        return (value for key, value in self.attributes if key == name)

    def has(self, name: str) -> bool:
        return self.get(name) is not None

    @property
    def mid(self) -> str:
        return self.get("mid") or ""

    @property
    def direction(self) -> str:
        for key, _ in self.attributes:
            if key in {"sendrecv", "sendonly", "recvonly", "inactive"}:
                return key
        return "sendrecv"  # RFC 8866 6.7


@dataclass(slots=True)
class Description:
    """A session description: its session part and its m-sections."""

    session: Section
    sections: list[Section]

    def get(self, section: Section, name: str) -> str | None:
        """An attribute that may stand in the section or above all of them."""
        value = section.get(name)
        return self.session.get(name) if value is None else value


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-sdp", detail)


def _too_large(detail: str) -> ProtocolError:
    return ProtocolError("sdp-too-large", detail)


def parse(text: str, max_sections: int = MAX_SECTIONS) -> Description:
    """The description in `text`. Raises ProtocolError `bad-sdp` or `sdp-too-large`."""
    if len(text) > MAX_BYTES:
        raise _too_large(f"an SDP has at most {MAX_BYTES} characters")
    if not text.startswith("v=0"):
        raise _bad("an SDP begins with v=0")
    session = current = Section()
    sections: list[Section] = []
    candidates = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        if not line:
            continue
        if len(line) > MAX_LINE:
            raise _too_large(f"a line has at most {MAX_LINE} characters")
        if line[1:2] != "=":
            raise _bad("a line has the form <letter>=<value>")
        if line[0] == "m":
            if len(sections) >= max_sections:
                raise _too_large(f"an SDP has at most {max_sections} m-sections")
            current = _media(line[2:])
            sections.append(current)
        elif line[0] == "a":
            name, _, value = line[2:].partition(":")
            candidates += name == "candidate"
            if len(current.attributes) >= MAX_ATTRIBUTES or candidates > MAX_CANDIDATES:
                raise _too_large("there are too many attributes or candidates")
            current.attributes.append((name, value))
    return Description(session, sections)


def number(text: str, low: int, high: int) -> int:
    """A decimal number within limits. Raises ProtocolError `bad-sdp`."""
    if not text.isascii() or not text.isdigit() or len(text) > 10 or not low <= int(text) <= high:
        raise _bad(f"a number from {low} to {high} was expected")
    return int(text)


def _media(value: str) -> Section:
    parts = value.split()
    if len(parts) < 4 or len(parts) > 3 + MAX_FORMATS:
        raise _bad("an m-line has kind, port, protocol and up to 128 formats")
    return Section(parts[0], number(parts[1], 0, 65_535), parts[2], tuple(parts[3:]))


def serialize(description: Description, *, session_id: int, version: int) -> str:
    """The text of a description, CR LF line ends."""
    lines = ["v=0", f"o=- {session_id} {version} IN IP4 127.0.0.1", "s=-", "t=0 0"]
    lines.extend(_attribute(a) for a in description.session.attributes)
    for section in description.sections:
        lines.append(f"m={section.kind} {section.port} {section.protocol} {' '.join(section.formats)}")
        lines.append("c=IN IP4 0.0.0.0")
        lines.extend(_attribute(a) for a in section.attributes)
    return "\r\n".join(lines) + "\r\n"


def _attribute(attribute: Attribute) -> str:
    name, value = attribute
    return f"a={name}:{value}" if value else f"a={name}"
