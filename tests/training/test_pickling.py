"""Files: their contents, old and new versions, and errors for damaged files."""

from __future__ import annotations

import copy
import functools
import io
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
from pathlib import Path
from zipfile import BadZipFile

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from conftest import (
    ESTIMATORS,
    TABLE_ESTIMATORS,
    OwnModule,
    assert_close,
    fast,
    make_fast,
    name_of,
    suited,
    table_of_wine,
)
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline
from skorch.callbacks import Callback
from torch import nn

import skae
from skae import (
    AutoencoderClassifier,
    AutoencoderRegressor,
    AutoencoderTransformer,
    densities,
    networks,
)
from skae._training.pickling import VERSION, checksum, from_columns, to_columns, with_checksum
from skae.networks import ACTIVATIONS, MLP
from skae.networks.serialization import (
    LATER,
    activation_name,
    network_from_config,
    network_to_config,
)

VARIANTS = {
    "default": {},
    "at PCA": {"early_stopping": True},
    "linear": {"hidden_layer_sizes": ()},
    "random start": {"anchor": None},
    "whitened": {"whiten": True, "n_components": 5},
    "deep": {"hidden_layer_sizes": (8, 4), "activation": "gelu"},
    "gaussian": {"latent_density": "gaussian"},
    "kernel": {"latent_density": KernelDensity()},
}
OWN = {
    "network": {"network": OwnModule},
    "network without anchor": {"network": OwnModule, "anchor": None},
    "activation": {"activation": nn.Mish},
    "settings": {"activation": functools.partial(nn.LeakyReLU, 0.3)},
}
METHODS = ("transform", "reconstruct", "score_samples")


@pytest.fixture
def quick(kind):
    """Every public estimator, trained for a few epochs, whether better than PCA or not."""
    return fast(kind, hidden_layer_sizes=(8,), early_stopping=False)


@pytest.fixture(scope="module", params=ESTIMATORS, ids=name_of)
def fitted(request, wine):
    """Every public estimator, fitted once: no test changes it."""
    return fast(request.param, hidden_layer_sizes=(8,), early_stopping=False).fit(wine)


def through_pickle(estimator):
    return pickle.loads(pickle.dumps(estimator))


def assert_same(one, other, X):
    for method in METHODS:
        if hasattr(one, method):
            assert np.array_equal(getattr(one, method)(X), getattr(other, method)(X))
    narrow = X.astype(np.float32)
    assert np.array_equal(one.reconstruct(narrow), other.reconstruct(narrow))
    assert np.array_equal(one.sample(3, 0), other.sample(3, 0))


# -- what a file holds -------------------------------------------------------------


def dump_joblib(estimator):
    buffer = io.BytesIO()
    joblib.dump(estimator, buffer)
    return buffer.getvalue()


def dump_skops(estimator):
    return pytest.importorskip("skops.io").dumps(estimator)


def load_skops(blob):
    skops_io = pytest.importorskip("skops.io")
    foreign = skops_io.get_untrusted_types(data=blob)
    assert all(name.split(".")[0] in ("skae", "sklearn") for name in foreign)
    return skops_io.loads(blob, trusted=foreign)


