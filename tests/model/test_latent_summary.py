"""What a dimension carries and what the counts lose without it: against slow definitions, on planted dead dimensions."""

import warnings
from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import torch
from scvi.distributions import NegativeBinomial
from torch.distributions import Normal, kl_divergence

import scbetavae
from scbetavae.model import BetaVAE, PosteriorCollapseWarning
from scbetavae.model._latent_summary_collapse import Run, describe_collapse, is_severe

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}
SMALL = {"n_hidden": 16, "n_latent": 4}
RUN = Run(objective="beta_vae", beta=16.0, n_steps=300, n_warmup=30, n_near=270, capacity=0.0)


@pytest.fixture(scope="module")
def make_model(make_model):
    train = {"lr_schedule": "constant", "initialize": False, "plan_kwargs": {"lr": 1e-2}}
    return partial(make_model, epochs=8, anchor=None, train=train)


def collapse(model):
    """The sentence about inactive dimensions that a new summary stores."""
    model.get_latent_summary()
    return model.adata.uns["betavae"]["latent_summary_params"]["collapse"]


def kill(model, d):
    """Give a dimension the posterior mean 0 and the standard deviation 1, for every cell."""
    encoder = model.module.z_encoder
    with torch.no_grad():
        for layer in (encoder.mean_encoder, encoder.var_encoder):
            layer.weight[d] = 0.0
            layer.bias[d] = 0.0
        encoder.var_encoder.bias[d] = float(np.log(1.0 - encoder.var_eps))


@pytest.fixture
def model(make_model, counts_adata):
    return make_model(counts_adata)


@torch.no_grad()
def lost_by_definition(model, adata, rows):
    """One dimension and one decoding at a time, in scvi-tools' distribution and double precision: (dims, cells)."""
    counts = torch.from_numpy(adata.X[rows].toarray().astype(np.float64))
    means = torch.from_numpy(model.get_latent_representation(adata, indices=rows)).double()
    module = model.module.double()
    module.eval()

    def log_likelihood(codes):
        library = counts.sum(1, keepdim=True)
        share = module.decoder.px_scale_decoder(module.decoder.px_decoder(codes, torch.zeros(len(codes), 1)))
        rate = NegativeBinomial(mu=library * share, theta=module.px_r.exp())
        return rate.log_prob(counts).sum(1)

    full, lost = log_likelihood(means), []
    for d in range(means.shape[1]):
        codes = means.clone()
        codes[:, d] = 0.0
        lost.append((full - log_likelihood(codes)).numpy())
    module.float()
    return np.stack(lost)


def test_loss_is_that_of_the_definition_on_held_out_cells(model, counts_adata):
    frame = model.get_latent_summary()
    rows = np.sort(model.validation_indices)
    assert 0 < len(rows) < counts_adata.n_obs
    expected = lost_by_definition(model, counts_adata, rows)
    np.testing.assert_allclose(frame["reconstruction_lost"], expected.mean(axis=1), rtol=1e-3, atol=1e-4)
    se = expected.std(axis=1, ddof=1) / np.sqrt(len(rows))
    np.testing.assert_allclose(frame["reconstruction_lost_se"], se, rtol=1e-3, atol=1e-4)
    assert frame["order"].tolist() == (1 + np.argsort(np.argsort(-expected.mean(axis=1)))).tolist()
    assert expected.mean(axis=1).max() > 0.1
    parameters = counts_adata.uns["betavae"]["latent_summary_params"]
    assert "X_betavae" in parameters.pop("fingerprint")
    n_anchored = frame["stability"].notna().sum()
    assert parameters.pop("nll") > 0
    assert parameters == {
        "collapse_status": "none",
        "collapse": "",
        "measured_on": "validation",
        "n_measured": len(rows),
        "n_anchored": n_anchored,
    }


