"""A user's mistake, told in one sentence."""


class UserError(Exception):
    """A mistake that the user can mend. Its message says what is wrong and what to do; no traceback is shown."""

    status = 2
    """Exit status of the command."""
