"""The one error that a user can cause."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a record, an option, a model folder.

    Its message is one line that says what is wrong, where (file, line, record) and what to do.
    The command line prints it without a traceback and exits with code 2.
    """
