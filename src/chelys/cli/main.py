"""The ``chelys`` command: its verbs, and what becomes of errors."""

from __future__ import annotations

import _thread
import errno
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from chelys.cli.console import echo
from chelys.deprecation import ChelysDeprecationWarning
from chelys.errors import UserError
from chelys.machine import wait_passively

USER_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT  # as shells count
TERMINATED = 128 + signal.SIGTERM
BROKEN_PIPE = 128 + 13  # SIGPIPE, which Windows lacks


class OneLineErrors(TyperGroup):
    """A command that answers a mistake with one line on standard error and exit status 2."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the words before the verb, and print the help."""
        with _ends():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb, its help included."""
        with _ends():
            result = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()
            return result

    def main(self, *args: Any, **extra: Any) -> Any:
        """Parse, run, and turn what was raised into an exit status."""
        standalone = extra.pop("standalone_mode", True)
        extra["standalone_mode"] = False
        if not standalone:
            return super().main(*args, **extra)
        try:
            status = super().main(*args, **extra)
        except UserError as error:
            status = _complain(str(error))
        except (KeyboardInterrupt, typer.Abort):
            status = _interrupted()
        except OSError as error:  # of the machine: no file is in two states for it
            _forget_stdout()
            where = f": {os.fspath(error.filename)!r}" if error.filename is not None else ""
            full = error.errno == errno.ENOSPC
            status = _complain(
                "no space left on the disk: make room, or write elsewhere"
                if full
                else f"{error.strerror or error}{where}"
            )
        except MemoryError:
            status = _complain("more memory is needed than is free: make room, or take less at a time")
        except Exception as error:
            # Typer brings its own copy of click from some version on, so its usage errors are known by their manner.
            if not hasattr(error, "format_message"):
                raise
            status = _complain(error.format_message())
        sys.exit(status if isinstance(status, int) else 0)


@contextmanager
def _ends() -> Iterator[None]:
    """A reader that goes away (``chelys ... | head``) ends a command quietly, an interrupt with a line."""
    try:
        yield
    except BrokenPipeError:
        _forget_stdout()
        raise typer.Exit(BROKEN_PIPE) from None
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # rich, which prints the help, has its own way with it
            raise typer.Exit(BROKEN_PIPE) from None
        raise
    except KeyboardInterrupt as error:
        raise typer.Exit(_interrupted(str(error))) from None


def _interrupted(note: str = "") -> int:
    exec("")  # forgets an interrupt that passed through exec(), as in imports: Python would end with status -2
    print(f"chelys: interrupted{note and ': '}{note}", file=sys.stderr)
    return INTERRUPTED


def _complain(message: str) -> int:
    """One line, however wide the terminal, whatever is in the names that it cites."""
    line = message.replace("\n", " ").strip()
    if line:  # a group without a verb has printed its help instead
        echo(f"chelys: error: {line}", error=True)
    return USER_ERROR


def _forget_stdout() -> None:
    """Point standard output nowhere, or Python would fail once more when it empties its buffer at exit."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # standard output is no file, as in a test
        pass


#: Verb -> its module below ``chelys.cli``, and the command's function there, or the group.
VERBS = {
    "speak": ("speak", "speak"), "read": ("read", "read"), "render": ("audiobook", "render"),
    "board": ("audiobook", "board"), "replay": ("audiobook", "replay"), "diff": ("audiobook", "diff"),
    "cache": ("cache", "app"), "text": ("text", "text"), "train": ("train", "app"),
    "finetune": ("finetune", "finetune"), "distill": ("distill", "distill"), "detect": ("tortoise", "detect"),
    "convert": ("tortoise", "convert"), "pack": ("train", "pack"), "serve": ("serve", "serve"),
    "voices": ("voices", "app"), "data": ("data", "app"), "bench": ("bench", "bench"),
    "eval": ("evaluate", "evaluate"), "doctor": ("doctor", "doctor"),
}  # fmt: skip

app: typer.Typer  # with all verbs, made when it is asked for


@cache
def app_with(*verbs: str) -> typer.Typer:
    """The command with some verbs, all if none is named: each costs time before anything is done."""
    made = typer.Typer(
        cls=OneLineErrors, pretty_exceptions_enable=False, help="Text to speech in the manner of TorToise."
    )
    made.callback(
        invoke_without_command=True,
        epilog='Example: chelys speak "Hello there." -o hello.wav, then: chelys VERB --help',
    )(_start)
    for verb in verbs or VERBS:
        module, name = VERBS[verb]
        found = import_module(f"chelys.cli.{module}")
        part = getattr(found, name)
        if isinstance(part, typer.Typer):
            made.add_typer(part, name=verb)
        else:
            prefix = f"{verb.upper()}_" if hasattr(found, f"{verb.upper()}_HELP") else ""
            words = {key: getattr(found, f"{prefix}{key.upper()}") for key in ("help", "example")}
            made.command(verb, help=words["help"], epilog=words["example"])(part)
    return made


def _app_for(words: Sequence[str]) -> typer.Typer:
    """The command with the verb that is named; options before it take no values."""
    verb = next((word for word in words if not word.startswith("-")), "")
    return app_with(verb) if verb in VERBS and "_CHELYS_COMPLETE" not in os.environ else app_with()


def __getattr__(name: str) -> Any:
    if name == "app":
        return app_with()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _print_version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version  # late: its import takes a while

    try:
        print(f"chelys {version('chelys')}")
    except PackageNotFoundError:
        print("chelys, run from its source folder and not installed")
    raise typer.Exit()


def _start(
    ctx: typer.Context,
    verbose: Annotated[
        int, typer.Option("-v", "--verbose", count=True, help="Log what is done; -vv logs details.")
    ] = 0,
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if verbose:
        handler = logging.StreamHandler()  # standard error
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s", datefmt="%H:%M:%S"))
        logger = logging.getLogger("chelys")
        logger.handlers = [handler]
        logger.setLevel(logging.INFO if verbose == 1 else logging.DEBUG)
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def _terminate(number: int, frame: object) -> None:
    raise SystemExit(TERMINATED)


def _show_old_names() -> None:
    """Say in one line each, on standard error, which old names are used; Python hides such warnings by default."""
    python_shows = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if issubclass(category, ChelysDeprecationWarning):
            print(f"chelys: warning: {message}", file=sys.stderr)
        else:
            python_shows(message, category, *rest, **more)

    warnings.simplefilter("once", ChelysDeprecationWarning)
    warnings.showwarning = show


def run(*, heeded: bool, at_end: Callable[[int, Any], None]) -> None:
    """Run the command line; ends the process.

    ``heeded``: whether an interrupt is to end it; ``at_end``: what answers one when all is done.
    """
    _show_old_names()
    wait_passively()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that half-written files are removed on the way out
    came = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal came
        came = True
        raise KeyboardInterrupt

    def ignored(failure: Any) -> None:
        if issubclass(failure.exc_type, KeyboardInterrupt):  # within a finaliser, which swallows it: once more, outside
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            sys.__unraisablehook__(failure)

    if heeded:
        sys.unraisablehook = ignored
        signal.signal(signal.SIGINT, interrupt)
    try:
        _app_for(sys.argv[1:])(prog_name="chelys")
    except BaseException as error:
        if heeded:
            signal.signal(signal.SIGINT, at_end)
        if not came or (isinstance(error, SystemExit) and error.code in (0, INTERRUPTED)):
            raise
        sys.exit(_interrupted())  # whatever a library made of the interrupt, while it was imported for example
