"""Prediction from an embedding: numbers equal those of arrays, technical covariates are found, and mistakes leave no trace."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scbetavae
from scbetavae.tl import predict_condition

QUICK = {"n_permutations": 10, "n_bootstrap": 10}


@pytest.fixture(scope="module")
def _embedded():
    rng = np.random.default_rng(0)
    n_cells = 160
    condition = rng.integers(0, 2, n_cells)
    counts = rng.poisson(2.0 + 3.0 * condition[:, None], size=(n_cells, 12))
    obs = pd.DataFrame(
        {
            "condition": pd.Categorical(np.where(condition, "stim/IFN", "ctrl")),
            "age": rng.uniform(20, 80, n_cells),
            "donor": np.array([f"donor {i}" for i in rng.integers(0, 6, n_cells)]),
            "same": "x",
            "one donor": "d",
            "partly": pd.Series(np.where(condition, "a", "b")).where(rng.random(n_cells) > 0.2).to_numpy(),
        },
        index=[f"cell {i}" for i in range(n_cells)],
    )
    var = pd.DataFrame(index=["MT-CO1", "mt-Nd1", *(f"gene {i}" for i in range(10))])
    codes = rng.normal(size=(n_cells, 3))
    codes[:, 1] += 3.0 * condition
    adata = AnnData(sparse.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    adata.obsm["X_betavae"] = codes.astype(np.float32)
    return adata


@pytest.fixture
def embedded(_embedded):
    return _embedded.copy()


def params(adata):
    return adata.uns["betavae"]["condition_prediction_params"]


def technical_accuracy(frame):
    return frame.loc[frame["predictor"] == "technical", "accuracy"].item()


def test_numbers_are_those_of_the_arrays(embedded):
    frame = predict_condition(embedded, "condition", donor_key="donor", seed=3, **QUICK)
    counts = embedded.X.toarray()
    totals = counts.sum(axis=1)
    aside = np.column_stack([np.log1p(totals), 100 * counts[:, :2].sum(axis=1) / totals])
    expected = scbetavae.metrics.condition_prediction(
        embedded.obsm["X_betavae"],
        embedded.obs["condition"],
        groups=embedded.obs["donor"],
        technical_covariates=aside,
        seed=3,
        **QUICK,
    )
    pd.testing.assert_frame_equal(frame, expected)
    pd.testing.assert_frame_equal(frame, embedded.uns["betavae"]["condition_prediction"])
    assert frame["covariate"].eq("condition").all()
    assert frame["direction"][1] == "stim/IFN"
    assert params(embedded)["technical_covariates"] == "log library size, percent mitochondrial"
    assert params(embedded)["donor_key"] == "donor"
    assert params(embedded)["n_missing"] == 0
    assert "layer" not in params(embedded)


def test_numeric_covariate_and_missing_labels(embedded):
    assert predict_condition(embedded, "age", **QUICK)["n_classes"].eq(0).all()
    assert params(embedded)["measure"] == "signed squared correlation"
    frame = predict_condition(embedded, "partly", **QUICK)
    n_missing = int(embedded.obs["partly"].isna().sum())
    assert params(embedded)["n_missing"] == n_missing > 0
    assert frame["n_cells"].eq(160 - n_missing).all()
    assert f"{n_missing} cells without a label" in frame["flag"][0]


def test_library_size_comes_from_a_layer_or_a_column(embedded):
    embedded.layers["raw"] = embedded.X.copy()
    embedded.X = np.log1p(embedded.X)
    told = predict_condition(embedded, "condition", layer="raw", **QUICK)
    assert technical_accuracy(told) > 0.8
    assert params(embedded)["layer"] == "raw"
    none = predict_condition(embedded, "condition", **QUICK)
    assert np.isnan(technical_accuracy(none))
    assert params(embedded)["technical_covariates"] == ""
    embedded.obs["total_counts"] = np.asarray(embedded.layers["raw"].sum(axis=1)).reshape(-1)
    embedded.obs["percent_mito"] = 1.0
    by_column = predict_condition(embedded, "condition", **QUICK)
    assert params(embedded)["technical_covariates"] == "log total_counts, percent_mito"
    assert technical_accuracy(by_column) == pytest.approx(technical_accuracy(told), abs=0.1)


def test_a_column_of_percent_mitochondrial_goes_before_counts(embedded):
    embedded.obs["pct_counts_mt"] = (embedded.obs["condition"] == "ctrl").astype(float)
    assert technical_accuracy(predict_condition(embedded, "condition", **QUICK)) == 1
    assert params(embedded)["technical_covariates"] == "log library size, pct_counts_mt"
    embedded.obs.loc["cell 0", "pct_counts_mt"] = np.nan
    predict_condition(embedded, "condition", **QUICK)
    assert params(embedded)["technical_covariates"] == "log library size, percent mitochondrial"


def test_technicals_of_the_users_choice(embedded):
    frame = predict_condition(embedded, "condition", technical_covariates="age", **QUICK)
    assert params(embedded)["technical_covariates"] == "age"
    assert abs(technical_accuracy(frame)) < 0.3
    frame = predict_condition(embedded, "condition", technical_covariates=[], **QUICK)
    assert np.isnan(technical_accuracy(frame))


def test_symbols_may_be_a_column_of_genes(embedded):
    embedded.var["symbol"] = embedded.var_names
    embedded.var_names = [f"ENSG{i}" for i in range(12)]
    predict_condition(embedded, "condition", **QUICK)
    assert params(embedded)["technical_covariates"] == "log library size, percent mitochondrial"


def test_without_counts(embedded):
    bare = AnnData(obs=embedded.obs, obsm=dict(embedded.obsm))
    assert np.isnan(technical_accuracy(predict_condition(bare, "condition", **QUICK)))


def test_a_dimension_without_divergence_takes_no_part(embedded, write_latent):
    write_latent(embedded, kl=[0.5, 0.001, 0.5])
    frame = predict_condition(embedded, "condition", **QUICK)
    assert frame["active"].tolist() == [True, False, True, True, True]


def test_a_collapsed_embedding_is_a_result(embedded, caplog):
    embedded.obsm["X_betavae"] = np.ones((160, 3))
    frame = predict_condition(embedded, "condition", **QUICK)
    assert "No dimension" in caplog.text
    assert frame["accuracy"].tolist()[3] == 0
    assert "no active dimension" in frame["flag"][3]


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_what_is_stored_comes_back(embedded, tmp_path, kind):
    predict_condition(embedded, "condition", donor_key="donor", **QUICK)
    stored = embedded.uns["betavae"]
    path = tmp_path / f"cells.{kind}"
    getattr(embedded, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path).uns["betavae"]
    pd.testing.assert_frame_equal(
        again["condition_prediction"], stored["condition_prediction"], check_dtype=False, check_index_type=False
    )
    back = {name: value.item() if hasattr(value, "item") else value for name, value in params_of(again).items()}
    assert back == params_of(stored)


def params_of(stored):
    return dict(stored["condition_prediction_params"])


def test_other_results_are_kept(embedded):
    embedded.uns["betavae"] = {"params": {"beta": 4.0}}
    predict_condition(embedded, "condition", key_added="mine", **QUICK)
    assert set(embedded.uns["betavae"]) == {"params", "mine", "mine_params"}


@pytest.mark.parametrize(
    ("covariate", "arguments", "error", "words"),
    [
        ("conditon", {}, KeyError, ["'conditon'", "Did you mean 'condition'"]),
        (["condition", "age"], {}, TypeError, ["one column"]),
        ("same", {}, ValueError, ["'same'", "one class", "'x'"]),
        ("condition", {"obsm_key": "X_betavea"}, KeyError, ["Did you mean 'X_betavae'"]),
        ("condition", {"donor_key": "doner"}, KeyError, ["'donor'"]),
        ("condition", {"donor_key": "one donor"}, ValueError, ["one group", "held out"]),
        ("condition", {"donor_key": "partly"}, ValueError, ["'partly'", "missing"]),
        ("condition", {"technical_covariates": "aage"}, KeyError, ["technical_covariates='aage'", "'age'"]),
        ("condition", {"technical_covariates": ["donor"]}, TypeError, ["'donor'", "numbers"]),
        ("condition", {"technical_covariates": "broken"}, ValueError, ["'broken'", "160 cells"]),
        ("condition", {"layer": "raww"}, KeyError, ["layer='raww'", "'raw'"]),
        ("condition", {"layer": "raw"}, ValueError, ["'raw'", "does not hold counts"]),
        ("condition", {"n_permutations": -1}, ValueError, ["n_permutations"]),
        ("condition", {"key_added": "a/b"}, ValueError, ["'a/b'"]),
    ],
)
def test_mistakes_leave_no_trace(embedded, covariate, arguments, error, words):
    embedded.obs["broken"] = np.nan
    embedded.layers["raw"] = np.full(embedded.shape, 0.5)
    with pytest.raises(error) as raised:
        predict_condition(embedded, covariate, **arguments)
    for word in words:
        assert word in str(raised.value)
    assert "betavae" not in embedded.uns


def test_a_view_is_refused(embedded):
    with pytest.raises(ValueError, match="view"):
        predict_condition(embedded[:100], "condition")
