"""coturn as the TURN server, where it is installed: its configuration, and whether it may be trusted with ours.

A version that relays to loopback by an IPv4-mapped address (CVE-2026-27624) is refused, whatever its version number
says: it is asked.
"""

import asyncio
import contextlib
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from conference.domain.ids import Secret
from local.turn.client import TurnClient, TurnRefused
from local.turn.peers import Ports

PROGRAM: Final = "turnserver"
READY_S: Final = 5.0
REALM: Final = "parley"
PUBLIC: Final = "8.8.8.8"  # is asked about, not sent to
MAPPED: Final = ("::ffff:127.0.0.1", "::ffff:169.254.169.254", "169.254.169.254", "::1")
# What no relay of ours may reach; media nodes are excepted by allowed-peer-ip.
DENIED: Final = (
    "0.0.0.0-0.255.255.255",
    "10.0.0.0-10.255.255.255",
    "100.64.0.0-100.127.255.255",
    "127.0.0.0-127.255.255.255",
    "168.63.129.16",
    "169.254.0.0-169.254.255.255",
    "172.16.0.0-172.31.255.255",
    "192.0.0.0-192.0.0.255",
    "192.0.2.0-192.0.2.255",
    "192.88.99.0-192.88.99.255",
    "192.168.0.0-192.168.255.255",
    "198.18.0.0-198.19.255.255",
    "198.51.100.0-198.51.100.255",
    "203.0.113.0-203.0.113.255",
    "240.0.0.0-255.255.255.255",
    "::1",
    "::ffff:0:0-::ffff:ffff:ffff",  # a wider range denies every IPv4 peer, too (coturn 4.6.1)
    "64:ff9b::-64:ff9b::ffff:ffff",
    "64:ff9b:1::-64:ff9b:1:ffff:ffff:ffff:ffff:ffff",
    "100::-100::ffff:ffff:ffff:ffff",
    "2001::-2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::-2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
    "2002::-2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::-fec0:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
)


@dataclass(frozen=True, slots=True)
class Coturn:
    """What coturn is configured with. `secrets` are the live ones, newest first."""

    host: str
    port: int
    relay_ports: Ports
    media_hosts: Sequence[str]
    secrets: Sequence[Secret] = field(repr=False)
    tls_port: int = 0
    certificate: str = ""
    key: str = ""

    def configuration(self) -> str:
        """The text of turnserver.conf."""
        allowed = sorted({self.host, *self.media_hosts})
        lines = [
            f"listening-ip={self.host}",
            f"relay-ip={self.host}",
            f"listening-port={self.port}",
            f"min-port={self.relay_ports.first}",
            f"max-port={self.relay_ports.last}",
            f"realm={REALM}",
            "use-auth-secret",
            *(f"static-auth-secret={secret.reveal()}" for secret in self.secrets),
            "fingerprint",
            "no-cli",
            "no-multicast-peers",
            "no-tcp-relay",
            "stale-nonce=600",
            "max-allocate-lifetime=3600",
            "user-quota=10",
            "total-quota=1000",
            "log-file=stdout",
            "simple-log",
            *(f"allowed-peer-ip={host}" for host in allowed),
            *(f"denied-peer-ip={span}" for span in DENIED),
        ]
        if any(host.startswith("127.") for host in allowed):
            lines.append("allow-loopback-peers")
        if self.tls_port and self.certificate:
            lines += [f"tls-listening-port={self.tls_port}", f"cert={self.certificate}", f"pkey={self.key}", "no-dtls"]
        else:
            lines += ["no-tls", "no-dtls"]
        return "\n".join(lines) + "\n"


def installed() -> str | None:
    """coturn's program."""
    return shutil.which(PROGRAM)


def write(chosen: Coturn, folder: Path) -> Path:
    """The configuration in a file that only its owner reads. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "turnserver.conf"
    file.touch(mode=0o600)
    file.write_text(chosen.configuration(), encoding="utf-8")
    return file


async def start(program: str, file: Path) -> asyncio.subprocess.Process:
    """A running coturn. Raises OSError."""
    pid = str(file.with_suffix(".pid"))
    return await asyncio.create_subprocess_exec(
        program, "-c", str(file), "--pidfile", pid, stdin=asyncio.subprocess.DEVNULL
    )


async def end(process: asyncio.subprocess.Process) -> None:
    """Asks it to end, and makes it."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(2):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def why_not(server: tuple[str, int], username: str, password: str, allowed: Sequence[str]) -> str | None:
    """Why a running TURN server must not be used; None where it refuses what it has to. `allowed` are hosts that it may
    reach all the same, as media nodes."""
    client = TurnClient(server, username, password)
    try:
        async with asyncio.timeout(READY_S):
            await _allocate(client)
            for address in MAPPED:
                if address not in allowed and not await _refuses(client, address):
                    return f"it lets a relay reach {address} (CVE-2026-27624)"
            if await _refuses(client, PUBLIC):
                return "it relays to nobody on the internet"
    except TimeoutError:
        return "it does not answer"
    except TurnRefused as refused:
        return f"it refuses credentials that are good ({refused})"
    finally:
        await client.close()
    return None


async def _allocate(client: TurnClient) -> None:
    """Waits while the server is still starting."""
    while True:
        try:
            await client.allocate()
        except OSError:  # nobody listens yet; TimeoutError is one of them too, and bounded by the caller
            await asyncio.sleep(0.1)
        else:
            return


async def _refuses(client: TurnClient, address: str) -> bool:
    try:
        await client.permit(address)
    except TurnRefused:
        return True
    return False