def test_divergence_and_spreads_are_those_of_the_posterior_of_all_cells(model, counts_adata):
    frame = model.get_latent_summary(indices=[0, 1])
    means, variances = (torch.from_numpy(part) for part in model.get_latent_representation(return_dist=True))
    kl = kl_divergence(Normal(means, variances.sqrt()), Normal(0.0, 1.0)).mean(0)
    np.testing.assert_allclose(frame["kl"], kl, rtol=1e-5)
    np.testing.assert_allclose(frame["sd_of_means"], means.std(0, correction=0), rtol=1e-5)
    np.testing.assert_allclose(frame["mean_posterior_sd"], variances.sqrt().mean(0), rtol=1e-5)
    assert frame["dimension"].tolist() == [0, 1, 2, 3]
    assert frame["active"].all()
    pd.testing.assert_frame_equal(counts_adata.uns["betavae"]["latent_summary"], frame)
    assert {"params", "history"} <= set(counts_adata.uns["betavae"])


def test_a_dead_dimension_carries_and_loses_nothing(model):
    kill(model, 2)
    frame = model.get_latent_summary().set_index("dimension")
    assert frame["active"].tolist() == [True, True, False, True]
    assert frame.loc[2, "kl"] == pytest.approx(0.0, abs=1e-6)
    assert frame.loc[2, "mean_posterior_sd"] == pytest.approx(1.0)
    assert frame.loc[2, "reconstruction_lost"] == pytest.approx(0.0, abs=1e-4)
    assert collapse(model).startswith("1 of 4 dimensions carries under 0.01 nats (the other 3 together")
    for d in (0, 1, 3):
        kill(model, d)
    frame = model.get_latent_summary()
    assert not frame["active"].any()
    assert collapse(model).startswith(
        "All 4 dimensions carry under 0.01 nats, so the latent representation says nothing"
    )


