"""A terminal of a given width for a command, and what it shows there."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios


def shown_in_terminal(*words, columns=80, answers=(), **variables):
    """The exit code of a command and what it writes to a terminal, with all control sequences.

    `answers`: for each question, a part of it and the line that is typed then.
    """
    waiting = [*answers]
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
    command = [sys.executable, "-m", "ktrdr.cli", *words]
    with subprocess.Popen(
        command,
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"TERM": "xterm-256color"} | variables,
    ) as process:
        os.close(follower)
        parts = []
        while True:
            try:
                part = os.read(leader, 4096)
            except OSError:  # Linux's way to say that the other end is closed
                break
            if not part:
                break
            parts.append(part)
            if waiting and waiting[0][0] in b"".join(parts).decode(errors="replace"):
                os.write(leader, f"{waiting.pop(0)[1]}\n".encode())
        os.close(leader)
        code = process.wait(30)
    return code, b"".join(parts).decode().replace("\r\n", "\n")
