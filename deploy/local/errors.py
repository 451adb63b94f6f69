"""The one error of the local runtime."""


class LocalRuntimeError(RuntimeError):
    """The local runtime cannot go on; the message says what the reader can do about it."""
