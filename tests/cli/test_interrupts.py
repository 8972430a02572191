"""Ctrl-C at a moment in which Python prints KeyboardInterrupt and forgets it."""

import subprocess
import sys

LOSES_ONE = """
import os, signal, sys, time
from ktrdr.cli.interrupts import no_interrupt_lost

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        sum(range(10))  # in which the KeyboardInterrupt comes

try:
    with no_interrupt_lost():
        Finalized()
        print("goes on", flush=True)
        time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""
FAILS_OTHERWISE = """
from ktrdr.cli.interrupts import no_interrupt_lost

class Finalized:
    def __del__(self):
        raise ValueError("of its own")

with no_interrupt_lost():
    Finalized()
    print("goes on")
"""


def ran(program):
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )


def test_an_interrupt_that_a_finalizer_loses_comes_again():
    done = ran(LOSES_ONE)
    assert done.stdout == "goes on\ninterrupted\n"
    assert done.stderr == ""


def test_other_errors_that_cannot_be_raised_are_printed_as_ever():
    done = ran(FAILS_OTHERWISE)
    assert done.stdout == "goes on\n"
    assert "ValueError: of its own" in done.stderr
