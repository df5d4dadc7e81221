"""Label propagation: targets of unlabelled rows from neighbours in the latent space."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from skae._data.pca import fitted_pca

METRICS = "euclidean", "cosine"  # between codes; between whitened codes
FLAT = 1e-6  # standard deviation, over the largest, below which codes do not vary
NARROWNESS = 4.0  # the farthest neighbour has the weight exp(-4)
MAX_STEPS = 50  # of propagation
NEGLIGIBLE = 0.05  # steps end earlier if further ones add less than this share


def neighbor_graph(codes: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """Symmetric, normalised weights (n_rows, n_rows) between codes and their neighbours, float32.

    A weight is a Gaussian function of the distance divided by that of the farthest neighbour.
    """
    n_neighbors = min(n_neighbors, len(codes) - 1)
    found = NearestNeighbors(n_neighbors=n_neighbors).fit(codes)
    weights = found.kneighbors_graph(mode="distance").astype(np.float32)
    farthest = np.maximum.reduceat(weights.data, weights.indptr[:-1])
    farthest = np.repeat(np.maximum(farthest, np.finfo(np.float32).tiny), n_neighbors)
    weights.data = np.exp(-NARROWNESS * np.square(weights.data / farthest))
    weights = weights + weights.T
    degrees = np.asarray(weights.sum(axis=0)).ravel()
    roots = sparse.diags(1 / np.sqrt(degrees))
    return (roots @ weights @ roots).tocsr().astype(np.float32)


def directions(codes: np.ndarray) -> np.ndarray:
    """Whitened codes, each divided by its norm, so that distances depend on cosines.

    Directions in which codes do not vary are dropped.
    """
    pca = fitted_pca(codes, svd_solver="auto")
    deviations = np.sqrt(pca.explained_variance_)
    varied = deviations > FLAT * deviations[0]
    if not varied.any():
        return np.zeros((len(codes), 1))
    return normalize(pca.transform(codes)[:, varied] / deviations[varied])


def neighbor_graphs(codes: np.ndarray, n_neighbors: int) -> dict[str, sparse.csr_matrix]:
    """Neighbour graphs of codes, by metric."""
    points = codes, directions(codes)
    return {
        metric: neighbor_graph(codes_of_metric, n_neighbors)
        for metric, codes_of_metric in zip(METRICS, points, strict=True)
    }


def propagate(
    graph: sparse.csr_matrix, targets: np.ndarray, confidences: np.ndarray, alpha: float
) -> np.ndarray:
    """Propagate targets (n_rows, n_targets) over a graph; return weighted means, float64.

    `confidences` (n_rows,) are the weights of each row's own target. Each step takes the share
    `alpha`, in (0, 1), from neighbours.

    References: Zhou et al. (2004). Learning with local and global consistency. NIPS 16. Huang et
    al. (2021). Combining label propagation and simple models out-performs graph neural networks.
    https://arxiv.org/abs/2010.13993
    """
    own = np.column_stack([targets, np.ones(len(targets))]) * confidences[:, None]
    own = own.astype(np.float32)
    total = own
    n_steps = min(MAX_STEPS, math.ceil(math.log(NEGLIGIBLE) / math.log(alpha)))
    for _ in range(n_steps):
        total = alpha * (graph @ total) + (1 - alpha) * own
    return total[:, :-1].astype(float) / total[:, -1:]
