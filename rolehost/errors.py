"""Everything that rolehost raises, as one tree.

RoleHostError
├── RoleEnvironmentError          the role environment can't answer
├── ServiceModelError             the service definition or configuration is not valid
│   └── UpdateRefusedError        a running service can't be changed so; nothing has changed
├── EntryPointError               a role's entry point can't be loaded or misbehaves
├── StartupError                  an instance can't start as it is deployed
│   └── StartupTaskError          a startup task failed, or can't be run
├── ProgramNotFoundError          a console application can't be started
├── BadInputError                 a worker's own code finds the input at fault
├── NotAWakeUpError               a message's body is none of ours
├── WireError                     a document of the runtime endpoint can't be read
├── InstanceLostError             another holder has taken the instance's number
├── StoreError                    a store says no, or nothing
│   ├── StoreUnavailableError     no answer: the call may or may not have been applied
│   │   ├── StoreThrottledError   it asks for patience, and may say for how long
│   │   └── StoreForbiddenError   it refuses our credentials: a person has to look
│   ├── StoreFullError            no space is left; nothing was applied
│   ├── ConflictError             a condition did not hold; nothing was applied
│   │   ├── VersionMismatchError  the row is not the one that was read
│   │   ├── AlreadyExistsError    the name is taken
│   │   └── ReceiptMismatchError  the message is no longer ours
│   ├── NotFoundError             there is no such row, blob or message
│   └── LimitExceededError        a value is over the engine's published limit
├── SubmissionError               a job can't be accepted; nothing was stored
│   ├── InvalidParameterError     a parameter is missing or wrong
│   │   └── UrlNotAllowedError    a source's URL leads where no fetch may go
│   ├── UnsupportedTypeError      the file is of no type that is accepted
│   │   └── NotAPictureError      it is no picture, where only pictures are
│   ├── TooLargeError             the file is over the upload cap
│   ├── KeyReusedError            the idempotency key belongs to another request
│   ├── KeyInFlightError          the first request with this idempotency key is still being worked on
│   ├── AlreadyReplayedError      the job was replayed already, and nobody asked for another replay
│   └── BatchStateError           the batch is sealed or over, or another of its name is on its way
├── OutboundError                 an address that somebody else chose gave no answer that can be used
│   ├── AddressRefusedError       it leads where a fetch may not go
│   ├── AnswerTooLargeError       more came than the cap
│   └── AnswerCodedError          it came compressed, which nobody asked for
├── NoServiceError                no service runs where one was looked for
├── UnknownJobError               no job has this id
└── UnknownBatchError             no batch has this id, or this name
"""

from __future__ import annotations

from collections.abc import Sequence


class RoleHostError(Exception):
    """The root: whatever rolehost raises on purpose is one of these."""


class RoleEnvironmentError(RoleHostError):
    """The role environment can't answer (the original's RoleEnvironmentException)."""


class ServiceModelError(RoleHostError):
    """The service definition or configuration is not valid.

    Args:
        problems: every problem found, one sentence each, not only the first.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class UpdateRefusedError(ServiceModelError):
    """A running service can't be changed so; nothing has changed."""


class EntryPointError(RoleHostError):
    """A role's entry point can't be loaded, or doesn't do what an entry point does."""


class StartupError(RoleHostError):
    """An instance can't start as it is deployed: a certificate is missing, or rights that the host hasn't got."""


class StartupTaskError(StartupError):
    """A startup task failed, or can't be run: the later tasks and the role don't start.

    Args:
        message: one sentence that names the task.
        task: its command line.
        exit_code: what it ended with; None: a signal ended it, or it never ran.
        signal: the signal's number.
        stderr: the last that it printed there.
    """

    def __init__(
        self, message: str, *, task: str, exit_code: int | None = None, signal: int | None = None, stderr: str = ""
    ) -> None:
        super().__init__(message)
        self.task = task
        self.exit_code = exit_code
        self.signal = signal
        self.stderr = stderr


