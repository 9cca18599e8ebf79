"""Starting: the data directory, settings, secrets."""

import base64
import os
import subprocess
import sys

import pytest

from common.errors import SettingError, StartError
from common.secret import SecretBox, load_key
from common.settings import read_settings, unknown_variables
from service import lock
from service.lock import hold
from service.store.sqlite import migrate


def test_two_services_on_one_data_directory_are_refused_and_the_first_is_named(tmp_path):
    with hold(tmp_path / "data"):
        folder = str(tmp_path / "data")
        code = f"from pathlib import Path; from service.lock import hold; hold(Path({folder!r})).__enter__()"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert f"process {os.getpid()}" in done.stderr
        assert done.returncode != 0
    with hold(tmp_path / "data"):
        pass


def test_a_data_directory_on_a_network_file_system_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(lock.NETWORK_FILE_SYSTEMS, lock._file_system_type(tmp_path), "NFS")
    with pytest.raises(StartError, match="lies on NFS"), hold(tmp_path):
        pass


def test_a_data_directory_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="can't be made"), hold(tmp_path / "file" / "data"):
        pass


def test_the_data_directory_is_its_owners_alone(tmp_path):
    with hold(tmp_path / "data"):
        assert (tmp_path / "data").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("TRAINYARD_PORT", "abc", "an integer"),
        ("TRAINYARD_PORT", "-1", "≥ 0"),
        ("TRAINYARD_GRACE_SECONDS", "nan", "a number"),
        ("TRAINYARD_LOG_LEVEL", "loud", "one of debug"),
        ("TRAINYARD_ALLOW_COMMAND", "maybe", "true or false"),
        ("TRAINYARD_PUBLIC_URL", "trainyard.example.org", "http or https URL"),
    ],
)
def test_a_bad_setting_names_its_variable(name, value, says):
    with pytest.raises(SettingError, match=f"{name} must be .*{says}"):
        read_settings({name: value})


def test_a_yes_or_no_may_be_written_in_three_ways_and_be_left_out():
    for text, value in (("true", True), ("1", True), ("No", False), ("FALSE", False), ("", None)):
        assert read_settings({"TRAINYARD_ALLOW_COMMAND": text}).allow_command is value
    found = read_settings({"TRAINYARD_PUBLIC_URL": "https://trainyard.example.org/"})
    assert found.public_url == "https://trainyard.example.org"


def test_flags_win_and_kubernetes_service_variables_are_ignored():
    environ = {"TRAINYARD_PORT": "tcp://10.0.0.1:8001", "TRAINYARD_HOST": "127.0.0.1"}
    found = read_settings(environ, {"host": "::1", "port": None})
    assert (found.port, found.host) == (8001, "::1")
    assert unknown_variables({**environ, "TRAINYARD_PROT": "1"}) == ["TRAINYARD_PROT"]


def test_a_token_is_not_shown_with_the_settings():
    assert "hidden-token" not in repr(read_settings({"TRAINYARD_TOKEN": "hidden-token"}))


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    key = load_key(tmp_path, None)
    assert load_key(tmp_path, None) == key
    assert (tmp_path / "secret.key").stat().st_mode & 0o077 == 0


def test_secrets_open_only_for_their_job_and_key():
    box = SecretBox(bytes(32))
    sealed = box.seal("u1", {"a": "b"})
    assert box.open("u1", sealed) == {"a": "b"}
    for other, uid in ((box, "u2"), (SecretBox(bytes([1]) * 32), "u1")):
        with pytest.raises(StartError, match="another key"):
            other.open(uid, sealed)


@pytest.mark.parametrize("given", ["short", base64.b64encode(b"x" * 16).decode(), "ä"])
def test_a_key_of_another_form_is_refused(tmp_path, given):
    with pytest.raises(SettingError, match="32 bytes"):
        load_key(tmp_path, given)


def test_a_first_start_that_was_killed_leaves_nothing_that_stops_the_next(tmp_path):
    """The database was touched, the key begun aside, and then the power went."""
    (tmp_path / "trainyard.db").touch()
    (tmp_path / ".secret.key.1").write_bytes(b"half of a k")
    migrate(tmp_path / "trainyard.db")
    assert len(load_key(tmp_path, None)) == 32
