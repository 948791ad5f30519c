"""Scores of an embedding: the numbers are those of the arrays, what is stored comes back, and mistakes leave no trace."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scbetavae
from scbetavae.tl import score_disentanglement

QUICK = {"n_permutations": 10, "n_bootstrap": 10}
LABELS = np.array(["CD8+/CD45RA+ Naive Cytotoxic", "CD14+ Monocyte", "B"])


@pytest.fixture(scope="module")
def _embedded():
    rng = np.random.default_rng(0)
    n_cells = 240
    label, batch = rng.integers(0, 3, n_cells), rng.integers(0, 2, n_cells)
    codes = rng.normal(size=(n_cells, 4))
    codes[:, 0] += 4.0 * label
    codes[:, 1] += 3.0 * batch
    obs = pd.DataFrame(
        {
            "cell type": pd.Categorical(LABELS[label]),
            "batch": np.where(batch, "b/1", "b/2"),
            "treated": batch.astype(bool),
            "age": rng.uniform(20, 80, n_cells),
            "donor": np.array([f"donor {i}" for i in rng.integers(0, 6, n_cells)]),
            "same": "x",
        },
        index=[f"cell {i}" for i in range(n_cells)],
    )
    obs["partly"] = pd.Series(rng.choice(LABELS, n_cells), index=obs.index).where(rng.random(n_cells) > 0.2)
    return AnnData(obs=obs, obsm={"X_betavae": codes.astype(np.float32)})


@pytest.fixture
def embedded(_embedded):
    return _embedded.copy()


def stored(adata, name=""):
    return adata.uns["betavae"][f"disentanglement{name}"]


def test_numbers_are_those_of_the_arrays(embedded):
    covariates = ["cell type", "batch", "age", "partly"]
    frame = score_disentanglement(embedded, covariates, seed=3, **QUICK)
    codes, factors = embedded.obsm["X_betavae"], embedded.obs[covariates]
    pd.testing.assert_frame_equal(frame, scbetavae.metrics.score_frame(codes, factors, seed=3, **QUICK))
    pd.testing.assert_frame_equal(frame, stored(embedded))
    pd.testing.assert_frame_equal(
        stored(embedded, "_dimensions"), scbetavae.metrics.dimension_covariate_table(codes, factors)
    )
    pd.testing.assert_frame_equal(stored(embedded, "_covariates"), scbetavae.metrics.covariate_association(factors))
    parameters = stored(embedded, "_params")
    assert "X_betavae" in parameters.pop("fingerprint")
    assert parameters == {"obsm_key": "X_betavae", "n_permutations": 10, "n_bootstrap": 10, "seed": 3}


def test_groups_and_confounder_are_columns(embedded):
    choice = {"metrics": ["mig", "dci"], **QUICK}
    frame = score_disentanglement(embedded, ["cell type", "batch"], donor_key="donor", confounder="partly", **choice)
    expected = scbetavae.metrics.score_frame(
        embedded.obsm["X_betavae"],
        embedded.obs[["cell type", "batch"]],
        groups=embedded.obs["donor"],
        confounder=embedded.obs["partly"],
        **choice,
    )
    pd.testing.assert_frame_equal(frame, expected)
    assert frame["flag"].str.contains("not adjusted for partly").any()
    assert stored(embedded, "_params")["donor_key"] == "donor"
    assert stored(embedded, "_params")["confounder"] == "partly"
    plain = score_disentanglement(embedded, ["cell type", "batch"], **choice)
    assert not np.allclose(plain["ci_low"].dropna(), frame["ci_low"].reindex(plain["ci_low"].dropna().index))


def test_a_confounder_may_be_a_covariate(embedded):
    frame = score_disentanglement(embedded, ["cell type", "batch"], confounder="batch", metrics="mig", **QUICK)
    factors = embedded.obs[["cell type", "batch"]]
    expected = scbetavae.metrics.score_frame(
        embedded.obsm["X_betavae"], factors, confounder="batch", metrics="mig", **QUICK
    )
    pd.testing.assert_frame_equal(frame, expected)


def test_one_name_is_a_list_of_one(embedded):
    one = score_disentanglement(embedded, "cell type", metrics="mig", **QUICK)
    pd.testing.assert_frame_equal(one, score_disentanglement(embedded, ["cell type"], metrics="mig", **QUICK))


@pytest.mark.parametrize("make", [sparse.csr_matrix, pd.DataFrame], ids=["sparse", "frame"])
def test_embeddings_of_other_kinds(embedded, make):
    array = embedded.obsm["X_betavae"]
    kwargs = {"index": embedded.obs_names, "columns": list("abcd")} if make is pd.DataFrame else {}
    embedded.obsm["X_other"] = make(array, **kwargs)
    other = score_disentanglement(embedded, "batch", obsm_key="X_other", metrics="sap", **QUICK)
    pd.testing.assert_frame_equal(other, score_disentanglement(embedded, "batch", metrics="sap", **QUICK))


def test_a_collapsed_dimension_with_full_information_takes_no_part(embedded, write_latent):
    rank = embedded.obs["cell type"].cat.codes.to_numpy()
    embedded.obsm["X_noise"] = np.column_stack([np.random.default_rng(1).normal(size=(240, 2)), 0.3 * rank])
    choice = {"obsm_key": "X_noise", "metrics": "mig", **QUICK}
    by_spread = score_disentanglement(embedded, "cell type", **choice)
    write_latent(embedded, "X_noise", kl=[0.5, 0.5, 0.001])
    by_kl = score_disentanglement(embedded, "cell type", **choice)
    assert by_spread["value"].iloc[0] > 0.9
    assert by_kl["value"].iloc[0] < 0.05
    active = stored(embedded, "_dimensions").groupby("dimension")["active"].first()
    assert active.tolist() == [True, True, False]


def test_total_correlation(embedded, write_latent):
    write_latent(embedded, variance=0.5)
    frame = score_disentanglement(embedded, "batch", **QUICK)
    rows = frame[frame["metric"] == "gaussian_total_correlation"].set_index("level")
    codes = embedded.obsm["X_betavae"]
    assert rows["value"].to_dict() == {
        "means": scbetavae.metrics.gaussian_total_correlation(codes),
        "samples": scbetavae.metrics.gaussian_total_correlation(codes, np.full((240, 4), 0.5)),
    }
    assert rows["flag"].str.contains("nats").all()
    embedded.obsm["X_other"] = codes
    alone = score_disentanglement(embedded, "batch", obsm_key="X_other", metrics="gaussian_total_correlation")
    assert alone["level"].tolist() == ["means"]
    assert list(alone.columns) == list(frame.columns)
    assert alone.dtypes.equals(frame.dtypes)


def test_aliases_are_flagged_and_logged(embedded, caplog):
    with caplog.at_level(logging.WARNING, "scbetavae"):
        frame = score_disentanglement(embedded, ["batch", "treated", "cell type"], metrics="mig", **QUICK)
    flags = frame.set_index("covariate")["flag"]
    assert "alias of treated" in flags["batch"]
    assert "alias of batch" in flags["treated"]
    assert "alias" not in flags["cell type"]
    assert "batch = treated" in flags["all"]
    assert "'batch' and 'treated' are aliases" in caplog.text


def test_undefined_is_a_flag(embedded):
    frame = score_disentanglement(embedded, ["same"], metrics=["mig", "dci"], **QUICK)
    assert frame["value"].isna().all()
    assert (frame["flag"] != "").all()


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_everything_survives_a_round_trip(embedded, tmp_path, kind, write_latent):
    write_latent(embedded)
    covariates = ["cell type", "batch", "age", "same", "treated"]
    frame = score_disentanglement(embedded, covariates, donor_key="donor", **QUICK)
    path = tmp_path / f"cells.{kind}"
    getattr(embedded, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path)
    for name in ("", "_dimensions", "_covariates"):
        before, after = stored(embedded, name), stored(again, name)
        pd.testing.assert_frame_equal(
            before.astype(object), after.reset_index(drop=True).astype(object), check_column_type=False
        )
    pd.testing.assert_frame_equal(frame, stored(embedded))
    assert set(LABELS) < set(stored(again, "_dimensions")["class"])
    assert stored(again, "_params")["donor_key"] == "donor"
    # What was read can be drawn, and scored and written again.
    scbetavae.pl.disentanglement(again)
    scbetavae.pl.dimension_covariate(again)
    score_disentanglement(again, ["cell type"], metrics="mig", **QUICK)
    getattr(again, f"write_{kind}")(tmp_path / f"again.{kind}")


def test_other_entries_and_other_names_stay(embedded):
    embedded.uns["betavae"] = {"params": {"beta": 4.0}}
    first = score_disentanglement(embedded, "batch", metrics="mig", **QUICK)
    score_disentanglement(embedded, "age", metrics="sap", key_added="second", **QUICK)
    assert embedded.uns["betavae"]["params"] == {"beta": 4.0}
    pd.testing.assert_frame_equal(stored(embedded), first)
    assert set(embedded.uns["betavae"]["second_dimensions"]["covariate"]) == {"age"}


def test_the_result_is_not_what_is_stored(embedded):
    frame = score_disentanglement(embedded, "batch", metrics="mig", **QUICK)
    frame["value"] = 0.0
    assert stored(embedded)["value"].iloc[0] > 0.1


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"covariates": ["cell_type"]}, KeyError, ["'cell_type'", "Did you mean 'cell type'"]),
        ({"covariates": []}, ValueError, ["covariates is empty", "'batch'"]),
        ({"covariates": ["batch", "batch"]}, ValueError, ["'batch'", "twice"]),
        ({"covariates": [None]}, KeyError, ["None"]),
        ({"obsm_key": "X_betavea"}, KeyError, ["'X_betavea'", "Did you mean 'X_betavae'"]),
        ({"obsm_key": "X_nan"}, ValueError, ["X_nan", "NaN", "2 cells", "'cell 3'"]),
        ({"obsm_key": "X_text"}, TypeError, ["X_text", "numbers"]),
        ({"obsm_key": "X_empty"}, ValueError, ["X_empty", "(240, 0)"]),
        ({"donor_key": "doner"}, KeyError, ["donor_key='doner'", "'donor'"]),
        ({"donor_key": "partly"}, ValueError, ["'partly'", "missing"]),
        ({"confounder": "Batch"}, KeyError, ["confounder='Batch'", "'batch'"]),
        ({"covariates": ["infinite"]}, ValueError, ["'infinite'", "infinite values"]),
        ({"covariates": ["date"]}, TypeError, ["'date'", "dates"]),
        ({"metrics": "migg"}, ValueError, ["'migg'", "'mig'"]),
        ({"metrics": []}, ValueError, ["empty"]),
        ({"n_permutations": -1}, ValueError, ["n_permutations"]),
        ({"key_added": "a/b"}, ValueError, ["'a/b'"]),
        ({"key_added": ""}, ValueError, ["key_added"]),
    ],
)
def test_mistakes(embedded, arguments, error, words):
    embedded.obsm["X_nan"] = embedded.obsm["X_betavae"].copy()
    embedded.obsm["X_nan"][[3, 7], 1] = np.nan
    embedded.obsm["X_text"] = np.full((240, 1), "a")
    embedded.obsm["X_empty"] = np.zeros((240, 0))
    embedded.obs["infinite"] = np.inf
    embedded.obs["date"] = pd.Timestamp("2020-01-01")
    with pytest.raises(error) as raised:
        score_disentanglement(embedded, **({"covariates": ["batch"]} | arguments))
    for word in words:
        assert word in str(raised.value)
    assert "betavae" not in embedded.uns


def test_a_view_is_refused_and_stays_one(embedded):
    view = embedded[:100]
    with pytest.raises(ValueError, match="view"):
        score_disentanglement(view, "no such column")
    assert view.is_view


def test_arrays_are_sent_to_metrics():
    with pytest.raises(TypeError, match="score_frame"):
        score_disentanglement(np.zeros((3, 2)), "batch")


def test_no_cells():
    empty = AnnData(
        obs=pd.DataFrame({"batch": pd.Categorical([])}, index=pd.Index([], dtype=str)),
        obsm={"X_betavae": np.zeros((0, 3))},
    )
    frame = score_disentanglement(empty, "batch", metrics=["mig", "dci"], **QUICK)
    assert frame["value"].isna().all()
