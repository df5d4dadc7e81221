"""The autoencoder of meshes, which starts at PCA."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from sklearn.utils._param_validation import StrOptions
from torch import nn

from skae._data.frames import wrap_in_frame
from skae._data.input_checks import as_numpy
from skae._data.meshes import (
    align,
    check_mesh,
    edge_lengths,
    mean_shape,
    undo_alignment,
)
from skae._data.parameter_checks import Interval
from skae._data.partitions import by_partition
from skae._estimators.arrays import ArrayAutoencoder
from skae._estimators.denoising import DenoisingAutoencoder
from skae._estimators.docstrings import inherit_entries
from skae._training.gradients import AutogradGradient
from skae.networks.dense import Autoencoder
from skae.networks.mesh import MeshDecoder, MeshEncoder, MeshGraph, cluster_mesh
from skae.noise import NOISES

COORDINATES = 2, 3  # numbers of values of a vertex that are its position
MOST_FUNCTIONS = 192  # local functions of all clusters, for "auto"


@inherit_entries(DenoisingAutoencoder)
class MeshAutoencoder(ArrayAutoencoder):
    """Autoencoder of registered meshes: graph convolutions correct PCA, at which training starts.

    The code of a mesh x is ``z = V (x - mean) + f(x)`` and its reconstruction
    ``mean + Vᵀ z + g(z)``, as in `AutoencoderTransformer`. g convolves the graph of some clusters
    of vertices by Chebyshev polynomials [1]_ and blends the affine maps of neighbouring clusters
    [2]_; f projects meshes on these maps, and both have linear layers beside the code. Training
    starts at PCA, and keeps the weights that reconstruct the validation meshes best; PCA is one of
    the candidates.

    All meshes have the same vertices in the same order, with three coordinates or any other number
    of values each. X holds arrays of shape (n_samples, n_vertices, 3), or rows with one vertex
    after the other.

    Parameters
    ----------
    n_components
    faces : array-like of int of shape (n_faces, 3), default=None
        Vertices of each triangle, for meshes with three coordinates a vertex. Either `faces` or
        `edges` must be given.
    edges : sparse matrix of shape (n_vertices, n_vertices), "path" or None, default=None
        Symmetric matrix with an entry that is not zero for each edge, for polygons and other
        graphs. A vertex may have any number of values. "path" is a graph of vertices in a row, one
        for each column of X. Several connected parts are admitted, each has a cluster at
        least; vertices without neighbours are not.
    align : bool, default=False
        Rotate and shift each mesh to the mean shape, by generalised Procrustes analysis without
        scaling [3]_. Codes and errors then do not depend on the poses of meshes. `reconstruct`
        returns meshes in the poses in which they came, `inverse_transform`, `sample` and
        `interpolate` in that of the mean shape. All rows count equally in the mean shape.
    n_clusters : int or "auto", default="auto"
        Clusters of vertices. Many clusters show more detail, and take more time. "auto" is as many
        as have half as many functions as there are vertices, and at most 192; a cluster has four
        functions if vertices have three coordinates, else one.
    n_channels : int, default=32
        Channels of the convolutions.
    order : int, default=3
        Chebyshev polynomials of each convolution: a cluster sees those at most ``order - 1`` edges
        away.
    n_blocks : int, default=1
        Residual blocks of graph convolutions in the decoder. The encoder has none, where they gain
        less than they cost.
    hidden_layer_sizes : "auto", int or sequence of int, default="auto"
        Widths of linear layers between the clusters and the code, in the encoder; the decoder has
        the same layers in reverse order. "auto" is one of 128.
    activation
    noise : {"swap", "masking", "gaussian", "salt_pepper"}, nn.Module or None, default=None
        Corruption of the training meshes, as in `DenoisingAutoencoder`. None corrupts nothing.
    noise_level
    emphasis
    *

    Attributes
    ----------
    mesh_shape_ : tuple of int
        (n_vertices, n_values).
    mean_shape_ : ndarray of shape (n_vertices, n_values)
        Only if `align`: the shape to which meshes are aligned.
    *

    See Also
    --------
    AutoencoderTransformer : The same with multilayer perceptrons.
    skae.displays.MeshDisplay : Figures of meshes.

    References
    ----------
    .. [1] Ranjan, Bolkart, Sanyal and Black (2018). Generating 3D faces using convolutional mesh
       autoencoders. ECCV. https://doi.org/10.1007/978-3-030-01219-9_43
    .. [2] Sumner, Schmid and Pauly (2007). Embedded deformation for shape manipulation. ACM
       Transactions on Graphics 26. https://doi.org/10.1145/1276377.1276478
    .. [3] Gower (1975). Generalized Procrustes analysis. Psychometrika 40.
       https://doi.org/10.1007/BF02291478

    Examples
    --------
    >>> import numpy as np
    >>> from skae import MeshAutoencoder
    >>> corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    >>> faces = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]
    >>> X = corners * np.random.default_rng(0).uniform(1, 2, size=(50, 4, 1))
    >>> autoencoder = MeshAutoencoder(2, faces=faces, max_epochs=3, random_state=0).fit(X)
    >>> autoencoder.transform(X).shape
    (50, 2)
    >>> autoencoder.reconstruct(X).shape
    (50, 4, 3)
    """

    __module__ = "skae"  # the public path, which pickles name

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ArrayAutoencoder._parameter_constraints,
        "faces": ["array-like", None],
        "edges": ["sparse matrix", "array-like", StrOptions({"path"}), None],
        "align": ["boolean"],
        "n_clusters": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
        "order": [Interval(Integral, 1, None, closed="left")],
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "noise": [StrOptions(set(NOISES)), nn.Module, None],
    }

    mesh_shape_: tuple[int, int]
    mean_shape_: np.ndarray
    _arrays: ClassVar[str] = "meshes"

    def __init__(
        self,
        n_components: int | float | None = 2,
        *,
        faces: Any = None,
        edges: Any = None,
        align: bool = False,
        n_clusters: int | Literal["auto"] = "auto",
        n_channels: int = 32,
        order: int = 3,
        n_blocks: int = 1,
        hidden_layer_sizes: Sequence[int] | int | Literal["auto"] = "auto",
        activation: str | Callable[[], nn.Module] = "relu",
        noise: str | nn.Module | None = None,
        noise_level: float = 0.15,
        emphasis: float = 1.0,
        anchor: Literal["pca"] | None = "pca",
        loss: str = "squared_error",
        target_weight: float = 0.0,
        stochastic_depth: float | Literal["auto"] = "auto",
        whiten: bool = False,
        latent_density: Any = "auto",
        optimizer: str | Callable[..., torch.optim.Optimizer] = "adamw",
        lr: float = 5e-3,
        lr_schedule: Literal["one_cycle", "constant"] = "one_cycle",
        weight_decay: float = 0.05,
        batch_size: int | Literal["auto"] = "auto",
        max_epochs: int | Literal["auto"] = "auto",
        early_stopping: bool = True,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        tol: float = 1e-4,
        callbacks: Sequence[Any] | None = None,
        device: str = "cpu",
        random_state: int | np.random.RandomState | None = None,
        warm_start: bool = False,
        verbose: int = 0,
    ):
        super().__init__(
            n_components,
            noise=noise,  # type: ignore[arg-type]
            noise_level=noise_level,
            emphasis=emphasis,
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            anchor=anchor,
            loss=loss,
            target_weight=target_weight,
            stochastic_depth=stochastic_depth,
            whiten=whiten,
            latent_density=latent_density,
            optimizer=optimizer,
            lr=lr,
            lr_schedule=lr_schedule,
            weight_decay=weight_decay,
            batch_size=batch_size,
            max_epochs=max_epochs,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            tol=tol,
            callbacks=callbacks,
            device=device,
            random_state=random_state,
            warm_start=warm_start,
            verbose=verbose,
        )
        del self.network  # a class attribute: the network is this kind's own
        self.faces = faces
        self.edges = edges
        self.align = align
        self.n_clusters = n_clusters
        self.n_channels = n_channels
        self.order = order
        self.n_blocks = n_blocks

    def reconstruct(self, X: Any) -> np.ndarray:
        """Encode and decode meshes.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, n_vertices, n_values)

        Returns
        -------
        X_reconstructed : ndarray of shape (n_samples, n_features) or (n_samples, n_vertices, \
n_values), dtype of X
            Rows if the estimator was fitted to rows, else meshes; with `align` in the poses of X.
        """
        return self._reconstruct_in_poses(X) if self.align else super().reconstruct(X)

    # -- meshes in and out ---------------------------------------------------------

    @by_partition
    @wrap_in_frame
    def _reconstruct_in_poses(self, X: Any) -> np.ndarray:
        """Encode and decode aligned meshes, and bring them back to the poses of X."""
        given = as_numpy(super()._check_rows(X))
        shape = len(given), *self.mesh_shape_
        restored = np.asarray(super().reconstruct(X)).reshape(shape)
        back = undo_alignment(restored, given.reshape(shape), self.mean_shape_)
        return back.reshape(given.shape)

    def _check_rows(self, X: Any, *, reset: bool = False) -> Any:
        rows = super()._check_rows(X, reset=reset)
        if not self.align:
            return rows
        meshes = as_numpy(rows).reshape(-1, *self.mesh_shape_)
        if reset and not (self.warm_start and hasattr(self, "net_")):
            self.mean_shape_ = mean_shape(meshes)
        return align(meshes, self.mean_shape_).reshape(rows.shape)

    def _n_features_of(self, shape: tuple[int, ...], *, reset: bool) -> int:
        if len(shape) != 2:
            raise ValueError(
                f"X has arrays of {len(shape)} axes; pass meshes of shape (n_samples, n_vertices, "
                "n_values), or rows."
            )
        if not reset and hasattr(self, "mesh_shape_") and shape != self.mesh_shape_:
            raise ValueError(
                f"X has meshes of shape {shape}, but {type(self).__name__} was fitted to meshes of "
                f"shape {self.mesh_shape_}; pass meshes with the same vertices."
            )
        return math.prod(shape)

    def _set_shape(self, n_features: int, shape: tuple[int, ...] | None) -> None:
        n_vertices = check_mesh(self.faces, self.edges, n_features, shape).shape[0]
        self.mesh_shape_ = n_vertices, n_features // n_vertices
        if self.align and self.mesh_shape_[1] not in COORDINATES:
            raise ValueError(
                f"align=True needs two or three coordinates a vertex, but X has "
                f"{self.mesh_shape_[1]} values; set align=False."
            )

    # -- network and training ------------------------------------------------------

    def _make_codec(self, seed: int, n_parts: int = 1) -> Any:
        graph, hidden = self._cluster(), self._resolve_hidden_layer_sizes()
        options: dict[str, Any] = {
            "n_channels": self.n_channels,
            "order": self.order,
            "activation": self.activation,
            "zero_last": self._starts_at_pca(),
            "generator": torch.Generator().manual_seed(seed),
        }
        k, n_blocks = self.n_components_, self.n_blocks
        encoder = MeshEncoder(graph, n_parts * k, n_blocks=0, hidden_layer_sizes=hidden, **options)
        options["hidden_layer_sizes"] = hidden[::-1]
        return Autoencoder(encoder, MeshDecoder(graph, k, n_blocks=n_blocks, **options))

    def _cluster(self) -> MeshGraph:
        """Clusters of the mean mesh."""
        n_values, points = self.mesh_shape_[1], None
        graph = check_mesh(self.faces, self.edges, math.prod(self.mesh_shape_))
        if n_values in COORDINATES:
            points = self.mean_.reshape(self.mesh_shape_)
            graph = edge_lengths(graph, points)
        return cluster_mesh(graph, self._resolve_n_clusters(), n_values, points)

    def _resolve_n_clusters(self) -> int:
        if not isinstance(self.n_clusters, str):
            return self.n_clusters
        n_vertices, n_values = self.mesh_shape_
        n_functions = 1 + n_values if n_values in COORDINATES else 1
        return max(1, min(MOST_FUNCTIONS, n_vertices // 2) // n_functions)

    def _make_gradient(self) -> Any:
        depth = self._resolve_stochastic_depth(streams=False)
        return partial(AutogradGradient, stochastic_depth=depth)

    def _as_module(self, method: str, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        if self.align and method != "inverse_transform":
            raise TypeError(
                f"{method} with align=True cannot be exported, because no operator finds poses; "
                "export 'inverse_transform', or fit aligned meshes with align=False."
            )
        return super()._as_module(method, dtype)
