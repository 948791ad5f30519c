"""Steps along dimensions: fold changes are those of scvi-tools' own expression, anchors are cells, steps know the data."""

import math

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import scbetavae
from scbetavae.model import BetaVAE

KEYS = ["dimension", "step", "value", "gene", "log_fold_change", "standard_error", "expression", "in_range"]


@pytest.fixture(scope="module")
def make_model(make_model):
    def make(adata, setup=None, epochs=3, **kwargs):
        setup = {"batch_key": "batch", "labels_key": "labels", **(setup or {})}
        kwargs = {"n_latent": 3, "beta": 0.1, "anchor": None, **kwargs}
        return make_model(adata, setup, epochs=epochs, train={"batch_size": 16}, **kwargs)

    return make


@pytest.fixture(scope="module")
def model(make_model, _counts_adata):
    return make_model(_counts_adata.copy(), epochs=30)


def upstream_expression(model, codes):
    """What scvi-tools decodes of given codes: it draws from a posterior, so we give it one without spread."""
    variance_key, mean_key = "betavae_latent_qzv", "betavae_latent_qzm"
    if model.minified_data_type is None:
        model.adata.obsm["X_latent_qzm"], model.adata.obsm["X_latent_qzv"] = codes, np.full_like(codes, 1e-20)
        model.minify_adata()
    model.adata.obsm[mean_key], model.adata.obsm[variance_key] = codes, np.full_like(codes, 1e-20)
    return scvi.model.SCVI.get_normalized_expression(model, return_numpy=True).astype(np.float64)


@pytest.mark.parametrize(
    ("setup", "kwargs"),
    [
        ({}, {}),
        ({"categorical_covariate_keys": ["donor"], "continuous_covariate_keys": ["age"]}, {"condition_on_batch": True}),
        ({}, {"latent_distribution": "ln"}),
        ({"size_factor_key": "sf"}, {"gene_likelihood": "zinb"}),
    ],
)
@pytest.mark.parametrize("scale", ["prior", "quantile"])
def test_fold_changes_are_finite_differences_of_normalized_expression(make_model, counts_adata, setup, kwargs, scale):
    model = make_model(counts_adata, epochs=1, setup=setup, **kwargs)
    means = model.get_latent_representation(return_dist=True)[0]
    ends = {"prior": (-0.5, 1.5), "quantile": (0.2, 0.9)}[scale]
    frame = model.traverse([2, 0], low=ends[0], high=ends[1], n_steps=3, around=np.arange(120), scale=scale)
    for dimension in (2, 0)[: 1 if setup else 2]:
        codes = means.copy()
        codes[:, dimension] = 0.0 if scale == "prior" else np.median(means[:, dimension])
        reference = upstream_expression(model, codes)
        for step in range(3):
            part = frame[(frame["dimension"] == dimension) & (frame["step"] == step)]
            assert part["gene"].tolist() == model.adata.var_names.tolist()
            codes[:, dimension] = part["value"].iloc[0]
            moved = upstream_expression(model, codes)
            changes = np.log2(moved / reference)
            np.testing.assert_allclose(part["log_fold_change"], changes.mean(axis=0), atol=2e-5)
            errors = changes.std(axis=0, ddof=1) / math.sqrt(120)
            np.testing.assert_allclose(part["standard_error"], errors, rtol=1e-2, atol=1e-5)
            counts = 1.0 if "size_factor_key" in setup else 1e4
            np.testing.assert_allclose(part["expression"], counts * moved.mean(axis=0), rtol=1e-4)


def test_small_steps_give_the_slope(model):
    h = 0.01
    frame = model.traverse(1, low=-h, high=h, n_steps=2, around="mean")
    code = model.get_latent_representation().mean(axis=0, keepdims=True)
    code[:, 1] = 0.0
    z = torch.tensor(code, requires_grad=True)
    hidden = model.module.decoder.px_decoder(z, None)
    logs = torch.log_softmax(model.module.decoder.px_scale_decoder[0](hidden), dim=-1)[0]
    slopes = [torch.autograd.grad(g, z, retain_graph=True)[0][0, 1].item() / math.log(2) for g in logs]
    ends = frame["log_fold_change"].to_numpy().reshape(2, -1)
    np.testing.assert_allclose((ends[1] - ends[0]) / (2 * h), slopes, atol=0.01 * np.abs(slopes).max())


def test_frame(model):
    frame = model.traverse()
    assert list(frame.columns) == KEYS
    assert len(frame) == 3 * 7 * 40
    assert frame["dimension"].is_monotonic_increasing
    places = frame.drop_duplicates(["dimension", "step"])
    assert places["value"].tolist() == [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0] * 3
    at_reference = frame[frame["step"] == 3]
    assert (at_reference["log_fold_change"] == 0).all()
    assert (at_reference["standard_error"] == 0).all()
    assert np.isfinite(frame[["log_fold_change", "standard_error", "expression"]].to_numpy()).all()
    sums = frame.groupby(["dimension", "step"])["expression"].sum()
    np.testing.assert_allclose(sums, 1e4, rtol=1e-4)


