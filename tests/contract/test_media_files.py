"""Port `MediaFiles`: in memory, in a folder, and in Blob storage as Azurite has it, which goes by the test's clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.blob import BlobMediaFiles
from conference.adapters.blob.client import Container
from conference.adapters.files import FilesMediaFiles
from conference.adapters.files.links import Links
from conference.adapters.memory.clock import ManualClock
from conference.adapters.memory.media_files import MemoryMediaFiles
from conference.domain.errors import Unavailable
from conference.domain.records import StorageTier
from conference.ports.media_files import LARGEST_BLOCK, LONGEST_LINK, Draft, MediaFile, MediaFiles
from local.azurite.server import Azurite
from tests.support.azurite import DrivenClock, fresh_name

pytestmark = pytest.mark.contract

NAME = "rooms/0a1b/track-1/00001.webm"
ANNE, BERT = "0b7de0b0-6a5f-4f51-9d1d-0c7f5f2b5f01", "0b7de0b0-6a5f-4f51-9d1d-0c7f5f2b5f02"
LINKS = Links("https://meet.example/media", b"a secret of this test")
Fetch = Callable[[str], Awaitable[bytes | None]]


@pytest.fixture(params=["memory", "files", "blob"])
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def clock(adapter: str, request: pytest.FixtureRequest) -> ManualClock:
    if adapter == "blob":
        driven: DrivenClock = request.getfixturevalue("driven_clock")
        return driven
    return ManualClock()


@pytest.fixture
async def files(
    adapter: str, clock: ManualClock, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[MediaFiles]:
    if adapter == "memory":
        yield MemoryMediaFiles(clock)
        return
    if adapter == "files":
        yield FilesMediaFiles(tmp_path, clock, LINKS)
        return
    server: Azurite = request.getfixturevalue("azurite")
    async with aclosing(Container(server.blob_endpoint, fresh_name(), EMULATOR_KEY)) as container:
        yield BlobMediaFiles(container)


@pytest.fixture
async def fetch(files: MediaFiles, clock: ManualClock) -> AsyncIterator[Fetch]:
    """What a link gives to somebody without any credential; None where it is refused."""
    async with httpx.AsyncClient() as client:

        async def get(url: str) -> bytes | None:
            if isinstance(files, FilesMediaFiles):
                name = LINKS.opened(url, clock.now())
                return None if name is None else await files.read(name)
            answer = await client.get(url)
            assert answer.status_code in (200, 403), answer.text
            return answer.content if answer.status_code == 200 else None

        yield get


async def _names(files: MediaFiles, prefix: str) -> list[str]:
    return [file.name async for file in files.find(prefix)]


# --- whole files ---


async def test_a_file_is_read_as_it_was_put(files: MediaFiles, clock: ManualClock) -> None:
    assert await files.read(NAME) is None
    assert await files.read(NAME, length=0) is None
    assert await files.facts(NAME) is None
    assert await files.put(NAME, b"media")
    assert await files.read(NAME) == b"media"
    facts = await files.facts(NAME)
    assert facts is not None
    assert (facts.name, facts.size, facts.tier) == (NAME, 5, StorageTier.HOT)
    assert facts.modified_at.utcoffset() == timedelta(0)


async def test_a_name_keeps_its_first_bytes(files: MediaFiles) -> None:
    assert await files.put(NAME, b"media")
    assert await files.put(NAME, b"media")  # a repeat is the same file
    assert not await files.put(NAME, b"other")
    assert await files.read(NAME) == b"media"


async def test_of_many_writers_of_one_name_one_wins(files: MediaFiles) -> None:
    bodies = [bytes([number]) * 1_000 for number in range(8)]
    written = await asyncio.gather(*(files.put(NAME, body) for body in bodies))
    assert written.count(True) == 1
    assert await files.read(NAME) == bodies[written.index(True)]


async def test_a_piece_is_read_from_an_offset(files: MediaFiles) -> None:
    await files.put(NAME, b"0123456789")
    assert await files.read(NAME, offset=3) == b"3456789"
    assert await files.read(NAME, offset=3, length=4) == b"3456"
    assert await files.read(NAME, offset=8, length=4) == b"89"
    assert await files.read(NAME, offset=10) == b""
    assert await files.read(NAME, length=0) == b""


async def test_an_empty_file_is_a_file(files: MediaFiles) -> None:
    assert await files.put(NAME, b"")
    assert await files.read(NAME) == b""


async def test_files_larger_than_one_request_are_read_whole(files: MediaFiles) -> None:
    body = b"0123456789abcdef" * (33 * 2**16)  # 33 MiB
    assert await files.put(NAME, body)
    assert await files.put(NAME, body)
    assert not await files.put(NAME, body[:-1])
    assert await files.read(NAME) == body
    assert await files.read(NAME, offset=16 * 2**20 - 1, length=17 * 2**20) == body[16 * 2**20 - 1 : 33 * 2**20 - 1]


# --- files that grow ---


async def test_a_draft_is_seen_by_nobody_until_it_is_committed(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    assert await files.staged(draft) == []
    for number in (2, 0, 1):
        await files.stage(draft, number, bytes([number]) * 3)
    assert await files.staged(draft) == [0, 1, 2]
    assert await files.read(NAME) is None
    assert await _names(files, "") == []
    assert await files.commit(draft, [0, 1, 2])
    assert await files.read(NAME) == b"\0\0\0\1\1\1\2\2\2"
    assert await files.staged(draft) == []


async def test_a_block_staged_again_replaces_the_first(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    await files.stage(draft, 7, b"first")
    await files.stage(draft, 7, b"second")
    await files.stage(draft, 8, b"unused")
    assert await files.commit(draft, [7])
    assert await files.read(NAME) == b"second"


async def test_a_commit_again_is_the_same_file(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    await files.stage(draft, 0, b"a")
    assert await files.commit(draft, [0])
    assert await files.commit(draft, [0])
    assert await files.read(NAME) == b"a"


async def test_of_two_writers_the_first_commit_stands(files: MediaFiles) -> None:
    ours, theirs = Draft(NAME, "recorder-1"), Draft(NAME, "recorder-2")
    await files.stage(ours, 0, b"ours")
    await files.stage(theirs, 0, b"theirs")
    assert await files.staged(ours) == await files.staged(theirs) == [0]
    assert await files.commit(theirs, [0])
    assert not await files.commit(ours, [0])
    assert await files.commit(theirs, [0])
    assert await files.read(NAME) == b"theirs"


async def test_a_commit_does_not_replace_what_was_put(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    await files.put(NAME, b"put")
    await files.stage(draft, 0, b"grown")
    assert not await files.commit(draft, [0])
    assert await files.read(NAME) == b"put"


async def test_a_block_that_was_never_staged_cannot_be_committed(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    with pytest.raises(ValueError, match="never staged"):
        await files.commit(draft, [0])
    await files.stage(draft, 0, b"a")
    with pytest.raises(ValueError, match="never staged"):
        await files.commit(draft, [0, 1])
    with pytest.raises(ValueError, match="at least one block"):
        await files.commit(draft, [])
    assert await files.read(NAME) is None
    assert await files.commit(draft, [0])


@pytest.mark.parametrize(("number", "size"), [(-1, 1), (50_000, 1), (0, 0), (0, LARGEST_BLOCK + 1)])
async def test_a_block_beyond_the_limits_is_refused(files: MediaFiles, number: int, size: int) -> None:
    with pytest.raises(ValueError, match="a block"):
        await files.stage(Draft(NAME, "recorder-1"), number, bytes(size))


# --- finding, tiers, leases, deleting ---


async def test_files_are_found_by_the_beginning_of_their_names_in_order(files: MediaFiles) -> None:
    names = ["rooms/b/2.json", "rooms/a", "rooms/a/1.json", "rooms/b/10.json", "rooms-b", "other/1"]
    for name in names:
        await files.put(name, name.encode())
    assert await _names(files, "rooms/") == ["rooms/a", "rooms/a/1.json", "rooms/b/10.json", "rooms/b/2.json"]
    assert await _names(files, "rooms/b/1") == ["rooms/b/10.json"]
    assert await _names(files, "rooms/a/") == ["rooms/a/1.json"]
    assert await _names(files, "nothing") == []
    assert await _names(files, "") == sorted(names)
    found = [file async for file in files.find("other/")]
    assert found == [MediaFile("other/1", 7, StorageTier.HOT, found[0].modified_at)]


async def test_a_file_moves_between_tiers(files: MediaFiles) -> None:
    await files.put(NAME, b"media")
    assert await files.move(NAME, StorageTier.COLD)
    facts = await files.facts(NAME)
    assert facts is not None
    assert facts.tier is StorageTier.COLD
    assert await files.read(NAME) == b"media"
    assert [file.tier async for file in files.find("")] == [StorageTier.COLD]
    assert not await files.move("nothing", StorageTier.COOL)


async def test_an_archived_file_is_not_read_until_it_is_back(files: MediaFiles) -> None:
    await files.put(NAME, b"media")
    assert await files.move(NAME, StorageTier.ARCHIVE)
    with pytest.raises(Unavailable) as unavailable:
        await files.read(NAME)
    assert not unavailable.value.retryable
    assert await files.move(NAME, StorageTier.HOT)
    assert await files.read(NAME) == b"media"


async def test_a_lease_keeps_others_off_until_it_ends(files: MediaFiles, clock: ManualClock) -> None:
    assert not await files.lease(NAME, ANNE, seconds=30)
    await files.put(NAME, b"media")
    assert await files.lease(NAME, ANNE, seconds=30)
    assert not await files.lease(NAME, BERT, seconds=30)
    for stranger in ("", BERT):
        with pytest.raises(Unavailable):
            await files.delete(NAME, holder=stranger)
    assert await files.read(NAME) == b"media"
    clock.advance(29)
    assert await files.lease(NAME, ANNE, seconds=30)  # goes on
    clock.advance(29)
    assert not await files.lease(NAME, BERT, seconds=30)
    clock.advance(2)
    assert await files.lease(NAME, BERT, seconds=30)
    assert not await files.release(NAME, ANNE)


async def test_the_holder_of_a_lease_may_delete_and_release(files: MediaFiles, clock: ManualClock) -> None:
    await files.put(NAME, b"media")
    assert await files.lease(NAME, ANNE, seconds=15)
    assert await files.move(NAME, StorageTier.COOL, holder=ANNE)
    assert await files.release(NAME, ANNE)
    assert not await files.release(NAME, ANNE)
    assert await files.lease(NAME, BERT, seconds=15)
    assert await files.delete(NAME, holder=BERT)
    assert not await files.delete(NAME, holder=BERT)


async def test_a_leased_name_is_taken_as_any_other(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    await files.stage(draft, 0, b"grown")
    assert await files.commit(draft, [0])
    await files.put("put", b"put")
    large = bytes(9 * 2**20)
    await files.put("large", large)
    for name in (NAME, "put", "large"):
        assert await files.lease(name, ANNE, seconds=15)
    assert await files.commit(draft, [0])
    assert await files.put("put", b"put")
    assert not await files.put("put", b"other")
    assert not await files.put(NAME, b"other")
    assert await files.put("large", large)
    assert not await files.put("large", large[:-1])
    assert not await files.put("put", large)


async def test_a_lease_that_has_ended_is_in_nobodys_way(files: MediaFiles, clock: ManualClock) -> None:
    await files.put(NAME, b"media")
    assert await files.lease(NAME, ANNE, seconds=15)
    clock.advance(16)
    assert await files.delete(NAME, holder=ANNE)


@pytest.mark.parametrize("seconds", [14, 61])
async def test_a_lease_takes_15_to_60_seconds(files: MediaFiles, seconds: int) -> None:
    with pytest.raises(ValueError, match="a lease takes 15 to 60 seconds"):
        await files.lease(NAME, ANNE, seconds=seconds)


async def test_a_deleted_name_is_free_again(files: MediaFiles) -> None:
    draft = Draft(NAME, "recorder-1")
    await files.stage(draft, 0, b"old")
    await files.commit(draft, [0])
    await files.move(NAME, StorageTier.COLD)
    assert await files.delete(NAME)
    assert await files.read(NAME) is None
    assert await _names(files, "") == []
    assert await files.put(NAME, b"new")
    assert await files.read(NAME) == b"new"
    facts = await files.facts(NAME)
    assert facts is not None
    assert facts.tier is StorageTier.HOT


# --- links ---

SERVED = pytest.mark.parametrize("adapter", ["files", "blob"], indirect=True)  # nothing serves what is in memory


@SERVED
async def test_a_link_reads_its_file_for_fifteen_minutes(files: MediaFiles, clock: ManualClock, fetch: Fetch) -> None:
    await files.put(NAME, b"media")
    url = await files.link(NAME, clock.now())
    assert await fetch(url) == b"media"
    clock.advance(LONGEST_LINK.total_seconds() - 5)
    assert await fetch(url) == b"media"
    clock.advance(10)
    assert await fetch(url) is None


@SERVED
async def test_a_link_reads_no_other_file(files: MediaFiles, clock: ManualClock, fetch: Fetch) -> None:
    await files.put(NAME, b"media")
    await files.put("rooms/other.webm", b"other")
    url = await files.link(NAME, clock.now())
    assert await fetch(url.replace(NAME, "rooms/other.webm")) is None
    broken = url[:-6] + ("AAAAAA" if not url.endswith("AAAAAA") else "BBBBBB")
    assert await fetch(broken) is None


@pytest.mark.parametrize("life", [timedelta(0), LONGEST_LINK + timedelta(seconds=1)])
async def test_a_link_lives_fifteen_minutes_at_most(files: MediaFiles, clock: ManualClock, life: timedelta) -> None:
    with pytest.raises(ValueError, match="a link lives"):
        await files.link(NAME, clock.now(), life=life)


# --- names ---


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "..", "a/../b", "a\\b", "a b", "ä", "a\n", ".lock", "x" * 513]
)
async def test_what_is_no_name_is_refused(files: MediaFiles, name: str) -> None:
    with pytest.raises(ValueError, match="is no name"):
        await files.put(name, b"")
    with pytest.raises(ValueError, match="is no name"):
        await files.stage(Draft(name, "recorder-1"), 0, b"a")
    with pytest.raises(ValueError, match="is no name"):
        await files.link(name, ManualClock().now())


@given(st.text(max_size=40), st.text(max_size=80))
def test_no_text_opens_a_link_that_was_not_made(name: str, rest: str) -> None:
    assert LINKS.opened(f"https://meet.example/media/{name}?{rest}", ManualClock().now()) is None
    assert LINKS.opened(rest, ManualClock().now()) is None
