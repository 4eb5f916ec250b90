"""Azurite, the emulator of Azure Storage, as a process: blobs and queues on loopback ports.

Over http it takes the account key; over https (a certificate is given) also bearer tokens, which user-delegation
signatures need. It asks for fewer versions than today's SDKs speak, hence `--skipApiVersionCheck`.
"""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from conference.adapters.azure.credentials import EMULATOR_ACCOUNT

ROOT: Final = Path(__file__).resolve().parents[2]
EMULATORS: Final = ROOT / "tools" / "emulators.sh"
START_DEADLINE_S: Final = 60.0  # Node alone takes seconds on a busy machine
HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM files for 127.0.0.1: chain, key, and the authority that clients trust."""

    chain_file: Path
    key_file: Path
    ca_file: Path


def command(
    blob_port: int, queue_port: int, *, folder: Path | None = None, certificate: Certificate | None = None
) -> tuple[str, ...]:
    """How it is started; without a folder it keeps everything in memory. Tables get a port of the system's choice."""
    options = [
        *("--blobHost", HOST, "--blobPort", str(blob_port)),
        *("--queueHost", HOST, "--queuePort", str(queue_port)),
        *("--tableHost", HOST, "--tablePort", "0"),
        *("--silent", "--disableTelemetry", "--skipApiVersionCheck"),
        *(("--location", str(folder)) if folder else ("--inMemoryPersistence",)),
    ]
    if certificate:
        files = ("--cert", str(certificate.chain_file), "--key", str(certificate.key_file))
        options += ["--oauth", "basic", *files]
    return (str(EMULATORS), "azurite", *options)


def endpoint(port: int, *, is_tls: bool) -> str:
    """The account's address at a port."""
    return f"{'https' if is_tls else 'http'}://{HOST}:{port}/{EMULATOR_ACCOUNT}"


class Azurite:
    """One process. The ports stay the same over restarts; what it holds ends with it unless there is a folder."""

    def __init__(
        self,
        blob_port: int,
        queue_port: int,
        *,
        folder: Path | None = None,
        certificate: Certificate | None = None,
        preload: tuple[Path, ...] = (),
    ) -> None:
        """`preload` are Node modules that it requires before anything else."""
        self._command = command(blob_port, queue_port, folder=folder, certificate=certificate)
        self._preload = preload
        self._ports = (blob_port, queue_port)
        self._process: subprocess.Popen[bytes] | None = None
        self.certificate = certificate
        self.blob_endpoint = endpoint(blob_port, is_tls=certificate is not None)
        self.queue_endpoint = endpoint(queue_port, is_tls=certificate is not None)

    def start(self) -> None:
        """Starts it and waits until it listens. Raises RuntimeError where it does not in time."""
        options = " ".join(f"--require={module}" for module in self._preload)
        environment = {**os.environ, "NODE_OPTIONS": options}
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603
        deadline = time.monotonic() + START_DEADLINE_S
        while not all(map(_listens, self._ports)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError("Azurite did not start")
            time.sleep(0.05)

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_DEADLINE_S)
            self._process = None

    def stop(self) -> None:
        """Lets it write down what it holds."""
        if self._process is not None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=10)
        self.kill()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freezes it for the block: the kernel still takes connections, and nothing answers."""
        if self._process is None:
            raise RuntimeError("Azurite is not running")
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
        return True
    return False
