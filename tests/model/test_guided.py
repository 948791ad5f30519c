"""Guided covariates: set-up, training, coordinates, unlabeled cells, queries, removal and counterfactuals."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import scbetavae
from scbetavae.datasets import FactorEffects, simulate_counts
from scbetavae.model import BetaVAE
from scbetavae.module import OBJECTIVES

QUIET = {"enable_progress_bar": False, "accelerator": "cpu"}


def cells(n_cells=400, n_genes=60, **kwargs):
    adata = simulate_counts(n_cells, n_genes, n_cell_types=2, seed=0, **kwargs)
    adata.obs["age"] = 10.0 * adata.obs["gradient"]
    adata.obs["plate"] = np.arange(n_cells) % 3
    return adata


def trained(adata, guided, steps=40, seed=0, setup=None, **kwargs):
    import scvi

    scvi.settings.seed = seed
    BetaVAE.setup_anndata(adata, guided_keys=guided, **(setup or {}))
    model = BetaVAE(adata, **{"n_latent": 4, "n_hidden": 16} | kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # so short a run may leave dimensions unused
        return model.train(max_steps=steps, **QUIET)


@pytest.fixture(scope="module")
def model():
    return trained(
        cells(), ["batch", "condition", "age", "plate"], setup={"batch_key": "batch", "labels_key": "cell_type"}
    )


# Set-up


def test_guided_dimensions_come_after_the_free_ones(model):
    z = model.get_latent_representation()
    assert z.shape == (400, 4 + 1 + 1 + 1 + 2)
    table = model._latent().table()
    assert (
        table["role"].tolist()
        == ["free"] * 4 + ["guided:batch", "guided:condition", "guided:age"] + ["guided:plate"] * 2
    )
    assert table["kl"].isna().tolist() == [False] * 4 + [True] * 5


def test_coordinates_are_fixed_by_the_levels(model):
    z, obs = model.get_latent_representation(), model.adata.obs
    for key, d in (("batch", 4), ("condition", 5)):
        assert pd.crosstab(obs[key], z[:, d]).to_numpy().astype(bool).sum() == 2
        np.testing.assert_allclose(np.unique(z[:, d]), [-2.0, 2.0])
    np.testing.assert_allclose(z[:, 6], 2.0 * (obs["age"] - obs["age"].mean()) / obs["age"].std(ddof=0), atol=1e-5)
    corners = np.unique(z[:, 7:].round(5), axis=0)
    assert len(corners) == 3
    np.testing.assert_allclose(corners.std(axis=0), 2.0, atol=1e-5)
    apart = np.linalg.norm(corners[:, None] - corners[None], axis=2)[np.triu_indices(3, 1)]
    np.testing.assert_allclose(apart, apart[0], rtol=1e-5)


@pytest.mark.parametrize(("n_levels", "n_dims"), [(2, 1), (9, 8), (40, 8), (5, 2)])
def test_anchors_are_centered_and_spread(n_levels, n_dims):
    from scbetavae.module._guided import level_anchors

    points = level_anchors(n_levels, n_dims).double()
    torch.testing.assert_close(points.mean(dim=0), torch.zeros(n_dims).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(points.std(dim=0, correction=0), torch.full((n_dims,), 2.0).double(), atol=1e-5, rtol=0)
    apart = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert apart.min() > 1.0
    torch.testing.assert_close(level_anchors(n_levels, n_dims), level_anchors(n_levels, n_dims))


def _setup(change, **setup):
    adata = cells(200, 30)
    change(adata)
    BetaVAE.setup_anndata(adata, **setup)


@pytest.mark.parametrize(
    ("change", "setup", "error", "message"),
    [
        (lambda _: None, {"guided_keys": "batchh"}, KeyError, "Did you mean 'batch'"),
        (lambda _: None, {"guided_keys": ["batch", "batch"]}, ValueError, "twice"),
        (
            lambda _: None,
            {"guided_keys": "batch", "continuous_guided_keys": "age"},
            ValueError,
            "which guided_keys does not",
        ),
        (
            lambda _: None,
            {"guided_keys": "batch", "continuous_guided_keys": "batch"},
            TypeError,
            "does not hold numbers",
        ),
        (lambda a: a.obs.insert(0, "one", "x"), {"guided_keys": "one"}, ValueError, "needs two levels"),
        (lambda a: a.obs.insert(0, "n", np.arange(200)), {"guided_keys": "n"}, ValueError, "continuous_guided_keys"),
        (
            lambda a: a.obs.insert(0, "n", np.inf),
            {"guided_keys": "n", "continuous_guided_keys": "n"},
            ValueError,
            "infinite",
        ),
        (lambda a: a.obs.insert(0, "n", 1.5), {"guided_keys": "n"}, ValueError, "constant"),
    ],
)
def test_columns_that_cannot_be_guided_are_refused(change, setup, error, message):
    with pytest.raises(error, match=message):
        _setup(change, **setup)


@pytest.mark.parametrize(("n_cells", "is_refused"), [(19, True), (20, False)])
def test_levels_of_fewer_than_20_cells_are_refused(n_cells, is_refused):
    def change(adata):
        adata.obs["level"] = np.where(np.arange(200) < n_cells, "small", "large")

    if is_refused:
        with pytest.raises(ValueError, match="fewer than 20 cells, 'small' has 19"):
            _setup(change, guided_keys="level")
    else:
        _setup(change, guided_keys="level")


@pytest.mark.parametrize(
    ("setup", "arguments", "error", "message"),
    [
        ({"guided_keys": "batch", "batch_key": "batch"}, {"condition_on_batch": True}, ValueError, "both guided and"),
        ({"guided_keys": "plate", "categorical_covariate_keys": ["plate"]}, {}, ValueError, "one of the two"),
        ({"guided_keys": "batch"}, {"latent_distribution": "ln"}, ValueError, 'latent_distribution="normal"'),
        ({"guided_keys": "batch"}, {"guided_kwargs": {"weigth": 1.0}}, TypeError, "weight"),
        ({"guided_keys": "batch"}, {"guided_kwargs": {"weight": -1.0}}, ValueError, "weight"),
        ({"guided_keys": "batch"}, {"guided_kwargs": {"sigma": 0.0}}, ValueError, "sigma"),
        ({"guided_keys": "batch"}, {"guided_kwargs": {"mode": "labels"}}, ValueError, "mode"),
        ({"guided_keys": "batch"}, {"guided_kwargs": {"n_dimensions": 0}}, ValueError, "n_dimensions"),
        ({}, {"guided_kwargs": {"weight": 1.0}}, ValueError, "no covariate is guided"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(setup, arguments, error, message):
    adata = cells(200, 30)
    BetaVAE.setup_anndata(adata, **setup)
    with pytest.raises(error, match=message):
        BetaVAE(adata, **arguments)


# Training


@pytest.mark.parametrize("objective", sorted(OBJECTIVES))
def test_every_objective_is_guided(objective):
    model = trained(cells(200, 30), "batch", steps=12, objective=objective)
    assert model.get_latent_representation().shape == (200, 5)
    assert np.isfinite(model.history["guided_information_batch_train"].to_numpy(dtype=float)).all()


@pytest.mark.parametrize(
    "arguments",
    [
        {"gene_likelihood": "zinb"},
        {"gene_likelihood": "poisson"},
        {"dispersion": "gene-cell"},
        {"dispersion": "gene-label"},
        {"n_layers": 2},
        {"use_observed_lib_size": False},
        {"anchor": None},
        {"anchor": "programs"},
        {"guided_kwargs": {"mode": "inferred"}},
    ],
)
def test_other_networks_are_guided(arguments):
    model = trained(cells(200, 30), "plate", steps=12, setup={"labels_key": "cell_type"}, **arguments)
    z = model.get_latent_representation()
    assert z.shape == (200, 6)
    expected = model.get_normalized_expression(return_numpy=True, n_samples=1)
    assert np.isfinite(expected).all()


def test_the_bank_is_emptied_after_a_run_and_is_no_part_of_the_state(model):
    assert model.module.guided._bank == []
    assert not any("bank" in name for name in model.module.state_dict())


def test_the_bank_holds_the_last_minibatches_of_training_alone():
    model = trained(cells(200, 30), "batch")
    guided = model.module.guided
    z, mean = torch.randn(2, 8, 4)
    values = torch.stack([torch.arange(8.0), torch.arange(8) % 2], dim=1)
    for training, expected in ((False, 0), (True, 4)):
        guided.train(training)
        for _ in range(4):
            guided.penalty(z, mean, torch.ones(8, 4), values, 200)
        assert sum(len(pool.mean) for pool in guided._bank) == (3 * 8 if expected else 0)
    guided.empty_bank()


def test_the_noise_is_there_in_training_alone():
    model = trained(cells(200, 30), ["batch", "age"])
    guided, z = model.module.guided, torch.zeros(5000, 4)
    from scbetavae.module._guided import GuidedCoordinates

    mean = torch.ones(5000, 2)
    guided.eval()
    assert torch.equal(guided.join(z, GuidedCoordinates(mean))[:, 4:], torch.ones(5000, 4))
    guided.train()
    drawn = guided.join(z, GuidedCoordinates(mean))
    np.testing.assert_allclose(drawn[:, 4:6].std(dim=0), [1.0, 0.1], rtol=0.1)
    assert torch.equal(drawn[:, 6:], mean)
    guided.eval()


def test_the_shared_path_starts_at_zero_and_is_learned(model):
    adata = cells(200, 30)
    BetaVAE.setup_anndata(adata, guided_keys="batch")
    fresh = BetaVAE(adata, n_latent=4)
    assert not fresh.module.decoder.px_scale_decoder[0].weight[:, -1].any()
    assert model.module.decoder.px_scale_decoder[0].weight[:, -1].abs().max() > 0.01


def test_save_and_load_keep_everything(model, tmp_path):
    z = model.get_latent_representation()
    model.save(tmp_path / "model", overwrite=True)
    loaded = BetaVAE.load(tmp_path / "model", model.adata, accelerator="cpu")
    np.testing.assert_array_equal(loaded.get_latent_representation(), z)
    pd.testing.assert_frame_equal(loaded.predict_guided(key="plate"), model.predict_guided(key="plate"))


def test_minified_data_keep_the_guided_dimensions(model, tmp_path):
    z, expected = model.get_latent_representation(), model.get_normalized_expression(return_numpy=True)
    model.save(tmp_path / "model", overwrite=True)
    adata = model.adata.copy()
    minified = BetaVAE.load(tmp_path / "model", adata, accelerator="cpu")
    adata.obsm["X_latent_qzm"], adata.obsm["X_latent_qzv"] = minified.get_latent_representation(return_dist=True)
    minified.minify_adata()
    np.testing.assert_allclose(minified.get_latent_representation(), z, atol=1e-5)
    # Both decode draws from the same posterior.
    found = minified.get_normalized_expression(return_numpy=True, n_samples=25)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.9
    with pytest.raises(ValueError, match="minified"):
        minified.predict_guided(key="batch")


def test_decode_is_the_expression_of_the_model(model):
    z = model.get_latent_representation()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = model.get_normalized_expression(return_numpy=True, n_samples=400)
    assert np.corrcoef(model.decode(z).ravel(), draws.ravel())[0, 1] > 0.99


# Cells without labels


def missing(adata, key, rows):
    adata = adata.copy()
    adata.obs[key] = adata.obs[key].astype(str).astype(object)
    adata.obs.loc[adata.obs_names[rows], key] = np.nan
    return adata


def test_probabilities_are_those_of_bayes(model):
    some = np.arange(6)
    found = model.predict_guided(key="condition", indices=some).to_numpy()
    z = model.get_latent_representation(indices=some)
    counts = model.adata.X[some].toarray()
    theta = model.module.px_r.exp().detach().numpy()
    logs = []
    for anchor in (-2.0, 2.0):
        z[:, 5] = anchor
        mean = model.decode(z, library_size=counts.sum(axis=1))
        logs.append(
            torch.distributions.NegativeBinomial(
                torch.as_tensor(theta), logits=torch.as_tensor(np.log(mean) - np.log(theta))
            )
            .log_prob(torch.as_tensor(counts))
            .sum(1)
        )
    shares = model.module.guided.shares[1].numpy()
    posterior = np.stack(logs, axis=1) + np.log(shares)
    posterior = np.exp(posterior - posterior.max(axis=1, keepdims=True))
    np.testing.assert_allclose(found, posterior / posterior.sum(axis=1, keepdims=True), atol=2e-3)


def test_unlabeled_cells_are_at_their_expected_coordinates(model):
    rows = np.arange(20)
    z = model.get_latent_representation(missing(model.adata, "condition", rows))
    probabilities = model.predict_guided(key="condition", indices=rows).to_numpy()
    np.testing.assert_allclose(z[rows, 5], probabilities @ [-2.0, 2.0], atol=1e-4)
    np.testing.assert_array_equal(z[20:], model.get_latent_representation()[20:])


def test_missing_labels_are_imputed_in_training_and_inferred_well(caplog):
    adata = simulate_counts(600, 100, n_cell_types=2, effects=FactorEffects(condition=1.5), seed=1)
    truth = adata.obs["condition"].astype(str)
    hidden = np.random.default_rng(0).random(600) < 0.4
    unlabeled = missing(adata, "condition", hidden)
    with caplog.at_level("INFO"):
        model = trained(unlabeled, "condition", steps=200, n_hidden=64)
    assert "condition is missing for" in caplog.text
    found = model.predict_guided(unlabeled, indices=hidden).idxmax(axis=1)
    assert (found == truth[hidden]).mean() > 0.95
    assert not model.module.guided.members(torch.tensor([[np.nan]])).any()


@pytest.mark.parametrize("new_levels", ["error", "infer"])
def test_a_query_with_a_new_level_is_refused_or_inferred(model, new_levels):
    query = model.adata[:50].copy()
    query.obs["plate"] = 7
    if new_levels == "error":
        with pytest.raises(ValueError, match="new_levels='infer'"):
            BetaVAE.load_query_data(query, model)
        return
    mapped = BetaVAE.load_query_data(query, model, new_levels=new_levels, accelerator="cpu")
    assert mapped.is_trained
    z, known = mapped.get_latent_representation(), model.get_latent_representation(indices=np.arange(50))
    np.testing.assert_allclose(z[:, :7], known[:, :7], atol=1e-5)
    assert np.isfinite(z).all()


def test_other_cells_with_a_new_level_or_without_the_column_are_refused(model):
    other = model.adata[:50].copy()
    other.obs["plate"] = 7
    with pytest.raises(ValueError, match="'7', which the model does not know"):
        model.get_latent_representation(other)
    other = model.adata[:50].copy()
    del other.obs["plate"]
    with pytest.raises(KeyError, match=r"np\.nan"):
        model.get_latent_representation(other)


def test_predict_guided_refuses_what_it_cannot_answer(model):
    with pytest.raises(ValueError, match="Name one: key="):
        model.predict_guided()
    with pytest.raises(ValueError, match="Did you mean 'plate'"):
        model.predict_guided(key="plates")
    found = model.predict_guided(key="age", indices=[0, 1])
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.all(np.diff([float(name) for name in found.columns]) > 0)


# Confounding


@pytest.mark.parametrize(
    ("share", "says"),
    [(0.0, None), (0.4, "Part of what they share"), (0.6, "Much of what they share"), (0.9, "refused")],
)
def test_confounded_covariates_are_pointed_out_or_refused(share, says):
    adata = simulate_counts(600, 30, n_cell_types=2, confounding={("cell_type", "batch"): share}, seed=0)
    BetaVAE.setup_anndata(adata, labels_key="cell_type", guided_keys="batch")
    model = BetaVAE(adata, n_latent=3, n_hidden=8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if says == "refused":
            with pytest.raises(ValueError, match="cannot be told apart"):
                model.train(max_steps=2, **QUIET)
            assert "betavae" not in adata.uns or "confounding" not in adata.uns["betavae"]
            forced = BetaVAE(adata, n_latent=3, n_hidden=8, guided_kwargs={"force": True})
            forced.train(max_steps=2, **QUIET)
            return
        model.train(max_steps=2, **QUIET)
    texts = [str(w.message) for w in caught if "confounded" in str(w.message)]
    assert len(texts) == (says is not None)
    assert says is None or says in texts[0]
    table = adata.uns["betavae"]["confounding"]
    expected = scbetavae.metrics.expected_accuracy(adata.obs["batch"].astype(str), adata.obs[["cell_type"]].astype(str))
    np.testing.assert_allclose(table["accuracy"], [expected])


def test_an_empty_combination_is_named_and_not_refused():
    adata = cells(600, 30)
    empty = (adata.obs["condition"] == "treated") & (adata.obs["plate"] == 2)
    adata = adata[~empty].copy()
    BetaVAE.setup_anndata(adata, labels_key="plate", guided_keys="condition")
    model = BetaVAE(adata, n_latent=3, n_hidden=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(max_steps=2, **QUIET)
    assert adata.uns["betavae"]["confounding"]["empty"].tolist() == ["treated in 2"]


# Operations


def test_guided_dimensions_take_no_part_in_scores(model):
    model._latent().write(model.adata)
    frame = scbetavae.tl.score_disentanglement(
        model.adata, ["batch", "cell_type"], metrics="mig", n_permutations=5, n_bootstrap=5
    )
    free = model.get_latent_representation()[:, :4]
    expected = scbetavae.metrics.mig(free, model.adata.obs[["batch", "cell_type"]])
    np.testing.assert_allclose(frame.set_index("covariate").loc["batch", "value"], expected["batch"])
    assert frame["flag"].str.contains("guided ones do not take part").all()


def test_removal_takes_the_guided_dimensions(model):
    z = model.get_latent_representation()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        zeroed = model.zero_batch_dimensions(n_bootstrap=5, decode=True)
    changed = (zeroed != z).any(axis=0)
    assert np.flatnonzero(changed).tolist() == [4]
    assert not zeroed[:, 4].any()
    known = model.adata.uns["betavae"]["batch_removal_params"]
    assert known["method"] == "guided"
    assert known["n_held_out"] == len(model.validation_indices)
    levels = []
    for anchor in (-2.0, 2.0):
        z[:, 4] = anchor
        levels.append(model.decode(z, library_size=1e4))
    np.testing.assert_allclose(model.adata.layers["betavae_zeroed"], np.mean(levels, axis=0), rtol=1e-4)
    with pytest.raises(ValueError, match="nothing to search for"):
        model.find_batch_dimensions()


def test_expression_at_reference_levels(model):
    options = {"return_numpy": True, "n_samples": 50}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        at_zero = model.get_normalized_expression(reference={"batch": "batch_0"}, **options)
    z = model.get_latent_representation()
    z[:, 4] = -2.0
    assert np.corrcoef(at_zero.ravel(), model.decode(z).ravel())[0, 1] > 0.99
    everything = model.get_normalized_expression(reference={"batch": None, "plate": ["0", 1]}, **options)
    np.testing.assert_allclose(everything.sum(axis=1), 1.0, rtol=1e-4)
    with pytest.raises(ValueError, match="Did you mean 'batch_0'"):
        model.get_normalized_expression(reference={"batch": "batch_00"})
    with pytest.raises(ValueError, match="no levels to average"):
        model.get_normalized_expression(reference={"age": None})


def test_counterfactual_moves_the_guided_dimensions(model):
    predicted = model.counterfactual("condition", "control", "treated", groupby="cell_type")
    moved = predicted.obsm["X_counterfactual"] - predicted.obsm["X_betavae"]
    assert np.flatnonzero(moved.any(axis=0)).tolist() == [5]
    np.testing.assert_allclose(moved[:, 5], 4.0)
    known = predicted.uns["betavae"]["counterfactual_params"]
    assert known["method"] == "guided"
    z = predicted.obsm["X_betavae"]
    totals = np.asarray(predicted.layers["observed"].sum(axis=1))
    change = totals * (model.decode(predicted.obsm["X_counterfactual"]) - model.decode(z))
    expected = known["library_ratio"] * np.maximum(predicted.layers["observed"].toarray() + change, 0.0)
    np.testing.assert_allclose(predicted.layers["expected"], expected, rtol=1e-3, atol=1e-3)
    genes = predicted.uns["betavae"]["counterfactual_genes"]
    assert (genes["ci_low"] <= genes["log2_fold_change"]).all()
    assert (genes["log2_fold_change"] <= genes["ci_high"]).all()


def test_counterfactual_of_several_covariates(model):
    predicted = model.counterfactual({"condition": ("control", "treated"), "plate": (1, 2)}, groupby="cell_type")
    moved = predicted.obsm["X_counterfactual"] - predicted.obsm["X_betavae"]
    assert set(np.flatnonzero(moved.any(axis=0))) == {5, 7, 8}
    assert set(predicted.obs["plate"]) == {1}
    assert predicted.obs["counterfactual"].unique().tolist() == ["treated & 2"]
    with pytest.raises(ValueError, match="pair of categories"):
        model.counterfactual({"condition": "treated"})
    with pytest.raises(ValueError, match="names its own categories"):
        model.counterfactual({"condition": ("control", "treated")}, "control", "treated")
    with pytest.raises(ValueError, match="is conditioned"):
        model.counterfactual("condition", "control", "treated", method="conditioned")


@pytest.mark.parametrize(("spread", "ratio"), [(0.19, "agrees"), (0.21, "differs")])
def test_library_sizes_are_scaled_where_groups_agree(spread, ratio):
    from scbetavae.model._counterfactual_decoder import library_ratio

    class Two:
        training_groups = ("a", "b")

        def pair(self, group, *, fitted):
            assert fitted
            here = np.arange(4) // 2 == (group == "b")
            return here & (np.arange(4) % 2 == 0), here & (np.arange(4) % 2 == 1)

    logs = 0.5 + spread / np.sqrt(2) * np.array([1.0, -1.0])  # standard deviation `spread`
    totals = np.array([100.0, 100.0 * np.exp(logs[0]), 100.0, 100.0 * np.exp(logs[1])])
    expected = np.exp(0.5) if ratio == "agrees" else 1.0
    assert library_ratio(totals, Two()) == pytest.approx(expected)


def test_a_covariate_that_is_guided_and_one_that_is_conditioned_change_one_after_the_other():
    adata = cells(200, 30)
    model = trained(adata, "condition", setup={"categorical_covariate_keys": ["plate"]})
    with pytest.raises(ValueError, match="conditioned on 'plate' alone"):
        model.counterfactual({"condition": ("control", "treated"), "plate": (0, 1)})


def test_inferring_levels_moves_no_random_state(model):
    state = torch.random.get_rng_state()
    model.predict_guided(key="condition", indices=[0, 1])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_confounding_is_kept_when_training_goes_on():
    adata = cells(200, 30)
    model = trained(adata, "batch", steps=5, setup={"labels_key": "cell_type"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train(max_steps=5, **QUIET)
    assert adata.uns["betavae"]["confounding"]["other"].tolist() == ["cell_type"]


@pytest.mark.parametrize(
    ("accuracy", "says"),
    [(0.29, ""), (0.31, "Part of"), (0.49, "Part of"), (0.51, "Much of"), (0.79, "Much of"), (0.81, "refused")],
)
def test_thresholds_of_confounding(accuracy, says):
    from scbetavae.model._guided import _judge

    table = pd.DataFrame({"covariate": ["batch"], "other": ["type"], "accuracy": [accuracy], "empty": [""]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if says == "refused":
            with pytest.raises(ValueError, match="cannot be told apart"):
                _judge(table, force=False)
            _judge(table, force=True)
            return
        _judge(table, force=False)
    assert [says in str(w.message) for w in caught] == ([True] if says else [])


def test_a_conditioned_decoder_has_a_counterfactual():
    adata = cells(200, 30)
    BetaVAE.setup_anndata(adata, batch_key="condition")
    model = BetaVAE(adata, n_latent=4, n_hidden=16, condition_on_batch=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model.train(max_steps=20, **QUIET)
    predicted = model.counterfactual("condition", "control", "treated")
    assert predicted.uns["betavae"]["counterfactual_params"]["method"] == "conditioned"
    np.testing.assert_array_equal(predicted.obsm["X_counterfactual"], predicted.obsm["X_betavae"])
    with pytest.raises(ValueError, match="do not encode it"):
        model.counterfactual("condition", "control", "treated", method="group_shift")


def test_description_of_guided_covariates(model):
    table = model.describe_guided(n_bootstrap=10, n_genes=5)
    assert table["dimensions"].tolist() == ["4", "5", "6", "7, 8"]
    assert (table["ci_low"] <= table["accuracy"]).all()
    free = model.get_latent_representation()[:, :4]
    expected = scbetavae.metrics.knn_accuracy(free, model.adata.obs["condition"].astype(str))
    assert table.set_index("covariate").loc["condition", "accuracy"] == pytest.approx(expected, abs=0.05)
    genes = model.adata.uns["betavae"]["guided_genes"]
    assert genes.groupby(["covariate", "level"]).size().tolist() == [5] * 5
    figure = scbetavae.pl.guided(model.adata)
    assert len(figure.axes) == 4
    model.adata.var["symbol"] = [f"symbol of {name}" for name in model.adata.var_names]
    model.describe_guided(n_bootstrap=0, gene_symbols="symbol")
    genes = model.adata.uns["betavae"]["guided_genes"]
    assert (genes["symbol"] == "symbol of " + genes["gene"]).all()
    labels = [label.get_text() for label in scbetavae.pl.guided(model.adata).axes[1].get_yticklabels()]
    assert labels[0] == genes["symbol"].iloc[0]
    cards = model.describe_dimensions()
    guided = cards[cards["role"] != "free"]
    assert guided["encodes"].str.startswith("guided by").all()
    assert guided["name"].tolist()[:3] == ["batch", "condition", "age"]


def test_additive_effect_is_that_of_the_shared_path(model):
    """With hidden units that ignore the guided dimensions, the decoded change is the additive one."""
    adata = cells(200, 30)
    other = trained(adata, "batch", steps=20)
    layers = other.module.decoder.px_decoder.fc_layers[0][0]
    with torch.no_grad():
        layers.weight[:, 4:] = 0.0
    other.describe_guided(n_bootstrap=0, n_genes=30)
    genes = adata.uns["betavae"]["guided_genes"]
    np.testing.assert_allclose(genes["additive"], genes["log2_fold_change"], atol=0.02)
