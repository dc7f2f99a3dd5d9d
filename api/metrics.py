"""What an API process tells Prometheus. Each process counts for itself; sum over the instances."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

from api.answers import Answer

REQUESTS = Counter(
    "voltfold_api_requests_total", "Answered OCPI requests.", ("module", "method", "http", "ocpi")
)
SECONDS = Histogram(
    "voltfold_api_request_seconds",
    "From a request's head to the end of its answer.",
    ("module", "method"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
REFUSED = Counter(
    "voltfold_api_forbidden_total",
    "Requests for what is not the caller's: by its party, or by its role.",
    ("module", "reason"),
)
IN_FLIGHT = Gauge("voltfold_api_requests_in_flight", "Requests that have not been answered yet.")
VIEW_LAG = Gauge("voltfold_api_view_lag_records", "Records of the log that the read view has yet to read.")

OUTBOX = Gauge(
    "voltfold_courier_marked_objects", "Objects that have changed since a platform got them.", ("connection",)
)
CIRCUITS = Gauge("voltfold_courier_offline", "1: the platform cannot be reached.", ("connection",))
DELIVERIES = Counter(
    "voltfold_courier_deliveries_total", "Attempts at deliveries.", ("connection", "module", "verdict")
)
DELIVERY_SECONDS = Histogram(
    "voltfold_courier_delivery_seconds",
    "From a request to a platform to the end of its answer.",
    ("connection",),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)


@cache
def _counter(module: str, method: str, http: int, ocpi: int) -> Counter:
    return REQUESTS.labels(module, method, str(http), str(ocpi))


@cache
def _histogram(module: str, method: str) -> Histogram:
    return SECONDS.labels(module, method)


_METHODS = frozenset(("GET", "PUT", "PATCH", "POST", "DELETE"))


def observe(module: str, method: str, answer: Answer, seconds: float) -> None:
    """Count one answered request."""
    method = method if method in _METHODS else "other"
    _counter(module, method, answer.http, answer.status).inc()
    _histogram(module, method).observe(seconds)


def refused(module: str, reason: str) -> None:
    """Count one request for what is not the caller's."""
    REFUSED.labels(module, reason).inc()
