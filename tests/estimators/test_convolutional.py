"""`ConvolutionalAutoencoder`: images in and out, and convolutions that correct PCA."""

from __future__ import annotations

import copy
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from conftest import SMALL_NETWORK, assert_close, fast
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from skae import ConvolutionalAutoencoder, DenoisingAutoencoder, LatentDimensionSearch, compare
from skae._training.gradients import AutogradGradient
from skae._training.mixed_precision import MixedPrecisionGradient
from skae.displays import LatentGridDisplay, LatentSpaceDisplay, ReconstructionDisplay
from skae.metrics import reconstruction_score
from skae.noise import IMAGE_NOISES


def make(**params):
    """Small network of a few epochs, which is kept whether it is better than PCA or not."""
    small = ConvolutionalAutoencoder(3, random_state=0, early_stopping=False, **SMALL_NETWORK)
    return fast(small, **params)


@pytest.fixture(scope="module")
def images():
    """300 images of 8 x 8 pixels, 0 to 16, as integers."""
    return load_digits().images[:300].astype(np.uint8)


@pytest.fixture(scope="module")
def colours(images):
    """60 images of 8 x 6 pixels in three channels."""
    some = images[:60, :, 1:7] / 16
    return np.stack([some, some**2, some[:, ::-1]], axis=-1)


def squares(fitted, X):
    return np.square(fitted.inverse_transform(fitted.transform(X)) - X).sum()


# -- quality -----------------------------------------------------------------------


def test_digits_are_restored_better_than_by_pca(digits):
    train, test = digits[:1200], digits[1200:]
    fitted = ConvolutionalAutoencoder(8, max_epochs=12, random_state=0).fit(train)
    assert squares(fitted, test) < 0.75 * squares(PCA(8).fit(train), test)
    assert fitted.pca_error_ratio_ < 0.75


@pytest.mark.parametrize("n_rows", [20, 60, 250])
def test_few_images_are_never_restored_worse_than_by_pca(digits, n_rows):
    train, test = digits[:n_rows], digits[1000:]
    fitted = make(early_stopping=True, max_epochs=10).fit(train)
    assert squares(fitted, test) < 1.001 * squares(PCA(3).fit(train), test)


def test_without_training_it_is_pca(digits):
    fitted = make(lr=1e-30).fit(digits)
    pca = PCA(3).fit(digits)
    assert_close(fitted.reconstruct(digits), pca.inverse_transform(pca.transform(digits)), 1e-6)
    assert_close(np.abs(fitted.transform(digits)), np.abs(pca.transform(digits)), 1e-6)


def test_equal_images_stay_equal():
    with pytest.warns(ConvergenceWarning, match="no variance"):
        fitted = make().fit(np.ones((40, 4, 4)))
    np.testing.assert_allclose(fitted.reconstruct(np.ones((2, 4, 4))), 1)


# -- images in and out -------------------------------------------------------------


def test_rows_and_images_give_the_same_results(images):
    flat = images.reshape(len(images), -1)
    of_images, of_rows = make().fit(images), make().fit(flat)
    assert of_images.image_shape_ == of_rows.image_shape_ == (8, 8, 1)
    codes = of_images.transform(images)
    for fitted in (of_images, of_rows):
        assert np.array_equal(fitted.transform(flat), codes)
        assert np.array_equal(fitted.transform(images[..., None]), codes)
        assert fitted.score(images) == fitted.score(flat)
    for method, given in (
        ("inverse_transform", codes),
        ("reconstruct", images),
        ("denoise", images),
    ):
        out = getattr(of_images, method)(given)
        assert out.shape == images.shape
        assert np.array_equal(out.reshape(flat.shape), getattr(of_rows, method)(given))
    assert of_images.sample(4, 0).shape == (4, 8, 8)
    assert of_rows.sample(4, 0).shape == (4, 64)
    assert of_images.interpolate(images[:2], images[2:4], 5).shape == (2, 5, 8, 8)
    assert of_rows.interpolate(flat[:2], flat[2:4], 5).shape == (2, 5, 64)
    assert of_images.reconstruction_error(images).shape == (300,)


