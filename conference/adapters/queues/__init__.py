"""Port `EventQueue` on Azure Storage queues."""

from conference.adapters.queues.queue import AzureEventQueue

__all__ = ["AzureEventQueue"]
