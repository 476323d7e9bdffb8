"""What can be wrong with what others send or operators write.

::

    MtastsError
    ├── ParseError      bytes or text that break a grammar
    └── ConfigError     a configuration that cannot be used

Facts of the world (no answer, no such name, no policy) are values, never
exceptions.  Anything else that is raised is a bug and crashes loudly.
"""


class MtastsError(Exception):
    """Base of every error that this program raises on purpose."""


class ParseError(MtastsError):
    """Input that breaks its grammar.

    The message says what is wrong; *section* names the rule that says so,
    such as "RFC 8461 section 3.2", and is part of the text.
    """

    def __init__(self, what: str, section: str = "") -> None:
        super().__init__(f"{what} ({section})" if section else what)
        self.what = what
        self.section = section


class ConfigError(MtastsError):
    """A configuration that cannot be used: says which key, where and why."""
