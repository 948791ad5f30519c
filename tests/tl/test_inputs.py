"""Columns of codes: classes of any type where they are used or named as such, and numbers with a warning elsewhere."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae import tl

QUICK = {"n_permutations": 10, "n_bootstrap": 5}
TYPES = {
    "int64": lambda codes: codes.astype(np.int64),
    "uint8": lambda codes: codes.astype(np.uint8),
    "float": lambda codes: codes.astype(np.float64),
    "nullable": lambda codes: pd.array(codes, dtype="Int64"),
    "object": lambda codes: codes.astype(object),
    "float categories": lambda codes: pd.Categorical(codes.astype(float)),
}
REFUSED = [
    "score_disentanglement",
    "compare_embeddings",
    "predict_condition",
    "find_batch_dimensions",
    "zero_batch_dimensions",
]


@pytest.fixture(scope="module")
def _cells():
    """Dimensions 0 and 3 encode batch and type; ``text`` and ``code`` name the same types."""
    adata = scbetavae.datasets.simulate_counts(160, 20, n_cell_types=4, seed=0)
    rng = np.random.default_rng(0)
    codes = pd.factorize(adata.obs["cell_type"])[0]
    adata.obs["text"] = codes.astype(str)
    adata.obs["code"] = codes
    embedding = rng.normal(size=(160, 4))
    embedding[:, 0] += 6.0 * (adata.obs["batch"] == "batch_1")
    embedding[:, 3] += 3.0 * np.array([0, 2, 1, 3])[codes] + (adata.obs["batch"] == "batch_1")
    adata.obsm["X_betavae"] = embedding
    return adata


@pytest.fixture
def cells(_cells):
    return _cells.copy()


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 5)


def ask(name, adata, column, **kwargs):
    """A result with the name of the column taken out."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Zeroing|Nothing was zeroed")
        if name == "compare_embeddings":
            frame = tl.compare_embeddings(adata, column, "X_betavae", **QUICK, **kwargs)
        elif name == "predict_condition":
            frame = tl.predict_condition(adata, column, technical_covariates=[], **QUICK, **kwargs)
        elif name == "find_batch_dimensions":
            frame = tl.find_batch_dimensions(adata, "batch", conserve=column, n_permutations=20, **kwargs)
        elif name == "zero_batch_dimensions":
            frame = pd.DataFrame(tl.zero_batch_dimensions(adata, conserve=column, n_bootstrap=5, **kwargs))
            frame = pd.concat([frame, adata.uns["betavae"]["batch_removal"]])
        else:
            frame = tl.score_disentanglement(adata, column, **QUICK, **kwargs)
    return frame.replace(column, "column")


@pytest.mark.parametrize("name", REFUSED)
def test_codes_that_are_called_classes_equal_the_same_labels_as_texts(cells, name):
    told = ask(name, cells, "code", categorical="code")
    pd.testing.assert_frame_equal(told, ask(name, cells, "text"), check_exact=True)
    assert cells.obs["code"].dtype == np.int64  # the user's column stays as it was
    with warnings.catch_warnings(action="ignore"):
        numbers = ask(name, cells, "code")
    assert not numbers.equals(told)


@pytest.mark.parametrize("kind", list(TYPES))
def test_every_type_of_codes(cells, kind):
    texts = ask("score_disentanglement", cells, "text", metrics=["sap", "lms"])
    cells.obs["code"] = TYPES[kind](cells.obs["code"].to_numpy())
    codes = ask("score_disentanglement", cells, "code", metrics=["sap", "lms"], categorical=["code"])
    pd.testing.assert_frame_equal(codes, texts, check_exact=True)
    levels = cells.uns["betavae"]["disentanglement_dimensions"]["class"]
    assert set(levels) >= {"0", "1", "2", "3"}


@pytest.mark.parametrize("name", REFUSED)
def test_codes_that_are_not_called_classes_warn_once(cells, name):
    with pytest.warns(UserWarning, match=r"\['code'\] hold 4 distinct integers and are treated as numbers") as record:
        ask(name, cells, "code")
    assert sum("distinct integers" in str(warning.message) for warning in record) == 1
    assert "categorical=['code']" in str(record[0].message)
    assert "astype('category')" in str(record[0].message)
    ask(name, cells, "code", categorical=[])  # a warning would be an error
    cells.obs["code"] = cells.obs["code"].astype("category")
    ask(name, cells, "code")


