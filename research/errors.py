"""A user's mistakes, each told in one sentence."""


class UserError(Exception):
    """A mistake that the user can mend. Its message says what is wrong and what to do; no traceback is shown."""

    status = 2
    """Exit status of the command."""


def require(condition: bool, message: str) -> None:
    """Refuse a field outside its range.

    Raises: ValueError with `message` unless `condition` holds.
    """
    if not condition:
        raise ValueError(message)