def test_neither_minibatches_nor_memory_change_the_numbers(model, monkeypatch):
    expected = model.get_latent_summary()
    for batch_size in (1, 7):
        pd.testing.assert_frame_equal(model.get_latent_summary(batch_size=batch_size), expected, rtol=1e-3, atol=1e-3)
    monkeypatch.setattr("scbetavae.module._ablation._MAX_ENTRIES", 2 * 12 * 40)
    pd.testing.assert_frame_equal(model.get_latent_summary(), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("setup", "arguments"),
    [
        ({}, {"gene_likelihood": "zinb"}),
        ({}, {"gene_likelihood": "poisson"}),
        ({}, {"gene_likelihood": "normal"}),
        ({}, {"dispersion": "gene-cell"}),
        ({"batch_key": "batch"}, {"dispersion": "gene-batch"}),
        ({"labels_key": "labels"}, {"dispersion": "gene-label"}),
        ({"batch_key": "batch"}, {"condition_on_batch": True}),
        ({"batch_key": "batch"}, {"condition_on_batch": True, "batch_representation": "embedding"}),
        ({"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}, {"encode_covariates": True}),
        ({"size_factor_key": "sf"}, {}),
        ({"encoder_obsm_key": "X_pca"}, {}),
        ({"batch_key": "batch"}, {"use_observed_lib_size": False}),
        ({}, {"latent_distribution": "ln"}),
    ],
)
def test_every_likelihood_and_covariate(make_model, counts_adata, setup, arguments):
    """The loss is the difference of the module's own loss on codes that are changed by hand."""
    model = make_model(counts_adata, setup, epochs=3, **arguments)
    rows = np.arange(0, counts_adata.n_obs, 3)
    frame = model.get_latent_summary(indices=rows)
    module = model.module
    with torch.inference_mode():
        tensors = next(iter(model._make_data_loader(counts_adata, indices=rows, batch_size=len(rows))))
        tensors = {name: value for name, value in tensors.items() if not name.startswith("X_")}
        inferred = module.inference(**module._get_inference_input(tensors))
        if inferred["ql"] is not None:
            inferred["library"] = inferred["ql"].loc

        def loss(means):
            inferred["z"] = module.z_encoder.z_transformation(means)
            outputs = module.generative(**module._get_generative_input(tensors, inferred))
            return -outputs["px"].log_prob(tensors["X"]).sum(-1)

        means = inferred["qz"].loc
        kept = torch.ones(4) - torch.eye(4)
        expected = [float((loss(means * kept[d]) - loss(means)).mean()) for d in range(4)]
    np.testing.assert_allclose(frame["reconstruction_lost"], expected, rtol=1e-3, atol=2e-3)
    assert np.abs(expected).max() > 1e-2


def test_nothing_but_uns_changes(model, counts_adata):
    model.module.train()
    weights = {name: value.clone() for name, value in model.module.state_dict().items()}
    numpy_state = np.random.mtrand._rand.get_state  # that of all who draw without a generator
    before = torch.get_rng_state(), numpy_state()[1].copy()
    frames = [model.get_latent_summary(), model.get_latent_summary()]
    model.to_latent_adata()
    assert model.module.training
    model.module.eval()
    model.get_latent_summary()
    assert not model.module.training
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(numpy_state()[1], before[1])
    pd.testing.assert_frame_equal(*frames)
    for name, value in model.module.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0, equal_nan=True)
    frames[0]["kl"] = 0.0
    assert (counts_adata.uns["betavae"]["latent_summary"]["kl"] > 0).all()


def test_which_cells_are_measured(make_model, counts_adata):
    model = make_model(counts_adata)
    model.get_latent_summary(indices=counts_adata.obs["batch"] == "batch_1", key_added="mine")
    parameters = counts_adata.uns["betavae"]["mine_params"]
    assert parameters["measured_on"] == "given"
    assert parameters["n_measured"] == (counts_adata.obs["batch"] == "batch_1").sum()
    other = counts_adata[:30].copy()
    before = set(counts_adata.uns["betavae"])
    frame = model.get_latent_summary(adata=other)
    assert other.uns["betavae"]["latent_summary_params"]["measured_on"] == "all"
    assert set(counts_adata.uns["betavae"]) == before
    np.testing.assert_allclose(
        frame["reconstruction_lost"], model.get_latent_summary(indices=range(30))["reconstruction_lost"], rtol=1e-4
    )
    one = model.get_latent_summary(indices=[5])
    assert one["reconstruction_lost_se"].isna().all()
    BetaVAE.setup_anndata(counts_adata)
    nothing_held_out = BetaVAE(counts_adata, **SMALL).train(max_epochs=1, train_size=1.0, **QUIET)
    nothing_held_out.get_latent_summary()
    assert counts_adata.uns["betavae"]["latent_summary_params"]["measured_on"] == "all"


def test_query_cells(make_model, counts_adata):
    reference, query = counts_adata[:80].copy(), counts_adata[80:].copy()
    model = make_model(reference, {"batch_key": "batch"})
    mapped = BetaVAE.load_query_data(query, model, accelerator="cpu")
    kill(mapped, 0)
    frame = mapped.get_latent_summary()
    assert query.uns["betavae"]["latent_summary_params"]["n_measured"] == 40
    assert "on these cells" in query.uns["betavae"]["latent_summary_params"]["collapse"]
    assert query.uns["betavae"]["latent_summary_params"]["collapse_status"] == "training unknown"
    kill(model, 0)
    np.testing.assert_allclose(
        frame["reconstruction_lost"], model.get_latent_summary(adata=query.copy())["reconstruction_lost"], rtol=1e-4
    )


def test_minified_data(model, counts_adata):
    expected = model.get_latent_summary()
    moments = model.get_latent_representation(return_dist=True)
    counts_adata.obsm["X_latent_qzm"], counts_adata.obsm["X_latent_qzv"] = moments
    model.minify_adata()
    with pytest.raises(ValueError, match="hold no counts"):
        model.get_latent_summary()
    latent = model.to_latent_adata()  # the summary of before is still that of these codes
    np.testing.assert_allclose(latent.var["reconstruction_lost"], expected["reconstruction_lost"])
    assert not any("betavae_latent" in name for name in latent.obsm)


def test_minified_data_with_counts(model, counts_adata):
    expected = model.get_latent_summary()
    moments = model.get_latent_representation(return_dist=True)
    counts_adata.obsm["X_latent_qzm"], counts_adata.obsm["X_latent_qzv"] = moments
    model.minify_adata("latent_posterior_parameters_with_counts")
    pd.testing.assert_frame_equal(model.get_latent_summary(), expected, rtol=1e-3, atol=1e-4)


def test_backed_counts(make_model, counts_adata, tmp_path):
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    model = make_model(counts_adata, epochs=2)
    expected = model.get_latent_summary(indices=range(20))
    frame = model.get_latent_summary(adata=backed, indices=range(20))
    pd.testing.assert_frame_equal(frame, expected, rtol=1e-3, atol=1e-3)
    assert model.to_latent_adata(adata=backed).shape == (counts_adata.n_obs, 4)
    backed.file.close()


@pytest.mark.parametrize("suffix", ["h5ad", "zarr"])
def test_round_trips(model, counts_adata, tmp_path, suffix):
    kill(model, 1)
    model.get_latent_summary()
    latent = model.to_latent_adata()
    for name, adata in (("cells", counts_adata), ("latent", latent)):
        path = tmp_path / f"{name}.{suffix}"
        getattr(adata, f"write_{suffix}")(path)
        again = getattr(anndata, f"read_{suffix}")(path)
        stored, expected = again.uns["betavae"], adata.uns["betavae"]
        pd.testing.assert_frame_equal(
            stored["latent_summary"], expected["latent_summary"], check_index_type=False, check_column_type=False
        )
        assert dict(stored["latent_summary_params"]) == expected["latent_summary_params"]
        np.testing.assert_array_equal(again.obs_names, adata.obs_names)
        scbetavae.pl.latent_summary(again)
    assert again.var["active"].tolist() == [True, False, True, True]
    np.testing.assert_array_equal(again.X, latent.X)


def anchored(adata, setup=None, **kwargs):
    """A model whose posterior means stay near their components."""
    BetaVAE.setup_anndata(adata, **(setup or {}))
    model = BetaVAE(adata, **SMALL, anchor_kwargs={"n_components": 3, "release": 1.0, "weight": 100.0}, **kwargs)
    return model.train(max_epochs=30, **QUIET)


def correlation_by_definition(model, adata, groups=None):
    """Correlation of posterior means with components computed from log-normalized counts, dimension by dimension."""
    counts = adata.X.toarray().astype(float)
    components = np.log1p(1e4 * counts / counts.sum(1, keepdims=True)) @ model.module.anchor.weights.numpy()[:, :3]
    means = model.get_latent_representation(adata)[:, :3]
    pairs = [pd.DataFrame({"first": means[:, d], "second": components[:, d]}) for d in range(3)]
    if groups is not None:
        pairs = [pair - pair.groupby(np.asarray(groups)).transform("mean") for pair in pairs]
    return [pair.corr().iloc[0, 1] for pair in pairs]


@pytest.mark.parametrize(
    ("setup", "arguments"),
    [
        ({}, {}),
        ({"batch_key": "batch"}, {"condition_on_batch": True}),
        ({"encoder_obsm_key": "X_pca"}, {}),
        ({}, {"gene_likelihood": "zinb", "objective": "beta_tcvae"}),
    ],
)
def test_stability_and_correlation_with_the_components(counts_adata, setup, arguments):
    model = anchored(counts_adata, setup, **arguments)
    frame = model.get_latent_summary()
    np.testing.assert_allclose(frame["stability"].fillna(-1), model.module.anchor.stability, rtol=1e-6)
    assert frame["stability"][:3].between(0, 1).all()
    groups = counts_adata.obs["batch"] if arguments.get("condition_on_batch") else None
    expected = correlation_by_definition(model, counts_adata, groups)
    np.testing.assert_allclose(frame["anchor_correlation"][:3], expected, rtol=1e-3, atol=1e-4)
    assert min(expected) > 0.3
    assert frame.loc[3, ["stability", "anchor_correlation"]].isna().all()
    assert counts_adata.uns["betavae"]["latent_summary_params"]["n_anchored"] == 3
    pd.testing.assert_frame_equal(model.get_latent_summary(batch_size=7), frame, rtol=1e-3, atol=1e-3)


def test_a_turned_or_dead_dimension_is_seen_in_the_correlation(counts_adata):
    model = anchored(counts_adata)
    before = model.get_latent_summary()["anchor_correlation"]
    with torch.no_grad():
        layer = model.module.z_encoder.mean_encoder
        layer.weight[1] *= -1
        layer.bias[1] *= -1
    kill(model, 0)
    after = model.get_latent_summary()
    assert after["anchor_correlation"][1] == pytest.approx(-before[1], abs=1e-5)
    assert np.isnan(after["anchor_correlation"][0])
    assert after["stability"][0] > 0
    assert after["anchor_correlation"][2] == pytest.approx(before[2])


def test_query_cells_of_a_new_batch_are_compared_within_batches(counts_adata):
    counts_adata.obs["batch"] = counts_adata.obs["batch"].astype(str)
    reference, query = counts_adata[:80].copy(), counts_adata[80:].copy()
    query.obs["batch"] = np.where(np.arange(40) % 2 > 0, "new", query.obs["batch"])
    model = anchored(reference, {"batch_key": "batch"}, condition_on_batch=True)
    mapped = BetaVAE.load_query_data(query, model, accelerator="cpu")
    mapped.is_trained_ = True  # for this, as good as trained
    frame = mapped.get_latent_summary()
    np.testing.assert_allclose(frame["stability"].fillna(-1), model.module.anchor.stability, rtol=1e-6)
    expected = correlation_by_definition(mapped, query, query.obs["batch"])
    np.testing.assert_allclose(frame["anchor_correlation"][:3], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("arguments", [{"anchor": None}, {"latent_distribution": "ln"}, {"gene_likelihood": "normal"}])
def test_without_an_anchor_nothing_is_said_of_components(make_model, counts_adata, arguments):
    model = make_model(counts_adata, epochs=1, **arguments)
    frame = model.get_latent_summary()
    assert frame[["stability", "anchor_correlation"]].isna().all(axis=None)
    assert counts_adata.uns["betavae"]["latent_summary_params"]["n_anchored"] == 0


def test_a_saved_model_knows_the_same(model, counts_adata, tmp_path):
    kill(model, 1)
    expected = model.get_latent_summary()
    model.save(tmp_path / "model", save_anndata=True)
    loaded = BetaVAE.load(tmp_path / "model", accelerator="cpu")
    frame = loaded.get_latent_summary()
    pd.testing.assert_frame_equal(frame, expected, rtol=1e-5)
    assert collapse(loaded) == collapse(model)
    fewer = BetaVAE.load(tmp_path / "model", counts_adata[:50].copy(), accelerator="cpu")
    fewer.get_latent_summary()
    assert fewer.adata.uns["betavae"]["latent_summary_params"]["measured_on"] == "all"


def test_latent_adata_holds_codes_summary_and_what_is_known_of_cells(model, counts_adata):
    counts_adata.obsm["X_umap"] = np.zeros((counts_adata.n_obs, 2))
    counts_adata.uns["labels_colors"] = np.array(["#111111", "#222222", "#333333"])
    before = set(counts_adata.uns["betavae"])
    latent = model.to_latent_adata()
    np.testing.assert_allclose(latent.X, model.get_latent_representation(), atol=1e-6)
    assert latent.var_names.tolist() == ["dim_0", "dim_1", "dim_2", "dim_3"]
    assert set(counts_adata.uns["betavae"]) == before
    summary = model.get_latent_summary()
    np.testing.assert_allclose(latent.var["reconstruction_lost"], summary["reconstruction_lost"], rtol=1e-5)
    assert [name for name in latent.obs if name.startswith("_scvi")] == []
    pd.testing.assert_series_equal(latent.obs["labels"], counts_adata.obs["labels"])
    assert {"X_umap", "X_pca"} <= set(latent.obsm)
    assert latent.uns["labels_colors"].tolist() == ["#111111", "#222222", "#333333"]
    latent.obsm["X_umap"][:] = 1.0
    latent.obs["labels"] = "none"
    assert not counts_adata.obsm["X_umap"].any()
    assert counts_adata.obs["labels"].nunique() == 3


def test_latent_adata_takes_the_stored_summary_unless_codes_changed(model, counts_adata):
    model.get_latent_summary(indices=[0, 1, 2])
    latent = model.to_latent_adata()
    assert latent.uns["betavae"]["latent_summary_params"]["n_measured"] == 3
    kill(model, 0)
    latent = model.to_latent_adata()
    assert latent.uns["betavae"]["latent_summary_params"]["measured_on"] == "validation"
    assert not latent.var.loc["dim_0", "active"]
    assert counts_adata.uns["betavae"]["latent_summary"]["active"].all()


@pytest.mark.filterwarnings("ignore:invalid value encountered in log2:RuntimeWarning")  # scanpy, of means below 0
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame:DeprecationWarning")  # scanpy under pandas 3.1
def test_scanpy_works_on_dimensions(model, counts_adata):
    counts_adata.obsm["X_umap"] = np.random.default_rng(0).normal(size=(counts_adata.n_obs, 2))
    latent = model.to_latent_adata()
    sc.tl.rank_genes_groups(latent, "labels", method="wilcoxon")
    assert set(sc.get.rank_genes_groups_df(latent, "B cell")["names"]) == set(latent.var_names)
    sc.pl.violin(latent, ["dim_0", "dim_1"], groupby="labels", show=False)
    sc.pl.heatmap(latent, list(latent.var_names), groupby="labels", show=False)
    sc.pl.matrixplot(latent, list(latent.var_names), groupby="labels", show=False)
    sc.pl.umap(latent, color=["dim_0", "labels"], show=False)
    sc.pl.rank_genes_groups(latent, show=False)
    from matplotlib import pyplot as plt

    plt.close("all")


def test_logistic_normal_as_latent_adata(make_model, counts_adata):
    latent = make_model(counts_adata, epochs=2, latent_distribution="ln").to_latent_adata()
    np.testing.assert_allclose(latent.X.sum(axis=1), 1.0, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"indices": [0, 500]}, ValueError, "from 0 to 119"),
        ({"indices": [-121]}, ValueError, "from 0 to 119"),
        ({"indices": []}, ValueError, "at least one cell"),
        ({"indices": [0.5]}, ValueError, "dtype float64"),
        ({"indices": np.ones(5, dtype=bool)}, ValueError, r"mask of shape \(120,\)"),
        ({"key_added": "a/b"}, ValueError, "key_added"),
        ({"adata": np.zeros((3, 3))}, TypeError, "ndarray"),
        ({"adata": anndata.AnnData(np.zeros((0, 40)))}, ValueError, "no cells"),
    ],
)
def test_mistakes_leave_no_trace(model, counts_adata, arguments, error, word):
    before = set(counts_adata.uns["betavae"])
    with pytest.raises(error, match=word):
        model.get_latent_summary(**arguments)
    assert set(counts_adata.uns["betavae"]) == before


