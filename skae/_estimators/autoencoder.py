"""The plain autoencoder, which starts at PCA."""

from __future__ import annotations

from typing import ClassVar

from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries


@inherit_entries(DenseAutoencoder)
class AutoencoderTransformer(DenseAutoencoder):
    """Nonlinear replacement of PCA: an autoencoder that starts at PCA.

    The code of a row x is ``z = V (x - mean) + f(x)`` and its reconstruction
    ``mean + Vᵀ z + g(z)``. V are the principal components of the training rows and stay
    fixed: PCA is a skip connection. f and g are multilayer perceptrons whose last layers start
    at zero, so training starts *at* PCA. It keeps the weights that reconstruct the validation
    rows best; PCA is one of the candidates.

    As in PCA, rows are centred but features are not scaled. Put a `StandardScaler` before
    the estimator unless the features share a unit.

    Parameters
    ----------
    *

    Attributes
    ----------
    *

    See Also
    --------
    sklearn.decomposition.PCA : The linear solution, at which training starts.
    skae.metrics.reconstruction_score : The score for any reducer or Pipeline.

    Notes
    -----
    From 500 rows on, the weights after each epoch are validated on one split. The score is the
    mean logarithm of the validation rows' losses, so that a few outliers do not dominate.
    Weights other than PCA are kept only if they are better by one standard error. A row is not
    held out if a feature would be constant without it, unless more than half of the validation
    rows are like this.

    Below 500 rows, five-fold cross-validation chooses the number of epochs. Zero epochs, which is
    PCA, is one of the candidates. Another number must be better by two standard errors, below 200
    rows by four. Then all rows are trained on for that number of epochs. Below 100 rows, the folds
    are made twice, and the number of epochs has the lowest upper bound of the mean score: mean plus
    three standard errors, by Student's t distribution. PCA is kept unless this is below zero, and
    the mean error plus one standard error too (below 30 rows: two and a half). Below ten rows PCA
    is kept. With ``anchor=None``,
    and with a constant learning rate from 100 rows on, there is always one split.

    Groups and copies count as rows here: the rows of a group, copies of a row, and near copies if
    there are many, are held out together.

    Far from the training rows, f and g are not known. They are multiplied by ``exp(-t² / 2)``: for
    f, t is the root mean square over the features of the distance of the row from the ranges of the
    training rows, in units of the root mean feature variance; for g, that of the code from the
    ranges of the codes, in 1.5 standard deviations. g is evaluated in the ranges, or at most 0.25
    standard deviations outside. So rows far off are restored as by PCA, and inside the ranges
    nothing changes.

    The weights that are validated and kept are exponential averages over the training steps.
    Gradients are clipped. After training, the code is rotated so that components are
    uncorrelated and sorted by variance. This changes no reconstruction.

    Attributes have the precision of the rows: those of float32 rows are computed in float32, and
    summed in float64. If training took fewer than ten epochs and there are more than 8,192 rows,
    so many evenly spaced rows describe the network. The standard error of a mean of codes is then
    1.1 % of their standard deviation, and that of a variance 1.6 %, if codes are normal.

    The initial principal components are those of ``PCA(svd_solver="auto")``: exact, or by the
    randomized solver if a side of the table is longer than 500, `n_components` is below 80 % of
    the shorter side, and there are more than 1,000 features or fewer than ten rows per feature.

    References
    ----------
    .. [1] Hinton and Salakhutdinov (2006). Reducing the dimensionality of data with neural
       networks. Science 313. https://doi.org/10.1126/science.1127647
    .. [2] Baldi and Hornik (1989). Neural networks and principal component analysis. Neural
       Networks 2. https://doi.org/10.1016/0893-6080(89)90014-2

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.model_selection import train_test_split
    >>> from skae import AutoencoderTransformer
    >>> from skae.metrics import reconstruction_score
    >>> X, _ = load_digits(return_X_y=True)
    >>> X_train, X_test = train_test_split(X, random_state=0)
    >>> autoencoder = AutoencoderTransformer(n_components=8, random_state=0).fit(X_train)
    >>> autoencoder.transform(X_test).shape
    (450, 8)
    >>> pca = PCA(n_components=8).fit(X_train)
    >>> autoencoder.score(X_test) > reconstruction_score(pca, X_test) + 0.1
    True
    """

    __module__ = "skae"  # the public path, which pickles name

    # The code is for models behind it: higher values bring less, see `examples/benchmarks`.
    _auto_depth: ClassVar[float] = 0.6
