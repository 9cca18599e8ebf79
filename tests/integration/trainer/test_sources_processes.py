"""Downloads shared by processes: fetched once, killed in the middle, gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import trainyard
from tests.https import web_server

pytestmark = pytest.mark.slow

ROOT = Path(trainyard.__file__).parents[1]
CONTENT = os.urandom(1 << 20)
FETCH = """
import sys
from pathlib import Path
from common.access import Auth
from trainyard.trainer.sources.fetch import fetch
from trainyard.trainer.sources.limits import Limits

uri, cache = sys.argv[1:]
more = {"check": lambda: None, "say": print, "limits": Limits(hosts=("localhost",))}
print(fetch(uri, Auth(at="a"), at="datasets[0].source", cache=Path(cache), **more))
"""


@pytest.fixture
def web(tmp_path):
    with web_server(tmp_path) as made:
        made.files["/model.safetensors"] = CONTENT
        yield made


@pytest.fixture
def start(web, tmp_path):
    started = []

    def begin():
        environ = {"PATH": os.environ["PATH"], "SSL_CERT_FILE": str(web.certificate), "NO_PROXY": "localhost"}
        argv = [sys.executable, "-P", "-c", FETCH, web.uri("/model.safetensors"), str(tmp_path / "cache")]
        process = subprocess.Popen(argv, env=environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def part_of(cache):
    parts = list(cache.rglob("*.trainyard-part"))
    return parts[0].stat().st_size if parts else 0


def until(condition, seconds=60):
    late = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < late, "not in time"
        time.sleep(0.02)


def cut_off(web, start, tmp_path):
    """A process whose download stands still somewhere in the middle."""
    web.seconds_a_block = 0.2
    first = start()
    until(lambda: part_of(tmp_path / "cache") > 200_000)
    web.seconds_a_block = 60.0
    return first


def path_of(process):
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return Path(out.splitlines()[-1])


def test_two_processes_that_want_one_file_fetch_it_once(web, start):
    web.seconds_a_block = 0.05
    one, other = start(), start()
    assert path_of(one) == path_of(other)
    assert path_of(start()).read_bytes() == CONTENT
    assert web.gets("/model.safetensors") == 1


def test_a_killed_download_is_gone_on_with_by_whoever_waits(web, start, tmp_path):
    first = cut_off(web, start, tmp_path)
    waiting = start()
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.wait()
    web.seconds_a_block = 0.0
    assert path_of(waiting).read_bytes() == CONTENT
    (_, _, rest) = web.asked[-1]
    assert rest is not None and int(rest.removeprefix("bytes=").rstrip("-")) >= 200_000


def test_half_a_file_of_another_version_is_not_gone_on_with(web, start, tmp_path):
    first = cut_off(web, start, tmp_path)
    first.kill()
    first.wait()
    web.seconds_a_block = 0.0
    web.files["/model.safetensors"] = CONTENT[::-1]
    assert path_of(start()).read_bytes() == CONTENT[::-1]
    assert web.asked[-1][2] is None