def test_other_mistakes(model, counts_adata):
    with pytest.raises(ValueError, match="view"):
        model.get_latent_summary(adata=counts_adata[:50])
    with torch.no_grad():
        model.module.z_encoder.mean_encoder.bias[0] = float("nan")
    with pytest.raises(ValueError, match="training diverged"):
        model.get_latent_summary()
    for method in ("get_latent_summary", "to_latent_adata"):
        with pytest.raises(RuntimeError, match="train"):
            getattr(BetaVAE(counts_adata, **SMALL), method)()


STRONG = {"objective": "beta_vae", "beta": 1e4, "anchor": None}


def test_a_collapsed_training_warns_once_and_in_words(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **STRONG, **SMALL)
    with pytest.warns(PosteriorCollapseWarning) as caught:
        model.train(batch_size=16, **QUIET)
    (warning,) = [w for w in caught if w.category is PosteriorCollapseWarning]
    assert warning.filename == __file__
    assert str(warning.message) == (
        "All 4 dimensions carry under 0.01 nats, so the latent representation says nothing about the cells: beta 1e+04 is too "
        "strong for this panel. Try a smaller beta."
    )
    assert {"params", "history"} <= set(counts_adata.uns["betavae"])
    assert collapse(model) == str(warning.message)
    assert counts_adata.uns["betavae"]["latent_summary_params"]["collapse_status"] == "collapsed"