def test_channels_may_be_first_or_last(colours):
    """In float64, as few images are trained on; in one batch, as images are sorted before."""
    colours = colours[:25]
    first = np.moveaxis(colours, -1, 1)
    one = make(batch_size=25).fit(colours)
    other = make(batch_size=25, layout="channels_first").fit(first)
    assert one.image_shape_ == other.image_shape_ == (8, 6, 3)
    assert_close(np.abs(other.transform(first)), np.abs(one.transform(colours)), 1e-6)
    restored = other.reconstruct(first)
    assert restored.shape == first.shape
    assert_close(np.moveaxis(restored, 1, -1), one.reconstruct(colours), 1e-6)
    flat = make(batch_size=25, layout="channels_first", image_shape=(3, 8, 6))
    flat.fit(first.reshape(25, -1))
    assert np.array_equal(flat.transform(first), other.transform(first))


@pytest.mark.parametrize("shape", [(27, 31), (5, 9, 2), (4, 5, 8), (1, 20), (20, 1), (1, 1)])
def test_images_of_any_shape_and_number_of_channels(shape):
    X = np.random.default_rng(0).normal(size=(50, *shape))
    fitted = make(n_components=1).fit(X)
    assert fitted.reconstruct(X).shape == X.shape
    assert np.isfinite(fitted.reconstruct(X)).all()
    assert fitted.image_shape_ == (*shape, 1)[:3]


def test_a_row_may_be_a_signal(wine):
    fitted = make(image_shape="row").fit(wine)
    assert fitted.image_shape_ == (1, 13, 1)
    kernels = {
        layer.kernel_size
        for layer in fitted.net_.module_.modules()
        if hasattr(layer, "kernel_size")
    }
    assert kernels == {(1, 3), (1, 1)}


def test_lists_of_images(images):
    fitted = make().fit(images[:40].tolist())
    assert_close(fitted.transform(images[:9].tolist()), fitted.transform(images[:9]), 1e-5)


def test_frames_of_pixels_come_back(digits):
    fitted = make().set_output(transform="pandas").fit(digits.reshape(-1, 8, 8))
    frame = fitted.reconstruct(digits[:5])
    assert list(frame.columns) == [f"x{i}" for i in range(64)]


def test_in_a_pipeline_of_images(images):
    flatten = FunctionTransformer(lambda X: X.reshape(len(X), -1))
    pipeline = make_pipeline(flatten, StandardScaler(), make()).fit(images)
    assert pipeline.transform(images).shape == (300, 3)
    assert reconstruction_score(pipeline[1:], images.reshape(300, -1)) > 0.2


# -- integers ----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_integers_are_the_numbers_that_they_are(images, dtype):
    exact = make().fit(images.astype(np.float32 if dtype != np.int32 else np.float64))
    fitted = make().fit(images.astype(dtype))
    codes = fitted.transform(images.astype(dtype))
    assert codes.dtype == (np.float32 if dtype != np.int32 else np.float64)
    assert_close(np.abs(codes), np.abs(exact.transform(images.astype(codes.dtype))), 1e-4)


def test_integers_on_disk_are_those_in_memory(images, tmp_path):
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert np.array_equal(
        make().fit(mapped).transform(mapped), make().fit(images).transform(images)
    )


def test_integers_are_not_copied_as_a_whole():
    X = np.random.default_rng(0).integers(0, 256, size=(20_000, 256), dtype=np.uint8)
    fitted = make(patch_size=8, max_epochs=1).fit(X[:200])
    tracemalloc.start()
    fitted.transform(X)
    fitted.score(X)
    transformed = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    # torch's copy in float32, which a fit trains on, is not traced
    make(patch_size=8, max_epochs=1).fit(X)
    fitted_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert transformed < 4 * X.nbytes
    assert fitted_peak < 6 * X.nbytes  # in float64 it would be 8 times as large


# -- noise -------------------------------------------------------------------------


