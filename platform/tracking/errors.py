"""What can go wrong with MLflow: what passes, what does not, and how it is said to people."""

from __future__ import annotations

from trainables.reading.addresses import showable


class TrackingError(RuntimeError):
    """MLflow cannot be reached or refuses; the message says which store."""


def temporary(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, a full disk, a locked database; not refusals and bugs.

    A login that ran out may be renewed (401, 403). A 404 that is not MLflow's own is a proxy's, whose server restarts.
    """
    from mlflow.exceptions import MlflowException, RestException  # reports that need no MLflow do not import it

    if isinstance(error, MlflowException):
        status = error.get_http_status_code()  # type: ignore[no-untyped-call]
        of_proxy = error.error_code == "ENDPOINT_NOT_FOUND" and not isinstance(error, RestException)  # was no JSON
        return status >= 500 or status in (401, 403, 429) or of_proxy
    return not isinstance(error, TypeError | ValueError | LookupError | AttributeError | TrackingError)


def masked(error: Exception) -> str:
    """The first line of what MLflow or a library says, for people to see."""
    text = str(error).strip() or type(error).__name__
    return showable(text.splitlines()[0])