CONSTANT = {"lr_schedule": "constant", "beta_schedule": "constant"}


@pytest.mark.parametrize(
    ("run", "steps"),
    [
        ({"max_steps": 215}, 215),  # a row after each 8 steps, and beta within a tenth from the third on
        ({"max_steps": 199, **CONSTANT}, 199),  # a row an epoch, and one for a part of it
        ({"max_epochs": 9, **CONSTANT}, 198),
    ],
)
def test_a_short_training_is_not_judged(counts_adata, run, steps):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **STRONG, **SMALL)
    with warnings.catch_warnings():
        warnings.simplefilter("error", PosteriorCollapseWarning)
        model.train(batch_size=5, plan_kwargs={"lr": 1e-2}, **run, **QUIET)
    sentence = collapse(model)
    assert "4 dimensions carry under 0.01 nats" in sentence
    assert sentence.endswith(
        f"after {steps} steps, {min(steps, 199)} of them near the final beta 1e+04. That is too early to judge: train longer."
    )


@pytest.mark.parametrize("run", [{"max_steps": 216}, {"max_steps": 200, **CONSTANT}])
def test_a_training_of_200_minibatches_near_its_beta_is_judged(counts_adata, run):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, **STRONG, **SMALL)
    with pytest.warns(PosteriorCollapseWarning, match=r"beta 1e\+04 is too strong for this panel"):
        model.train(batch_size=5, plan_kwargs={"lr": 1e-2}, **run, **QUIET)


