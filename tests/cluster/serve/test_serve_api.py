"""The HTTP API answers what the index answers, to the last bit."""

import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import lamella
from lamella.cluster.serve.answers import ARROW
from lamella.cluster.serve.models import Answers
from lamella.cluster.serve.service import Service
from lamella.pipeline import meters
from tests.end_to_end.commands import Stores
from tests.serving import asked, error_of, in_threads, png
from tests.tiny import tiny_index

NAMES = ["00.png", "02.png", "04.png"]


@pytest.fixture(scope="module")
def both(stores: Stores) -> Iterator[tuple[TestClient, Service]]:
    with asked(stores.two) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(both: tuple[TestClient, Service]) -> TestClient:
    return both[0]


@pytest.fixture(scope="module")
def index(stores: Stores) -> Iterator[lamella.Index]:
    with lamella.open(stores.two) as opened:
        yield opened


def check(answers: dict[str, Any], found: lamella.Result) -> None:
    """Check that answers in JSON are what the index gave."""
    Answers.model_validate(answers)
    assert len(answers["answers"]) == len(found)
    for place, answer in enumerate(answers["answers"]):
        hits = answer["results"]
        here = found.ids[place] >= 0
        assert [int(hit["image_id"]) for hit in hits] == found.ids[place][here].tolist()
        assert [hit["name"] for hit in hits] == found.names[place][here].tolist()
        assert [hit["score"] for hit in hits] == found.scores[place][here].tolist()
        assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
        for layer, values in found.similarities.items():
            assert [hit["similarities"][layer] for hit in hits] == values[place][here].tolist()
        for hit in hits:
            # F is the sum from the high to the low layer, in this order.
            total = 0.0
            for part in hit["parts"].values():
                total += part
            assert total == hit["score"]
        assert answer["certified"] == bool(found.certified[place])


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"k": 2, "layers": ["head"]},
        {"k": 3, "t": [0.5], "p": [0.2], "w": [1.5, 1.0]},
        {"k": 4, "mode": "candidates"},
        {"k": 3, "expand": 2},
        {"k": 2, "exclude_self": True},
        {"k": 5, "above": 1.2},
    ],
)
def test_json_has_the_numbers_of_the_index(
    client: TestClient, index: lamella.Index, settings: dict[str, Any]
) -> None:
    response = client.post("/query", json={"names": NAMES, **settings})
    assert response.status_code == 200, response.text
    found = index.query(names=NAMES, **settings)
    check(response.json(), found)
    said = [
        (each["layer"], each["t"], each["p"], each["weight"]) for each in response.json()["fusion"]
    ]
    assert said == [(each.layer, each.t, each.p, each.weight) for each in found.fusion.layers]


def test_ids_are_texts_and_may_be_asked_as_numbers_or_texts(
    client: TestClient, index: lamella.Index
) -> None:
    ids = index.images().filter(index.images()["indexed"])["image_id"].to_pylist()[:2]
    found = index.query(ids=ids)
    for given in (ids, [str(each) for each in ids]):
        answers = client.post("/query", json={"ids": given}).json()
        check(answers, found)
        assert [each["image_id"] for each in answers["answers"]] == [str(each) for each in ids]
    one = client.post("/query", json={"ids": ids[0]}).json()
    assert one["answers"] == [client.post("/query", json={"ids": ids}).json()["answers"][0]]


def test_a_form_of_pictures_is_a_batch(
    client: TestClient, index: lamella.Index, stores: Stores
) -> None:
    data = [(stores.pictures / name).read_bytes() for name in NAMES]
    files = [("pictures", (name, each)) for name, each in zip(NAMES, data, strict=True)]
    form = {"k": "3", "layers": "p15,head", "t": "0.3"}
    response = client.post("/query", files=files, data=form)
    assert response.status_code == 200, response.text
    check(response.json(), index.query(data, k=3, layers=["p15", "head"], t=0.3))
    assert [each["query"] for each in response.json()["answers"]] == NAMES
    assert {each["image_id"] for each in response.json()["answers"]} == {None}


