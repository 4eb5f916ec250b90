"""How fast recordings go to Blob storage: a growing file of 4 MiB blocks, eight at a time, on Azurite over http."""

import asyncio
import os
import tempfile
import time
from contextlib import aclosing
from pathlib import Path
from typing import Final

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.blob import BlobMediaFiles
from conference.adapters.blob.client import Container
from conference.ports.media_files import Draft
from local.azurite.server import Azurite
from tests.bench.results import Result
from tests.support.ports import free_ports

NAMES: Final = ("blob.upload_mb_per_s",)
BLOCK_BYTES: Final = 4 * 2**20
BLOCKS: Final = 32
AT_ONCE: Final = 8
ROUNDS: Final = 3


async def _upload(files: BlobMediaFiles, draft: Draft, body: bytes) -> None:
    for first in range(0, BLOCKS, AT_ONCE):
        await asyncio.gather(*(files.stage(draft, number, body) for number in range(first, first + AT_ONCE)))
    if not await files.commit(draft, range(BLOCKS)):
        raise RuntimeError("the name is taken")


async def _rates(endpoint: str) -> list[float]:
    body = os.urandom(BLOCK_BYTES)
    rates = []
    async with aclosing(Container(endpoint, "bench", EMULATOR_KEY)) as container:
        files = BlobMediaFiles(container)
        await files.put("warm", body)
        for number in range(ROUNDS):
            began = time.perf_counter()
            await _upload(files, Draft(f"recording-{number}.mp4", "bench"), body)
            rates.append(BLOCKS * BLOCK_BYTES / 1e6 / (time.perf_counter() - began))
    return rates


def run() -> list[Result]:
    """The best of the rounds: others use the machine, too."""
    with tempfile.TemporaryDirectory() as folder:
        server = Azurite(*free_ports(2), folder=Path(folder))  # on disk, as Azure has it
        server.start()
        try:
            rates = asyncio.run(_rates(server.blob_endpoint))
        finally:
            server.kill()
    print("  rounds: " + ", ".join(f"{rate:.0f}" for rate in rates) + " MB/s")
    return [Result(NAMES[0], max(rates), "MB/s")]
