"""Every error the product raises on purpose, in one tree.

The message is for the person who sees it: one sentence that says what is wrong and what to do.
`exit_code` is what a command exits with. HTTP status codes are not here: shells translate.
"""


class MeteringError(Exception):
    """Something the operator can mend. The base of all errors raised on purpose."""

    exit_code = 1


class ConfigError(MeteringError):
    """A setting, a route, a key or a command argument is wrong. Nothing was started."""

    exit_code = 2


class InputError(MeteringError):
    """A file given to us (prices, teams, trace, recordings) can't be used as it is."""

    exit_code = 2


class LedgerError(MeteringError):
    """The ledger can't do what was asked. Nothing was changed."""

    exit_code = 3


class LedgerUnavailable(LedgerError):
    """Postgres can't be reached now. What is in the spool stays there."""


class StalePosition(LedgerError):
    """Another shipper moved this source's position: this batch was not written."""


class EmbeddedPostgresError(LedgerError):
    """The embedded Postgres can't be started or stopped."""


class EstimateError(MeteringError):
    """The tokens of a call could not be estimated."""


class SpoolError(MeteringError):
    """The spool can't be used."""

    exit_code = 4


class SpoolLocked(SpoolError):
    """Another live process writes this spool."""


class SpoolFull(SpoolError):
    """The spool's size bound is reached or the disk is full: this record was not written."""


class BooksDoNotBalance(MeteringError):
    """`metering verify` found rows that break an invariant."""

    exit_code = 5
