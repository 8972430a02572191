"""ktrdr/unix_http.py: against sockets that answer, hang up, say nothing, or are not there."""

import http.client
import socket
import threading

import pytest

from ktrdr.unix_http import HTTP_ERRORS, UnixConnection

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@pytest.fixture
def path(scratch):
    return scratch / "peer.sock"


@pytest.fixture
def listener(path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield listening


def answering(listener, words):
    """A peer that takes one request and answers with these words."""

    def answer():
        with listener.accept()[0] as caller:
            caller.recv(4096)
            caller.sendall(words)

    thread = threading.Thread(target=answer)
    thread.start()
    return thread


def test_an_answer_is_read(path, listener):
    thread = answering(listener, OK)
    connection = UnixConnection(path, 10)
    connection.request("GET", "/")
    assert connection.getresponse().read() == b"hi"
    connection.close()
    thread.join(10)


@pytest.mark.parametrize("words", [b"", b"\x00\xff\n", OK[:-1]])
def test_what_is_no_http_is_one_of_its_errors(path, listener, words):
    thread = answering(listener, words)
    connection = UnixConnection(path, 10)
    connection.request("GET", "/")
    with pytest.raises(HTTP_ERRORS):
        connection.getresponse().read()
    connection.close()
    thread.join(10)


def test_nobody_there_leaves_no_socket_open(path):
    connection = UnixConnection(path, 10)
    with pytest.raises(FileNotFoundError):
        connection.connect()
    assert connection.sock is None


@pytest.mark.usefixtures("listener")
def test_silence_has_an_end(path):
    connection = UnixConnection(path, 0.05)
    connection.request("GET", "/")
    with pytest.raises(TimeoutError):
        connection.getresponse()
    connection.close()


def test_another_thread_may_break_it_off(path, listener):
    connection = UnixConnection(path, 60)
    connection.request("GET", "/")
    with listener.accept()[0] as caller:
        caller.recv(4096)  # it is under way
        failures = []

        def wait():
            try:
                connection.getresponse()
            except HTTP_ERRORS as error:
                failures.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        connection.abort()
        waiting.join(10)
    assert [type(error) for error in failures] == [http.client.RemoteDisconnected]
    connection.close()


def test_one_that_is_not_connected_may_be_broken_off(path):
    UnixConnection(path, 10).abort()
