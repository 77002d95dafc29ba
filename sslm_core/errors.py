"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """One line that names the file or option and the mend. The command line prints it and exits with 2."""