def test_one_warning_names_all_columns_and_the_confounder(cells):
    cells.obs["other"] = np.arange(160) % 3
    cells.obs["plate"] = np.arange(160) % 2
    with pytest.warns(UserWarning, match="distinct integers") as record:
        tl.score_disentanglement(cells, ["code", "text", "other"], confounder="plate", metrics="mig", **QUICK)
    assert len(record) == 1
    assert "covariates ['code', 'other', 'plate'] hold 4, 3, 2 distinct integers" in str(record[0].message)


@pytest.mark.parametrize(
    ("values", "warns"),
    [
        (np.arange(160) % 20, True),
        (np.arange(160) % 21, False),
        (np.arange(160) % 20 + 0.5, False),
        (np.where(np.arange(160) % 20 > 0, np.arange(160) % 20, np.nan), True),
        (np.ones(160, dtype=int), False),
        (np.arange(160) % 2 == 0, False),
    ],
)
def test_only_few_whole_numbers_may_be_codes(cells, values, warns):
    cells.obs["column"] = values
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        tl.score_disentanglement(cells, "column", metrics="sap", n_permutations=0, n_bootstrap=0)
    assert len(record) == warns


@pytest.mark.parametrize("kind", ["int64", "nullable", "float categories"])
def test_batch_labels_and_donors_are_classes_of_any_type(cells, kind):
    cells.obs["plate"] = TYPES[kind]((cells.obs["batch"] == "batch_1").to_numpy().astype(int))
    cells.obs["plate text"] = (cells.obs["batch"] == "batch_1").astype(int).astype(str)
    cells.obs["code"] = TYPES[kind](cells.obs["code"].to_numpy())
    results = []
    for batch, labels in (("plate", "code"), ("plate text", "text")):
        found = tl.find_batch_dimensions(cells, batch, conserve="cell_type", n_permutations=20)
        zeroed = tl.zero_batch_dimensions(
            cells, 0, batch, conserve="cell_type", to="reference", reference_batch="1", n_bootstrap=0, donor_key=labels
        )
        integration = tl.score_integration(cells, labels, batch)
        predicted = tl.predict_condition(cells, "condition", donor_key=labels, technical_covariates=[], **QUICK)
        frames = (found, pd.DataFrame(zeroed), integration.drop(columns="covariate"), predicted)
        results.append(frames)
    for numbers, texts in zip(*results, strict=True):
        pd.testing.assert_frame_equal(numbers, texts, check_exact=True)


def test_a_reference_batch_may_be_the_number_itself(cells):
    cells.obs["plate"] = (cells.obs["batch"] == "batch_1").astype(float)
    ask = {"conserve": "cell_type", "to": "reference", "n_bootstrap": 0}
    zeroed = [tl.zero_batch_dimensions(cells, 0, "plate", reference_batch=name, **ask) for name in (1.0, 1, "1")]
    np.testing.assert_array_equal(zeroed[0], zeroed[1])
    np.testing.assert_array_equal(zeroed[0], zeroed[2])


def test_fractions_are_no_classes_and_unknown_columns_are_named(cells):
    cells.obs["half"] = np.arange(160) / 2
    with pytest.raises(ValueError, match="'half' holds fractions"):
        tl.score_disentanglement(cells, "half", categorical="half")
    with pytest.raises(ValueError, match="fractions"):
        tl.score_integration(cells, "half")
    with pytest.raises(KeyError, match=r"categorical='cod'.*Did you mean 'code'"):
        tl.score_disentanglement(cells, "code", categorical="cod")
    assert "disentanglement" not in cells.uns["betavae"]
    assert "integration" not in cells.uns["betavae"]


def test_results_of_codes_survive_a_file(cells, tmp_path):
    tl.score_disentanglement(cells, "code", categorical="code", **QUICK)
    tl.find_batch_dimensions(cells, "batch", conserve="code", categorical="code", n_permutations=20)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    back = anndata.read_h5ad(tmp_path / "cells.h5ad")
    for name, entry in cells.uns["betavae"].items():
        if isinstance(entry, pd.DataFrame):
            pd.testing.assert_frame_equal(back.uns["betavae"][name], entry, check_dtype=False, check_index_type=False)
    assert back.obs["code"].dtype == cells.obs["code"].dtype
