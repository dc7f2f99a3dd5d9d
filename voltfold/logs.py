"""Logging: the standard library's, one line a record, on standard error. As text for people, or as JSON."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

NOISY = {
    "aiokafka": logging.WARNING,  # its debug calls build records by the thousand a second
    "aiokafka.consumer.group_coordinator": logging.ERROR,
    "faust": logging.INFO,
    "mode": logging.INFO,
    "httpcore": logging.WARNING,
    "urllib3": logging.WARNING,
    "uvicorn.access": logging.WARNING,
    "filelock": logging.WARNING,
}


class TextFormatter(logging.Formatter):
    """`time LEVEL logger: message`; a traceback's lines are joined, so that a record stays one line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of text."""
        line = f"{_instant(record)} {record.levelname:<7} {record.name}: {record.getMessage()}"
        if record.exc_info:
            line += " | " + self.formatException(record.exc_info)
        return line.replace("\n", "\\n")


class JsonFormatter(logging.Formatter):
    """One JSON object a record: time, level, logger, message, and what came as `extra={"fields": {...}}`."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line of JSON."""
        entry = {
            "time": _instant(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str, ensure_ascii=False)


def configure(style: str = "text", level: str = "INFO") -> None:
    """Send this process's log to standard error. Safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quietest in NOISY.items():
        logging.getLogger(name).setLevel(max(quietest, logging.getLevelName(level)))
    logging.captureWarnings(True)


def _instant(record: logging.LogRecord) -> str:
    return (
        datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
