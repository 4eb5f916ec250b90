"""A client of Parley for bots, tests and other people's programs: joins rooms over UDP, TURN or the HTTP tunnel.

Start at `Client`. The ladder, what is not there and how to install it are in README.md beside this package.
"""

from parley_client.call import Call
from parley_client.client import Client
from parley_client.errors import (
    ClientError,
    JoinRefused,
    NotOffered,
    NoWay,
    SignalingEnded,
    Unreachable,
    WayFailed,
)
from parley_client.ladder import LIMITS_S, WAYS, LastGood, Way
from parley_client.media import Publication, ReceivedTrack

__all__ = [
    "LIMITS_S",
    "WAYS",
    "Call",
    "Client",
    "ClientError",
    "JoinRefused",
    "LastGood",
    "NoWay",
    "NotOffered",
    "Publication",
    "ReceivedTrack",
    "SignalingEnded",
    "Unreachable",
    "Way",
    "WayFailed",
]
