"""ktrdr/config/running_group.py: when what a group noted is believed."""

import contextlib
import json
import os
import socket

import pytest

from ktrdr.config.running_group import (
    forget_note,
    running_group,
    settings_to_read_with,
    settings_to_run_with,
    write_note,
)
from ktrdr.config.settings import load_settings, settings_of
from ktrdr.errors import Misconfigured

PID = 4711


@contextlib.contextmanager
def supervisord(folder, pid=PID):
    """What is seen of one that lives in a folder."""
    (folder / "supervisord.pid").write_text(f"{pid}\n")
    (folder / "supervisor.sock").unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "supervisor.sock"))
        listener.listen()
        yield


@pytest.fixture
def noted(scratch, bare_environment, monkeypatch):  # noqa: ARG001
    """The folder in which a live group has noted what it runs with."""
    monkeypatch.setenv("IB_HOST", "127.0.0.1")
    settings = settings_of({"IB_HOST": "127.0.0.1", "IB_PORT": "4999"})
    write_note(scratch, PID, settings, code="x")
    monkeypatch.delenv("IB_HOST")
    monkeypatch.setenv("KTRDR_IGNORE_ENV_FILE", "1")  # whatever this checkout's says
    return scratch


def test_what_a_living_group_noted_is_believed(noted):
    with supervisord(noted):
        group = running_group(noted)
        assert (group.settings.source, group.settings.gateway) == ("live", "127.0.0.1:4999")
        assert group.words.startswith(f"runs live on {group.settings.data_dir} (started with IB_")
        assert settings_to_read_with(noted)[0].source == "live"


def test_only_its_owner_may_read_it(noted):
    assert (noted / "settings.json").stat().st_mode & 0o777 == 0o600


TOKEN = "k7Hq2pZx9Lm0vBn3"


@pytest.fixture
def with_token(scratch, bare_environment, monkeypatch):  # noqa: ARG001
    """The folder of a live group that was started with a token, in a shell that knows it."""
    monkeypatch.setenv("KTRDR_STATUS_TOKEN", TOKEN)
    monkeypatch.setenv("KTRDR_RUN_DIR", str(scratch / "run"))
    write_note(scratch, PID, load_settings())  # with this checkout's own .env
    with supervisord(scratch):
        yield scratch


def test_a_token_is_not_in_the_note(with_token):
    noted = (with_token / "settings.json").read_text()
    assert TOKEN not in noted
    assert "KTRDR_STATUS_TOKEN" in json.loads(noted)["further"]
    assert running_group(with_token).settings.status_token == ""


def test_a_program_by_hand_must_know_the_groups_token(with_token, monkeypatch):
    assert settings_to_run_with(with_token).status_token == TOKEN
    for other in (TOKEN[::-1], ""):
        monkeypatch.setenv("KTRDR_STATUS_TOKEN", other)
        with pytest.raises(Misconfigured, match="KTRDR_STATUS_TOKEN differs") as raised:
            settings_to_run_with(with_token)
        assert TOKEN not in str(raised.value)
        assert settings_to_read_with(with_token)[0].ktrdr_run_dir == with_token / "run"


def test_what_a_dead_group_noted_is_not_believed(noted):
    with supervisord(noted):
        pass
    assert running_group(noted) is None
    assert settings_to_read_with(noted)[0].source == "simulated"


def test_what_another_groups_supervisord_noted_is_not_believed(noted):
    with supervisord(noted, PID + 1):
        assert running_group(noted) is None


def test_a_supervisord_without_a_note_is_no_group(noted):
    forget_note(noted)
    forget_note(noted)
    with supervisord(noted):
        assert running_group(noted) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"supervisord": 4711}', "\xff"])
def test_a_note_that_cannot_be_read_stops_everybody(noted, text):
    (noted / "settings.json").write_text(text)
    with supervisord(noted), pytest.raises(Misconfigured, match=r"settings\.json cannot be read"):
        settings_to_read_with(noted)


def test_names_of_another_version_are_passed_over(noted):
    note = json.loads((noted / "settings.json").read_text())
    note["settings"]["KTRDR_OF_TOMORROW"] = "1"
    (noted / "settings.json").write_text(json.dumps(note))
    with supervisord(noted):
        assert running_group(noted).settings.source == "live"


def test_a_reader_with_other_settings_is_refused(noted, monkeypatch):
    monkeypatch.setenv("IB_HOST", "10.0.0.9")
    with supervisord(noted), pytest.raises(Misconfigured, match=r"live on .* IB_HOST=10\.0\.0\.9"):
        settings_to_read_with(noted)


def test_a_reader_may_choose_another_store_with_a_note(noted, monkeypatch):
    monkeypatch.setenv("KTRDR_DATA_DIR", "/other")
    with supervisord(noted):
        settings, note = settings_to_read_with(noted)
    assert (str(settings.data_dir), settings.gateway) == ("/other", "127.0.0.1:4999")
    assert "reads /other" in note


def test_a_program_of_another_run_folder_has_its_own_settings(noted, monkeypatch):
    monkeypatch.delenv("KTRDR_IGNORE_ENV_FILE")
    monkeypatch.setenv("KTRDR_RUN_DIR", "/another")
    with supervisord(noted):
        assert settings_to_run_with(noted).run_dir.name == "another"


@pytest.fixture
def another_user(noted):
    """For a while this process is nobody, where it may become so."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    os.seteuid(65534)
    yield noted
    os.seteuid(0)


def test_who_may_not_look_must_say_which_store(another_user, monkeypatch):
    with pytest.raises(Misconfigured, match="name the store with KTRDR_DATA_DIR"):
        settings_to_read_with(another_user)
    monkeypatch.setenv("KTRDR_DATA_DIR", "/other")
    assert str(settings_to_read_with(another_user)[0].data_dir) == "/other"