FORMATS = {
    "pickle": (pickle.dumps, pickle.loads),
    "joblib": (dump_joblib, lambda blob: joblib.load(io.BytesIO(blob))),
    "skops": (dump_skops, load_skops),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_skops_trusts_nothing_but_scikit_learn_and_skae(quick, wine, variant):
    quick.set_params(**suited(quick, VARIANTS[variant])).fit(wine)
    assert_same(load_skops(dump_skops(quick)), quick, wine)


@pytest.mark.parametrize("n_rows", [20, 178])  # 20 train in float64
@pytest.mark.parametrize("form", FORMATS)
def test_models_of_either_precision_answer_with_the_same_bits(quick, wine, form, n_rows):
    dump, load = FORMATS[form]
    quick.fit(wine[:n_rows])
    (dtype,) = {p.dtype for p in quick.net_.module_.parameters()}
    assert dtype == (torch.float64 if n_rows == 20 else torch.float32)
    assert_same(load(dump(quick)), quick, wine)


@pytest.mark.parametrize("variant", VARIANTS)
def test_files_of_equal_fits_are_equal(quick, wine, variant):
    quick.set_params(**suited(quick, VARIANTS[variant]))
    once, again = (clone(quick).fit(wine) for _ in range(2))
    once.transform(wine)  # leaves no trace in the file
    assert joblib.hash(once) == joblib.hash(again)
    copies = [through_pickle(once), copy.deepcopy(once), load_skops(dump_skops(once))]
    assert {joblib.hash(copied) for copied in copies} == {joblib.hash(once)}


@pytest.mark.parametrize("case", OWN)
def test_own_modules_are_kept_whole(quick, wine, case):
    quick.set_params(**suited(quick, OWN[case])).fit(wine)
    assert_same(through_pickle(quick), quick, wine)


def test_no_class_of_torch_or_scipy_is_needed(fitted):
    blob = pickle.dumps(fitted)
    assert b"torch" not in blob
    assert b"scipy" not in blob
    assert b"skorch" not in blob


def modules_named(blob):
    """Modules of skae that a pickle names."""
    named = (arg for _, arg, _ in pickletools.genops(blob) if isinstance(arg, str))
    return {name.split(" ")[0] for name in named if name.split(".")[0].split(" ")[0] == "skae"}


def is_public(module):
    return not any(part.startswith("_") for part in module.split("."))


@pytest.mark.parametrize("variant", [*VARIANTS, *OWN])
def test_pickles_name_public_paths_only(quick, wine, variant):
    params = {**VARIANTS, **OWN}[variant]
    quick.set_params(**suited(quick, params)).fit(wine)
    for fitted in (quick, quick.partial_fit(wine)):
        blob = pickle.dumps(fitted)
        assert "skae" in modules_named(blob)
        assert all(map(is_public, modules_named(blob)))


@pytest.mark.parametrize("supervised", [AutoencoderClassifier, AutoencoderRegressor])
def test_pickles_of_supervised_estimators_name_public_paths_only(supervised, wine):
    estimator = supervised(AutoencoderTransformer(2, max_epochs=2), max_epochs=2)
    blob = pickle.dumps(estimator.fit(wine, np.arange(len(wine)) % 2))
    assert all(map(is_public, modules_named(blob)))
    assert np.isfinite(pickle.loads(blob).predict(wine)).all()


DENSITIES = {
    "Gaussian": lambda X: densities.Gaussian(X.mean(axis=0), np.cov(X.T)),
    "Mixture": lambda X: densities.Mixture().fit(X),
    "Estimated": lambda X: densities.Estimated(KernelDensity()).fit(X),
    "SpikeAndSlab": lambda X: densities.SpikeAndSlab(*np.full((3, 13), 0.5), "real"),
    "Residual": lambda X: densities.Residual().fit(X),
    "OffSurface": lambda X: densities.OffSurface().fit(X, np.eye(13)[:2], 1.0, 13),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_pickles_of_densities_name_public_paths_only(name, wine):
    density = DENSITIES[name](wine)
    if name != "OffSurface":
        density.sample(2, 0)  # leaves nothing private behind
    blob = pickle.dumps(density)
    assert modules_named(blob) == {"skae.densities"}


@pytest.mark.parametrize("name", networks.__all__)
def test_pickles_of_networks_name_public_paths_only(name):
    kind = getattr(networks, name)
    if isinstance(kind, type):
        assert kind.__module__ == "skae.networks"


def test_skops_files_name_public_paths_only(fitted):
    skops_io = pytest.importorskip("skops.io")
    foreign = skops_io.get_untrusted_types(data=dump_skops(fitted))
    assert all(is_public(name) for name in foreign if name.startswith("skae"))


def test_the_record_of_training_survives(fitted):
    net, loaded = fitted.net_, through_pickle(fitted).net_
    assert loaded.history == net.history
    assert loaded.history[:, "train_loss"] == fitted.loss_curve_
    assert (loaded.best_epoch_, loaded.validation_ratio_) == (
        net.best_epoch_,
        net.validation_ratio_,
    )
    assert repr(loaded) == repr(net)
    assert not loaded.module_.training
    for name in ("lr", "max_epochs", "batch_size", "seed", "optimizer", "module", "criterion"):
        assert getattr(loaded, name) == getattr(net, name)


def test_a_loaded_model_continues_as_the_original_does(quick, wine):
    original = quick.set_params(warm_start=True).fit(wine)
    loaded = through_pickle(original)
    assert_same(loaded.fit(wine), original.fit(wine), wine)


def test_a_memory_map_can_be_loaded_and_continued(quick, wine, tmp_path):
    original = quick.set_params(warm_start=True).fit(wine)
    joblib.dump(original, tmp_path / "model.joblib")
    mapped = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    assert_same(mapped, original, wine)
    assert_same(mapped.fit(wine), original.fit(wine), wine)


def test_a_pipeline_remembers_its_steps(quick, wine, tmp_path):
    labels = wine[:, 0] > 0
    for C in (1.0, 2.0):
        steps = [("codes", clone(quick)), ("classifier", LogisticRegression(C=C))]
        Pipeline(steps, memory=str(tmp_path)).fit(wine, labels)
    assert len(list(tmp_path.rglob("output.pkl"))) == 1


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [[3, 2], [3, 4, 2], [3, 5, 4, 2]])
def test_networks_are_rebuilt_from_their_descriptions(widths, activation):
    network = MLP(widths, activation, generator=torch.Generator().manual_seed(0))
    rebuilt = network_from_config(network_to_config(network))
    x = torch.linspace(-2, 2, 12).reshape(4, 3)
    assert torch.equal(rebuilt(x), network(x))
    with torch.no_grad():
        rebuilt[0].weight.zero_()
    assert network[0].weight.any()  # nothing is shared


def test_settings_of_an_activation_are_no_name():
    assert activation_name(nn.LeakyReLU()) == "leaky_relu"
    assert activation_name(nn.LeakyReLU(0.3)) is None
    assert network_to_config(MLP([3, 4, 2], nn.Mish)) is None


# -- devices -----------------------------------------------------------------------


def test_a_model_of_an_absent_device_comes_to_the_cpu(fitted, wine):
    there = copy.deepcopy(fitted).set_params(device="cuda:99")
    vars(there.net_)["device"] = "cuda:99"
    blob = pickle.dumps(there)
    with pytest.warns(UserWarning, match=r"device='cuda:99', which is absent here"):
        loaded = pickle.loads(blob)
    assert loaded.net_.device == "cpu"
    assert_same(loaded, fitted, wine)


# -- versions ----------------------------------------------------------------------

KEPT = sorted((Path(__file__).parents[1] / "pickles").glob("*/*"))


def each_kept(*suffixes):
    """Every kept file with one of these endings."""
    paths = [path for path in KEPT if path.suffix in suffixes]
    return pytest.mark.parametrize(
        "path", paths, ids=lambda path: f"{path.parent.name}-{path.name}"
    )


def inputs_and_answers(path):
    """What is kept beside a model: rows, and arrays by the names of the methods."""
    answers = dict(np.load(path.parent / f"{path.name.partition('.')[0]}.npz"))
    inputs = {name: answers.pop(name) for name in ("X", "numbers") if name in answers}
    assert answers
    return inputs, answers


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@each_kept(".pkl", ".skops")
def test_models_of_earlier_releases_load(path):
    inputs, answers = inputs_and_answers(path)
    load = {".pkl": pickle.loads, ".skops": load_skops}[path.suffix]
    estimator = load(path.read_bytes())
    X = inputs["X"] if "X" in inputs else table_of_wine()[::20]
    for method, answer in answers.items():
        assert_close(getattr(estimator, method)(X), answer, 1e-5)
    if "X" not in inputs:
        assert (estimator.impute(X).dtypes == X.dtypes).all()


@each_kept(".onnx")
def test_onnx_models_of_earlier_releases_run(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    inputs, answers = inputs_and_answers(path)
    session = onnxruntime.InferenceSession(path.read_bytes())
    X = inputs.get("numbers", inputs.get("X")).astype(np.float32)
    (output,) = session.run(None, {"X": X})
    assert_close(output, answers[path.name.split(".")[1]], 1e-5)


@each_kept(".pkl")
def test_kept_pickles_name_public_paths_only(path):
    assert all(map(is_public, modules_named(path.read_bytes())))


@each_kept(".skops")
def test_kept_skops_files_name_public_paths_only(path):
    skops_io = pytest.importorskip("skops.io")
    assert all(map(is_public, skops_io.get_untrusted_types(data=path.read_bytes())))


@pytest.mark.parametrize("suffix", [".pkl", ".skops", ".npz"])
def test_a_model_of_every_estimator_is_kept(suffix):
    """Otherwise run `python tests/pickles/make.py`."""
    public = {name for name in skae.__all__ if hasattr(getattr(skae, name), "get_params")}
    assert len(public) > 10
    assert {path.stem for path in KEPT if path.suffix == suffix} >= public


def test_onnx_models_are_kept():
    kept = {path.name.partition(".")[0] for path in KEPT if path.suffix == ".onnx"}
    assert kept >= {name_of(estimator) for estimator in ESTIMATORS}


def refused(estimator, state):
    """Message of the error that a state causes, which leaves nothing behind."""
    blank = type(estimator).__new__(type(estimator))
    with pytest.raises(ValueError, match=type(estimator).__name__) as error:
        blank.__setstate__(state)
    assert vars(blank) == {}
    return str(error.value)


@pytest.mark.parametrize("newer", ["99.0.0", "99.0.0.dev0"])
def test_a_newer_release_is_refused_by_name(quick, wine, newer):
    for estimator in (clone(quick), quick.fit(wine)):
        message = refused(estimator, with_checksum({**estimator.__getstate__(), VERSION: newer}))
        assert newer in message
        assert skae.__version__ in message
        assert "pip install" in message


def state_of_release(estimator, version="0.0.1"):
    """State as an earlier release would have written it, before the checksum is added."""
    state = {**estimator.__getstate__(), VERSION: version}
    state.pop("_checksum")
    return state


def test_parameters_that_came_later_have_their_defaults(fitted, wine):
    state = state_of_release(fitted)
    del state["verbose"]
    loaded = type(fitted).__new__(type(fitted))
    loaded.__setstate__(with_checksum(state))
    assert loaded.get_params() == fitted.get_params()
    assert VERSION not in vars(loaded)
    assert_same(loaded, fitted, wine)


def test_settings_that_a_release_no_longer_has_are_left_out(fitted):
    state = fitted.net_.__getstate__()
    state.pop("_checksum")
    state["settings"]["momentum"] = 0.9
    net = type(fitted.net_).__new__(type(fitted.net_))
    net.__setstate__(with_checksum(state))
    assert not hasattr(net, "momentum")
    assert net.lr == fitted.net_.lr


def test_a_state_without_version_is_refused(quick):
    state = quick.__getstate__()
    del state[VERSION]
    assert "does not record the version" in refused(quick, state)


# -- damage ------------------------------------------------------------------------

ARRAYS = sorted({*AutoencoderTransformer._state_shapes})


@pytest.mark.parametrize("name", [*ARRAYS, "_scale", "latent_density_", "n_features_in_"])
def test_what_is_missing_is_named(fitted, name):
    state = state_of_release(fitted)
    if name not in state:
        pytest.skip(f"{name_of(fitted)} has no {name}")
    del state[name]
    assert f"{name} is missing" in refused(fitted, with_checksum(state))


@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize(
    "damage", [lambda a: a[:-1], lambda a: a[None], lambda a: a.astype("O"), str], ids=range(4)
)
def test_an_array_that_does_not_fit_is_named(fitted, name, damage):
    if name not in fitted._state_shapes:
        pytest.skip(f"{name_of(fitted)} has no {name}")
    state = state_of_release(fitted)
    state[name] = damage(state[name])
    message = refused(fitted, with_checksum(state))
    assert f"{name} is no array of numbers of shape" in message


def test_a_network_of_another_size_is_refused(fitted, cancer):
    state = state_of_release(fitted)
    other = clone(fitted).fit(cancer).net_
    state["net_"] = other.__getstate__()
    found, k = other.sizes()[1], fitted.n_components_
    message = refused(fitted, with_checksum(state))
    assert f"30 features to {found} components, not 13 to {k}" in message


def test_a_changed_number_is_noticed(fitted):
    for name, value in [("lr", 0.1), ("_scale", 2.0), ("n_iter_", 7)]:
        assert "checksum" in refused(fitted, {**fitted.__getstate__(), name: value})


def without(name):
    return lambda part: part.pop(name)


DAMAGES = {
    "kind of the network is missing": without("kind"),
    "weights of the network is missing": without("weights"),
    "biases of the network is missing": without("biases"),
    "widths of the network is missing": without("widths"),
    "no network of kind 'MLPP'": lambda part: part.update(kind="MLPP"),
    "no activation 'rela'": lambda part: part.update(activation="rela"),
    r"has 1 weights and 2 biases": lambda part: part["weights"].pop(),
    r"weights\[0\].*shape \(8, 13\)": lambda part: part.update(weights=part["weights"][::-1]),
    r"biases\[1\].*shape": lambda part: part["biases"].__setitem__(1, np.zeros(1)),
    r"weights\[1\].*no array of numbers": lambda part: part["weights"].__setitem__(1, "weights"),
}


@pytest.mark.parametrize("complaint", DAMAGES)
def test_a_damaged_network_is_refused(fitted, complaint):
    state = copy.deepcopy(fitted.net_.__getstate__())
    encoder = state["network"]["network"]["encoder"]
    if encoder["kind"] != "MLP":
        pytest.skip("parts of images are damaged in test_image_parts")
    DAMAGES[complaint](encoder)
    blank = type(fitted.net_).__new__(type(fitted.net_))
    with pytest.raises(ValueError, match=complaint):
        blank.__setstate__(state)
    assert vars(blank) == {}


@pytest.mark.parametrize("start", [{}, {"anchor": None}])
def test_every_tensor_of_a_network_is_checked(quick, wine, start):
    quick.set_params(**suited(quick, start)).fit(wine)
    config = network_to_config(quick.net_.module_)
    for name, value in config.items():
        if isinstance(value, np.ndarray):
            with pytest.raises(ValueError, match=f"{name} of the network is no array"):
                network_from_config({**config, name: np.zeros((3, 3, 3))})
        without = {key: entry for key, entry in config.items() if key != name}
        if name in LATER:
            network_from_config(without)
            continue
        with pytest.raises(ValueError, match="is missing"):
            network_from_config(without)


def test_parts_that_do_not_belong_together_are_refused(fitted):
    pair = network_to_config(fitted.net_.module_)["network"]
    with pytest.raises(ValueError, match="do not belong together"):
        network_from_config({**pair, "decoder": network_to_config(MLP([5, 13]))})


OF_TRUNCATION = (EOFError, IndexError, ValueError, pickle.UnpicklingError, struct.error, BadZipFile)


def arrays_of(fitted):
    yield from (vars(fitted)[name] for name in ("mean_", "_code_mean", "explained_variance_"))
    yield from (p.detach().numpy() for p in fitted.net_.module_.parameters())
    density = fitted.latent_density_
    if hasattr(density, "activity"):
        yield density.activity
    else:
        yield density.mixture_.means_ if hasattr(density, "mixture_") else density.covariance


def assert_flips_are_errors(fitted, form, arrays):
    """Flip a bit in the middle of each array that is found in the file."""
    dump, load = FORMATS[form]
    blob = dump(fitted)
    n_flipped = 0
    for array in arrays:
        start = blob.find(array.tobytes())
        if start >= 0:
            damaged = bytearray(blob)
            damaged[start + array.nbytes // 2] ^= 4
            n_flipped += 1
            with pytest.raises(Exception, match=r"damaged|Bad CRC"):
                load(bytes(damaged))
    assert n_flipped >= 4


def assert_truncations_are_errors(fitted, form, n_ends):
    dump, load = FORMATS[form]
    blob = dump(fitted)
    for end in np.linspace(0, len(blob) - 1, n_ends).astype(int):
        with pytest.raises(OF_TRUNCATION):
            load(blob[:end])


@pytest.mark.parametrize("form", FORMATS)
def test_a_flipped_bit_is_an_error(fitted, form):
    assert_flips_are_errors(fitted, form, [a for a in arrays_of(fitted) if a.any()])


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_file_is_an_error(fitted, form):
    assert_truncations_are_errors(fitted, form, 30)


# -- a process that is killed while it saves ----------------------------------------

PAGE = Path(__file__).parents[2] / "docs" / "persistence.md"
KILLED = """
import os, pickle, signal, sys, time
import joblib
from skae import AutoencoderTransformer

class Bomb:
    def __reduce__(self):
        os.kill(os.getpid(), signal.SIGKILL)

def killed(action, seconds):
    process = os.fork()
    if process == 0:
        while True:
            action()
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    assert os.WTERMSIG(os.waitpid(process, 0)[1]) == signal.SIGKILL

def plainly(estimator, path):
    with open(path, "wb") as file:
        joblib.dump(estimator, file)

old, new = joblib.load("old.joblib"), joblib.load("new.joblib")
"""
KILLS = """
save(old, "at any time")
for i in range(20):
    killed(lambda: (save(new, "at any time"), save(old, "at any time")), 0.002 * (i + 1))
    assert joblib.load("at any time").n_components in (2, 3)

for path in os.listdir():
    if path.endswith(".part"):
        os.remove(path)
new.bomb = Bomb()
save(old, "safe"), plainly(old, "plain")
killed(lambda: save(new, "safe"), 0.2), killed(lambda: plainly(new, "plain"), 0.2)
"""


def recipe():
    """The function of the page that saves, with its imports."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (block,) = (block for block in blocks if "def save(" in block)
    return block.split("\n\n\nsave(")[0]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes that it forks")
def test_a_process_that_is_killed_while_it_saves_leaves_the_old_file(wine, tmp_path):
    for name, n_components in (("old", 2), ("new", 3)):
        joblib.dump(make_fast(n_components=n_components).fit(wine), tmp_path / f"{name}.joblib")
    command = [sys.executable, "-c", KILLED + recipe() + KILLS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert joblib.load(tmp_path / "safe").n_components == 2
    assert len(list(tmp_path.glob("*.part"))) == 1
    with pytest.raises(OF_TRUNCATION):  # without the recipe, nothing is left
        joblib.load(tmp_path / "plain")


def test_checksums_do_not_depend_on_layout_or_machine():
    array = np.arange(6.0).reshape(2, 3)
    same = [array, np.asfortranarray(array), array.astype(">f8"), array[:, ::-1][:, ::-1]]
    assert len({checksum(a) for a in same}) == 1
    others = [array.T, array.astype("f4"), array + 1e-15, array.ravel(), [array], {"a": array}]
    assert len({checksum(a) for a in [array, *others]}) == 7
    assert checksum({"a": 1, "b": 2}) == checksum({"b": 2, "a": 1})
    assert checksum(torch.tensor(1.0)) != checksum(torch.tensor(2.0))
    assert checksum(np.float64(0.1)) == checksum(0.1)
    assert checksum([[1], 2]) != checksum([1, [2]])


# -- histories ---------------------------------------------------------------------

EPOCHS = [{"batches": [], "epoch": i, "train_loss": i / 3, "best": i == 1} for i in range(3)]
HISTORIES = {
    "empty": [],
    "equal names": EPOCHS,
    "now and then": [*EPOCHS, {**EPOCHS[0], "test_error": 0.1}],
    "by batch": [{**EPOCHS[0], "batches": [{"loss": 0.5}]}, EPOCHS[1]],
    "without batches": [{"epoch": 1}],
    "of any type": [{**EPOCHS[0], "note": None}, {**EPOCHS[1], "note": "late"}],
}


@pytest.mark.parametrize("case", HISTORIES)
def test_histories_come_back(case):
    assert from_columns(to_columns(HISTORIES[case])) == HISTORIES[case]


def test_regular_histories_are_arrays():
    record = to_columns(EPOCHS)
    assert {type(column) for column in record.values()} == {np.ndarray}
    assert [type(value) for value in from_columns(record)[0].values()] == [list, int, float, bool]


def test_numbers_of_numpy_become_numbers_of_python():
    history = [{"batches": [], "loss": np.float32(0.5), "by_class": [np.int64(1)]}]
    (epoch,) = from_columns(to_columns(history))
    assert [type(value) for value in (epoch["loss"], epoch["by_class"][0])] == [float, int]


class Remark(Callback):
    """Records now and then, of epochs and of batches."""

    def on_batch_end(self, net, **kwargs):
        net.history.new_batch()
        net.history.record_batch("seen", 1)

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            net.history.record("remark", "second")


def test_what_callbacks_record_survives(quick, wine):
    quick.set_params(callbacks=[Remark()]).fit(wine)
    loaded = through_pickle(quick)
    assert loaded.net_.history == quick.net_.history
    assert loaded.net_.history[1, "remark"] == "second"
    assert len(loaded.net_.history[0, "batches"]) > 0
    assert loaded.loss_curve_ == quick.loss_curve_
    assert isinstance(loaded.loss_curve_, list)


# -- tables ------------------------------------------------------------------------

AS_FRAMES = {
    "pandas": lambda frame: frame,
    "polars": lambda frame: pl.from_pandas(frame).with_columns(
        pl.col("hue").cast(pl.String).cast(pl.Enum(["low", "middle", "high"]))
    ),
    "pyarrow": lambda frame: pa.Table.from_pandas(frame, preserve_index=False),
}
each_library = pytest.mark.parametrize("library", AS_FRAMES)


@pytest.fixture(scope="module", params=TABLE_ESTIMATORS, ids=name_of)
def of_table(request):
    """Every estimator of tables, fitted once: no test changes it."""
    return fast_table(request.param).fit(table_of_wine())


def fast_table(estimator):
    return clone(estimator).set_params(max_epochs=2, column_layer_sizes=(4,))


def assert_same_of_tables(one, other, X):
    assert one.columns_ == other.columns_
    assert np.array_equal(one.score_samples(X), other.score_samples(X))
    for method in ("impute", "reconstruct"):
        if hasattr(one, method):
            assert getattr(one, method)(X).equals(getattr(other, method)(X))
    assert one.sample(5, 0).equals(other.sample(5, 0))


@each_library
@pytest.mark.parametrize("form", FORMATS)
def test_models_of_tables_answer_with_the_same_bits(of_table, library, form):
    X = AS_FRAMES[library](table_of_wine())
    table = of_table if library == "pandas" else clone(of_table).fit(X)
    dump, load = FORMATS[form]
    assert_same_of_tables(load(dump(table)), table, X)


@each_library
def test_files_of_equal_fits_of_tables_are_equal(of_table, library):
    X = AS_FRAMES[library](table_of_wine())
    once, again = (clone(of_table).fit(X) for _ in range(2))
    once.sample(3, 0)  # leaves no trace in the file
    restored = through_pickle(once)
    restored.sample(3, 0)
    copies = [again, through_pickle(once), restored, copy.deepcopy(once)]
    copies.append(load_skops(dump_skops(once)))
    assert {joblib.hash(copied) for copied in copies} == {joblib.hash(once)}


def modules_imported(blob):
    """Modules of the classes and functions that loading a pickle imports."""
    modules = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            modules.add(module)
            return super().find_class(module, name)

    Recorder(io.BytesIO(blob)).load()
    return modules


@each_library
def test_files_of_tables_name_public_paths_and_no_library(of_table, library):
    table = clone(of_table).fit(AS_FRAMES[library](table_of_wine()))
    if hasattr(table, "partial_fit"):
        table.partial_fit(AS_FRAMES[library](table_of_wine()))
    modules = modules_imported(pickle.dumps(table))
    assert {module.partition(".")[0] for module in modules} <= {"skae", "sklearn", "numpy"}
    assert all(map(is_public, (name for name in modules if name.startswith("skae"))))
    skops_io = pytest.importorskip("skops.io")
    assert all(map(is_public, skops_io.get_untrusted_types(data=dump_skops(table))))


@each_library
def test_loaded_models_draw_under_conditions(library):
    X = AS_FRAMES[library](table_of_wine().assign(same=pd.Series([7] * 178, dtype="Int64")))
    table = fast_table(TABLE_ESTIMATORS[0]).fit(X)
    for condition in ({"same": 7}, {"ash": 20}, {"hue": ("low", "middle")}, {"colour": "deep"}):
        drawn = through_pickle(table).sample(3, 0, condition=condition)
        assert drawn.equals(table.sample(3, 0, condition=condition))


@pytest.mark.parametrize("newer", ["99.0.0"])
def test_a_newer_release_of_a_table_is_refused(of_table, newer):
    state = with_checksum({**state_of_release(of_table), VERSION: newer})
    assert newer in refused(of_table, state)


def test_parameters_of_tables_that_came_later_have_their_defaults(of_table):
    state = state_of_release(of_table)
    del state["verbose"]
    loaded = type(of_table).__new__(type(of_table))
    loaded.__setstate__(with_checksum(state))
    assert loaded.get_params() == of_table.get_params()
    assert_same_of_tables(loaded, of_table, table_of_wine())


CHANGES = {
    "a category": lambda columns: columns["columns"][2]["categories"].__setitem__(0, "red"),
    "a dtype": lambda columns: columns["columns"][1]["form"]["dtype"].update(text="Int32"),
    "a name": lambda columns: columns["header"]["values"].__setitem__(0, "water"),
    "an offset": lambda columns: columns["columns"][5].update(offset=0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_columns_are_is_noticed(of_table, change):
    state = copy.deepcopy(of_table.__getstate__())
    CHANGES[change](state["_columns"])
    assert "checksum" in refused(of_table, state)


@pytest.mark.parametrize("form", FORMATS)
def test_a_flipped_bit_in_a_table_is_an_error(of_table, form):
    model = of_table._column_model
    arrays = [p.numpy() for p in model.network.parameters()] + [c.mean for c in model.columns]
    assert_flips_are_errors(of_table, form, [a for a in arrays if a.nbytes > 40])


@pytest.mark.parametrize("form", FORMATS)
def test_a_truncated_file_of_a_table_is_an_error(of_table, form):
    assert_truncations_are_errors(of_table, form, 10)


@pytest.mark.slow
def test_a_file_loads_without_the_library_of_its_table(tmp_path):
    """Which is imported when a table of it is asked for; if it is absent, an error names it."""
    frame = AS_FRAMES["polars"](table_of_wine())
    table = fast_table(TABLE_ESTIMATORS[0]).fit(frame)
    joblib.dump(table, tmp_path / "table.joblib")
    code = (
        "import sys, joblib, numpy as np\n"
        f"table = joblib.load({str(tmp_path / 'table.joblib')!r})\n"
        "rows = np.empty((2, 6), dtype=object)\nrows[:] = None\nrows[:, 0] = 13.0\n"
        "assert table.transform(rows).shape == (2, 2)\n"
        "assert table.impute(rows).shape == (2, 6)\n"
        "assert table.columns_[2]['categories'] == ['deep', 'medium', 'pale']\n"
        "assert 'polars' not in sys.modules\n"
        "assert type(table.sample(2, 0)).__module__.startswith('polars')\n"
        f"again = joblib.load({str(tmp_path / 'table.joblib')!r})\n"
        "sys.modules['polars'] = None\n"
        "try:\n    again.sample(2, 0)\n"
        "except ImportError as error:\n    assert 'one of polars, which is not' in str(error)\n"
        "else:\n    raise AssertionError\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
