"""A background program that never outlives us, with its log in a file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

GRACE_SECONDS = 15.0
"""Between SIGTERM and SIGKILL; vLLM ends in about 2 seconds."""
TAIL_LINES = 15
LONGEST_LINE = 400
LOG_BYTES_READ = 256 * 1024
_ERROR = re.compile(r"(?<!`)\b([A-Z]\w*(Error|Exception)): .*")


class BackgroundProcess:
    """A command in a process group of its own, started at once.

    It ends on `stop`, when this process ends in any way (SIGKILL too), and with all the processes that it has started:
    `supervisor.py` sees to that. Ctrl-C in the terminal does not reach it; `stop` is for the caller to say.

    Args:
        environment: complete; nothing of ours is added.
        log_path: takes what it prints.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        log_path: Path,
        *,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self.log_path, self._grace_seconds = log_path, grace_seconds
        log_path.parent.mkdir(parents=True, exist_ok=True)
        supervisor = [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py")), str(grace_seconds)]
        with open(log_path, "wb") as log:
            self._process = subprocess.Popen(
                [*supervisor, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The id of the supervisor; the command's processes are its descendants."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """Return the exit status: None while it runs; 128 + number for a signal."""
        status = self._process.poll()
        return status if status is None or status >= 0 else 128 - status

    def describe_end(self) -> str:
        """Describe its end and its last words, for messages."""
        status = self.exit_status()
        how = f"exit status {status}"
        if status is not None and status > 128:
            how = f"killed by {_signal_name(status - 128)}"
        causes = "".join(f"  first error: {line}\n" for line in self._errors()[:1])
        return f"{how}; its log {self.log_path} ends:\n{self.log_tail()}\n{causes}".rstrip()

    def log_tail(self, lines: int = TAIL_LINES) -> str:
        return "\n".join(f"  | {line[:LONGEST_LINE]}" for line in self._log_lines()[-lines:]) or "  (nothing)"

    def _errors(self) -> list[str]:
        """Return the last lines of tracebacks; the first names the cause, the rest are processes that fell with it."""
        return [found[0][:LONGEST_LINE] for line in self._log_lines() if (found := _ERROR.search(line))]

    def _log_lines(self) -> list[str]:
        with open(self.log_path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LOG_BYTES_READ))
            return file.read().decode(errors="replace").splitlines()

    def stop(self) -> None:
        """Send SIGTERM to the group, SIGKILL after the grace; return when all are gone. May be called twice."""
        if self._process.stdin and not self._process.stdin.closed:
            # what the supervisor waits for; SIGTERM too, as a forked child of ours may hold the pipe
            self._process.stdin.close()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._grace_seconds + 10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