class ProgramNotFoundError(RoleHostError):
    """A console application can't be started: it is missing, or is no program."""


class BadInputError(RoleHostError):
    """The input is at fault: a worker's `process` raises it, no retry follows, and the job fails with its text."""


class NotAWakeUpError(RoleHostError):
    """A message's body is none of ours."""


class WireError(RoleHostError):
    """A document of the runtime endpoint can't be read."""


class InstanceLostError(RoleHostError):
    """Another holder has taken the instance's number: this one's lease had run out."""


class StoreError(RoleHostError):
    """A store says no, or nothing. Engines translate their own errors into these, once."""


class StoreUnavailableError(StoreError):
    """No answer: the call may or may not have been applied; the caller reads before it decides."""


class StoreThrottledError(StoreUnavailableError):
    """The store asks for patience (HTTP 429, or 503 with Retry-After; Service Bus: server busy).

    Args:
        message: one sentence.
        retry_after: seconds after which it wants to be asked again; None: it didn't say.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreForbiddenError(StoreUnavailableError):
    """The store refuses our credentials (HTTP 401 or 403): asked again, for they may be renewed; a person is told.

    Args:
        message: one sentence.
        store: the store, as a person calls it (`the queue "thumbnails"`, an account's address); never a secret.
    """

    def __init__(self, message: str, *, store: str = "") -> None:
        super().__init__(message)
        self.store = store


class StoreFullError(StoreError):
    """No space is left; nothing was applied."""


class ConflictError(StoreError):
    """A condition did not hold; nothing was applied."""


class VersionMismatchError(ConflictError):
    """The row is not the one that was read: someone else wrote it, or it is gone."""


class AlreadyExistsError(ConflictError):
    """The name is taken."""


class ReceiptMismatchError(ConflictError):
    """The message is no longer ours: its hiding time ran out and someone received it, or it was settled."""


class NotFoundError(StoreError):
    """There is no such row, blob or message."""


class LimitExceededError(StoreError):
    """A value is over the limit that the engine publishes; nothing was applied."""


class SubmissionError(RoleHostError):
    """A job can't be accepted; nothing was stored."""


class InvalidParameterError(SubmissionError):
    """A parameter is missing or wrong.

    Args:
        message: one sentence that a person understands.
        field: the parameter's name.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class UrlNotAllowedError(InvalidParameterError):
    """A source's URL leads where no fetch may go; nothing was asked."""


class UnsupportedTypeError(SubmissionError):
    """The file is of no type that this kind of job accepts."""


class NotAPictureError(UnsupportedTypeError):
    """The file is no picture, and this kind of job accepts nothing else."""


class TooLargeError(SubmissionError):
    """The file is over the upload cap."""


class KeyReusedError(SubmissionError):
    """The idempotency key belongs to a request with another body."""


class KeyInFlightError(SubmissionError):
    """The first request with this idempotency key is still being worked on."""


class AlreadyReplayedError(SubmissionError):
    """The job was replayed already, and nobody asked for another replay.

    Args:
        message: one sentence.
        replay: the id of its latest replay.
    """

    def __init__(self, message: str, *, replay: str) -> None:
        super().__init__(message)
        self.replay = replay


class BatchStateError(SubmissionError):
    """The batch is not in a state for it: sealed, over, or another of this name is on its way."""


class OutboundError(RoleHostError):
    """An address that somebody else chose gave no answer that can be used."""


class AddressRefusedError(OutboundError):
    """A URL leads where a fetch may not go; nothing was asked."""


class AnswerTooLargeError(OutboundError):
    """More came than the cap; the rest was left."""


class AnswerCodedError(OutboundError):
    """It came compressed, which nobody asked for: what it would grow to is not found out."""


class NoServiceError(RoleHostError):
    """No service runs on this data directory, or it can't be spoken to."""


class UnknownJobError(RoleHostError):
    """No job has this id."""


class UnknownBatchError(RoleHostError):
    """No batch has this id, or this name."""