@pytest.mark.parametrize("noise", IMAGE_NOISES)
def test_corrupted_digits_are_restored_better_than_by_pca(digits, noise):
    train, test = digits[:1200], digits[1200:]
    level = {"blocks": 0.2, "blur": 1.0}[noise]
    denoiser = ConvolutionalAutoencoder(
        16, noise=noise, noise_level=level, max_epochs=12, random_state=0
    ).fit(train)
    corrupt = denoiser._make_noise(_dataset(denoiser, train), torch.Generator().manual_seed(0))
    rows = torch.from_numpy(denoiser._standardize(test))
    corrupted = denoiser._unstandardize(corrupt.double()(rows).numpy())
    pca = PCA(16).fit(train)
    of_pca = np.square(pca.inverse_transform(pca.transform(corrupted)) - test).sum()
    assert np.square(denoiser.denoise(corrupted) - test).sum() < 0.75 * of_pca


def _dataset(fitted, X):
    from skae._data.dataset import Dataset

    return Dataset(X, fitted._center, fitted._scale)


@pytest.mark.parametrize("noise", ["swap", "gaussian", "blocks", "blur", torch.nn.Dropout(0.2)])
def test_every_noise_trains_with_emphasis(images, noise):
    fitted = make(noise=noise, emphasis=2.0).fit(images)
    assert np.isfinite(fitted.loss_curve_).all()
    assert not np.array_equal(fitted.transform(images), make().fit(images).transform(images))


def test_noise_of_level_zero_is_no_noise(images):
    plain = make().fit(images).transform(images)
    assert np.array_equal(make(noise="blocks", noise_level=0.0).fit_transform(images), plain)


def test_noise_of_images_belongs_to_this_kind(digits):
    with pytest.raises(ValueError, match="'noise' parameter of DenoisingAutoencoder"):
        DenoisingAutoencoder(noise="blocks").fit(digits)


# -- precision ---------------------------------------------------------------------


def test_mixed_precision_restores_as_well(digits):
    errors = [
        squares(make(n_components=8, mixed_precision=mixed, patch_size=2).fit(digits), digits)
        for mixed in (False, True)
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.02)


@pytest.mark.parametrize("mixed", [False, True])
def test_mixed_precision_is_of_training_steps_alone(digits, mixed):
    fitted = make(mixed_precision=mixed).fit(digits)
    kind = MixedPrecisionGradient if mixed else AutogradGradient
    assert fitted._make_gradient().func is kind
    narrow = fitted.transform(digits.astype(np.float32))
    assert_close(narrow, fitted.transform(digits), 1e-5)


def test_tiny_tables_are_trained_in_float64_whatever_the_precision(digits):
    exact, mixed = (make(mixed_precision=m).fit(digits[:25]) for m in (False, True))
    assert np.array_equal(mixed.transform(digits), exact.transform(digits))


# -- size of the network and of batches --------------------------------------------


@pytest.mark.parametrize(
    ("side", "patch", "of_encoder", "of_decoder", "width"),
    [(7, 1, 16, 32, 128), (8, 2, 16, 32, 128), (16, 2, 16, 32, 128), (28, 4, 32, 64, 512)],
)
def test_the_network_is_as_large_as_documented(side, patch, of_encoder, of_decoder, width):
    X = np.random.default_rng(0).normal(size=(40, side, side))
    network = ConvolutionalAutoencoder(2, max_epochs=1, early_stopping=False).fit(X).net_.module_
    parts = network.network.encoder, network.network.decoder
    assert {part.grid.patch for part in parts} == {(patch, patch)}
    assert [part.options["n_channels"] for part in parts] == [of_encoder, of_decoder]
    assert [part.options["hidden_layer_sizes"] for part in parts] == [[width]] * 2
    assert [part.options["n_blocks"] for part in parts] == [0, 1]


def test_a_single_channel_is_enough(images):
    network = make(channels=1).fit(images).net_.module_.network
    assert [part.options["n_channels"] for part in (network.encoder, network.decoder)] == [1, 1]


