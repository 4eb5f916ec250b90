"""The web client's tunnel modules against the real gateway: the page's own signaling over each wire, and changed."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.interop.test_tunnel_gateway import Site, site  # noqa: F401  # fixture

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]

ROOT = Path(__file__).resolve().parents[2]
KINDS = ["websocket", "streaming", "longpoll"]


async def _run(site: Site, *arguments: str) -> dict[str, object]:  # noqa: F811
    """What the page in Node says of its call."""
    token = (await site.world.person()).token
    assert site.worker
    program = [str(ROOT / "tools/node.sh"), "node", "tests/interop/tunnel_page.js"]
    process = await asyncio.create_subprocess_exec(
        *program,
        site.url,
        site.world.room,
        token,
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            said, problems = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, problems.decode()
    return dict(json.loads(said))


@pytest.mark.parametrize(
    ("kind", "form"), [*((kind, "binary") for kind in KINDS), ("streaming", "text"), ("longpoll", "text")]
)
async def test_signaling_of_the_page_goes_over_each_wire(site: Site, kind: str, form: str) -> None:  # noqa: F811
    said = await _run(site, kind, form)
    assert (said["wire"], said["tunnels"], said["state"]) == (kind, 1, "connected")


async def test_the_page_changes_its_wire_without_joining_again(site: Site) -> None:  # noqa: F811
    said = await _run(site, "websocket", "binary", "streaming", "longpoll", "websocket")
    assert (said["wire"], said["tunnels"], said["state"]) == ("websocket", 1, "connected")
