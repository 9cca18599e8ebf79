"""Starting and stopping as an operator does: what can be wrong is one clear line, and nothing is lost."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.server import Server

pytestmark = pytest.mark.slow


@pytest.fixture
def namespaces() -> None:
    """A part that is missing is a skip on a laptop, and a failure in CI."""
    tried = ["unshare", "--user", "--map-root-user", "--pid", "--mount", "--fork", "true"]
    if shutil.which("unshare") is None or subprocess.run(tried, capture_output=True, check=False).returncode:
        pytest.skip("needs unshare (apt-get install util-linux) and user namespaces that may be made")


def start_in_vain(server: Server) -> str:
    """Starts a server that can't start; what it said."""
    server.start(wait=False)
    assert server.process is not None
    assert server.process.wait(timeout=120) == 70
    return server.log.read_text()


def test_a_port_in_use_is_named_with_what_to_do(server):
    with socket.create_server(("127.0.0.1", server.port)):
        said = start_in_vain(server)
    assert f"127.0.0.1:{server.port}" in said
    assert "--port" in said
    assert "Traceback" not in said


def test_a_second_server_on_one_data_dir_names_the_first(server, tmp_path):
    server.start()
    (tmp_path / "other").mkdir()
    second = Server(server.data_dir)
    second.log = tmp_path / "other" / "server.log"
    said = start_in_vain(second)
    assert f"process {server.process.pid}" in said
    assert "--data-dir" in said
    assert server.get("/healthz") == {"status": "ok"}


def test_a_data_dir_of_a_newer_version_is_left_alone(server, document):
    server.start()
    server.post(document("a"))
    server.wait_end("a")
    server.stop()
    database = server.data_dir / "trainyard.db"
    connection = sqlite3.connect(database)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    said = start_in_vain(server)
    assert "newer Trainyard" in said
    assert "Traceback" not in said
    connection = sqlite3.connect(database)
    assert connection.execute("SELECT COUNT(*) FROM jobs").fetchone() == (1,)
    connection.close()


def test_ctrl_c_tells_which_runs_go_on_and_how_to_end_them(server, document):
    server.start()
    server.post(document("long-job", duration_seconds=300))
    server.wait_for("long-job", "running")
    assert server.stop(signal.SIGINT) == 0
    said = server.log.read_text()
    assert "1 run goes on: long-job" in said
    assert "trainyard cancel long-job" in said
    server.start()
    assert server.get("/train/long-job")["status"] == "running"


def test_an_unknown_default_backend_is_refused_with_the_known_ones(server):
    server.settings["BACKEND"] = "nope"
    said = start_in_vain(server)
    assert "one of local, simulated, slurm; got 'nope'" in said


def test_a_bad_setting_is_one_line_and_64():
    done = subprocess.run(
        [sys.executable, "-m", "trainyard.cli", "server"],
        env={"TRAINYARD_PORT": "eighty", "PATH": "/usr/bin:/bin", "HOME": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 64
    assert "TRAINYARD_PORT must be an integer" in done.stderr
    assert "Traceback" not in done.stderr


def test_as_process_1_of_a_container_it_says_that_local_jobs_end_with_it(server, namespaces):
    """A process namespace of its own, as a container has."""
    code = "import sys; from trainyard.cli import main; sys.exit(main())"
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
    ]
    arguments = ["server", "--host", "127.0.0.1", "--port", str(server.port), "--data-dir", str(server.data_dir)]
    with server.log.open("wb") as log:
        server.process = subprocess.Popen([*command, "-c", code, *arguments], stdout=log, stderr=log)
    server.wait_ready()
    assert "process 1 of a container: local jobs end with it" in server.log.read_text()
    server.process.kill()
    server.process.wait()


def test_on_a_full_disk_jobs_are_refused_and_the_service_goes_on(server, document, namespaces):
    """A real file system of 6 MiB, filled to the brim."""
    server.data_dir.mkdir()
    filler = server.data_dir / "filler"
    script = f'mount -t tmpfs -o size=6m none {server.data_dir}; "$@" & head -c 5000000 /dev/zero > {filler}; wait'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]
    own = [sys.executable, "-m", "trainyard.cli", "server", "--host", "127.0.0.1", "--port", str(server.port)]
    with server.log.open("wb") as log:
        server.process = subprocess.Popen(
            [*command, *own, "--data-dir", str(server.data_dir)],
            env={"PATH": "/usr/bin:/bin", "TRAINYARD_MIN_FREE_BYTES": "0"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    server.wait_ready()
    accepted, refused = [], None
    for n in range(2000):
        status, answer = server.request("POST", "/train", document(f"j{n}") | {"labels": {"long": "x" * 4000}})
        if status != 201:
            refused = (status, answer["error"]["code"])
            break
        accepted.append(f"j{n}")
    assert refused == (507, "storage_full")
    assert server.get("/healthz") == {"status": "ok"}
    assert server.get(f"/train/{accepted[0]}")["job_id"] == accepted[0]
    time.sleep(0.5)
    assert server.request("GET", "/train")[0] == 200

    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
