"""The containers of the database, in one place: what `provision` makes on an emulator and Bicep in Azure.

Everything of one meeting shares the partition of its id, so one transactional batch can change any of it.
"""

from dataclasses import dataclass
from typing import Any, Final

DAY_S: Final = 86_400
# Read whole and never looked for: in the index they would only make each write dearer.
_NOT_ASKED_FOR: Final = ('/"_etag"/?', "/payload/*", "/audit/*", "/manifest/*", "/removed/*", "/secrets/*")


@dataclass(frozen=True, slots=True)
class ContainerDefinition:
    """`default_ttl` in seconds; -1 lets single items expire, None none. `composite` lists the paths of each composite
    index with "ascending" or "descending"."""

    name: str
    partition_key: tuple[str, ...]
    default_ttl: int | None = None
    composite: tuple[tuple[tuple[str, str], ...], ...] = ()

    @property
    def is_hierarchical(self) -> bool:
        return len(self.partition_key) > 1

    @property
    def indexing_policy(self) -> dict[str, Any]:
        return {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": "/*"}],
            "excludedPaths": [{"path": path} for path in _NOT_ASKED_FOR],
            "compositeIndexes": [[{"path": path, "order": order} for path, order in index] for index in self.composite],
        }


MEETINGS: Final = ContainerDefinition(
    "meetings",
    ("/meetingId",),
    composite=((("/createdAt", "ascending"), ("/id", "ascending")), (("/t0", "ascending"), ("/id", "ascending"))),
)
HOSTS: Final = ContainerDefinition(
    "hosts", ("/hostId",), composite=((("/listedAt", "descending"), ("/id", "descending")),)
)
USERS: Final = ContainerDefinition("users", ("/id",))
AUDIT: Final = ContainerDefinition(
    "audit",
    ("/tenantId", "/day"),
    default_ttl=-1,
    composite=((("/at", "descending"), ("/id", "descending")),),
)
# Ids of consent entries, which are one over all meetings: an idempotency key is remembered for 30 days.
CLAIMS: Final = ContainerDefinition("claims", ("/id",), default_ttl=30 * DAY_S)
# Where readers of change feeds stand: the outbox relay's own, and those of Functions triggers.
LEASES: Final = ContainerDefinition("leases", ("/id",))
# A tenant's endpoints.
WEBHOOKS: Final = ContainerDefinition("webhooks", ("/tenantId",))
# A room's way to an endpoint, and the tries there: so a busy endpoint outgrows no partition, and its log is a prefix.
WEBHOOK_STREAMS: Final = ContainerDefinition(
    "webhook-streams",
    ("/endpointId", "/meetingId"),
    default_ttl=-1,
    composite=((("/at", "descending"), ("/id", "descending")),),
)
WEBHOOK_LOG_S: Final = 7 * DAY_S  # how long a try is kept, and a stream on which nothing waits

ALL: Final = (MEETINGS, HOSTS, USERS, AUDIT, CLAIMS, LEASES, WEBHOOKS, WEBHOOK_STREAMS)
