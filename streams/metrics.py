"""What a worker tells Prometheus. Each worker counts for itself; sum over the instances."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("voltfold_worker_records_total", "Records folded and committed.", ("topic",))
OUTPUTS = Counter("voltfold_worker_outputs_total", "Records written as outputs.", ("topic",))
BATCH = Histogram(
    "voltfold_worker_batch_records",
    "Records in a batch.",
    ("topic",),
    buckets=(1, 3, 10, 30, 100, 300, 1000, 4000),
)
FOLD_SECONDS = Histogram(
    "voltfold_worker_fold_seconds",
    "Folding one batch.",
    ("topic",),
    buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3),
)
COMMIT_SECONDS = Histogram(
    "voltfold_worker_commit_seconds",
    "From a folded batch to its committed transaction and written store.",
    ("topic",),
    buckets=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1, 3, 10),
)
EVENTS = Counter(
    "voltfold_worker_events_total",
    "What became of events, where it is not the usual: overtaken by a newer one, repeated, quarantined; a"
    " reference that came late; sessions that became overdue, and those that are it no more.",
    ("topic", "outcome"),
)
CANDIDATES = Gauge(
    "voltfold_worker_invalid_candidates",
    "Running sessions of the owned partitions that have been silent for too long.",
)
CLOCK = Gauge(
    "voltfold_worker_clock_seconds", "Of the owned partitions' times, the oldest, in seconds since 1970."
)
RESTORED = Counter(
    "voltfold_worker_restored_records_total", "Changelog records read into stores.", ("topic",)
)
FAILURES = Counter("voltfold_worker_failures_total", "Batches or openings that began again.", ("topic",))
PARTITIONS = Gauge("voltfold_worker_partitions", "Partitions that this worker owns.", ("topic",))
LAG = Gauge(
    "voltfold_worker_lag_records", "Offsets that the owned partitions have yet to handle.", ("topic",)
)
