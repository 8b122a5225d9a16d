"""``chelys``, also as ``python -m chelys``: an interrupt is one line from the first moment on."""

from __future__ import annotations

import os
import signal
import threading


def leave(number: int, frame: object) -> None:
    """Answer an interrupt where nothing is half-done: while modules are imported, and at the very end."""
    os.write(2, b"chelys: interrupted\n")
    os._exit(128 + number)


def main() -> None:
    """Run the command line; ends the process."""
    in_main = threading.current_thread() is threading.main_thread()
    heeded = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if heeded:
        signal.signal(signal.SIGINT, leave)
    from chelys.cli.main import run

    run(heeded=heeded, at_end=leave)


if __name__ == "__main__":
    main()
