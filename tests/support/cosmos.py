"""Our Cosmos DB server, in the test's own event loop, and the stores over it.

The server is one object with the test, so a test may switch its faults on, move its clock and look into what it keeps.
"""

import base64
import hmac
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from hashlib import sha256
from itertools import count
from typing import Final
from urllib.parse import quote

from aiohttp import web

from conference.adapters.cosmos import CosmosDatabase, Patience, cosmos_stores
from conference.adapters.cosmos.provision import provision
from conference.adapters.memory.queue import MemoryEventQueue
from conference.domain.ids import Secret
from conference.ports.clock import Ids
from conference.ports.stores import Stores
from local.cosmos.account import Account
from local.cosmos.server import CosmosServer

KEY = base64.b64encode(b"the key of an emulator, for tests alone").decode()
PATIENT: Final = Patience(answer_s=30, operation_s=60)  # the machine may be busy with other tests
_numbers = count(1)


@dataclass(slots=True)
class RunningCosmos:
    server: CosmosServer
    url: str
    database: str

    def open(self, patience: Patience = PATIENT, *, url: str | None = None) -> CosmosDatabase:
        """Another client, as of another process; the caller closes it."""
        return CosmosDatabase(url or self.url, self.database, key=Secret(KEY), patience=patience)


@asynccontextmanager
async def cosmos_server(clock: Callable[[], float] = time.time) -> AsyncIterator[RunningCosmos]:
    """On a free port, with a database and its containers."""
    server = CosmosServer(Account(clock), KEY)
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        running = RunningCosmos(server, f"http://127.0.0.1:{runner.addresses[0][1]}", f"parley{next(_numbers)}")
        database = running.open()
        await provision(database)
        await database.close()
        yield running
    finally:
        await runner.cleanup()


def signed(verb: str, link: str, kind: str) -> dict[str, str]:
    """Headers of a request, signed here and not by the SDK. `link` is the resource; of a feed, its owner."""
    date = formatdate(usegmt=True)
    text = f"{verb.lower()}\n{kind}\n{link}\n{date.lower()}\n\n"
    signature = base64.b64encode(hmac.new(base64.b64decode(KEY), text.encode(), sha256).digest()).decode()
    token = quote(f"type=master&ver=1.0&sig={signature}", safe="")
    return {"authorization": token, "x-ms-date": date, "x-ms-version": "2020-07-15"}


def stores_over(database: CosmosDatabase, ids: Ids) -> Stores:
    """With a queue in memory: Cosmos DB has none."""
    return cosmos_stores(database, ids, MemoryEventQueue(ids))
