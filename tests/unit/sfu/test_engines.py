"""Which engine a node runs, by settings and by what is installed."""

from types import SimpleNamespace
from typing import cast

import pytest

from conference.settings import Settings, settings
from media_workers.sfu import wiring
from media_workers.sfu.__main__ import main
from media_workers.sfu.engines import EngineChoice, EngineMissing, Wanted, choose, usable_cores
from media_workers.sfu.worker import Worker, WorkerConfig, WorkerPorts
from tests.support.quiet_node import QuietEngine

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("wanted", "workers", "is_installed", "cores", "expected"),
    [
        ("auto", 0, True, 4, ("native", 3)),
        ("auto", 0, True, 1, ("native", 1)),
        ("auto", 0, True, 128, ("native", 64)),
        ("auto", 6, True, 4, ("native", 6)),
        ("auto", 6, False, 4, ("reference", 1)),
        ("native", 0, True, 2, ("native", 1)),
        ("reference", 6, True, 4, ("reference", 1)),
    ],
)
def test_an_engine_is_chosen(
    wanted: Wanted, workers: int, is_installed: bool, cores: int, expected: tuple[str, int]
) -> None:
    choice = choose(wanted, workers, is_installed=is_installed, cores=cores)
    assert (choice.name, choice.workers) == expected
    assert choice.reason


def test_a_native_engine_that_is_asked_for_and_missing_is_refused_in_a_sentence() -> None:
    with pytest.raises(EngineMissing, match="not installed: install the package parley-dataplane"):
        choose("native", 0, is_installed=False, cores=2)


async def test_a_node_does_not_start_without_the_engine_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "has_native", lambda: False)
    with pytest.raises(EngineMissing):
        wiring.build(Settings(sfu_engine="native"))
    monkeypatch.setenv("PARLEY_SFU_ENGINE", "native")
    settings.cache_clear()
    assert await main() == 1
    settings.cache_clear()


def test_the_reference_engine_can_be_made_anywhere() -> None:
    assert wiring.make_engine(EngineChoice("reference", 1, ""), "127.0.0.1", 0).name == "reference"
    assert usable_cores() >= 1


@pytest.mark.parametrize("codecs", ["H264", "VP8,VP7", ""])
def test_video_codecs_are_known_and_contain_the_one_that_everybody_decodes(codecs: str) -> None:
    with pytest.raises(ValueError, match="sfu_video_codecs"):
        Settings(sfu_video_codecs=codecs)


def test_video_codecs_are_read_in_order() -> None:
    assert Settings(sfu_video_codecs="AV1, VP8,AV1").sfu_video_codecs == "AV1,VP8"


@pytest.mark.parametrize(("is_healthy", "status"), [(True, 200), (False, 503)])
async def test_a_node_whose_packet_worker_has_died_says_so(is_healthy: bool, status: int) -> None:
    engine = QuietEngine()
    engine.is_healthy = is_healthy
    ports = SimpleNamespace(engine=engine)
    worker = Worker(cast(WorkerConfig, None), cast(WorkerPorts, ports))
    assert (await worker.health()).status == status
