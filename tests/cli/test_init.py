"""`ktrdr init`, against the simulated gateway at a port of its own."""

import json
import socket
import stat

import pytest
from typer.testing import CliRunner

from ktrdr.cli import app
from ktrdr.cli.gateways import KINDS, Gateway, find_gateways, likely
from ktrdr.config.settings import load_settings
from ktrdr.ib.diagnosis import Finding
from ktrdr.sim import running_gateway
from tests.cli.terminal import shown_in_terminal
from tests.ports import free_port


@pytest.fixture(scope="module")
def gateway():
    with running_gateway() as gateway:
        yield gateway


@pytest.fixture
def file(tmp_path, bare_environment):
    assert bare_environment is None
    return tmp_path / ".env"


@pytest.fixture
def init(file):
    return lambda *words: CliRunner().invoke(app, ["init", "--file", str(file), *words])


def test_the_gateway_is_tried_and_written(init, file, gateway):
    result = init("--host", "127.0.0.1", "--port", str(gateway.port))
    assert result.exit_code == 0, result.output
    assert f"✓ 127.0.0.1:{gateway.port} answers as a gateway does (protocol " in result.output
    assert f"IB_HOST=127.0.0.1, IB_PORT={gateway.port}: written into" in result.output
    settings = load_settings(_env_file=file)
    assert (settings.ib_host, settings.ib_port) == ("127.0.0.1", gateway.port)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert gateway.summary()["connects"] == 0  # no client id was taken


def test_what_stands_there_stays(init, file, gateway):
    file.write_text("# mine\nKTRDR_STATUS_PORT=8001 # here\nIB_HOST=\n")
    file.chmod(0o640)
    assert init("--host", "127.0.0.1", "--port", str(gateway.port)).exit_code == 0
    assert file.read_text() == (
        f"# mine\nKTRDR_STATUS_PORT=8001 # here\nIB_HOST=127.0.0.1\nIB_PORT={gateway.port}\n"
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in file.parent.iterdir()] == [".env"]


def test_another_value_is_replaced_only_if_that_was_said(init, file, gateway):
    file.write_text("IB_HOST=gate\n")
    words = ("--host", "127.0.0.1", "--port", str(gateway.port))
    refused = init(*words)
    assert refused.exit_code == 2
    assert "has IB_HOST=gate" in refused.stderr
    assert file.read_text() == "IB_HOST=gate\n"
    assert init(*words, "--yes").exit_code == 0
    assert "IB_HOST=127.0.0.1\n" in file.read_text()


def test_a_gateway_that_does_not_answer_is_named_and_not_written(init, file):
    words = ("--host", "127.0.0.1", "--port", str(free_port()))
    result = init(*words)
    assert result.exit_code == 1
    assert "✗ cannot connect to 127.0.0.1:" in result.output
    assert "next: start IB Gateway or TWS and log in" in result.output
    assert not file.exists()
    assert init(*words, "--unchecked").exit_code == 0
    assert file.exists()


def test_what_is_no_gateway_is_named(init, file):
    with socket.create_server(("127.0.0.1", 0)) as server:
        result = init("--host", "127.0.0.1", "--port", str(server.getsockname()[1]))
    assert result.exit_code == 1
    assert not file.exists()


def test_as_json(init, file, gateway):
    result = init("--host", "127.0.0.1", "--port", str(gateway.port), "--json")
    found = json.loads(result.stdout)
    assert (found["answers"], found["written"]) == (True, True)
    assert found["kind"] == "live or paper is not known from this port"
    assert found["file"] == str(file)


def test_the_simulated_gateway_is_chosen_by_commenting_out(init, file):
    file.write_text("IB_HOST=gate # mine\nIB_PORT=4001\nIB_CLIENT_ID=3\n")
    assert init("--simulated").exit_code == 2
    assert init("--simulated", "--yes").exit_code == 0
    assert file.read_text() == "#IB_HOST=gate # mine\n#IB_PORT=4001\nIB_CLIENT_ID=3\n"
    assert load_settings(_env_file=file).is_simulated


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "nobody can be asked here"),
        (("--host", "a b"), "host 'a b': expected a name or an address"),
        (("--host", "127.0.0.1", "--port", "http"), "port 'http': expected a whole number"),
        (("--simulated", "--host", "x"), "expected without --host"),
    ],
)
def test_wrong_words_are_named(init, file, words, said):
    result = init(*words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert not file.exists()


def test_in_a_terminal_it_asks(file, gateway):
    file.write_text("IB_HOST=gate\n")
    answers = [("Host of", "127.0.0.1"), ("Port [", str(gateway.port)), ("Replace it?", "n")]
    command = ("init", "--file", str(file))
    code, output = shown_in_terminal(*command, answers=answers)
    assert (code, file.read_text()) == (1, "IB_HOST=gate\n")
    assert "Host of IB Gateway or TWS [gate]" in output
    code, output = shown_in_terminal(*command, answers=[*answers[:2], ("Replace it?", "y")])
    assert code == 0, output
    assert file.read_text() == f"IB_HOST=127.0.0.1\nIB_PORT={gateway.port}\n"


def test_each_port_is_tried_and_named(gateway):
    found = find_gateways("127.0.0.1", (gateway.port,))
    assert [one.port for one in found] == [gateway.port, 4001, 4002, 7496, 7497]
    assert found[0].answers
    assert not found[0].is_silent


def gateways(*answering):
    well, ill = Finding("answers", is_trouble=False), Finding("closed", "start it")
    return [Gateway("h", port, (well if port in answering else ill,), False) for port in KINDS]


def test_paper_is_offered_before_live_and_what_answers_before_what_does_not():
    assert likely(gateways(4001, 7497)) == 7497
    assert likely(gateways(7496)) == 7496
    assert likely(gateways()) == 4002
