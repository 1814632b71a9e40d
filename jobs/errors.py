"""Exceptions this package raises on purpose.

JobError
|-- NotFoundError         no row has this id
|-- InvalidChangeError    the row is not in a state that allows this change
|   |-- BusyError         somebody else works on it; trying again helps
|   `-- LockLostError     somebody else has taken over what this process worked on
`-- DatabaseError         the database cannot be used as it is

JobCancelled and LeaseLost derive from ``BaseException``: a task that catches
``Exception`` must not swallow them.
"""

from sqlalchemy.exc import InterfaceError, OperationalError

PASSING_FAULTS = (OperationalError, InterfaceError)
"""What a database raises that is full, locked or out of reach; it may work again later."""


class JobError(Exception):
    """Base class; the message is fit to be shown to a person."""


class NotFoundError(JobError):
    """No row has this id."""


class InvalidChangeError(JobError):
    """The row is not in a state that allows this change."""


class BusyError(InvalidChangeError):
    """Somebody else works on it at the moment; trying again helps."""


class LockLostError(InvalidChangeError):
    """The lock under which this process worked is no longer its own."""


class DatabaseError(JobError):
    """The database is damaged, or was written by a newer version."""


class JobCancelled(BaseException):  # not an error: the way a cancelled task ends
    """Raised inside a running task after someone asked its job to stop."""


class LeaseLost(BaseException):  # not an error of the task: it must publish nothing
    """Raised inside a process that no longer holds the lease of its job."""
