"""The courier as it really runs, and platforms that are connected to us."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from api.partners import REGISTERED, Connection, CredentialsRole, Endpoint, connection_event, token_digest
from api.partners import write_event as write_partner
from api.vault import Vault, key_of
from tests.integration.api_helpers import ROOT, Api, web
from tests.integration.counterpart import Platform
from voltfold.ports import free_port
from voltfold.processes import die_with_parent

SECRET = "dGhlIHNlY3JldCBvZiBhIHRlc3QsIDMyIGJ5dGVzISE="
VAULT = Vault(key_of(SECRET))
QUICK = {
    "VOLTFOLD_SECRET": SECRET,
    "VOLTFOLD_PARTNER_TIMEOUT": "2",
    "VOLTFOLD_PARTNER_PAUSE": "1",
    "VOLTFOLD_PARTNER_FAILURES": "2",
    "VOLTFOLD_COURIER_MEMBER": "one",
}


@dataclass
class Courier:
    """One courier process, on the log of an API; or one in another role."""

    api: Api
    settings: dict[str, str] = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    role: str = "courier"

    def start(self) -> Courier:
        """Start it, and wait until it is ready."""
        env = {
            "PYTHONPATH": str(ROOT),
            "VOLTFOLD_KAFKA": self.api.kafka,
            "VOLTFOLD_TOPIC_PREFIX": self.api.topics.prefix,
            "VOLTFOLD_PARTITIONS": str(self.api.topics.partitions),
            "VOLTFOLD_DATA": str(self.api.folder),
            "VOLTFOLD_HEALTH_PORT": str(self.port),
            **QUICK,
            **self.settings,
        }
        log = self.api.folder / f"{self.role}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voltfold", self.role],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env={**os.environ, **env},
                preexec_fn=die_with_parent,
            )
        deadline = time.monotonic() + 40
        while not self.health().get("ready"):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"the {self.role} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.05)
        return self

    def health(self) -> dict[str, Any]:
        """What it says of itself."""
        with contextlib.suppress(httpx.HTTPError):
            with web(timeout=5) as http:
                found: dict[str, Any] = http.get(f"http://127.0.0.1:{self.port}/health").json()
            return found
        return {}

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


def cli(api: Api, *arguments: str) -> Any:
    """What a command prints as JSON."""
    env = {
        "VOLTFOLD_KAFKA": api.kafka,
        "VOLTFOLD_TOPIC_PREFIX": api.topics.prefix,
        "VOLTFOLD_PARTITIONS": str(api.topics.partitions),
        "VOLTFOLD_DATA": str(api.folder),
        "VOLTFOLD_SECRET": SECRET,
    }
    ended = subprocess.run(
        [sys.executable, "-m", "voltfold", *arguments, "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **env},
        check=False,
        timeout=60,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1])


def connect(api: Api, platform: Platform, name: str) -> Connection:
    """Make a platform one that is registered, as a handshake would."""
    platform.our_token = platform.our_token or f"{name}-shows-this"
    connection = Connection(
        name,
        REGISTERED,
        tuple(CredentialsRole(role, country, party) for role, country, party in platform.roles),
        token_sha256=token_digest(platform.our_token).hex(),
        their_token=VAULT.seal(platform.token),
        plain_token=platform.plain,
        version=platform.version,
        versions_url=platform.versions_url,
        endpoints=tuple(
            Endpoint(one["identifier"], one.get("role", ""), one["url"]) for one in platform.endpoints()
        ),
        registered_at=time.time_ns() // 1000,
    )
    asyncio.run(write_partner(api.kafka, api.topics, connection_event(connection)))
    return connection
