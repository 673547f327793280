"""Converts any exception to a DrawwellError with a hint and an exit code."""

import os

from drawwell.errors import DrawwellError, PermissionRefused, StateUnavailable, UsageError


class InternalFault(DrawwellError):
    """A bug in drawwell; the exit code is EX_SOFTWARE."""

    exit_code = 70


USAGE_HINT = "Run the command with --help to see its options."


def as_ours(error: BaseException) -> DrawwellError:
    """Return the error to print, with a hint if possible."""
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
            f"the installation is incomplete: {error}", hint="Reinstall drawwell: 'make clean venv'."
        )
    return _bug(error)


def of_file(error: OSError) -> DrawwellError:
    """Convert an OSError to an error with the file name and a hint."""
    what = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else "cannot read or write"
    text = f"{what}: {(error.strerror or str(error)).lower()}"
    if isinstance(error, FileExistsError):
        return UsageError(f"{what} already exists", hint="Choose a new file; drawwell never overwrites.")
    if isinstance(error, PermissionError):
        return PermissionRefused(text, hint="Choose another file, or run this as its owner.")
    if isinstance(error, FileNotFoundError) and os.path.isdir(os.path.dirname(what) or "."):
        return UsageError(text, hint="Choose an existing file.")
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return UsageError(text, hint="Choose a file in an existing directory.")
    return StateUnavailable(text, hint="Check the file system and its free space with 'df'.")


def _bug(error: BaseException) -> InternalFault:
    """Report the type and location of a bug, but not its message or secrets."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    where = f"{os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno}" if last else "unknown"
    return InternalFault(
        f"a bug in drawwell: {type(error).__name__} at {where}",
        hint="Please report this bug with the command that you ran and the output of 'drawwell --version'.",
    )