def test_batches_of_many_images_are_no_larger_than_256():
    """Where the dense kinds have 512."""
    X = np.random.default_rng(0).normal(size=(52_000, 4)).astype(np.float32)
    tiny = {"channels": 1, "n_blocks": 0, "hidden_layer_sizes": (), "max_epochs": 1}
    assert make(**tiny).fit(X).net_.batch_size == 256
    assert make(**tiny, batch_size=300).fit(X[:1000]).net_.batch_size == 300


def test_half_as_many_epochs_as_of_dense_kinds(images):
    rows = images[:40].reshape(40, -1)
    dense = DenoisingAutoencoder(3, early_stopping=False).fit(rows)
    assert make(max_epochs="auto").fit(rows).n_iter_ == dense.n_iter_ / 2


# -- what every kind does ----------------------------------------------------------

CHECKED = [  # of few epochs; those with the defaults are in test_common
    {"noise": "blocks", "emphasis": 2.0},
    {"anchor": None, "whiten": True, "mixed_precision": True},
    {
        "n_components": 0.6,
        "noise": "blur",
        "noise_level": 1.0,
        "layout": "channels_first",
        "max_epochs": 1,
    },
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("params", CHECKED, ids=str)
def test_scikit_learns_checks_pass_without_exception(params):
    """On rows of any width, which are signals."""
    estimator = make(image_shape="row", n_components=2, max_epochs=2).set_params(**params)
    results = check_estimator(estimator, on_skip=None, on_fail=None)
    bad = [r for r in results if r["status"] in ("failed", "xfail")]
    assert [(r["check_name"], r["exception"]) for r in bad] == []


@pytest.mark.parametrize(
    "params",
    [
        {"target_weight": 1.0},
        {"target_weight": 1.0, "mixed_precision": True},
        {"stochastic_depth": 0.5},
        {"anchor": None},
        {"anchor": None, "loss": "binary_cross_entropy"},
        {"n_components": 0.5, "early_stopping": True},
        {"whiten": True, "activation": torch.nn.Mish},
        {"lr_schedule": "constant", "early_stopping": True},
        {"hidden_layer_sizes": (8, 6)},
        {"n_blocks": 0, "kernel_size": 5, "patch_size": 1},
    ],
    ids=str,
)
def test_parameters_of_the_other_kinds(digits, params):
    X, y = digits[:200], load_digits().target[:200].astype(str)
    fitted = make(**params).fit(X, y, sample_weight=np.arange(1, 201) / 100)
    assert np.isfinite(fitted.transform(X)).all()
    copied = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copied.reconstruct(X), fitted.reconstruct(X))


def test_files_hold_plain_values(images):
    fitted = make().fit(images)
    network = fitted.net_.__getstate__()["network"]["network"]
    assert network["encoder"]["kind"] == "ImageEncoder"
    assert all(type(array) is np.ndarray for array in network["decoder"]["weights"])
    assert copy.deepcopy(fitted).reconstruct(images).shape == images.shape
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).sample(3, 0), fitted.sample(3, 0))


def test_partial_fit_and_warm_start(images):
    streamed = make()
    for part in np.array_split(images, 6):
        streamed.partial_fit(part)
    assert streamed.n_samples_seen_ == 300
    assert streamed.reconstruct(images).shape == images.shape
    first = make(warm_start=True).fit(images)
    before = first.loss_curve_[-1]
    assert first.fit(images).loss_curve_[-1] < before


