"""A watcher that keeps a command's process group from outliving its parent.

Run as a script: `python supervisor.py GRACE_SECONDS COMMAND...`.

A process between ours and the command: the kernel tells nobody that a process was killed with SIGKILL, so somebody has
to watch. Ours holds the other end of this one's standard input; when that end closes, when our process is no longer the
parent, or on SIGTERM, the command's whole group gets SIGTERM, and SIGKILL after the grace. The exit status is the
command's (128 + number for a signal). Standard library only: it runs before, and without, the package.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

LOOK_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    grace_seconds, command = float(arguments[0]), arguments[1:]
    parent, told = os.getppid(), False

    def tell(*_: object) -> None:
        nonlocal told
        told = True

    signal.signal(signal.SIGTERM, tell)
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=end_with_parent)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    while child.poll() is None and not told and os.getppid() == parent and not is_closed(sys.stdin.fileno()):
        pass
    end_group(child, grace_seconds)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def end_with_parent() -> None:
    """Between fork and exec: send the command SIGTERM if this watcher itself is killed (on Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def is_closed(descriptor: int) -> bool:
    """Wait a moment, and return whether the other end has gone."""
    readable, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
    return bool(readable) and not os.read(descriptor, 1)


def end_group(child: subprocess.Popen[bytes], grace_seconds: float) -> None:
    """Send SIGTERM to the group, and SIGKILL after the grace.

    The command's own children must go too, also if it ended by itself.
    """
    signal_group(child.pid, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while time.monotonic() < deadline and (child.poll() is None or signal_group(child.pid, 0)):
        time.sleep(LOOK_SECONDS / 2)
    signal_group(child.pid, signal.SIGKILL)
    child.wait()


def signal_group(group: int, number: int) -> bool:
    """Send a signal, and return whether there was anybody to get it."""
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
