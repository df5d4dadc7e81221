"""Targets of a code: how y is read and encoded, what predicting it costs, and its gradient."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_diabetes, load_wine
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler

from skae._training.targets import (
    ClassTarget,
    ContinuousTarget,
    SupervisedObjective,
    Targets,
    is_quantity,
    read_targets,
)
from skae.losses import Objective, squared_error
from skae.networks import Output

NAN = float("nan")


def encode(y, index=None, weights=None):
    """Targets of rows, and their columns."""
    read = read_targets(y, np.empty((len(y), 0)), "y")
    targets = Targets(read, np.arange(len(y)) if index is None else index, weights)
    return targets, targets.encode(read)


def kinds_of(targets):
    return [type(part) for part in targets.parts]


def classes_of(targets):
    return [part.classes[0].tolist() for part in targets.parts]


# -- classes and quantities --------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array(["a", "b", "1.5"]), False),
        (np.array([True, False]), False),
        (load_wine().target, False),
        (load_wine().target.astype(float), False),
        (np.arange(30), True),  # 30 whole numbers, one row each
        (np.arange(20), False),
        (np.repeat(np.arange(30), 9), True),
        (np.repeat(np.arange(30), 10), True),
        (np.array([1, 4, 9]), False),
        (np.array([3, 80]), False),
        (np.arange(0, 101, 10), True),  # few values, but far apart
        (np.array([0.5, 1.0]), True),
        (load_diabetes().target, True),  # whole numbers, too
    ],
)
def test_whole_numbers_of_few_values_are_classes_and_other_numbers_quantities(values, expected):
    assert is_quantity(values) == expected


def test_several_targets_have_kinds_of_their_own():
    y = pd.DataFrame({"weight": [0.5, 1.5, 2.5, 4.0], "kind": list("abca"), "old": [1, 0, 1, 1]})
    targets, columns = encode(y)
    assert kinds_of(targets) == [ContinuousTarget, ClassTarget, ClassTarget]
    assert targets.n_columns == columns.shape[1] == 1 + 3 + 2
    np.testing.assert_allclose(columns[:, 0].mean(), 0, atol=1e-7)
    np.testing.assert_allclose(columns[:, 0].std(), 1, rtol=1e-6)
    assert columns[:, 1:4].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]]
    assert columns[:, 4:].tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]


# -- unknown values ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "classes", "unknown"),
    [
        ([0, 1, -1, 1], [0, 1], [2]),
        ([0.0, 1.0, -1.0, NAN], [0, 1], [2, 3]),
        ([3, 7, -1, 9], [3, 7, 9], [2]),
        ([-1, 1, 1, -1], [-1, 1], []),  # two classes are left: -1 is one of them
        (["a", "b", "-1", "a"], ["-1", "a", "b"], []),  # text has no -1
        (np.array([True, False, None, True], object), [False, True], [2]),
        (np.array(["a", NAN, None, "b"], object), ["a", "b"], [1, 2]),
    ],
    ids=str,
)
def test_classes_that_are_unknown(y, classes, unknown):
    targets, columns = encode(y)
    assert classes_of(targets) == [classes]
    assert np.flatnonzero(np.isnan(columns).all(axis=1)).tolist() == unknown
    assert np.flatnonzero(np.isnan(columns).any(axis=1)).tolist() == unknown


def test_a_quantity_may_be_minus_one():
    targets, columns = encode([-1.0, 0.5, NAN, 2.0])
    assert kinds_of(targets) == [ContinuousTarget]
    assert np.isnan(columns[:, 0]).tolist() == [False, False, True, False]
    np.testing.assert_allclose(targets.parts[0].mean, [0.5])


def test_each_of_several_targets_has_its_own_unknown_rows():
    targets, columns = encode(np.array([[0.5, 0], [NAN, 1], [1.5, -1], [NAN, NAN]]))
    assert kinds_of(targets) == [ContinuousTarget, ClassTarget]
    assert np.isnan(columns).tolist() == [
        [False, False, False],
        [True, False, False],
        [False, True, True],
        [True, True, True],
    ]


# -- containers --------------------------------------------------------------------

NUMBERS, TEXT, FLAGS = [1, 0, None], ["a", None, "b"], [True, False, None]


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (pd.Series(NUMBERS, dtype="Int64"), NUMBERS),
        (pd.Series(NUMBERS, dtype="Float64"), NUMBERS),
        (pd.Series(NUMBERS, dtype="category"), NUMBERS),
        (pd.Series(NUMBERS, index=[7, 7, 7]), NUMBERS),
        (pd.Series(FLAGS, dtype="boolean"), FLAGS),
        (pd.Series(FLAGS, dtype=object), FLAGS),
        (pd.Series(TEXT, dtype="string"), TEXT),
        (pd.Series(TEXT, dtype="category"), TEXT),
        (pd.Series(TEXT, dtype=object), TEXT),
        (pd.Index(["a", "b", "a"]), ["a", "b", "a"]),
        (pl.Series(NUMBERS), NUMBERS),
        (pl.Series(FLAGS), FLAGS),
        (pl.Series(TEXT), TEXT),
        (pl.Series(TEXT, dtype=pl.Categorical), TEXT),
        (NUMBERS, NUMBERS),
        (tuple(TEXT), TEXT),
        (["a", NAN, "b"], TEXT),
        ([np.float64(1), np.int64(0), None], NUMBERS),
        (range(3), [0, 1, 2]),
        (torch.tensor([1, 0, 1]), [1, 0, 1]),
        (torch.tensor([True, False, True]), [True, False, True]),
        (torch.tensor([0.5, 1, NAN], requires_grad=True), [0.5, 1, None]),
        (np.array([1, 0, 1], np.uint8), [1, 0, 1]),
        (np.array([0.5, 1.5, NAN], np.float16), [0.5, 1.5, None]),
    ],
    ids=lambda value: f"{type(value).__module__.split('.')[0]}-{getattr(value, 'dtype', '')}",
)
def test_targets_of_any_container(y, expected):
    (column,) = read_targets(y, np.empty((3, 0)), "y")
    assert column.known.tolist() == [value is not None for value in expected]
    assert column.values[column.known].tolist() == [v for v in expected if v is not None]
    assert column.values.dtype.kind in "biufU"


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])
def test_columns_of_a_frame_keep_their_kinds(make):
    frame = make({"a": [1, 2, 3], "b": ["x", None, "y"], "c": [1.5, None, 2.5]})
    read = read_targets(frame, np.empty((3, 0)), "y")
    assert [column.values.dtype.kind for column in read] == ["i", "U", "f"]
    assert [column.known.tolist() for column in read] == [
        [True, True, True],
        [True, False, True],
        [True, False, True],
    ]


@pytest.mark.parametrize("last", ["x", None])
def test_columns_of_nested_lists_keep_their_kinds(last):
    read = read_targets([["x", 1.5], ["y", 2.5], [last, 0.5]], np.empty((3, 0)), "y")
    assert [column.values.dtype.kind for column in read] == ["U", "f"]


# -- errors ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ([1 + 2j, 0, 1], ValueError, "y has dtype complex128.*numbers, booleans or text"),
        (np.arange(3).astype("M8[D]"), ValueError, "y has dtype datetime64"),
        (np.arange(3).astype("m8[D]"), ValueError, "y has dtype timedelta64"),
        (pd.Series(pd.date_range("2020", periods=3, tz="UTC")), ValueError, "y has dtype object"),
        (sparse.csr_array(np.ones((3, 1))), ValueError, "y is a sparse matrix; pass a dense"),
        (np.array(["a", 1, "b"], object), TypeError, "y holds.*text and numbers.*convert"),
        (["a", 1, "b"], TypeError, "y holds.*text and numbers.*convert"),
        ([0, 1], ValueError, r"inconsistent numbers of samples: \[3, 2\]"),
        (3, ValueError, r"y must be of shape \(n_samples,\).*has shape \(\)"),
        (np.zeros((3, 1, 1)), ValueError, r"y must be of shape.*\(3, 1, 1\)"),
        (np.zeros((3, 0)), ValueError, r"y .*\(3, 0\)"),
        (["a", "a", None], ValueError, "y has one class only, '?.*a.*target_weight=0"),
        ([2, 2, 2], ValueError, "y has one class only, .*2.*target_weight=0"),
        ([-1, -1, 2], None, ""),
        ([0.5, 0.5, NAN], ValueError, "y has one value only, .*0.5.*target_weight=0"),
        ([0.1, 0.1, 0.1], ValueError, "y has one value only, .*0.1.*target_weight=0"),
        ([NAN, NAN, NAN], ValueError, "y has no known value.*target_weight=0"),
        ([None, None, None], ValueError, "y has no known value.*target_weight=0"),
        ([[1, NAN], [0, NAN], [1, NAN]], ValueError, "y has no known value in some target"),
        ([0.5, np.inf, 1.0], ValueError, "y has infinite values.*finite, or NaN if unknown"),
        ([0, 1, -np.inf], ValueError, "y has infinite values.*finite, or NaN if unknown"),
    ],
    ids=str,
)
def test_errors_name_the_mistake_and_the_remedy(y, error, message):
    def read():
        targets = read_targets(y, np.empty((3, 0)), "y")
        return Targets(targets, np.arange(3))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if error is None:
            read()
            return
        with pytest.raises(error, match=message):
            read()


@pytest.mark.parametrize(
    ("y", "others", "message"),
    [
        ([0, 1, 2], [0, 5, -1], r"y_val has classes that y lacks: \[5\].*\[0, 1, 2\]"),
        (["a", "b", "b"], ["a", "z", None], r"y_val has classes that y lacks: \['z'\]"),
        ([0, 1, 2], ["a", "b", "b"], "y_val.*'a'"),
        ([0, 1, 2], [0.5, 1, 2], r"y_val has classes that y lacks: \[0\.5\]"),
        ([0.5, 1.5, 2], ["a", "b", "b"], "y_val"),
        ([0.5, 1.5, 2], [0.5, np.inf, NAN], "y_val has infinite values"),
        ([0, 1, 2], [[0, 1], [1, 2], [2, 0]], "y_val has 2 targets, but y has 1"),
    ],
    ids=str,
)
def test_validation_targets_must_be_like_the_others(y, others, message):
    targets, _ = encode(y)
    with pytest.raises(ValueError, match=message):
        targets.encode(read_targets(others, np.empty((3, 0)), "y_val"), "y_val")


@pytest.mark.parametrize(
    ("y", "others", "unknown"),
    [
        ([0, 1, 1], [-1, 1, 0], [0]),  # unknown there, although y has no such row
        ([0.0, 1.0, NAN], [0, 1, 0], []),
        ([False, True, True], [0, 1, 0], []),
        (["a", "b", "b"], [None, None, None], [0, 1, 2]),
        ([0.5, 1.5, 2], [1, 2, NAN], [2]),
        ([0.5, 1.5, 2], [None, None, None], [0, 1, 2]),
    ],
    ids=str,
)
def test_validation_targets_may_have_another_type(y, others, unknown):
    targets, _ = encode(y)
    columns = targets.encode(read_targets(others, np.empty((3, 0)), "y_val"), "y_val")
    assert np.flatnonzero(np.isnan(columns).any(axis=1)).tolist() == unknown


# -- which rows count --------------------------------------------------------------


def test_only_rows_that_are_trained_on_make_classes_and_units():
    y = pd.DataFrame({"kind": ["a", "b", "a", "rare"], "size": [1.0, 2.0, 3.5, 1e9]})
    read = read_targets(y, np.empty((4, 0)), "y")
    targets = Targets(read, np.arange(3))
    assert targets.parts[0].classes[0].tolist() == ["a", "b"]
    np.testing.assert_allclose(targets.parts[1].mean, np.mean([1, 2, 3.5]))


def test_integer_weights_make_the_units_of_repeated_rows():
    y, counts = load_diabetes().target[:60] + 0.5, np.resize([1, 3, 2], 60)
    weighted, _ = encode(y, weights=counts.astype(float))
    repeated, _ = encode(np.repeat(y, counts))
    for name in ("mean", "scale"):
        np.testing.assert_allclose(
            getattr(weighted.parts[0], name), getattr(repeated.parts[0], name), rtol=1e-12
        )


def test_shares_count_rows_and_their_weights():
    targets, columns = encode(np.array([[0.5, 0], [NAN, 1], [1.5, -1], [2.0, 1]]))
    np.testing.assert_allclose(targets.shares(columns, None), [0.75, 0.75])
    np.testing.assert_allclose(targets.shares(columns, np.array([1.0, 3, 2, 2])), [5 / 8, 6 / 8])
    assert targets.shares(columns[1:2], None).tolist() == [1, 1]  # of no row: nothing to divide by
    np.testing.assert_allclose(targets.uninformed_losses(), [1, np.log(2)])


# -- losses and gradients ----------------------------------------------------------

MIXED = pd.DataFrame(
    {
        "size": [0.5, NAN, 2.5, 4.0, 1.0, NAN],
        "kind": ["a", "b", None, "c", "a", None],
        "age": [30.5, 41.0, NAN, 22.0, 35.5, NAN],
        "flag": [1, 0, 1, -1, 2, -1],
    }
)


def outputs_for(columns, n_models=None):
    shape = columns.shape if n_models is None else (n_models, *columns.shape)
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("i", "name"), [(0, "size"), (2, "age")])
def test_the_loss_of_a_quantity_is_the_squared_error_of_its_standard_score(i, name):
    targets, columns = encode(MIXED)
    outputs = outputs_for(columns)
    losses = targets.head_losses(outputs, torch.from_numpy(columns).double()).numpy()[:, i]
    known = MIXED[name].notna().to_numpy()
    standard = (MIXED[name] - MIXED[name].mean()) / MIXED[name].std(ddof=0)
    predicted = outputs[:, targets.slices[i]].numpy()[:, 0]
    np.testing.assert_allclose(losses[known], np.square(predicted - standard)[known], rtol=1e-5)
    assert not losses[~known].any()


@pytest.mark.parametrize(("i", "name"), [(1, "kind"), (3, "flag")])
def test_the_loss_of_a_class_is_its_cross_entropy_in_nats(i, name):
    targets, columns = encode(MIXED)
    outputs = outputs_for(columns)
    losses = targets.head_losses(outputs, torch.from_numpy(columns).double()).numpy()[:, i]
    known = (MIXED[name].notna() & (MIXED[name] != -1)).to_numpy()
    probabilities = outputs[:, targets.slices[i]].softmax(dim=1).numpy()
    expected = log_loss(MIXED[name][known], probabilities[known], normalize=False)
    assert losses[known].sum() == pytest.approx(expected)
    assert not losses[~known].any()


@pytest.mark.parametrize("n_models", [None, 3])
def test_gradients_of_the_losses_are_those_of_autograd(n_models):
    targets, columns = encode(MIXED)
    outputs = outputs_for(columns, n_models).requires_grad_()
    rows = torch.from_numpy(columns).double().expand(outputs.shape)
    factors = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)
    (targets.head_losses(outputs, rows) @ factors).sum().backward()
    assert outputs.grad.isfinite().all()
    gradient = targets.head_gradient(outputs.detach(), rows, factors)
    torch.testing.assert_close(gradient, outputs.grad)
    assert not gradient[..., 5, :].any()  # nothing is known of this row


# -- the initial head --------------------------------------------------------------


def test_the_initial_head_is_scikit_learns_linear_model():
    X = StandardScaler().fit_transform(load_wine().data)[:, :3]
    y = load_wine().target.astype(float)
    size = X @ [1.0, -2.0, 0.5] + np.sin(5 * X[:, 0])
    y[::4], size[::3] = NAN, NAN
    targets, columns = encode(np.column_stack([y, size]))
    coefficients, intercepts = targets.fit_linear(X, columns)
    labeled, measured = ~np.isnan(y), ~np.isnan(size)
    classifier = LogisticRegression(max_iter=1000).fit(X[labeled], y[labeled])
    np.testing.assert_allclose(coefficients[:3], classifier.coef_, atol=1e-3)
    np.testing.assert_allclose(intercepts[:3], classifier.intercept_, atol=1e-3)
    standard = (size - np.nanmean(size)) / np.nanstd(size)
    ridge = Ridge(alpha=1.0).fit(X[measured], standard[measured])
    np.testing.assert_allclose(coefficients[3], ridge.coef_, atol=1e-5)
    np.testing.assert_allclose(intercepts[3], ridge.intercept_, atol=1e-5)


def test_two_classes_have_opposite_coefficients_that_give_the_same_odds():
    X = StandardScaler().fit_transform(load_wine().data)[:, :3]
    y = load_wine().target > 0
    targets, columns = encode(y)
    coefficients, intercepts = targets.fit_linear(X, columns)
    classifier = LogisticRegression(max_iter=1000).fit(X, y)
    np.testing.assert_allclose(coefficients[1] - coefficients[0], classifier.coef_[0], atol=1e-3)
    np.testing.assert_allclose(np.diff(intercepts), classifier.intercept_, atol=1e-3)


def test_rows_may_lack_a_class_or_a_target():
    """As those of a fold do."""
    X = StandardScaler().fit_transform(load_wine().data)[:, :3]
    y, size = load_wine().target, X[:, 0] + 0.1 * X[:, 1]
    targets, columns = encode(np.column_stack([y, size]))
    columns[:, 3] = np.nan
    two = y > 0
    coefficients, intercepts = targets.fit_linear(X[two], columns[two])
    assert not coefficients[[0, 3]].any()
    assert intercepts[0] == pytest.approx(np.log(1e-6))
    assert intercepts[3] == 0
    one = y == 2
    coefficients, intercepts = targets.fit_linear(X[one], columns[one])
    assert not coefficients.any()
    assert intercepts[:3].argmax() == 2


# -- the objective -----------------------------------------------------------------


def make_objective(**options):
    targets, columns = encode(MIXED)
    columns = torch.from_numpy(columns).double()
    rows = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = torch.cat([rows, columns], dim=1)
    output = Output(rows + 0.5, rows[:, :2], prediction=outputs_for(columns))
    shares = targets.shares(columns.numpy(), None)
    plain = Objective({"reconstruction": squared_error})
    objective = SupervisedObjective(
        plain, targets, 5, shares, **{"weight": 3.0, "validation_weight": 2.0, **options}
    )
    return objective, output, x, shares


def test_a_target_counts_as_much_however_many_rows_have_it():
    objective, output, x, shares = make_objective()
    losses = objective.targets.head_losses(output.prediction, x[:, 5:])
    of_known = [losses[:, i].sum() / (6 * share) for i, share in enumerate(shares)]
    expected = 5 * 0.25 + 3.0 * torch.stack(of_known).mean()
    assert float(objective(output, x)) == pytest.approx(float(expected))
    loss, _ = objective.head_losses_and_gradient(output.prediction, x[:, 5:])
    assert float(loss) == pytest.approx(float(expected) - 5 * 0.25)


def test_in_validation_losses_have_the_unit_of_a_head_that_knows_nothing():
    objective, output, x, shares = make_objective()
    losses = objective.targets.head_losses(output.prediction, x[:, 5:]).numpy()
    units = np.array([1, np.log(3), 1, np.log(3)])
    expected = 5 * 0.25 + 2.0 * (losses / shares / units).mean(axis=1)
    np.testing.assert_allclose(objective.row_losses(output, x), expected)


def test_weights_of_rows_count_as_repeated_rows():
    objective, output, x, _ = make_objective()
    counts = torch.tensor([1, 3, 2, 1, 4, 1])
    gradients = []
    for repeats, weights in (
        (torch.ones(6, dtype=int), counts / counts.double().mean()),
        (counts, None),
    ):
        prediction = output.prediction.clone().requires_grad_()
        rows = x.repeat_interleave(repeats, dim=0)
        given = Output(
            output.reconstruction.repeat_interleave(repeats, dim=0),
            None,
            prediction=prediction.repeat_interleave(repeats, dim=0),
        )
        objective(given, rows, weights).backward()
        gradients.append(prediction.grad)
    torch.testing.assert_close(*gradients)
    assert gradients[0].any()
