"""Settings: read from the environment, checked, explained, handed on to children unchanged."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from voltfold.settings import Settings, table


def test_every_setting_is_explained() -> None:
    """Each has a docstring, which is its description."""
    assert not [name for name, field in Settings.model_fields.items() if not field.description]


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """VOLTFOLD_<NAME>; an empty variable is as good as none."""
    monkeypatch.setenv("VOLTFOLD_KAFKA", "kafka:9092")
    monkeypatch.setenv("VOLTFOLD_WORKERS", "3")
    monkeypatch.setenv("VOLTFOLD_API_PORT", "")
    settings = Settings()
    assert (settings.kafka, settings.workers, settings.api_port) == ("kafka:9092", 3, None)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "-1"),
        ("api_port", "70000"),
        ("clickhouse", "localhost:8123"),
        ("topic_prefix", "a b"),
        ("log", "xml"),
    ],
)
def test_bad_values_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The error names the setting."""
    monkeypatch.setenv(f"VOLTFOLD_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        Settings()


def test_children_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes into a child's environment comes out as it was."""
    settings = Settings(data=Path("/somewhere"), workers=2, clickhouse="http://u:p@h:1/", max_body=5)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings
    assert settings.clickhouse == "http://u:p@h:1"


def test_changes_are_checked_too() -> None:
    """`but` leaves what is None, and validates what is not."""
    settings = Settings(workers=2)
    assert settings.but(workers=None, api_port=1234) == Settings(workers=2, api_port=1234)
    with pytest.raises(ValidationError):
        settings.but(api_port=0)


def test_the_manual_has_every_setting() -> None:
    """docs/operating.md has the very table that the settings make: copy `table()` there when it differs."""
    manual = (Path(__file__).parents[2] / "docs" / "operating.md").read_text("utf-8")
    assert table() in manual
