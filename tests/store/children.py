"""Copies of a test's process, in which something may be killed."""

import os
import warnings
from collections.abc import Callable


def in_a_child(work: Callable[[], object]) -> int:
    """Do it in a copy of this process, and return its exit code: 1, if it has failed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread
        child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        except BaseException as error:  # noqa: BLE001  shown, and told by the code
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
