"""One API process and its log for all tests of a module that are content with ids of their own."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator

import pytest

from schemas.topics import Topics
from tests.integration.api_helpers import Api, Partner, add
from voltfold.topics import create_topics

NewId = Callable[[], str]


@pytest.fixture(scope="module")
def api(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API on a log of this module's own, 3 partitions wide."""
    topics = Topics(f"t-{uuid.uuid4().hex[:10]}", partitions=3)
    asyncio.run(create_topics(broker, topics.all()))
    api = Api(broker, topics, tmp_path_factory.mktemp("api")).start()
    yield api
    api.kill()


@pytest.fixture(scope="module")
def cpo(api: Api) -> Partner:
    """NL*TNM, an operator."""
    return add(api, "NL", "TNM", "CPO")


@pytest.fixture(scope="module")
def emsp(api: Api) -> Partner:
    """DE*EMS, a provider."""
    return add(api, "DE", "EMS", "EMSP")


@pytest.fixture
def new_id() -> NewId:
    """Makes ids that nobody else has."""
    return lambda: uuid.uuid4().hex[:12].upper()