def test_support_is_where_the_cells_are(model):
    codes = model.get_latent_representation()
    monocytes = (model.adata.obs["labels"] == "monocyte").to_numpy()
    for around, rows in (("cells", slice(None)), ({"labels": "monocyte"}, monocytes)):
        frame = model.traverse(around=around, low=-4, high=4, n_steps=21)
        places = frame.drop_duplicates(["dimension", "step"])
        low, high = np.quantile(codes[rows], [0.005, 0.995], axis=0)
        expected = places["value"].between(low[places["dimension"]], high[places["dimension"]])
        assert (places["in_range"] == expected).mean() > 0.96  # rounding at the edge
        assert places["in_range"].any()
        assert not places["in_range"].all()


def test_quantiles_of_the_group(model):
    frame = model.traverse([1], around={"labels": "B cell"}, scale="quantile", low=0.1, high=0.9, n_steps=5)
    codes = model.get_latent_representation()[(model.adata.obs["labels"] == "B cell").to_numpy(), 1]
    expected = np.linspace(*np.quantile(codes, [0.1, 0.9]), 5)
    np.testing.assert_allclose(frame["value"].unique(), expected, rtol=1e-5)
    assert frame["in_range"].all()
    assert model.traverse(scale="quantile")["in_range"].all()


def test_anchors(model):
    obs = model.adata.obs
    everyone = model.traverse([0], around=np.arange(120), n_steps=3)
    pd.testing.assert_frame_equal(everyone, model.traverse([0], around="cells", n_anchors=120, n_steps=3))
    pd.testing.assert_frame_equal(everyone, model.traverse([0], around=np.ones(120, dtype=bool), n_steps=3))
    b_cells = np.flatnonzero((obs["labels"] == "B cell") & (obs["condition"] == "treated"))
    by_group = model.traverse([0], around={"labels": ["B cell"], "condition": "treated"}, n_steps=3)
    changes = ["log_fold_change", "standard_error", "expression"]
    pd.testing.assert_frame_equal(by_group[changes], model.traverse([0], around=b_cells, n_steps=3)[changes])
    by_name = model.traverse([0], around=list(obs.index[b_cells]), n_steps=3)
    pd.testing.assert_frame_equal(by_group[changes], by_name[changes])
    drawn = model.traverse([0], n_anchors=10, n_steps=3)
    pd.testing.assert_frame_equal(drawn, model.traverse([0], n_anchors=10, n_steps=3))
    assert not drawn["expression"].equals(model.traverse([0], n_anchors=10, n_steps=3, seed=1)["expression"])
    assert model.traverse([0], around=[5], n_steps=2)["standard_error"].isna().all()
    assert model.traverse([0], around="mean", n_steps=2)["standard_error"].isna().all()


def test_batches_of_anchors_change_nothing(model, monkeypatch):
    whole = model.traverse([0, 2], around=np.arange(120), gene_list=["gene_7", "gene_3"])
    monkeypatch.setattr("scbetavae.model._decoding._ROWS", 7)
    parts = model.traverse([0, 2], around=np.arange(120), gene_list=["gene_7", "gene_3"])
    assert whole["gene"].tolist()[:2] == ["gene_7", "gene_3"]
    pd.testing.assert_frame_equal(whole, parts, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_storage_survives(model, kind, tmp_path):
    frame = model.traverse(n_steps=3, around={"labels": "B cell"}, key_added="steps")
    path = tmp_path / f"data.{kind}"
    getattr(model.adata, f"write_{kind}")(path)
    again = {"h5ad": anndata.read_h5ad, "zarr": anndata.read_zarr}[kind](path).uns["betavae"]
    stored = again["steps"].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored, frame, check_categorical=False, check_dtype=False, check_index_type=False)
    assert again["steps_params"]["around"] == "labels = B cell"
    assert again["steps_params"]["reference"] == "prior mean"


def test_a_large_traversal_is_stored_with_its_top_genes(model, monkeypatch):
    monkeypatch.setattr("scbetavae.model._traversal._STORED_ROWS", 100)
    monkeypatch.setattr("scbetavae.model._traversal._STORED_GENES", 4)
    frame = model.traverse(scale="quantile", key_added="large")
    stored = model.adata.uns["betavae"]["large"]
    assert stored.groupby("dimension")["gene"].nunique().max() <= 8
    assert model.adata.uns["betavae"]["large_params"]["stored"].startswith("top 4 genes")
    ranked = [scbetavae.tl.rank_dimension_genes(data, n_genes=4, key="large") for data in (frame, model.adata)]
    pd.testing.assert_frame_equal(*ranked)


