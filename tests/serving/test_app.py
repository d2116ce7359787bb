"""The application in this process: what cannot be caused from outside."""

import asyncio
import logging
from pathlib import Path

import httpx
import pytest
from fastapi import HTTPException

from serving.app import create_app
from serving.bounds import hold
from serving.champion import ChampionWatcher
from serving.service import Service
from storage.models.backends import LocalFolder
from storage.models.store import ModelStore


@pytest.fixture
def service(tmp_path: Path, tiny_model) -> Service:
    store = ModelStore(LocalFolder(tmp_path), "mnist")
    store.promote("run-1", store.stage("run-1", tiny_model, {}), None, actor="test", reason="")
    return Service(ChampionWatcher(store), lambda: pytest.fail("no corrections here"), None)


def get(service: Service, path: str) -> httpx.Response:
    async def send() -> httpx.Response:
        transport = httpx.ASGITransport(create_app(service))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.get(path)

    return asyncio.run(send())


def test_a_defect_is_logged_counted_and_answered_with_503(service, caplog):
    assert get(service, "/champion").status_code == 200
    service.watcher.champion = "a defect"

    with caplog.at_level(logging.ERROR, "digits"):
        response = get(service, "/champion")

    assert response.status_code == 503
    assert response.json() == {"detail": "internal error; see the server log"}
    assert "GET /champion" in caplog.text
    assert "AttributeError" in caplog.text
    counted = service.metrics.requests.labels("/champion", 503)
    assert next(iter(counted.collect())).samples[0].value == 1


def test_a_refused_request_gets_an_exception_of_its_own():
    slots, refused = asyncio.Semaphore(1), []

    async def refuse() -> None:
        async with hold(slots):
            for _ in range(2):
                with pytest.raises(HTTPException) as error:
                    async with hold(slots):
                        pytest.fail("there is no second slot")
                refused.append(error.value)
        async with hold(slots):
            pass

    asyncio.run(refuse())

    # A shared one would keep the frames of every request that it was raised in.
    assert refused[0] is not refused[1]
    assert [error.status_code for error in refused] == [503, 503]