@pytest.mark.parametrize(("more", "judged"), [(49, False), (50, True)])
def test_two_trainings_are_judged_together(counts_adata, more, judged):
    BetaVAE.setup_anndata(counts_adata)
    run = {"batch_size": 5, "beta_schedule": "constant", **QUIET}
    model = BetaVAE(counts_adata, **STRONG, **SMALL).train(max_steps=150, **run)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PosteriorCollapseWarning)
        model.train(max_steps=more, **run)
    assert any(w.category is PosteriorCollapseWarning for w in caught) == judged


@pytest.mark.parametrize(
    ("n_empty", "run", "severe", "words"),
    [
        (0, RUN, False, []),
        (
            1,
            RUN,
            False,
            ["1 of 10 dimensions carries", "other 9 together 2.3)", "At beta 16 it saves less than it costs"],
        ),
        (5, RUN, False, ["5 of 10 dimensions carry", "usual"]),
        (7, RUN, True, ["beta 16 is too strong for this panel. Try a smaller beta, or n_latent=3"]),
        (9, RUN, True, ["the other one 2.3", "n_latent=1"]),
        (10, RUN, True, ["All 10 dimensions", "beta 16 is too strong"]),
        (7, RUN._replace(n_warmup=0), True, ["no warm-up", 'beta_schedule="linear"']),
        (7, RUN._replace(beta=1.0), True, ["even at beta 1 these counts hold no more"]),
        (7, RUN._replace(objective="capacity", capacity=2.0), True, ["a capacity of 2 nats fills no more"]),
        (7, RUN._replace(objective="dip_vae_i"), True, ["lambda_od"]),
        (7, RUN._replace(n_near=200), True, ["too strong"]),
        (7, RUN._replace(n_near=199), False, ["after 300 steps, 199 of them near the final beta 16.", "too early"]),
        (7, None, False, ["7 of 10 dimensions carry", "on these cells"]),
    ],
)
def test_the_sentence_says_what_is_known(n_empty, run, severe, words):
    sentence = describe_collapse(n_empty, 10, 2.3, run)
    assert all(word in sentence for word in words)
    assert bool(sentence) == bool(n_empty)
    assert is_severe(n_empty, 10, run) is severe
    if not severe:
        assert "too strong" not in sentence
    if run is not None and run.n_warmup:
        assert "warm-up" not in sentence


def test_one_latent_dimension(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, n_hidden=16, n_latent=1).train(max_epochs=2, **QUIET)
    assert model.get_latent_summary()["order"].tolist() == [1]
    kill(model, 0)
    assert collapse(model).startswith("The only dimension carries under 0.01 nats, so")
