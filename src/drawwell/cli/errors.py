"""Whatever ends a command, as one of our own errors: a sentence, a hint and an exit code; never a traceback."""

import os

from drawwell.errors import DrawwellError, PermissionRefused, StateUnavailable, UsageError


class InternalFault(DrawwellError):
    """A bug of ours; the exit code is EX_SOFTWARE."""

    exit_code = 70


USAGE_HINT = "Type the same with --help to see what it takes."


def as_ours(error: BaseException) -> DrawwellError:
    """The error that the operator is told, with a hint where it makes sense to have one."""
    if isinstance(error, BaseExceptionGroup):
        return as_ours(error.exceptions[0])
    if isinstance(error, DrawwellError):
        if isinstance(error, UsageError) and error.hint is None:
            error.hint = USAGE_HINT
        return error
    if isinstance(error, OSError):
        return of_file(error)
    if isinstance(error, ImportError):
        return InternalFault(
            f"this installation is not whole: {error}", hint="Install it again: 'make clean venv'."
        )
    return _bug(error)


def of_file(error: OSError) -> DrawwellError:
    """What the system said of a file; names it and what to do."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "cannot read or write"
    words = f"{what}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, FileExistsError):
        return UsageError(f"{what} is there already", hint="Name a new file: nothing is ever overwritten.")
    if isinstance(error, PermissionError):
        return PermissionRefused(words, hint="Name a place where you may write, or ask as a user who may.")
    if isinstance(error, FileNotFoundError) and os.path.isdir(os.path.dirname(what) or "."):
        return UsageError(words, hint="Name a file that exists: it is to be read.")
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return UsageError(words, hint="Name a file in a directory that exists.")
    return StateUnavailable(words, hint="Look at that place and its free space: 'df'.")


def _bug(error: BaseException) -> InternalFault:
    """Ours. Its words may hold anything, so that only the kind and the place are told."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    where = f"{os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}" if last else "nowhere"
    return InternalFault(
        f"a fault in drawwell itself: {type(error).__name__} at {where}",
        hint="Please report it, with the command that you typed and the output of 'drawwell --version'.",
    )
