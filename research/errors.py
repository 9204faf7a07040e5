"""The one exception that a user's mistake raises: a sentence, not a traceback."""


class UserError(Exception):
    """Something the user can put right: the message says what is wrong and what to do.

    The command line prints it as one line and exits with status 2; nothing that was already written is lost.
    """
