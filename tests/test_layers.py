"""The layers of the design page, enforced by reading the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from reading_path import changes_of_file, reading_path

import skae

ROOT = Path(skae.__file__).parent
# Modules of one line never import each other; a module imports from lines above its own only.
LAYERS = [
    "_data.partitions",
    "_data.frames _data.meshes _data.optional_imports _data.estimator_rollback _data.statistics "
    "_data.threads _data.version _data.warnings _data.worker_group",
    "_data.array_api _data.parameter_checks _data.pca",
    "_data.dtypes_and_batch_sizes _data.seeds_and_devices",
    "_data.input_errors",
    "_data.input_checks",
    "_data.table_cells",
    "_data.table_frames _data.table_state",
    "_data.table_columns",
    "_data.sample_weight _data.spooled_rows _data.units _data.views",
    "_data.dataset",
    "_data.batches",
    "_data.shared_rows",
    "_data",
    "densities noise",
    "networks.onednn",
    "networks.dense",
    "networks.columns networks.conditional networks.convolutional networks.linear_vae "
    "networks.mesh networks.multiview networks.sparse networks.supervised",
    "networks.inference networks.serialization",
    "networks",
    "losses",
    "export metrics",
    "_training.targets",
    "_training.callbacks _training.gradients _training.lr_schedule _training.optimizers "
    "_training.pickling _training.progress _training.validation_split",
    "_training.adversarial _training.best_weights _training.column_gradients "
    "_training.mixed_precision _training.sparse_gradients",
    "_training.net",
    "_training.batched",
    "_training.trainer",
    "_training.distributed _training.supervision",
    "_training",
    "_latent.column_cells",
    "_latent.column_model _latent.famd _latent.joint_pca _latent.neighbor_map",
    "_latent.given_condition",
    "_latent.column_graph",
    "_latent.n_components _latent.transform",
    "_latent.region",
    "_latent.ordering",
    "_latent.sampling",
    "_latent.covariance",
    "_latent",
    "_estimators.html_display",
    "_estimators.base _estimators.docstrings _estimators.supervised "
    "_estimators.supervised.label_propagation",
    "_estimators.partial_fit _estimators.supervised.fine_tuning",
    "_estimators.dense _estimators.sparse _estimators.vae",
    "_estimators.adversarial _estimators.autoencoder _estimators.denoising "
    "_estimators.missing_values _estimators.stacked",
    "_estimators.arrays _estimators.multiview _estimators.neighbor",
    "_estimators.convolutional _estimators.mesh",
    "_estimators.distributed _estimators.supervised.estimators _estimators.table_base",
    "_estimators.conditional _estimators.imputer _estimators.table",
    "_estimators.table_coordinates",
    "_estimators",
    "displays._plotting",
    "displays.dimension_search displays.explained_variance displays.latent_grid "
    "displays.latent_space displays.loss_curve displays.mesh displays.reconstruction",
    "displays",
    "dask",
    "_model_selection.candidate_fits _model_selection.html_report _model_selection.progress "
    "_model_selection.selection_rules _model_selection.significance "
    "_model_selection.table_errors _model_selection.table_preprocessor "
    "_model_selection.written_values",
    "_model_selection.baselines _model_selection.column_types _model_selection.table_file",
    "_model_selection.downstream_target _model_selection.verdict",
    "_model_selection.comparison_result _model_selection.latent_dimension_search",
    "_model_selection.compare",
    "_model_selection",
    "__init__",
    "__main__",
]
LAYER_OF = {name: i for i, layer in enumerate(LAYERS) for name in layer.split()}
FILES = sorted(ROOT.rglob("*.py"))
GLOBAL_STATE = {
    "torch.manual_seed",
    "torch.random.manual_seed",
    "torch.seed",
    "np.random.seed",
    "numpy.random.seed",
    "np.random.set_state",
    "random.seed",
    "torch.set_default_dtype",
    "torch.set_default_device",
    "torch.use_deterministic_algorithms",
    "os.environ",
    "os.putenv",
}


def label_of(path):
    """Name of a module below skae; of a package, the package's own."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


each_file = pytest.mark.parametrize("path", FILES, ids=label_of)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_modules(nodes):
    """Full names of everything that import statements name."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_layers(path):
    """Modules of skae that a file imports."""
    for name in imported_modules(ast.walk(tree_of(path))):
        if name.split(".")[0] == "skae":
            name = name.removeprefix("skae").removeprefix(".")
            while name and name not in LAYER_OF:
                name = name.rpartition(".")[0]
            yield name or "__init__"


def test_every_file_has_a_layer():
    assert sorted(map(label_of, FILES)) == sorted(LAYER_OF)


def test_the_top_of_the_package_fits_on_a_screen():
    beside = ("__pycache__", "py.typed")
    entries = [path for path in ROOT.iterdir() if path.name not in beside]
    assert len(entries) <= 15


@each_file
def test_imports_are_absolute(path):
    relative = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative


@each_file
def test_imports_go_down_only(path):
    own = LAYER_OF[label_of(path)]
    assert not [name for name in imported_layers(path) if LAYER_OF[name] >= own]


@each_file
def test_skorch_is_imported_by_the_training_package_only(path):
    tops = {name.split(".")[0] for name in imported_modules(ast.walk(tree_of(path)))}
    assert "skorch" not in tops or label_of(path).startswith("_training.")


@each_file
def test_matplotlib_is_not_imported_at_the_top(path):
    tops = {name.split(".")[0] for name in imported_modules(tree_of(path).body)}
    assert "matplotlib" not in tops


@each_file
def test_global_state_is_left_alone(path):
    dotted = {ast.unparse(n) for n in ast.walk(tree_of(path)) if isinstance(n, ast.Attribute)}
    assert not dotted & GLOBAL_STATE


def test_a_fit_can_be_followed(record_property):
    """From `fit` through training to what densities need; the report says how far one must read."""
    path = reading_path()
    record_property("functions in a fit", len(path))
    record_property("changes of file in a fit", changes_of_file(path))
    steps = ["BaseAutoencoder.fit", "TrainingJob.train", "BestWeights.on_train_end"]
    steps.append("GenerativeTransformer._prepare_densities")
    functions = [function for _, function in path]
    assert sorted(steps, key=functions.index) == steps


@pytest.mark.parametrize(
    ("module", "admitted"),
    [
        ("metrics", set()),
        ("export", {"_as_module", "__name__"}),
        *((f"displays/{path.stem}", {"__name__"}) for path in ROOT.glob("displays/*.py")),
        ("_model_selection/compare", {"__module__", "__name__"}),
    ],
)
def test_public_modules_use_estimators_by_their_public_methods(module, admitted):
    """What stands around the estimators reads nothing private of them, export one method."""
    private = {
        node.attr
        for node in ast.walk(tree_of(ROOT / f"{module}.py"))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_")
    }
    assert private <= admitted
