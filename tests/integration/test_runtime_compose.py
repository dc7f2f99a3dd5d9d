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
from prometheus_client import Counter, Gauge, Histogram
from typer.main import get_command

from analytics.connection import connect
from analytics.migrations import migrate
from voltfold.broker import BrokerConfig
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
    assert ours == {"migrate", "api", "worker", "sink", "courier"}
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


def _panels() -> list[tuple[str, Any]]:
    """Every panel that asks something, with its title."""
    found = []
    for path in sorted((ROOT / "deploy/grafana/dashboards").glob("*.json")):
        panels = json.loads(path.read_text())["panels"]
        found += [(f"{path.stem}: {each['title']}", each) for each in panels if each["type"] != "row"]
    return found


def test_dashboards_ask_what_is_provisioned(services: dict[str, Any]) -> None:
    """Every panel speaks to a data source that Grafana is given; the first page is one of the dashboards."""
    provisioning = ROOT / "deploy/grafana/provisioning/datasources/datasources.yml"
    given = {source["uid"] for source in yaml.safe_load(provisioning.read_text())["datasources"]}
    panels = _panels()
    assert {panel["datasource"]["uid"] for _, panel in panels} == given
    for title, panel in panels:
        assert panel["targets"], title
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {panel["datasource"]["uid"]}
    home = Path(services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (ROOT / "deploy/grafana/dashboards" / home.name).is_file()


def _ours() -> set[str]:
    """Names of the metrics that our processes tell, counters without their `_total`."""
    import analytics.sink
    import api.metrics
    import streams.metrics

    return {
        metric.describe()[0].name
        for module in (analytics.sink, api.metrics, streams.metrics)
        for metric in vars(module).values()
        if isinstance(metric, Counter | Gauge | Histogram)
    }


def test_dashboards_ask_for_metrics_that_exist() -> None:
    """Each series that a panel names is one that a process tells; two of ours are left out."""
    known, asked = _ours(), set[str]()
    for title, panel in _panels():
        for target in panel["targets"]:
            names = re.findall(r"\bvoltfold_\w+", target.get("expr", ""))
            bare = {re.sub(r"_(total|bucket)$", "", name) for name in names}
            assert bare <= known, title
            asked |= bare
    assert known - asked == {"voltfold_worker_batch_records", "voltfold_sink_batches"}


def test_dashboards_ask_clickhouse_what_it_can_answer(engine: str, database: str) -> None:
    """Every query runs on a migrated database, with Grafana's time filter written out as it does."""
    migrate(engine, database)
    with connect(engine, database) as client:
        asked = 0
        for title, panel in _panels():
            for target in panel["targets"]:
                if "rawSql" in target:
                    query = re.sub(
                        r"\$__timeFilter\((\w+)\)",
                        r"\1 >= toDateTime(1700000000) AND \1 <= toDateTime(1800000000)",
                        target["rawSql"],
                    )
                    assert "$" not in query, title
                    client.query(query)
                    assert client.query(f"DESCRIBE ({query})").row_count, title
                    asked += 1
    assert asked > 5


def test_prometheus_asks_every_process(services: dict[str, Any]) -> None:
    """Each long-lived service of ours is scraped, at the port that it is given."""
    jobs = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    scraped = {
        name: str(places["port"])
        for job in jobs
        for places in job["dns_sd_configs"]
        for name in places["names"]
    }
    given = {name: services[name]["environment"] for name in ("api", "worker", "sink", "courier")}
    assert scraped == {
        "api": given["api"]["VOLTFOLD_API_PORT"],
        "worker": given["worker"]["VOLTFOLD_HEALTH_PORT"],
        "sink": given["sink"]["VOLTFOLD_HEALTH_PORT"],
        "courier": given["courier"]["VOLTFOLD_HEALTH_PORT"],
    }


def test_the_broker_is_set_as_the_local_one_is(services: dict[str, Any], tmp_path: Path) -> None:
    """What decides about data (how long it is kept, what is made of itself) is the same in both."""
    local = BrokerConfig(tmp_path, 9092, 9093).properties()
    given = services["kafka"]["environment"]
    for name in (
        *("log.retention.ms", "offsets.retention.minutes", "transactional.id.expiration.ms"),
        *("message.max.bytes", "auto.create.topics.enable"),
        *("offsets.topic.replication.factor", "transaction.state.log.replication.factor"),
    ):
        assert str(given[f"KAFKA_{name.replace('.', '_').upper()}"]) == local[name], name
