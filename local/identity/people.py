"""The people whom the local identity provider knows, and the ones it takes at their word.

A directory of neutral built-in users, one of them an admin, stands in for a tenant's directory. Any other e-mail
address names a person as well: on one machine nobody has a password, and whoever reaches the sign-in page may pick who
they are. Object ids are UUIDv5 of tenant and address, so that the same person keeps the same id over restarts.
"""

import re
import uuid
from dataclasses import dataclass
from typing import Final

MAX_NAME = 80
MAX_EMAIL = 254
_EMAIL = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}")


@dataclass(frozen=True)
class Person:
    """Who signs in: what an id token says about them."""

    name: str
    email: str
    roles: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "Person(…)"

    def object_id(self, tenant: str) -> str:
        """The person's object id (`oid`) in `tenant`."""
        return str(uuid.uuid5(uuid.UUID(tenant), self.email))


ADMIN_ROLE: Final = "Parley.Admin"

BUILT_IN: Final = (
    Person("Alex Example", "alex@example.org", (ADMIN_ROLE,)),
    Person("Blair Example", "blair@example.org"),
    Person("Casey Example", "casey@example.org"),
    Person("Devon Example", "devon@example.org"),
    Person("Emery Example", "emery@example.org"),
    Person("Finley Example", "finley@example.org"),
)
_KNOWN: Final = {person.email: person for person in BUILT_IN} | {
    person.email.partition("@")[0]: person for person in BUILT_IN
}


def find(hint: str, name: str = "") -> Person | None:
    """The person whom a login hint means: a built-in user by short name or address, else anyone with an address.

    `name` is the display name of a person who is not built in; without one it is made from the address. None where
    `hint` is no e-mail address or a text is too long or has control characters.
    """
    hint, name = hint.strip().lower(), " ".join(name.split())
    if hint in _KNOWN:
        return _KNOWN[hint]
    if len(hint) > MAX_EMAIL or _EMAIL.fullmatch(hint) is None:
        return None
    if len(name) > MAX_NAME or not name.isprintable():
        return None
    return Person(name or hint.partition("@")[0].replace(".", " ").title(), hint)
