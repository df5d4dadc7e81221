"""Display of meshes beside their reconstructions, and of a walk along a component."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, Literal, Self

import numpy as np
from scipy import sparse

from skae.displays import _plotting as plotting
from skae.displays._plotting import BLUE, Keywords

OUTER_QUANTILES = 0.02, 0.98  # of the codes, between which a walk leads
NEAR = 0.05  # share of the codes near a step of a walk
PANEL = 2.2  # inches
HALF = 0.46  # of the largest extent of the meshes, in panels
LIGHT = np.array([-0.5, 0.6, 0.8])  # from the left, from above, from the viewer
DARKEST = 0.3  # share of the light on faces that are turned away from it
GLOSS = 0.6  # share of white on faces that are turned to it
VIEW = 20.0, -60.0  # degrees


@dataclass(eq=False, repr=False, kw_only=True)
class MeshDisplay:
    """Meshes in three dimensions: rows and reconstructions, or a walk along a component.

    All meshes have the same scale and view, without perspective.

    Parameters
    ----------
    meshes : array-like of shape (n_lines, n_columns, n_vertices, 3)
        A line is drawn beside the other.
    faces : array-like of int of shape (n_faces, 3), default=None
        Triangles. Either they or `edges` are needed.
    edges : sparse matrix of shape (n_vertices, n_vertices), default=None
        Its entries that are not zero are drawn as lines.
    style : {"shaded", "wireframe"}, default="shaded"
        Faces, or their edges. Without faces, edges are drawn.
    view : tuple of float, default=(20, -60)
        Elevation and azimuth in degrees.
    line_labels, column_labels : sequence of str, default=()
        Titles on the left and on top.

    Attributes
    ----------
    meshes_ : ndarray of matplotlib collections, of shape (n_lines, n_columns)
        PolyCollection of the faces, those behind first, or LineCollection of the edges.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> import numpy as np
    >>> from skae import MeshAutoencoder
    >>> from skae.displays import MeshDisplay
    >>> corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    >>> faces = [[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]]
    >>> X = corners * np.random.default_rng(0).uniform(1, 2, size=(50, 4, 1))
    >>> autoencoder = MeshAutoencoder(2, faces=faces, max_epochs=3, random_state=0).fit(X)
    >>> MeshDisplay.from_estimator(autoencoder, X, n_rows=3).meshes_.shape
    (2, 3)
    >>> MeshDisplay.from_estimator(autoencoder, X, component=0, n_steps=5).meshes_.shape
    (1, 5)
    """

    __module__ = "skae.displays"

    meshes: Any = dataclass_field(kw_only=False)
    faces: Any = None
    edges: Any = None
    style: Literal["shaded", "wireframe"] = "shaded"
    view: tuple[float, float] = VIEW
    line_labels: Sequence[str] = ()
    column_labels: Sequence[str] = ()

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        component: int | None = None,
        n_steps: int = 5,
        n_rows: int = 4,
        faces: Any = None,
        style: Literal["shaded", "wireframe"] = "shaded",
        view: tuple[float, float] = VIEW,
        ax: Any = None,
        mesh_kw: Keywords = None,
    ) -> Self:
        """Draw meshes above their reconstructions, or decoded codes along a component.

        Parameters
        ----------
        estimator : estimator with `transform` and `inverse_transform`
            Fitted: a `MeshAutoencoder`, PCA, or a Pipeline of steps that can all be inverted.
        X : array-like of shape (n_samples, n_vertices, 3) or (n_samples, 3 * n_vertices)
            Meshes.
        component : int, default=None
            Component along which to walk, between the 2 % and 98 % quantiles of the codes of X. The
            other components have their means over the twentieth of the codes nearest in this
            one: codes of bent shapes are bent, and the mean of all is far from any. None draws
            meshes of X and their reconstructions.
        n_steps : int, default=5
            Number of meshes of a walk.
        n_rows : int, default=4
            Largest number of meshes and reconstructions; the first ones are taken.
        faces : array-like of int of shape (n_faces, 3), default=None
            Triangles. None is those of the estimator, or its `edges`.
        style : {"shaded", "wireframe"}, default="shaded"
        view : tuple of float, default=(20, -60)
            Elevation and azimuth in degrees.
        ax : matplotlib Axes, default=None
            None makes a figure.
        mesh_kw : dict, default=None
            Keywords of `PolyCollection`, or of `LineCollection` for wireframes.

        Returns
        -------
        display : MeshDisplay

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it lacks `transform` or `inverse_transform`.
        ValueError
            If `component`, `n_steps` or `n_rows` are out of bounds, if there are no faces or edges,
            or if vertices have other than three values.
        ImportError
            If matplotlib is absent.
        """
        plotting.check_estimator(cls, estimator, "transform", "inverse_transform")
        last = plotting.split_last(estimator)[1]
        options: dict[str, Any] = {"faces": faces, "style": style, "view": view}
        if faces is None:
            options["faces"] = getattr(last, "faces", None)
            edges = getattr(last, "edges", None)
            options["edges"] = None if isinstance(edges, str) else edges
        if component is None:
            plotting.check_count("n_rows", n_rows)
            given = plotting.first_rows(X, n_rows)
            restore = getattr(estimator, "reconstruct", None)
            if restore is None:
                restored = estimator.inverse_transform(estimator.transform(given))
            else:
                restored = restore(given)
            meshes = np.stack([_as_meshes(given), _as_meshes(restored)])
            options["line_labels"] = "original", "reconstruction"
        else:
            plotting.check_count("n_steps", n_steps, at_least=2)
            codes = np.asarray(estimator.transform(X), dtype=np.float64)
            (component,) = plotting.check_components([component], codes.shape[1])
            low, high = np.quantile(codes[:, component], OUTER_QUANTILES)
            walk = _walk(codes, component, np.linspace(low, high, n_steps))
            meshes = _as_meshes(estimator.inverse_transform(walk))[None]
            options["column_labels"] = [f"{value:.2g}" for value in walk[:, component]]
            options["line_labels"] = (f"component {component}",)
        return cls(meshes, **options).plot(ax, mesh_kw=mesh_kw)

    def plot(self, ax: Any = None, *, mesh_kw: Keywords = None) -> Self:
        """Draw the meshes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
        mesh_kw : dict, default=None
            As for `from_estimator`.

        Returns
        -------
        display : MeshDisplay
        """
        if self.style not in ("shaded", "wireframe"):
            raise ValueError(f"style={self.style!r} must be 'shaded' or 'wireframe'.")
        if self.faces is None and self.edges is None:
            raise ValueError("faces=None gives no surface to draw; pass the triangles as faces.")
        meshes = np.asarray(self.meshes, dtype=np.float64)
        (n_lines, n_columns), points = meshes.shape[:2], meshes @ _axes_of_view(self.view)
        flat = points.reshape(-1, 3)
        low, high = flat.min(axis=0), flat.max(axis=0)
        points = (points - (low + high) / 2) * (2 * HALF / ((high - low)[:2].max() or 1.0))
        ax = plotting.start_plot(self, ax, (PANEL * n_columns + 0.6, PANEL * n_lines + 0.4))
        self.meshes_ = np.empty((n_lines, n_columns), dtype=object)
        for i, j in np.ndindex(n_lines, n_columns):
            self.meshes_[i, j] = ax.add_collection(
                _collection(self, points[i, j], (j, -i), mesh_kw)
            )
        ax.set(xlim=(-0.5, n_columns - 0.5), ylim=(0.5 - n_lines, 0.5), aspect="equal")
        ax.set_xticks(range(len(self.column_labels)), list(self.column_labels))
        lines = [-i for i in range(len(self.line_labels))]
        ax.set_yticks(lines, list(self.line_labels), rotation=90, va="center")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        return self


def _as_meshes(X: Any) -> np.ndarray:
    """Meshes (n_meshes, n_vertices, 3) of arrays or rows."""
    if np.ndim(X) == 3 and np.shape(X)[2] != 3:
        raise ValueError(
            f"X has meshes of shape {np.shape(X)[1:]}, but only vertices with three coordinates "
            "can be drawn."
        )
    rows = plotting.as_float_array(X)
    if rows.shape[1] % 3:
        raise ValueError(
            f"X has rows of {rows.shape[1]} columns, which are no multiple of 3; only vertices "
            "with three coordinates can be drawn."
        )
    return rows.reshape(len(rows), -1, 3)


def _walk(codes: np.ndarray, component: int, values: np.ndarray) -> np.ndarray:
    """Codes (n_steps, n_components) with these values of a component, near the codes given."""
    far = np.abs(codes[:, component] - values[:, None])
    nearest = np.argsort(far, axis=1, kind="stable")[:, : max(1, round(NEAR * len(codes)))]
    walk: np.ndarray = codes[nearest].mean(axis=1)
    walk[:, component] = values
    return walk


def _axes_of_view(view: tuple[float, float]) -> np.ndarray:
    """Directions to the right, upwards and towards the viewer, as columns."""
    elevation, azimuth = np.deg2rad(view)
    toward = np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
    right = np.array([-np.sin(azimuth), np.cos(azimuth), 0.0])
    toward = np.cos(elevation) * toward + np.array([0.0, 0.0, np.sin(elevation)])
    return np.stack([right, np.cross(toward, right), toward], axis=1)


def _collection(
    display: MeshDisplay, points: np.ndarray, place: tuple[int, int], mesh_kw: Keywords
) -> Any:
    """Faces or edges of one mesh (n_vertices, 3), whose depth is the last coordinate."""
    from matplotlib.collections import LineCollection, PolyCollection

    flat = points[:, :2] + place
    if display.faces is None or display.style == "wireframe":
        style = plotting.with_defaults(mesh_kw, "collection", color=BLUE, linewidth=0.5)
        return LineCollection(list(flat[_edges_of(display)]), **style)
    faces = np.asarray(display.faces)
    faces = faces[np.argsort(points[faces, 2].mean(axis=1), kind="stable")]
    shades = _shades(points[faces])
    style = {"facecolor": shades, "edgecolor": shades, "linewidth": 0.3}
    return PolyCollection(
        list(flat[faces]), **plotting.with_defaults(mesh_kw, "collection", **style)
    )


def _edges_of(display: MeshDisplay) -> np.ndarray:
    """Pairs of vertices (n_edges, 2)."""
    if display.faces is None:
        upper = sparse.coo_array(sparse.triu(sparse.csr_array(display.edges), k=1))
        return np.stack(upper.coords, axis=1)
    faces = np.asarray(display.faces)
    pairs = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    return np.unique(np.sort(pairs, axis=1), axis=0)


def _shades(triangles: np.ndarray) -> np.ndarray:
    """Colours (n_faces, 3) of faces that are lit from one side, whatever their orientation."""
    from matplotlib.colors import to_rgb

    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)
    normals *= np.where(normals[:, 2:] < 0, -1.0, 1.0)  # towards the viewer
    light = np.clip(normals @ (LIGHT / np.linalg.norm(LIGHT)), 0, 1)[:, None]
    color = np.array(to_rgb(BLUE))
    return (DARKEST + (1 - DARKEST) * light) * (color + (1 - color) * GLOSS * light**2)
