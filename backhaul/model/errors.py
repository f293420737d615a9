"""Every error Backhaul raises, in one tree, sorted by who must act.

BackhaulError
├── CallerError                the caller: change the request or the file
│   ├── InvalidRequest         400  a field is missing, unknown or out of range
│   │   ├── UnknownProcessor   400  no processor of that name
│   │   ├── InvalidOption      400  unknown option, or a value it does not take
│   │   └── CannotEstimate     400  the processor cannot say what a file will take
│   ├── JobNotFound            404  no such job, or another tenant's
│   ├── DeadLetterNotFound     404  no such dead letter, or another command holds it
│   ├── RunNotFound            404  the job has had no such run
│   ├── KeyReused              409  an idempotency key came with another request before
│   ├── JobHasEnded            409  a job that has ended cannot be cancelled
│   ├── JobNotEnded            409  a job that has not ended cannot be redriven
│   ├── NotRedrivable          409  the job has no input to go back to
│   ├── ResultNotReady         409  the job has no output (yet, or for ever)
│   ├── UnsuitableInput             the file is not what the processor reads
│   └── RequestRefused              the API, or S3, refused a client's request
├── OperatorError              the operator: mend the deployment
│   ├── InvalidSettings             an environment variable is missing or wrong
│   ├── InvalidProcessor            a processor file breaks the contract
│   ├── DeploymentUnreachable       no deployment was found, or it does not answer
│   │   └── DeploymentBusy          it answers 429 or 5xx: it may take the same request later
│   ├── LocalCloudError             the local cloud did not start, or is not running
│   ├── MalformedMessage            a queue message or event that no stage can read
│   ├── ForeignObject               a job's record names an object that is not the job's own
│   └── UnreadableRecord            a job's record that another version of Backhaul wrote
├── WorkError                  nobody, or the input's owner: a processor raises it about a record
│   ├── Transient                   the failure may pass: the worker tries the record again
│   └── Permanent                   the failure will not pass: the worker sets the chunk aside at once
├── StoreError                 nobody: a store of the deployment failed
│   ├── StoreUnavailable            the failure may pass: Step Functions asks again for hours
│   └── StoreRefused                the store has no such item or object, or refuses access to it
│       └── DamagedResult           a result is gone, or is not the one that its shard's record names
└── Superseded                 nobody: a newer attempt owns the shard
"""

from collections.abc import Iterable


class BackhaulError(Exception):
    """The root of every error that Backhaul raises on purpose."""

    code = "internal"
    status = 500


class CallerError(BackhaulError):
    """The caller can mend this by changing the request or the file."""

    code = "bad_request"
    status = 400


class InvalidRequest(CallerError):
    """A field of the request is missing, unknown or out of range."""

    code = "invalid_request"


class UnknownProcessor(InvalidRequest):
    """No processor has this name."""

    code = "unknown_processor"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no processor {name!r}. Use one of: {', '.join(sorted(known))}.")


class InvalidOption(InvalidRequest):
    """A processor does not take this option, or not this value."""

    code = "invalid_option"


class CannotEstimate(InvalidRequest):
    """The processor failed, or took too long, when it was asked what calls a file will take."""

    code = "cannot_estimate"


class JobNotFound(CallerError):
    """The tenant has no such job; another tenant's jobs look the same."""

    code = "job_not_found"
    status = 404

    def __init__(self, job_id: str) -> None:
        super().__init__(f"There is no job {job_id!r}. List your jobs to find its ID.")


class DeadLetterNotFound(CallerError):
    """The queues hold no dead letter of this ID, or hide it because another command handles it."""

    code = "dead_letter_not_found"
    status = 404


class RunNotFound(CallerError):
    """The job has had no such run."""

    code = "run_not_found"
    status = 404

    def __init__(self, job_id: str, run: int) -> None:
        super().__init__(f"Job {job_id} has no run {run} that has ended.")


class KeyReused(CallerError):
    """The idempotency key belongs to a job that was submitted with another request."""

    code = "idempotency_key_reused"
    status = 409


class JobHasEnded(CallerError):
    """The job has ended already, so there is nothing to cancel."""

    code = "job_has_ended"
    status = 409


class JobNotEnded(CallerError):
    """The job has not ended, so there is nothing to redrive yet."""

    code = "job_not_ended"
    status = 409


class NotRedrivable(CallerError):
    """The job has no input that another run could work on."""

    code = "not_redrivable"
    status = 409


class ResultNotReady(CallerError):
    """The job has no output to fetch."""

    code = "result_not_ready"
    status = 409


class UnsuitableInput(CallerError):
    """The file is not what the processor reads; `position` is the offending byte's offset."""

    code = "unsuitable_input"

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class RequestRefused(CallerError):
    """The API, or S3, refused a request; `code` is the answer's stable code, `status` its HTTP status."""

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class OperatorError(BackhaulError):
    """The operator can mend this by changing the deployment."""


class InvalidSettings(OperatorError):
    """An environment variable is missing, or its value is wrong."""

    code = "invalid_settings"


class InvalidProcessor(OperatorError):
    """A processor file breaks the contract of `backhaul.plugin.processor`."""

    code = "invalid_processor"


class DeploymentUnreachable(OperatorError):
    """No deployment of Backhaul was found, or it does not answer."""

    code = "deployment_unreachable"


class DeploymentBusy(DeploymentUnreachable):
    """The deployment answered 429 or 5xx; `retry_after` is the seconds of its Retry-After, None if it sent none."""

    code = "deployment_busy"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LocalCloudError(OperatorError):
    """The local cloud could not be started, or is not running."""

    code = "local_cloud"


class MalformedMessage(OperatorError):
    """A queue message or event does not have the form that its sender promised."""

    code = "malformed_message"


class ForeignObject(OperatorError):
    """A job's record names an object that is not the job's own; Backhaul gives that object to nobody."""

    code = "foreign_object"

    def __init__(self, job_id: str, key: str) -> None:
        super().__init__(f"The record of job {job_id} names the object {key!r}, which is not that job's own.")


class UnreadableRecord(OperatorError):
    """This version cannot read a job's record, because another version of Backhaul wrote it."""

    code = "unreadable_record"


class WorkError(BackhaulError):
    """The base of the errors with which a processor tells whether a record's failure may pass."""


class Transient(WorkError):
    """A failure that may pass, such as an API that is overloaded; `retry_after` is in seconds."""

    code = "transient"

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(WorkError):
    """A failure that another try cannot mend."""

    code = "permanent"


class StoreError(BackhaulError):
    """S3, DynamoDB or a queue of the deployment failed a request."""

    code = "store_error"


class StoreUnavailable(StoreError):
    """A store failed, even after its client's retries, but may answer later.

    The state machine's Retry names this class: it must not be renamed alone.
    """

    code = "store_unavailable"


class StoreRefused(StoreError):
    """A store answered that the item or object does not exist, or that access to it is denied."""

    code = "store_refused"


class DamagedResult(StoreRefused):
    """A result is gone, or is not the one that its shard's record names; `key` is the result's S3 key."""

    code = "damaged_result"

    def __init__(self, key: str) -> None:
        super().__init__(f"The object {key} is gone, or is not the one that was stored there.")
        self.key = key


class Superseded(BackhaulError):
    """A newer attempt has claimed the shard; this worker's writes no longer count."""

    code = "superseded"
