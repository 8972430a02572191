"""ktrdr/unix_socket.py: a socket's place, with a living program's, a dead one's, or none."""

import contextlib
import socket

import pytest

from ktrdr.errors import AlreadyRunning, Misconfigured
from ktrdr.unix_socket import clear_place, listens


@pytest.fixture
def path(scratch):
    return scratch / "peer.sock"


@pytest.fixture
def living(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield path


@pytest.fixture
def stuck(path):
    """One that takes no more connections: its backlog is full."""
    with contextlib.ExitStack() as open_sockets:
        listener = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        try:
            for _ in range(100):
                waiting = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        except BlockingIOError:
            pass
        except ConnectionRefusedError:
            pytest.skip("this system refuses instead, as for a dead one")
        else:
            pytest.fail("its backlog has no end")
        yield path


@pytest.fixture
def dead(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
    return path


def test_a_dead_programs_socket_is_removed(dead):
    assert not listens(dead)
    clear_place(dead)
    assert not dead.exists()


def test_where_nothing_is_nothing_is_done(path):
    assert not listens(path)
    clear_place(path)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("which", ["living", "stuck"])
def test_a_living_programs_is_refused_and_left(request, which):
    path = request.getfixturevalue(which)
    assert listens(path)
    with pytest.raises(AlreadyRunning, match=r"peer\.sock") as raised:
        clear_place(path, hint="take another")
    assert raised.value.hint == "take another"
    assert path.is_socket()


def test_what_is_no_socket_is_refused_and_left(path):
    path.write_text("mine")
    assert not listens(path)
    with pytest.raises(Misconfigured, match=r"peer\.sock is in the way"):
        clear_place(path)
    assert path.read_text() == "mine"


def test_a_link_is_refused_and_left_wherever_it_leads(scratch, dead):
    link = scratch / "link.sock"
    link.symlink_to(dead)
    with pytest.raises(Misconfigured, match="in the way"):
        clear_place(link)
    assert link.is_symlink()
    assert dead.is_socket()
