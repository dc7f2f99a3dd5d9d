"""docker-compose.yml and what it mounts: sound, and in step with the settings and the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from voltfold.cli import app
from voltfold.settings import Settings

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services, as podman-compose reads the file (echo answers for podman's version)."""
    command = [sys.executable, "-m", "podman_compose", "--podman-path", "/bin/echo"]
    checked = subprocess.run(
        [*command, "-f", "docker-compose.yml", "config"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    found: dict[str, Any] = yaml.safe_load(checked.stdout)["services"]
    return found


def test_every_role_is_there(services: dict[str, Any]) -> None:
    """All services, each of ours with a command that exists."""
    ours = {name for name, service in services.items() if service["image"].startswith("voltfold:")}
    assert ours == {"migrate", "api", "worker", "sink"}
    assert set(services) - ours == {"kafka", "clickhouse", "prometheus", "grafana"}
    commands = get_command(app).commands  # type: ignore[attr-defined]
    assert all(services[name]["command"] == [name] and name in commands for name in ours)


def test_every_setting_is_known(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each VOLTFOLD_ variable is one that the settings have, with a value that they take."""
    known = {f"VOLTFOLD_{name.upper()}" for name in Settings.model_fields}
    for name, service in services.items():
        given = {k: v for k, v in (service.get("environment") or {}).items() if k.startswith("VOLTFOLD_")}
        assert set(given) <= known, name
        with monkeypatch.context() as patch:
            for variable, value in given.items():
                patch.setenv(variable, value)
            Settings()
    image = set(re.findall(r"VOLTFOLD_\w+", (ROOT / "Dockerfile").read_text()))
    assert image <= known


def test_what_is_mounted_and_copied_exists(services: dict[str, Any]) -> None:
    """Files of ours that containers mount, and that the image copies."""
    for service in services.values():
        for volume in service.get("volumes") or []:
            source = volume.split(":")[0] if isinstance(volume, str) else volume["source"]
            if source.startswith(("./", "/")):
                assert (ROOT / source).exists(), source
    for line in (ROOT / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            assert all((ROOT / source).exists() for source in line.split()[1:-1]), line


def test_dashboards_ask_what_is_provisioned() -> None:
    """Every dashboard is JSON and speaks to a data source that Grafana is given; Prometheus' file is YAML."""
    provisioning = ROOT / "deploy/grafana/provisioning/datasources/datasources.yml"
    given = {source["uid"] for source in yaml.safe_load(provisioning.read_text())["datasources"]}
    dashboards = list((ROOT / "deploy/grafana/dashboards").glob("*.json"))
    assert dashboards
    for path in dashboards:
        panels = json.loads(path.read_text())["panels"]
        assert {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"} <= given
    assert yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
