"""Fit a model, and write it as ONNX with its digest, for `app.py`.

Run from the root of the repository::

    python examples/service/make_model.py model.onnx
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from tempfile import NamedTemporaryFile

from sklearn.datasets import load_breast_cancer

from skae import AutoencoderTransformer
from skae.export import to_onnx


def write_whole(content: bytes, path: Path) -> None:
    """Write to a temporary file, then rename it: the path holds the old file or the new one."""
    with NamedTemporaryFile(dir=path.absolute().parent, delete=False) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def main(path: Path) -> None:
    X, _ = load_breast_cancer(return_X_y=True)
    autoencoder = AutoencoderTransformer(n_components=2, random_state=0).fit(X)
    content = to_onnx(autoencoder).SerializeToString()
    write_whole(content, path)
    digest = hashlib.sha256(content).hexdigest()
    write_whole(f"{digest}  {path.name}\n".encode(), path.with_name(f"{path.name}.sha256"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
