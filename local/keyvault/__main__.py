"""`python -m local.keyvault --port 7443 --folder .data/keyvault --key parley`: the local Key Vault."""

import argparse
import asyncio
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

from local.edge.certificates import Certificates
from local.keyvault.keys import Keys
from local.keyvault.server import Vault


async def _serve(port: int, folder: Path, key: str) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    certificates = Certificates(folder / "tls")
    certificates.ensure(["127.0.0.1"], datetime.now(UTC))
    keys = Keys(folder / "keys")
    if key and keys.find(key, "") is None:
        keys.make(key, int(time.time()))
    vault = Vault(keys)
    print(
        f"Key Vault is listening on {await vault.start('127.0.0.1', port, certificates.server_context())}", flush=True
    )
    try:
        await stop.wait()
    finally:
        await vault.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m local.keyvault", description="A Key Vault for one machine.")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--folder", type=Path, required=True, help="where keys and certificate are kept")
    parser.add_argument("--key", default="", help="a key that is made where it is missing")
    given = parser.parse_args()
    asyncio.run(_serve(given.port, given.folder, given.key))


if __name__ == "__main__":
    main()
