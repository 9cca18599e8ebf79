"""What many tests need: the usage guide's document, the service in this process, and the service as a process."""

import copy
import functools
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from aiohttp.test_utils import TestClient, TestServer

from common.settings import Settings
from service.app import make_app
from service.parts import Parts, open_parts
from tests.s3 import S3, moto_server
from tests.server import Server
from tests.slurm_cluster import Cluster, slurm_cluster
from tests.tiny import make_tiny, make_tiny_llama

DATA = Path(__file__).parent / "data"
Document = dict[str, Any]
#: The longest begin first: at the end one of them would leave the other workers idle.
_LONG = (
    "benchmarks",
    "test_readme",
    "test_demo",
    "test_stalls",
    "test_custom_backend",
    "test_broken_promises",
    "test_overfit",
)
#: Workers share the processors: threads of theirs would only wait for each other. A run has as many as its job asks.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: No example has a time limit, as any thread may be held up; in CI each run tries the same ones.
hypothesis.settings.register_profile(
    "ours",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("TRAINYARD_CI")) or hypothesis.settings.default.derandomize,
)
hypothesis.settings.load_profile("ours")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not any(name in item.nodeid for name in _LONG))


def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    """In CI a skipped test is a failed one: what it needs must be there."""
    if (
        os.environ.get("TRAINYARD_CI")
        and call.excinfo is not None
        and call.excinfo.errisinstance(pytest.skip.Exception)
    ):
        pytest.fail(f"skipped in CI: {call.excinfo.value}")


@pytest.fixture(scope="session")
def _usage_guide() -> Document:
    return json.loads((DATA / "usage_guide.json").read_text())


@pytest.fixture
def guide(_usage_guide: Document) -> Document:
    """The usage guide's document, verbatim."""
    return copy.deepcopy(_usage_guide)


@pytest.fixture
def document() -> Callable[..., Document]:
    """A small valid document for the simulated backend; keywords go into `extra_parameters`."""

    def make(job_id: str = "job-1", **extra: object) -> Document:
        return {
            "job_id": job_id,
            "backend": "simulated",
            "base_model": {"provider": "huggingface", "model_name": "meta-llama/Llama-2-7b"},
            "datasets": [{"source": "s3://bucket/data.jsonl", "format": "jsonl"}],
            "artifacts": {"log_uri": "s3://bucket/logs/", "output_uri": "s3://bucket/results/"},
            "extra_parameters": {"duration_seconds": 0.2, "steps": 4, **extra},
        }

    return make


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that wait for nothing."""
    return Settings(
        data_dir=tmp_path / "data",
        poll_seconds=0.02,
        grace_seconds=1.0,
        lost_seconds=0.5,
        min_free_bytes=0,
        stop_seconds=2.0,
        mirror_seconds=0.1,
        webhook_first_retry_seconds=0.05,
        retry_seconds=0.1,
    )


@pytest.fixture
async def opened(settings: Settings) -> AsyncIterator[Callable[..., Any]]:
    """Opens the parts of a service on a data directory; may be called again after `close`, as a restart would."""
    async with AsyncExitStack() as stack:

        async def open_(with_settings: Settings = settings) -> Parts:
            with_settings.data_dir.mkdir(exist_ok=True)

            def fatal() -> None:
                pytest.fail("the service called itself broken")

            return await stack.enter_async_context(open_parts(with_settings, fatal))

        yield open_


@pytest.fixture
async def parts(opened: Callable[..., Any]) -> Parts:
    return await opened()


@pytest.fixture
async def client(parts: Parts) -> AsyncIterator[TestClient]:
    """A client of the service in this process."""
    async with TestClient(TestServer(make_app(parts))) as made:
        yield made


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The service as a process of its own, not started yet."""
    made = Server(tmp_path / "data")
    yield made
    made.end()


@pytest.fixture(scope="session")
def _moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    with moto_server(tmp_path_factory.mktemp("moto")) as found:
        yield found


@pytest.fixture
def s3(_moto: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """An S3 of our own, empty, to which this process's environment leads."""
    for key in _moto.objects():
        _moto.client.delete_object(Bucket=_moto.bucket, Key=key)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in _moto.environ.items():
        monkeypatch.setenv(name, value)
    return _moto


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Cluster]:
    with slurm_cluster() as made:
        yield made


@pytest.fixture
def slurm(_cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A Slurm of our own with two nodes, whole and empty, to which this process's environment leads."""
    _cluster.mend()
    monkeypatch.setenv("SLURM_CONF", _cluster.conf)
    return _cluster


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model of a kind, made once."""
    folder = tmp_path_factory.mktemp("tiny")
    return functools.cache(lambda kind: make_tiny(kind, folder / kind))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")
