"""Port `EventQueue` on Azure Storage queues, from which Azure Functions reads as well.

A message's body travels as it is (host.json: `messageEncoding` none), so that a queue trigger and `receive` see the
same. The service knows no message ids of ours. Which were sent is remembered here, for the repeats of one process; a
send whose answer was lost looks for its body before it is made again. Beyond that a message may come twice, after the
death of a process for example: handlers are idempotent by the event's id.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.queue import QueueMessage as Received
from azure.storage.queue.aio import QueueClient, QueueServiceClient

from conference.adapters.azure.calls import NO_RETRIES, Calls, error_code
from conference.adapters.retries import Retries
from conference.ports.records import QueueMessage

log = logging.getLogger(__name__)
LARGEST_BYTES: Final = 65_536
LONGEST_S: Final = 7 * 24 * 3_600  # of a visibility time-out
MOST_AT_ONCE: Final = 32
# In all less than the 30 s for which the relay holds an event that it is sending.
RETRIES: Final = Retries(attempts=4, attempt_s=5.0, total_s=26.0, base_s=0.2, wait_s=2.0)
_REMEMBERED: Final = 10_000
_STALE: Final = frozenset({"PopReceiptMismatch", "MessageNotFound", "QueueNotFound"})


class AzureEventQueue:
    """`credential` is a token credential, or the account key of an emulator. Queues are made when they are first
    written to. `now` is for the port's other adapters: the service goes by its own clock."""

    def __init__(
        self,
        endpoint: str,
        credential: AsyncTokenCredential | str,
        *,
        retries: Retries = RETRIES,
        **options: Any,
    ) -> None:
        self._service = QueueServiceClient(endpoint, credential=credential, **NO_RETRIES, **options)
        self._calls = Calls("the event queue", retries)
        self._clients: dict[str, QueueClient] = {}
        self._sent: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def aclose(self) -> None:
        await self._service.close()

    async def send(self, queue: str, body: str, *, now: datetime, delay_s: float = 0.0, message_id: str = "") -> None:
        """Raises ValueError for a body over 64 KiB."""
        if len(body.encode()) > LARGEST_BYTES:
            raise ValueError(f"a queue message has at most {LARGEST_BYTES} bytes")
        if message_id and (queue, message_id) in self._sent:
            return
        client, tries = self._client(queue), 0
        send = partial(client.send_message, body, visibility_timeout=_seconds(delay_s) or None, time_to_live=-1)

        async def work() -> None:
            nonlocal tries
            tries += 1
            if tries > 1 and message_id and await _holds(client, body):
                return  # only the answer was lost
            try:
                await send()
            except ResourceNotFoundError:
                with suppress(ResourceExistsError):  # another process was faster
                    await client.create_queue()
                await send()

        await self._calls(work)
        if message_id:
            self._remember(queue, message_id)

    def _remember(self, queue: str, message_id: str) -> None:
        self._sent[queue, message_id] = None
        if len(self._sent) > _REMEMBERED:
            self._sent.popitem(last=False)

    async def receive(
        self, queue: str, *, now: datetime, limit: int = 16, visibility_s: float = 30.0
    ) -> Sequence[QueueMessage]:
        """At most 32. A batch whose answer is lost becomes visible again after the time-out."""
        client, most = self._client(queue), min(limit, MOST_AT_ONCE)

        async def work() -> list[QueueMessage]:
            # One page, so one request: what a second one took would be hidden if its answer were lost.
            pages = client.receive_messages(messages_per_page=most, visibility_timeout=_seconds(visibility_s)).by_page()
            page = await anext(pages, None)
            return [_received(message, now) async for message in page] if page is not None else []

        try:
            return await self._calls(work)
        except ResourceNotFoundError:
            return []

    async def delete(self, queue: str, message: QueueMessage) -> bool:
        """A delete that was repeated because its answer was lost says False: the message is gone all the same."""
        client = self._client(queue)

        async def work() -> None:
            await client.delete_message(message.id, message.pop_receipt)

        try:
            await self._calls(work)
        except HttpResponseError as error:
            if error_code(error) in _STALE:
                return False
            raise
        return True

    async def length(self, queue: str) -> int:
        """The service's own estimate, hidden messages included."""
        client = self._client(queue)

        async def work() -> int:
            return int((await client.get_queue_properties()).approximate_message_count or 0)

        try:
            return await self._calls(work)
        except ResourceNotFoundError:
            return 0

    def _client(self, queue: str) -> QueueClient:
        if queue not in self._clients:
            self._clients[queue] = self._service.get_queue_client(queue)
        return self._clients[queue]


def _received(message: Received, now: datetime) -> QueueMessage:
    inserted_at = message.inserted_on or now
    count = int(message.dequeue_count or 1)
    return QueueMessage(str(message.id), str(message.pop_receipt), str(message.content), count, inserted_at)


async def _holds(client: QueueClient, body: str) -> bool:
    """Whether the body is among the messages that anybody may see at the head of the queue."""
    try:
        return any(message.content == body for message in await client.peek_messages(MOST_AT_ONCE))
    except ResourceNotFoundError:
        return False


def _seconds(span_s: float) -> int:
    """Whole seconds, as the service takes them: rounded up, so that nothing shows too early."""
    return min(LONGEST_S, -int(-span_s // 1))
