"""ktrdr/config/whose_settings.py: the running group's settings, one's own, or a refusal."""

import pytest

from ktrdr.config.whose_settings import Choice, GivenSetting, choose, contradiction

LIVE = {
    "IB_HOST": "127.0.0.1",
    "IB_PORT": "4999",
    "KTRDR_SIM_PORT": "4102",
    "KTRDR_DATA_DIR": "/p/data",
    "KTRDR_RUN_DIR": "/p/var/run",
    "KTRDR_STATUS_PORT": "8000",
}
SIMULATED = {k: v for k, v in LIVE.items() if k != "IB_HOST"} | {"IB_PORT": "4002"}
RUNS = "runs live on /p/data (started with IB_HOST=127.0.0.1)"


def shell(**given):
    return {name: GivenSetting(value, in_file=False) for name, value in given.items()}


def file(**given):
    return {name: GivenSetting(value, in_file=True) for name, value in given.items()}


@pytest.mark.parametrize(
    "here",
    [
        {},
        shell(IB_HOST="127.0.0.1", IB_PORT="4999"),
        file(KTRDR_DATA_DIR="/p/data"),
        shell(KTRDR_STATUS_PORT="9000", KTRDR_GAP_MAX_AGE_DAYS="5"),  # of no reader's concern
    ],
)
def test_a_command_without_other_settings_uses_the_groups(here):
    assert choose(LIVE, RUNS, here) == Choice()


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (shell(IB_HOST="10.0.0.9"), "but this shell sets IB_HOST=10.0.0.9: unset it"),
        (file(IB_PORT="4001"), "but .env sets IB_PORT=4001: take it out of .env"),
        (shell(KTRDR_SIM_PORT="4555"), "but this shell sets KTRDR_SIM_PORT=4555: unset it"),
        (file(KTRDR_DATA_DIR="/other"), "but .env sets KTRDR_DATA_DIR=/other: take it out"),
        (shell(KTRDR_RUN_DIR="/r"), "name the store with KTRDR_DATA_DIR"),
        (
            shell(IB_HOST="gw") | file(IB_PORT="1"),
            "this shell sets IB_HOST=gw and .env sets IB_PORT=1",
        ),
        (shell(IB_HOST="gw", KTRDR_DATA_DIR="/other"), "this shell sets IB_HOST=gw: unset it"),
    ],
)
def test_a_contradiction_is_one_line_with_both_sides(here, words):
    refusal = choose(LIVE, RUNS, here).refusal
    assert refusal.startswith(f"the group {RUNS}, but ")
    assert words in refusal
    assert "\n" not in refusal


def test_a_live_gateway_contradicts_a_simulated_group():
    assert "IB_HOST=gw" in choose(SIMULATED, RUNS, file(IB_HOST="gw")).refusal


def test_another_store_may_be_read_with_a_note():
    choice = choose(LIVE, RUNS, shell(KTRDR_DATA_DIR="/other", IB_PORT="4999"))
    assert (choice.data_dir, choice.refusal) == ("/other", "")
    assert choice.note == f"reads /other (KTRDR_DATA_DIR), while the group {RUNS}"


def test_another_run_folder_and_a_store_are_another_group():
    here = shell(KTRDR_RUN_DIR="/r", KTRDR_DATA_DIR="/p/data", IB_HOST="gw")
    assert choose(LIVE, RUNS, here) == Choice(is_apart=True)


def test_another_run_folder_will_do_for_commands_that_read_no_bars():
    here = shell(KTRDR_RUN_DIR="/r")
    assert choose(LIVE, RUNS, here, reads_bars=False) == Choice(is_apart=True)
    assert choose(LIVE, RUNS, file(KTRDR_RUN_DIR="/r"), reads_bars=False).refusal


def test_a_program_may_not_even_have_another_store():
    assert contradiction(LIVE, RUNS, shell(IB_HOST="127.0.0.1")) == ""
    assert "KTRDR_DATA_DIR=/other" in contradiction(LIVE, RUNS, shell(KTRDR_DATA_DIR="/other"))


def test_a_command_that_reads_no_bars_ignores_another_store():
    here = shell(KTRDR_DATA_DIR="/elsewhere")
    assert choose(LIVE, RUNS, here, reads_bars=False) == Choice()
    assert choose(LIVE, RUNS, here).data_dir == "/elsewhere"
