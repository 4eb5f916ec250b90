"""What a network lets through, as nftables rules on the far end of a `Pair`: a firewall before the system.

The rules sit on the device and not in the client's own stack, so that what they drop is lost without a word, as on the
way through a router. They count what they drop: a test can tell that its firewall was in the way of something.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from tests.support.network import NoNetwork, Pair

TABLE: Final = "parley"
_DEVICE: Final = """
table netdev {table} {{
  counter dropped {{
  }}
  chain out {{
    type filter hook egress device "{device}" priority 0; policy accept;
    meta protocol ip6 drop
    meta protocol != ip accept
{rules}
  }}
}}
"""
_REDIRECT: Final = """
table ip {table} {{
  chain out {{
    type nat hook output priority -100; policy accept;
    ip daddr {host} tcp dport {port} dnat to {to_host}:{to_port}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Firewall:
    """The rules of one namespace; none at first. Every change replaces those before it. Raises NoNetwork."""

    pair: Pair

    def open(self) -> None:
        """Lets everything through."""
        for family in ("netdev", "ip"):
            self._load(f"table {family} {TABLE}\ndelete table {family} {TABLE}\n")

    def permit(self, *matches: str) -> None:
        """Lets out what one of `matches` (nftables expressions) fits, and drops the rest of IP."""
        accepted = [f"    {match} accept" for match in matches]
        self._replace([*accepted, "    counter name dropped drop"])

    def forbid(self, *matches: str) -> None:
        """Drops on its way out what one of `matches` fits."""
        self._replace([f"    {match} counter name dropped drop" for match in matches])

    def redirect(self, host: str, port: int, to_host: str, to_port: int) -> None:
        """Takes TCP connections that are made to `host` and `port` elsewhere, as a gateway with a proxy does. Goes with
        the next change of the rules: call it after them."""
        self._load(_REDIRECT.format(table=TABLE, host=host, port=port, to_host=to_host, to_port=to_port))

    def dropped(self) -> int:
        """Packets dropped since the last change."""
        told = self._nft("-j", "list", "counter", "netdev", TABLE, "dropped")
        listed: list[dict[str, Any]] = json.loads(told)["nftables"]
        return sum(int(entry["counter"]["packets"]) for entry in listed if "counter" in entry)

    def blocks(self, host: str, port: int) -> bool:
        """Whether a TCP connection from inside the namespace gets no answer there."""
        attempt = f"import socket; socket.create_connection(({host!r}, {port}), timeout=2)"
        command = self.pair.inside(sys.executable, "-c", attempt)
        return b"TimeoutError" in subprocess.run(command, check=False, capture_output=True).stderr

    def _replace(self, rules: list[str]) -> None:
        self.open()
        self._load(_DEVICE.format(table=TABLE, device=self.pair.far, rules="\n".join(rules)))

    def _load(self, text: str) -> None:
        self._nft("-f", "-", given=text)

    def _nft(self, *arguments: str, given: str = "") -> str:
        command = self.pair.inside("nft", *arguments)
        ended = subprocess.run(command, input=given, check=False, capture_output=True, text=True)
        if ended.returncode:
            raise NoNetwork(f"nft: {ended.stderr.strip()}")
        return ended.stdout


@contextmanager
def firewall(pair: Pair) -> Iterator[Firewall]:
    """A firewall before the namespace of `pair`, which is open at first. Raises NoNetwork where the kernel has none."""
    made = Firewall(pair)
    made.forbid("udp dport 9")  # tells whether it can be made
    made.redirect(pair.near_host, 9, pair.near_host, 9)
    made.open()
    yield made
    made.open()
