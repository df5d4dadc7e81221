"""The plain autoencoder, anchored at PCA."""

from __future__ import annotations

from skae._estimators.dense import DenseAutoencoder
from skae._estimators.docstrings import inherit_entries


@inherit_entries(DenseAutoencoder)
class AutoencoderTransformer(DenseAutoencoder):
    """Autoencoder in the place of PCA: nonlinear, and never worse where it counts.

    The code of a row x is ``z = V (x - mean) + f(x)`` and its reconstruction
    ``mean + Vᵀ z + g(z)``. V are the principal components of the training rows and stay
    fixed; f and g are multilayer perceptrons whose last layers start at zero. So training
    starts *at* PCA, and the weights kept are those that restore held-out rows best, PCA's
    among them.

    As with PCA, rows are centred but features are not scaled: put a `StandardScaler` before
    the estimator unless the features share a unit.

    Parameters
    ----------
    *

    Attributes
    ----------
    *

    See Also
    --------
    sklearn.decomposition.PCA : The linear solution, and where training starts.
    skae.metrics.reconstruction_score : The score for any reducer or Pipeline.

    Notes
    -----
    From 500 rows on, weights are judged after each epoch by the mean logarithm of the losses
    of the held-out rows, so that a few outlying rows do not choose them, and leave PCA for a
    gain of one standard error; a row that alone makes a feature vary is not held out, unless
    half of them are such. Below 500 rows, five-fold cross-validation (below 80, one
    split) chooses the number of epochs, of which PCA's none is one, and training on all rows
    stops there; a gain of two standard errors is asked for, of four below 200 rows.
    ``anchor=None`` and a constant rate always use one split. What is judged and kept is the
    exponential average of the weights over the steps, and gradients are clipped.

    The code is rotated after training, which changes no
    reconstruction, to be uncorrelated and sorted by variance.

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