@pytest.mark.parametrize("training", [True, False])
def test_nothing_else_changes(model, training):
    model.module.train(training)
    keys = {name: list(getattr(model.adata, name)) for name in ("obs", "obsm", "layers", "uns")}
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 - the global one
    model.traverse([0])
    assert model.module.training is training
    assert torch.equal(torch.get_rng_state(), state)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert {name: list(getattr(model.adata, name)) for name in keys} == keys


def test_inactive_dimensions(model, monkeypatch):
    n_latent = model.module.n_latent
    kill = torch.ones(n_latent)
    kill[1] = 0.0
    mean_encoder = model.module.z_encoder.mean_encoder
    saved = {name: value.clone() for name, value in mean_encoder.state_dict().items()}
    try:
        with torch.no_grad():
            mean_encoder.weight *= kill[:, None]
            mean_encoder.bias *= kill
        assert model.traverse()["dimension"].unique().tolist() == [0, 2]
        with pytest.warns(UserWarning, match=r"\[1\] are inactive"):
            assert model.traverse([1, 2])["dimension"].unique().tolist() == [1, 2]
        with torch.no_grad():
            mean_encoder.weight.zero_()
            mean_encoder.bias.zero_()
        with pytest.raises(ValueError, match="collapsed"):
            model.traverse()
    finally:
        mean_encoder.load_state_dict(saved)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"dimensions": [0, 3]}, ValueError, "dimensions has 3, but dimensions are numbered from 0 to 2"),
        ({"dimensions": [-1]}, ValueError, "numbered from 0 to 2"),
        ({"dimensions": [0, 0]}, ValueError, "twice"),
        ({"dimensions": []}, ValueError, "dimensions is empty"),
        ({"dimensions": ["z0"]}, KeyError, "names no dimension"),
        ({"low": 1, "high": 1}, ValueError, "low below high"),
        ({"low": 4}, ValueError, "low below high"),
        ({"high": np.inf}, ValueError, "high=inf is not allowed"),
        ({"low": -3, "scale": "quantile"}, ValueError, 'scale="prior"'),
        ({"scale": "sd"}, ValueError, "scale='sd' is not allowed"),
        ({"n_steps": 1}, ValueError, "n_steps=1 is not allowed: pass an integer of at least 2"),
        ({"n_steps": 2.5}, ValueError, "n_steps=2.5 is not allowed"),
        ({"n_anchors": 0}, ValueError, "n_anchors=0"),
        ({"around": "B cell"}, ValueError, "around='B cell' is not allowed"),
        ({"around": {"label": "B cell"}}, KeyError, "Did you mean 'labels'"),
        ({"around": {"labels": "Bcell"}}, ValueError, "Did you mean 'B cell'"),
        ({"around": {}}, ValueError, "empty dict"),
        ({"around": {"age": [1.0]}}, ValueError, "no such group"),
        ({"around": []}, ValueError, "names no cells"),
        ({"around": [500]}, ValueError, "the first 500"),
        ({"around": ["cell_1", "cell_x"]}, KeyError, "the first 'cell_x'"),
        ({"around": [0.5]}, ValueError, "names no cells"),
        ({"gene_list": ["gene1"]}, KeyError, "Did you mean 'gene_1'"),
        ({"key_added": "a/b"}, ValueError, "key_added='a/b'"),
    ],
)
def test_mistakes_leave_nothing_behind(model, kwargs, error, message):
    before = dict(model.adata.uns.get("betavae", {}))
    with pytest.raises(error, match=message):
        model.traverse(**{"key_added": "mistake", **kwargs})
    assert model.adata.uns.get("betavae", {}).keys() == before.keys()


def test_a_group_without_cells(model):
    obs = model.adata.obs
    obs["empty"] = pd.Categorical(obs["donor"], categories=[*obs["donor"].cat.categories, "donor_5"])
    with pytest.raises(ValueError, match="no cell belongs to this group"):
        model.traverse(around={"empty": "donor_5"})
    del obs["empty"]


def test_no_mean_of_batches(make_model, counts_adata):
    model = make_model(counts_adata, epochs=1, condition_on_batch=True)
    with pytest.raises(ValueError, match="one batch"):
        model.traverse([0], around="mean")


def test_other_cells_and_untrained_models(model, counts_adata):
    other = anndata.AnnData(counts_adata.X.copy(), obs=counts_adata.obs.copy(), var=counts_adata.var.copy())
    frame = model.traverse([0], adata=other, n_steps=2)
    pd.testing.assert_frame_equal(frame, model.traverse([0], n_steps=2), rtol=1e-4, atol=1e-6)
    assert "traversal" in other.uns["betavae"]
    with pytest.raises(ValueError, match="is a view"):
        model.traverse([0], adata=other[:50])
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata).traverse()
