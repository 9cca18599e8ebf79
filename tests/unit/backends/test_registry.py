"""Backends found through entry points of real packages, good and broken ones."""

import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from backends.registry import GROUP, Registry
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool
from common.errors import InvalidRequest, UnknownBackend
from common.settings import Settings

GOOD = """
from common.backend import *
class Backend(BaseTrainerBackend):
    name = "{name}"
    def validate_request(self, request): return []
    def build_job_spec(self, request): return JobSpec(engine="text")
    async def submit(self, job, attempt, spec): return Handle(uid=job.uid, job_id=job.job_id, attempt=attempt)
    async def find(self, job, attempt): return None
    async def watch(self, handle, cursor): yield BackendEvent(what=RunEnded(code=0))
    async def cancel(self, handle, grace): pass
    async def capacity(self): return Capacity()
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Writes a package with an entry point into a folder on `sys.path`, as an installer would."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(package: str, name: str, source: str) -> None:
        (tmp_path / f"{package}.py").write_text(source.replace("{name}", name))
        info = tmp_path / f"{package}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {package}:Backend\n")
        monkeypatch.delitem(sys.modules, package, raising=False)

    return make


def registry(tmp_path: Path) -> Registry:
    context = BackendContext(settings=Settings(data_dir=tmp_path), clock=Clock(), devices=DevicePool())
    return Registry(context, lambda: entry_points(group=GROUP))


def test_our_own_backends_are_registered_the_way_a_strangers_is(tmp_path):
    assert {"local", "simulated"} <= set(registry(tmp_path).names())


def test_a_strangers_backend_is_imported_at_first_use(plugin, tmp_path):
    plugin("stranger_pkg", "stranger", GOOD)
    found = registry(tmp_path)
    assert "stranger_pkg" not in sys.modules
    assert found.get("stranger").name == "stranger"
    assert found.version("stranger") == "1.2"


def test_an_unknown_name_is_told_with_the_known_ones(tmp_path):
    with pytest.raises(UnknownBackend, match="local, simulated"):
        registry(tmp_path).get("mainframe")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_package", "No module named 'no_such_package'"),
        ("raise RuntimeError('boom')", "RuntimeError: boom"),
        ("raise SystemExit('no cluster')", "SystemExit: no cluster"),
        (GOOD + "\nBackend.name = 'another'", "has the name 'another', and is registered as 'broken'"),
        ("Backend = 3", "not a subclass"),
        (GOOD + "\nBackend.interface_version = 0", "interface 0"),
        (GOOD + "\nfrom attrs import make_class\nBackend.Options = make_class('O', ['merge'])", "'merge' of extra_"),
        (GOOD + "\nBackend.capabilities = frozenset({'logs', 'suspend'})", "unknown: 'suspend'"),
        (GOOD + "\nBackend.capabilities = 'logs'", "capabilities must be a set of words, got 'logs'"),
        (GOOD + "\nasync def bad(self): raise OSError('no queue')\nBackend.start = bad", "OSError: no queue"),
        (GOOD + "\ndef bad(self, context): raise OSError('no cluster')\nBackend.__init__ = bad", "no cluster"),
    ],
)
async def test_a_broken_one_is_listed_with_its_reason_and_stops_nothing(plugin, tmp_path, source, reason):
    plugin("broken_pkg", "broken", source)
    found = registry(tmp_path)
    await found.start(5)
    (broken,) = found.broken()
    assert broken.name == "broken"
    assert reason in broken.reason
    assert "broken_pkg" in broken.reason
    assert found.get("simulated").name == "simulated"
    with pytest.raises(InvalidRequest, match="can't be used"):
        found.get("broken")
    await found.close()


async def test_a_broken_one_is_in_the_log_of_the_start_too(plugin, tmp_path):
    plugin("broken_pkg", "broken", "import no_such_package")
    with capture_logs() as logs:
        await registry(tmp_path).start(5)
    (line,) = [line for line in logs if line.get("backend") == "broken"]
    assert (line["log_level"], line["event"]) == ("warning", "a backend can't be used")
    assert "no_such_package" in line["reason"]


def test_a_name_that_no_document_can_carry_is_refused(plugin, tmp_path):
    plugin("named_pkg", "two words", GOOD)
    with pytest.raises(InvalidRequest, match=r"the name 'two words' must be a name of up to 64 characters"):
        registry(tmp_path).get("two words")


def test_two_packages_that_claim_one_name_are_both_named(plugin, tmp_path):
    plugin("first_pkg", "twice", GOOD)
    plugin("second_pkg", "twice", GOOD)
    with pytest.raises(InvalidRequest, match=r"first_pkg .* and second_pkg|second_pkg .* and first_pkg"):
        registry(tmp_path).get("twice")


def test_two_packages_are_two_also_where_their_modules_have_one_name(plugin, tmp_path):
    plugin("first_pkg", "twice", GOOD)
    plugin("second_pkg", "twice", GOOD)
    (tmp_path / "second_pkg-1.2.dist-info" / "entry_points.txt").write_text(f"[{GROUP}]\ntwice = first_pkg:Backend\n")
    found = registry(tmp_path)
    with pytest.raises(InvalidRequest, match=r"2 packages claim the name 'twice': first_pkg .* and second_pkg"):
        found.get("twice")
    assert found.version("twice") is None


async def test_a_start_that_hangs_or_is_refused_leaves_the_others_working(plugin, tmp_path):
    plugin(
        "slow_pkg",
        "slow",
        GOOD + "\nimport asyncio\nasync def start(self): await asyncio.sleep(60)\nBackend.start = start",
    )
    found = registry(tmp_path)
    await found.start(0.05)
    assert "took more than" in found.unavailable("slow")
    assert found.unavailable("simulated") is None
    await found.close()


async def test_backends_that_are_slow_to_start_wait_for_each_other_no_longer_than_for_the_slowest(plugin, tmp_path):
    meet = """
import asyncio
async def start(self):
    (here := self.context.settings.data_dir / self.name).touch()
    while not all((here.parent / name).exists() for name in ("meets-a", "meets-b")):
        await asyncio.sleep(0.01)
Backend.start = start
"""
    plugin("first_pkg", "meets-a", GOOD + meet)
    plugin("second_pkg", "meets-b", GOOD + meet)
    found = registry(tmp_path)
    await found.start(5)
    assert (found.unavailable("meets-a"), found.unavailable("meets-b")) == (None, None)
    await found.close()


async def test_a_backend_that_can_not_be_closed_keeps_no_other_open(plugin, tmp_path):
    plugin("closing_a", "a-breaks", GOOD + "\nasync def bad(self): raise OSError('stuck')\nBackend.close = bad")
    plugin("closing_z", "z-closes", GOOD + "\nasync def good(self): self.closed = True\nBackend.close = good")
    found = registry(tmp_path)
    found.get("a-breaks")
    last = found.get("z-closes")
    await found.close()
    assert last.closed