def test_validation_images_and_groups(images):
    fitted = make(early_stopping=True).fit(images[:200], X_val=images[200:])
    assert len(fitted.validation_loss_curve_) == fitted.n_iter_
    fitted = make(early_stopping=True).fit(images, groups=np.arange(300) // 3)
    assert np.isfinite(fitted.pca_error_ratio_)


def test_it_is_searched_and_compared(digits):
    search = LatentDimensionSearch(make(), n_components=[1, 2], cv=2).fit(digits[:200])
    assert search.n_components_ in (1, 2)
    compared = compare(digits[:120], None, [2], {"convolutional": make()}, cv=2)
    assert "convolutional" in str(compared)


def test_displays_draw_images_at_once(images, colours):
    plt = pytest.importorskip("matplotlib.pyplot")
    fitted = make().fit(images)
    drawn = ReconstructionDisplay.from_estimator(fitted, images, n_rows=2)
    assert np.array_equal(drawn.images_[0, 1].get_array(), images[1])
    grid = LatentGridDisplay.from_estimator(fitted, images, n_steps=2)
    assert grid.images_[0, 0].get_array().shape == (8, 8)
    assert LatentSpaceDisplay.from_estimator(fitted, images).figure_ is not None
    first = np.moveaxis(colours, -1, 1)
    of_colours = make(layout="channels_first").fit(first)
    drawn = ReconstructionDisplay.from_estimator(of_colours, first, n_rows=2)
    np.testing.assert_allclose(drawn.images_[0, 1].get_array(), colours[1])
    grid = LatentGridDisplay.from_estimator(of_colours, first, n_steps=2)
    assert grid.images_[0, 0].get_array().shape == (8, 6, 3)
    plt.close("all")


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "shape", "message"),
    [
        ({}, (40, 13), "image_shape=None takes rows of 13 features .* set image_shape="),
        ({"image_shape": (3, 4)}, (40, 13), r"image_shape=\(3, 4\) has 12 values, .* 13 features"),
        ({"image_shape": (8, 6)}, (40, 8, 8), r"has 48 values, but X holds images of shape \(8, 8"),
        ({"image_shape": (4, 16)}, (40, 8, 8), r"image_shape=\(4, 16\) .* shape \(8, 8\)"),
        ({"image_shape": "row"}, (40, 8, 8), "image_shape='row' is for rows"),
        ({}, (40, 8, 8, 3, 2), "images of 4 axes; pass .height, width"),
        ({"patch_size": 9}, (40, 8, 8), "patch_size=9 is larger than images of 8 x 8 .* at most 8"),
        ({"kernel_size": 4}, (40, 8, 8), "kernel_size=4 must be odd.* 3 or 5"),
        (
            {"kernel_size": 9},
            (40, 8, 8),
            "kernel_size=9 is larger than the grid of 8 x 8 .* most 7",
        ),
        ({"kernel_size": 3, "patch_size": 4}, (40, 8, 8), "grid of 2 x 2 .* lower patch_size"),
        ({"noise": "blocks", "noise_level": 1.5}, (40, 8, 8), "share of the image's area"),
        ({"loss": "binary_cross_entropy"}, (40, 8, 8), "set anchor=None"),
    ],
)
def test_errors_name_parameter_value_bound_and_remedy(params, shape, message):
    X = np.random.default_rng(0).normal(size=shape)
    with pytest.raises(ValueError, match=message):
        make(**params).fit(X)


def test_other_images_than_those_of_the_fit_are_refused(images):
    fitted = make().fit(images)
    with pytest.raises(ValueError, match=r"shape \(4, 4\), but .* fitted to .* \(8, 8, 1\)"):
        fitted.transform(images[:, :4, :4])
    with pytest.raises(ValueError, match=r"shape \(4, 16\)"):
        fitted.transform(images.reshape(-1, 4, 16))
    with pytest.raises(ValueError, match="X_val does not suit X"):
        make().fit(images, X_val=images[:, :4])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_and_infinite_pixels_are_refused(images, value):
    X = images / 16
    X[3, 4, 5] = value
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        make().fit(X)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        make().fit(images).transform(X)


def test_sparse_rows_are_refused_with_a_remedy(digits):
    with pytest.raises(TypeError, match=r"dense images; pass X.toarray\(\)"):
        make().fit(sparse.csr_matrix(digits))


@pytest.mark.parametrize("n_rows", [1, 2, 33])
def test_one_image_and_a_last_batch_of_one(digits, n_rows):
    fitted = make(batch_size=32).fit(digits[:n_rows])
    assert fitted.transform(digits[:1]).shape == (1, 3)
