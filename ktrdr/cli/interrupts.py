"""Ctrl-C where Python cannot raise KeyboardInterrupt: it is delivered again."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_AGAIN_S = 0.05


@contextmanager
def no_interrupt_lost() -> Iterator[None]:
    """Within it, each Ctrl-C ends what runs in the main thread.

    Python prints and forgets a KeyboardInterrupt that comes in a finalizer, or in a callback of
    compiled code such as pydantic's; the command would go on as if nobody had pressed anything.
    """
    before = sys.unraisablehook

    def hook(found: sys.UnraisableHookArgs) -> None:
        if isinstance(found.exc_value, KeyboardInterrupt):
            again = threading.Timer(_AGAIN_S, _interrupt)
            again.daemon = True
            again.start()
        else:
            before(found)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before


def _interrupt() -> None:
    main = threading.main_thread().ident
    if main is not None:
        signal.pthread_kill(main, signal.SIGINT)
