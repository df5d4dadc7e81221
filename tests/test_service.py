"""The example of a service answers as skae does, refuses bad requests, and stands a load."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("fastapi")
pytest.importorskip("httpx")  # for the client of the tests

from fastapi.testclient import TestClient
from sklearn.datasets import load_breast_cancer

from skae import AutoencoderTransformer

FOLDER = Path(__file__).parents[1] / "examples" / "service"


@pytest.fixture(scope="module")
def scripts():
    """The scripts as modules."""
    sys.path.insert(0, str(FOLDER))
    import app
    import load
    import make_model

    yield {"app": app, "load": load, "make_model": make_model}
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def model(scripts, tmp_path_factory):
    """Path of the model that `make_model.py` writes."""
    path = tmp_path_factory.mktemp("service") / "model.onnx"
    scripts["make_model"].main(path)
    return path


@pytest.fixture(scope="module")
def client(scripts, model):
    return TestClient(scripts["app"].make_app(model))


def test_it_answers_as_skae_does(client):
    X, _ = load_breast_cancer(return_X_y=True)
    Z = AutoencoderTransformer(n_components=2, random_state=0).fit(X).transform(X[:5])
    answer = client.post("/transform", json={"rows": X[:5].tolist()})
    assert answer.status_code == 200
    assert np.abs(np.array(answer.json()["codes"]) - Z).max() < 1e-5 * np.abs(Z).max()
    assert client.get("/health").json() == {"n_features": 30, "n_components": 2}


REFUSED = {
    '{"rows": [[1, 2]]}': "row 0 has 2 values; the model has 30 features",
    '{"rows": []}': "rows",
    '{"rows": [[NaN%s]]}' % (", 1" * 29): "value 0 of row 0 is no finite number",
    '{"rows": [[1%s, 1e999]]}' % (", 1" * 28): "value 29 of row 0 is no finite number",
    '{"rows": [["a"]]}': "number",
    '{"X": [[NaN]]}': "body.rows",
    "rows": "JSON",
    '{"rows": [[' + ", ".join(["1e300"] * 30) + "]]}": "finite number of float32",
    '{"rows": [' + ", ".join(["[1]"] * 1001) + "]}": "1000",
}


@pytest.mark.parametrize("body", REFUSED, ids=lambda body: body[:20])
def test_bad_requests_are_refused(client, body):
    answer = client.post("/transform", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert REFUSED[body] in answer.text


def test_a_damaged_model_is_refused(scripts, model, tmp_path):
    content = model.read_bytes()
    (tmp_path / "model.onnx.sha256").write_bytes(Path(f"{model}.sha256").read_bytes())
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (bytes(flipped), content[:-1], b""):
        (tmp_path / "model.onnx").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.onnx is damaged: its SHA-256"):
            scripts["app"].load_model(tmp_path / "model.onnx")


def test_the_service_needs_neither_skae_nor_torch(model):
    code = (
        "import sys; from pathlib import Path; from app import make_app; "
        "make_app(Path(sys.argv[1])); assert not {'skae', 'torch'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code, str(model)], cwd=FOLDER, check=True)


@pytest.fixture
def port(scripts, model):
    """Port of a running service."""
    uvicorn = pytest.importorskip("uvicorn")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = scripts["app"].make_app(model)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    for _ in range(500):
        if server.started:
            break
        time.sleep(0.01)
    yield port
    server.should_exit = True
    thread.join(10)


@pytest.mark.parametrize("rate", [0, 50])
def test_a_load_is_measured(scripts, port, rate):
    found = scripts["load"].run("127.0.0.1", port, 1.0, rate, n_connections=2, n_rows=3)
    assert found["requests"] > 10
    assert 0 < found["p50, ms"] <= found["p99, ms"] <= found["longest, ms"]
    if rate:
        assert found["requests"] <= 2 * rate


def test_the_digest_is_that_of_sha256sum(model):
    digest, name = Path(f"{model}.sha256").read_text().split("  ")
    assert digest == hashlib.sha256(model.read_bytes()).hexdigest()
    assert name == "model.onnx\n"