def test_a_picture_that_cannot_be_read_is_refused_and_the_others_are_answered(
    client: TestClient, index: lamella.Index, stores: Stores
) -> None:
    good = (stores.pictures / "00.png").read_bytes()
    files = [("p", ("no.txt", b"no picture")), ("p", ("00.png", good)), ("p", ("0", good[:-40]))]
    answers = client.post("/query", files=files).json()["answers"]
    assert [each["refused"] and each["refused"]["reason"] for each in answers] == [
        "not-an-image",
        None,
        "truncated",
    ]
    assert answers[0]["refused"]["meaning"] == "the content is in no known picture format"
    assert answers[0]["results"] == []
    assert not answers[0]["certified"]
    assert answers[1]["results"][0]["score"] == index.query(good).scores[0, 0]


@pytest.mark.parametrize("how", ["field", "header"])
def test_arrow_has_the_rows_of_the_index(
    client: TestClient, index: lamella.Index, how: str
) -> None:
    body: dict[str, Any] = {"names": NAMES, "k": 3}
    headers = {"Accept": ARROW} if how == "header" else {}
    if how == "field":
        body["format"] = "arrow"
    response = client.post("/query", json=body, headers=headers)
    assert response.headers["content-type"] == ARROW
    table = pa.ipc.open_stream(response.content).read_all()
    found = index.query(names=NAMES, k=3).to_arrow()
    assert table.drop_columns("query").equals(found.drop_columns("query"))
    assert table["query"].to_pylist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    rest = json.loads(table.schema.metadata[b"lamella"])
    assert rest["snapshot"] == 2
    assert [each["query"] for each in rest["answers"]] == NAMES


def test_requests_at_once_have_the_answers_of_requests_one_by_one(
    both: tuple[TestClient, Service], stores: Stores
) -> None:
    """What is answered together, indexed or not, and one wrong request among them."""
    client, service = both
    data = (stores.pictures / "01.png").read_bytes()

    def ask(number: int) -> Any:
        if number % 4 == 3:
            return client.post("/query", json={"names": ["nobody.png"]})
        if number % 4 == 2:
            return client.post("/query", files={"p": ("x.png", data)}, data={"k": "2"})
        return client.post("/query", json={"names": [NAMES[number % 3]], "k": 2 + number % 2})

    alone = [ask(number).json() for number in range(12)]
    with service.following.current.index._lock:  # until all of them wait
        waiting: list[Any] = []
        thread = threading.Thread(target=lambda: waiting.extend(in_threads(12, ask)))
        thread.start()
        while len(service.turns) < 8:
            assert thread.is_alive()
    thread.join()
    assert [each.json() for each in waiting] == alone
    assert {each.status_code for each in waiting[3::4]} == {400}
    together = meters.histograms(meters.QUERIES_TOGETHER)[()]
    assert sum(together.counts[1:]) > 0  # more than one in a call


def test_what_is_served_is_told(client: TestClient, index: lamella.Index) -> None:
    facts = client.get("/index").json()
    assert facts["snapshot"] == 2
    assert facts["root_digest"] == index.snapshot.root_digest
    assert (facts["images"], facts["indexed"], facts["refused"]) == (6, 5, 1)
    assert [each["name"] for each in facts["layers"]] == list(index.layers)
    assert facts["uploads"] is True
    assert client.get("/folders").json() == []  # all names are without one
    health = client.get("/healthz").json()
    assert health == {
        "status": "ok",
        "snapshot": 2,
        "waiting": 0,
        "follows": True,
        "problem": "",
    }


def test_pictures_are_had_by_their_id(
    client: TestClient, index: lamella.Index, stores: Stores
) -> None:
    drawn = client.get("/random").json()
    assert drawn["name"] in index.images()["name"].to_pylist()
    whole = client.get(f"/pictures/{drawn['image_id']}")
    assert whole.content == (stores.pictures / drawn["name"]).read_bytes()
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert drawn["name"] in whole.headers["content-disposition"]
    small = client.get(f"/pictures/{drawn['image_id']}/thumbnail?size=16")
    assert small.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(small.content)).size == (16, 16)
    again = client.get(
        f"/pictures/{drawn['image_id']}/thumbnail?size=16",
        headers={"If-None-Match": small.headers["etag"]},
    )
    assert (again.status_code, again.content) == (304, b"")


