"""The queue side, by Azure Storage Queue's rules: visibility time-out, delete on success, a poison queue.

A message whose function fails is visible again after the time-out; after `maxDequeueCount` failures it moves to
`<queue>-poison`. Messages of a queue are handled one after the other, so a room's events keep their order while none
fails.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from azure.functions.queue import QueueMessage as FunctionsMessage

from conference.domain.errors import Unavailable
from conference.ports.clock import Clock
from conference.ports.records import EventQueue, QueueMessage
from local.functions_host.invoking import invoke
from local.functions_host.loading import QueueFunction, QueueRules

log = logging.getLogger(__name__)
_FIRST_PAUSE_S: Final = 0.1


class QueuePump:
    """Feeds one queue function until stopped."""

    def __init__(
        self, function: QueueFunction, rules: QueueRules, queue: Callable[[], Awaitable[EventQueue]], clock: Clock
    ) -> None:
        self._function = function
        self._rules = rules
        self._queue = queue
        self._clock = clock
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """The message under way is finished; then `run` returns."""
        self._stopped.set()

    async def run(self) -> None:
        """Polls, ever more slowly while there is nothing, up to `maxPollingInterval`."""
        slowest_s = max(_FIRST_PAUSE_S, self._rules.max_polling_interval.total_seconds())
        pause_s = _FIRST_PAUSE_S
        while not self._stopped.is_set():
            pause_s = _FIRST_PAUSE_S if await self._round() else min(pause_s * 2, slowest_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopped.wait()

    async def _round(self) -> int:
        """One batch; gives its size."""
        try:
            queue = await self._queue()
            messages = await queue.receive(
                self._function.queue,
                now=self._clock.now(),
                limit=self._rules.batch_size,
                visibility_s=self._rules.visibility_timeout.total_seconds(),
            )
            for message in messages:
                if self._stopped.is_set():
                    break  # what is left becomes visible again
                await self._handle(queue, message)
            return len(messages)
        except Unavailable as error:
            log.warning("the queue does not answer", extra={"queue": self._function.queue, "what": error.what})
        except Exception:
            log.exception("the queue pump failed", extra={"queue": self._function.queue})
        return 0

    async def _handle(self, queue: EventQueue, message: QueueMessage) -> None:
        given = FunctionsMessage(  # type: ignore[no-untyped-call]  # the SDK leaves it untyped
            id=message.id,
            body=message.body,
            dequeue_count=message.dequeue_count,
            insertion_time=message.inserted_at,
            pop_receipt=message.pop_receipt,
        )
        try:
            await invoke(self._function.name, self._function.handler, self._function.argument, given)
        except Exception as error:
            await self._failed(queue, message, error)
        else:
            await queue.delete(self._function.queue, message)

    async def _failed(self, queue: EventQueue, message: QueueMessage, error: Exception) -> None:
        facts = {"function": self._function.name, "messageId": message.id, "attempt": message.dequeue_count}
        if message.dequeue_count < self._rules.max_dequeue_count:
            log.warning("a queue message failed", extra={**facts, "error": type(error).__name__})
            return
        log.error("a queue message is poison", extra=facts, exc_info=error)
        poison = f"{self._function.queue}-poison"
        # First there, then gone here: dying in between leaves it in both, under one id, and not in neither.
        await queue.send(poison, message.body, now=self._clock.now(), message_id=message.id)
        await queue.delete(self._function.queue, message)
