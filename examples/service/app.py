"""Codes of rows over HTTP, from an ONNX model: needs neither skae nor torch.

Run from the root of the repository::

    pip install fastapi uvicorn onnxruntime
    python examples/service/make_model.py model.onnx
    MODEL=model.onnx uvicorn --app-dir examples/service app:app --no-access-log

`POST /transform` takes ``{"rows": [[…], …]}`` and answers ``{"codes": [[…], …]}``. Rows of a
wrong length, with NaN or with infinity are refused with status 422. `GET /health` tells the shape
of the model.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnxruntime
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

MAX_ROWS = 1000  # of one request


class Rows(BaseModel):
    rows: list[list[float]] = Field(min_length=1, max_length=MAX_ROWS)


class Codes(BaseModel):
    codes: list[list[float]]


def load_model(path: Path) -> onnxruntime.InferenceSession:
    """Model of a file that is as it was written."""
    content = path.read_bytes()
    expected = path.with_name(f"{path.name}.sha256").read_text().split()[0]
    if hashlib.sha256(content).hexdigest() != expected:
        raise ValueError(f"{path} is damaged: its SHA-256 is not the one in {path.name}.sha256.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # small networks gain nothing from more; use more workers
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def rows_of(body: Rows, n_features: int) -> np.ndarray:
    """Rows as the model takes them."""
    for i, row in enumerate(body.rows):
        if len(row) != n_features:
            detail = f"row {i} has {len(row)} values; the model has {n_features} features."
            raise HTTPException(422, detail)
    with np.errstate(over="ignore"):
        X = np.array(body.rows, dtype=np.float32)
    if not np.isfinite(X).all():
        (i, j), *_ = np.argwhere(~np.isfinite(X)).tolist()
        raise HTTPException(422, f"value {j} of row {i} is no finite number of float32.")
    return X


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Say what is wrong with a request, without its values: NaN is no JSON."""
    assert isinstance(error, RequestValidationError)
    parts = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return JSONResponse({"detail": "; ".join(parts[:5])}, 422)


def make_app(path: Path) -> FastAPI:
    """Service of one model."""
    session, app = load_model(path), FastAPI(title="Codes of an autoencoder")
    app.add_exception_handler(RequestValidationError, refuse)
    n_features = session.get_inputs()[0].shape[1]
    n_components = session.get_outputs()[0].shape[1]

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"n_features": n_features, "n_components": n_components}

    @app.post("/transform")
    async def transform(body: Rows) -> Codes:  # takes microseconds, so no thread is needed
        X = rows_of(body, n_features)
        (codes,) = session.run(None, {"X": X})
        return Codes(codes=codes.tolist())

    return app


if "MODEL" in os.environ:
    app = make_app(Path(os.environ["MODEL"]))
