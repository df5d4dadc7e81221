"""Targets of unlabelled rows, averaged over neighbours in the space of codes."""

from __future__ import annotations

import math

import numpy as np
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

METRICS = "euclidean", "cosine"  # of neighbours; the latter of whitened codes
FLAT = 1e-6  # standard deviation against the largest, below which there is nothing to whiten
NARROWNESS = 4.0  # of the weights: those of the farthest neighbour are exp(-4)
MAX_STEPS, NEGLIGIBLE = 50, 0.05  # steps of spreading; share of what later ones would add


def neighbor_graph(codes: np.ndarray, n_neighbors: int) -> sparse.csr_matrix:
    """Symmetric, normalised weights between codes and their nearest neighbours.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_components)
    n_neighbors : int

    Returns
    -------
    csr_matrix of shape (n_rows, n_rows), float32
        Weights fall with the square of the distance over that of the last neighbour.
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
    """Whitened codes, each divided by its norm: their distances are those of cosines.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_components)

    Returns
    -------
    ndarray of shape (n_rows, n_components or fewer)
        Without directions in which codes do not vary.
    """
    with np.errstate(invalid="ignore"):  # shares of no variance
        pca = PCA().fit(codes)
    deviations = np.sqrt(pca.explained_variance_)
    varied = deviations > FLAT * deviations[0]
    if not varied.any():
        return np.zeros((len(codes), 1))
    return normalize(pca.transform(codes)[:, varied] / deviations[varied])


def neighbor_graphs(codes: np.ndarray, n_neighbors: int) -> dict[str, sparse.csr_matrix]:
    """Graphs of neighbours, by metric.

    Parameters
    ----------
    codes : ndarray of shape (n_rows, n_components)
    n_neighbors : int

    Returns
    -------
    dict of csr_matrix of shape (n_rows, n_rows)
    """
    places = codes, directions(codes)
    return {
        metric: neighbor_graph(place, n_neighbors)
        for metric, place in zip(METRICS, places, strict=True)
    }


def propagate(
    graph: sparse.csr_matrix, targets: np.ndarray, confidences: np.ndarray, alpha: float
) -> np.ndarray:
    """Mean of the targets around each row, by closeness in a graph and certainty.

    Parameters
    ----------
    graph : csr_matrix of shape (n_rows, n_rows)
        As `neighbor_graph` returns it.
    targets : ndarray of shape (n_rows, n_targets)
    confidences : ndarray of shape (n_rows,)
        Weight of each row's own target.
    alpha : float
        In (0, 1): share that each step takes from neighbours.

    Returns
    -------
    ndarray of shape (n_rows, n_targets), float64

    References
    ----------
    Zhou et al. (2004). Learning with local and global consistency. NIPS 16. Predictions are
    smoothed with known targets held, as in Huang et al. (2021). Combining label propagation
    and simple models out-performs graph neural networks. https://arxiv.org/abs/2010.13993
    """
    own = np.column_stack([targets, np.ones(len(targets))]) * confidences[:, None]
    own = own.astype(np.float32)
    total = own
    n_steps = min(MAX_STEPS, math.ceil(math.log(NEGLIGIBLE) / math.log(alpha)))
    for _ in range(n_steps):
        total = alpha * (graph @ total) + (1 - alpha) * own
    return total[:, :-1].astype(float) / total[:, -1:]