def test_an_explanation_is_that_of_the_index(
    client: TestClient, index: lamella.Index, stores: Stores
) -> None:
    found = index.explain("00.png", "01.png", t=0.3)
    said = client.get("/explain?query=00.png&result=01.png&t=0.3").json()
    assert said["score"] == found.score
    assert said["rank"] == found.rank
    assert len(said["matches"]) == len(found.matches)
    assert [each["similarity"] for each in said["layers"]] == [
        each.similarity for each in found.layers
    ]
    assert int(said["result"]["image_id"]) == found.result.image_id
    data = png()
    uploaded = client.post(
        "/explain", files={"p": ("mine.png", data)}, data={"result": said["result"]["image_id"]}
    ).json()
    assert uploaded["query"]["name"] == "mine.png"
    assert uploaded["score"] == index.explain(data, "01.png").score


def test_metrics_count_requests_by_route_and_status(client: TestClient) -> None:
    before = meters.values(meters.REQUESTS)
    client.get("/index")
    client.get("/pictures/1/thumbnail")
    client.get("/nowhere/at/all")
    after = meters.values(meters.REQUESTS)
    new = {key: count - before.get(key, 0) for key, count in after.items()}
    assert {key for key, count in new.items() if count} == {
        ("/index", "200"),
        ("/pictures/{image_id}/thumbnail", "404"),
        ("other", "404"),
    }
    page = client.get("/metrics").text
    assert 'lamella_requests_total{code="200",route="/index"}' in page
    assert "lamella_request_seconds_bucket" in page


def test_the_api_tells_of_every_field_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    said = client.get("/openapi.json").json()
    bodies = said["paths"]["/query"]["post"]["requestBody"]["content"]
    fields = [each for body in bodies.values() for each in body["schema"]["properties"].values()]
    assert fields
    assert all(each.get("description") for each in fields)
    page = client.get("/docs").text
    for path in said["paths"]:
        assert path in page
    assert "src=" not in page
    assert 'href="http' not in page


def test_a_filter_is_passed_on(client: TestClient, index: lamella.Index) -> None:
    where = 'startswith(name, "02")'
    answers = client.post("/query", json={"names": NAMES[:1], "where": where}).json()
    assert [hit["name"] for hit in answers["answers"][0]["results"]] == ["02.png"]


def test_without_a_filter_none_is_passed_on(
    both: tuple[TestClient, Service], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, service = both
    passed: list[dict[str, Any]] = []
    real = service.following.current.index.query

    def query(*given: Any, **named: Any) -> Any:
        passed.append(named)
        return real(*given, **{name: each for name, each in named.items() if name != "where"})

    monkeypatch.setattr(service.following.current.index, "query", query)
    client.post("/query", json={"names": NAMES[:1]})
    client.post("/query", json={"names": NAMES[:1], "where": "width > 3"})
    assert ["where" in each for each in passed] == [False, True]
    assert passed[1]["where"] == "width > 3"


def test_a_store_whose_pictures_are_gone_is_asked_all_the_same(
    stores: Stores, tmp_path: Path
) -> None:
    pictures = shutil.copytree(stores.pictures, tmp_path / "pictures")
    tiny_index(tmp_path / "store", pictures)
    shutil.rmtree(pictures)
    with asked(tmp_path / "store") as (client, _):
        answers = client.post("/query", json={"names": ["00.png"]}).json()
        image_id = answers["answers"][0]["results"][0]["image_id"]
        assert np.isclose(answers["answers"][0]["results"][0]["score"], 2.0)
        for path in (f"/pictures/{image_id}", f"/pictures/{image_id}/thumbnail"):
            assert "cannot be shown" in error_of(client.get(path), 410, "picture-gone")
        said = client.get("/explain?query=00.png&result=01.png").json()
        assert said["result"]["note"]
