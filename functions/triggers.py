"""Timers and the queue of domain events, as a Functions blueprint.

Signatures keep to the documented trigger types: the worker that runs in Azure refuses others when it indexes the app.
Schedules are NCRONTAB, seconds first, UTC. A failed queue message is given again and goes to `events-poison` after
`maxDequeueCount` (host.json).
"""

import azure.functions as func

from functions import events, upkeep
from functions.provider import wiring
from functions.webhooks import delivery

blueprint = func.Blueprint()  # type: ignore[no-untyped-call]  # the SDK leaves it untyped


@blueprint.function_name("expire_leases")
@blueprint.timer_trigger(arg_name="timer", schedule="*/30 * * * * *", run_on_startup=False, use_monitor=False)
async def expire_leases(timer: func.TimerRequest) -> None:
    """Frees the places of lost clients and ends the sessions of empty rooms."""
    await upkeep.expire(await wiring.services())


@blueprint.function_name("relay_outbox")
@blueprint.timer_trigger(arg_name="timer", schedule="*/2 * * * * *", run_on_startup=False, use_monitor=False)
async def relay_outbox(timer: func.TimerRequest) -> None:
    """Moves domain events from the outbox into the queue, and offers them to webhooks."""
    await events.relay(await wiring.services())


@blueprint.function_name("deliver_webhooks")
@blueprint.timer_trigger(arg_name="timer", schedule="*/2 * * * * *", run_on_startup=False, use_monitor=False)
async def deliver_webhooks(timer: func.TimerRequest) -> None:
    """Sends what is due to the webhooks of tenants."""
    await delivery.deliver(await wiring.services())


@blueprint.function_name("retention")
@blueprint.timer_trigger(arg_name="timer", schedule="0 30 2 * * *", run_on_startup=False, use_monitor=True)
async def retention(timer: func.TimerRequest) -> None:
    """Deletes meetings that ended longer ago than the retention, and old entries of the webhooks' log."""
    services = await wiring.services()
    await upkeep.retain(services)
    await upkeep.prune_webhooks(services)


@blueprint.function_name("rotate_keys")
@blueprint.timer_trigger(arg_name="timer", schedule="0 0 3 * * *", run_on_startup=False, use_monitor=True)
async def rotate_keys(timer: func.TimerRequest) -> None:
    """Publishes a new signing key when the newest is 30 days old."""
    await upkeep.rotate_keys(await wiring.services())


@blueprint.function_name("on_event")
@blueprint.queue_trigger(arg_name="message", queue_name=events.QUEUE, connection="AzureWebJobsStorage")
async def on_event(message: func.QueueMessage) -> None:
    """Hands a domain event to its handler."""
    await events.handle(await wiring.services(), message.get_body().decode())
