"""Batch dimensions: planted ones are found exactly, biology is kept, and what cannot be separated is refused."""

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import scbetavae
from scbetavae._core import results
from scbetavae.tl import find_batch_dimensions

LOG2 = np.log(2)


def perfect(n_cells=600, seed=0, n_noise=2, **factors):
    """True factors as an embedding: one-hot types, batch (one column for two), condition, gradient; then noise."""
    cells = scbetavae.datasets.simulate_counts(n_cells, 50, seed=seed, **factors).obs
    rng = np.random.default_rng(seed)
    types = np.eye(cells["cell_type"].nunique())[cells["cell_type"].cat.codes]
    batch = np.eye(cells["batch"].nunique())[cells["batch"].cat.codes]
    batch = batch[:, 1:] if batch.shape[1] == 2 else batch
    condition = cells["condition"].cat.codes.to_numpy()[:, None]
    signal = 3.0 * np.hstack([types, batch, condition, cells[["gradient"]].to_numpy()])
    codes = np.hstack([signal + 0.2 * rng.normal(size=signal.shape), rng.normal(size=(n_cells, n_noise))])
    truth = list(range(types.shape[1], types.shape[1] + batch.shape[1]))
    return AnnData(obs=cells, obsm={"X_betavae": codes}), truth


def search(adata, conserve=("cell_type", "condition"), **kwargs):
    return find_batch_dimensions(adata, "batch", conserve=conserve, **{"n_permutations": 50, **kwargs})


def write_latent(adata, kl):
    """The table that a model writes for its latent representation."""
    n_dims = len(kl)
    table = {"dimension": range(n_dims), "kl": kl, "sd": 1.0, "variance": 0.1, "active": kl > 0.01, "role": "free"}
    table = pd.DataFrame(table).assign(name=[f"dim_{d}" for d in range(n_dims)])
    results.store(adata, "latent", {"": table}, {"obsm_key": "X_betavae"}, {"X_betavae": adata.obsm["X_betavae"]})


def chosen(frame):
    return sorted(frame.loc[frame["chosen"], "dimension"])


def stored(adata, suffix=""):
    return adata.uns["betavae"][f"batch_dimensions{suffix}"]


def status(adata):
    return stored(adata, "_params")["status"]


@pytest.mark.parametrize(
    ("method", "seed"), [*(("stepwise", seed) for seed in range(6)), ("dominant", 0), ("dominant", 1)]
)
def test_perfect_codes_are_told_exactly(method, seed):
    adata, truth = perfect(seed=seed, n_batches=2 + seed % 2)
    frame = search(adata, method=method, seed=seed)
    assert chosen(frame) == truth
    assert status(adata) == "found"
    accuracies = stored(adata, "_report").set_index("covariate")
    assert accuracies.loc["batch", "accuracy_before"] > 0.95
    assert abs(accuracies.loc["batch", "accuracy_after"]) < 0.15
    assert (accuracies.loc[["cell_type", "condition"], "kept"] > 0.98).all()


@pytest.mark.parametrize(
    "factors",
    [
        {"confounding": {("cell_type", "batch"): 0.6}},
        {"confounding": {("cell_type", "batch"): 0.4, ("batch", "condition"): 0.4}},
        {"proportions": {"batch": [0.85, 0.15]}},
        {"proportions": {"cell_type": [0.6, 0.25, 0.1, 0.05]}, "confounding": {("cell_type", "batch"): 0.3}},
    ],
)
def test_batches_of_unlike_size_and_make_up(factors):
    adata, truth = perfect(1600, **factors)
    assert chosen(search(adata, n_permutations=30)) == truth
    accuracies = stored(adata, "_report").iloc[0]
    assert abs(accuracies["accuracy_after"] - accuracies["expected_accuracy"]) < 0.12


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), n_noise=st.integers(0, 12), data=st.data())
def test_order_sign_and_noise_change_nothing(seed, n_noise, data):
    adata, truth = perfect(400, seed, n_noise=n_noise)
    codes = adata.obsm["X_betavae"]
    order = data.draw(st.permutations(range(codes.shape[1])))
    signs = data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(order), max_size=len(order)))
    adata.obsm["X_betavae"] = codes[:, order] * signs
    assert chosen(search(adata)) == sorted(order.index(dimension) for dimension in truth)


def make_cells(n_cells=1200, seed=0):
    """Batch and type in all combinations, equally often."""
    index = np.arange(n_cells)
    obs = pd.DataFrame(
        {"batch": np.array(["b/1", "b 2"])[index % 2], "cell_type": np.array(["T", "B", "NK"])[index // 2 % 3]},
        index=[f"cell {i}" for i in index],
    )
    adata = AnnData(obs=obs.sample(frac=1, random_state=seed))
    return adata, (adata.obs["batch"] == "b 2").to_numpy(float), adata.obs["cell_type"].map({"T": 0, "B": 1, "NK": 2})


def test_information_is_that_of_its_definition():
    """Codes with two values or three: every bin is a value, and sums over strata can be done by hand."""
    adata, batch, kind = make_cells(2400)
    rng = np.random.default_rng(0)
    coin = rng.integers(0, 2, len(batch)).astype(float)
    only_in_t = np.where(kind == 0, batch, coin)  # predicts batch in one type of three
    adata.obsm["X_betavae"] = np.column_stack([batch, kind, only_in_t, coin, (batch + (kind == 0)) % 2])
    frame = search(adata, "cell_type")
    marginal = 1 - stats.entropy([2 / 3, 1 / 3]) / LOG2  # of the mixture: P(code = batch) is 1/3 + 2/3 * 1/2 = 2/3
    np.testing.assert_allclose(
        frame["batch"], [LOG2, 0, marginal * LOG2, 0, LOG2 - stats.entropy([2 / 3, 1 / 3])], atol=0.01
    )
    np.testing.assert_allclose(frame["batch_given_conserved"], [LOG2, 0, LOG2 / 3, 0, LOG2], atol=0.01)
    one_of_three = stats.entropy([1 / 3, 2 / 3])
    assert frame.loc[0, "conserved_given_batch"] < 0.01
    np.testing.assert_allclose(frame["conserved_given_batch"][[1, 4]], [np.log(3), one_of_three], atol=0.01)
    assert (frame["batch_p_adjusted"] < 0.01).tolist() == [True, False, True, False, True]
    assert frame.sort_values("rank")["dimension"].iloc[-1] == 1


def test_p_values_are_those_of_chance_and_reach_far_below_one_in_the_permutations():
    adata, batch, _ = make_cells(1000)
    codes = np.random.default_rng(1).normal(size=(1000, 50))
    codes[:, 0] += 3 * batch
    adata.obsm["X_betavae"] = codes
    frame = search(adata, "cell_type", n_permutations=60)
    assert stats.kstest(frame["batch_p_value"][1:], "uniform").pvalue > 0.01
    # The plug-in estimate would be about (bins - 1) * strata / 2N: 0.027 nats of nothing.
    assert frame["batch_given_conserved"][1:].median() < 0.005
    assert frame["conserved_given_batch"][1:].median() < 0.005
    assert frame.loc[0, "batch_p_value"] < 1e-6
    assert chosen(frame) == [0]


def test_a_dimension_that_holds_both_is_not_given_up():
    adata, batch, kind = make_cells()
    rng = np.random.default_rng(0)
    adata.obsm["X_betavae"] = np.column_stack([2 * kind + batch, rng.normal(size=len(batch))]) * [3.0, 0.3]
    adata.obsm["X_betavae"] += 0.1 * rng.normal(size=(len(batch), 2))
    frame = search(adata, "cell_type")
    assert chosen(frame) == []
    assert status(adata) == "none"
    assert frame["batch_p_adjusted"].iloc[0] < 1e-6  # significance is not the criterion
    summary = stored(adata, "_params")["summary"]
    assert "removing dimension 0" in summary
    assert "condition_on_batch=True" in summary
    assert "stays at 1.00" in summary
    assert frame.loc[0, "conserved_kept"] < 0.97


def test_batch_in_two_dimensions_needs_both():
    adata, batch, kind = make_cells()
    rng = np.random.default_rng(0)
    codes = np.column_stack([batch, batch, kind == 0, kind == 1]).astype(float)
    adata.obsm["X_betavae"] = 3 * codes + 0.2 * rng.normal(size=codes.shape)
    frame = search(adata, "cell_type")
    assert chosen(frame) == [0, 1]
    left = frame.sort_values("rank")["batch_left"].to_numpy()
    assert left[0] > 0.9  # either alone changes nothing
    assert abs(left[1]) < 0.15
    assert np.isnan(left[2:]).all()  # nothing is left to remove: the steps ends


def test_nothing_to_find():
    adata, _, kind = make_cells()
    rng = np.random.default_rng(0)
    adata.obsm["X_betavae"] = np.column_stack([3 * kind, rng.normal(size=(len(kind), 3))])
    assert chosen(search(adata, "cell_type")) == []
    assert status(adata) == "none"
    assert "already" in stored(adata, "_params")["summary"]
    assert chosen(search(adata, "cell_type", method="dominant")) == []


@pytest.mark.parametrize("method", ["stepwise", "dominant"])
def test_never_all_dimensions(method):
    """Batch in every dimension, the conserved covariate in none: there is no biology to lose, and no embedding left."""
    adata, batch, _ = make_cells()
    adata.obsm["X_betavae"] = batch[:, None] + 0.1 * np.random.default_rng(0).normal(size=(len(batch), 2))
    frame = search(adata, "cell_type", method=method)
    assert chosen(frame) == []
    assert ("nothing would be left" if method == "dominant" else "does not lower") in stored(adata, "_params")[
        "summary"
    ]


def test_confounded_beyond_use_is_refused():
    adata, batch, _ = make_cells()
    rng = np.random.default_rng(0)
    follows = np.where(rng.random(len(batch)) < 0.98, batch, 1 - batch)
    adata.obs["tissue"] = np.where(follows, "lung", "blood")
    adata.obsm["X_betavae"] = np.column_stack([3 * batch, 3 * follows]) + 0.1 * rng.normal(size=(len(batch), 2))
    frame = search(adata, ["cell_type", "tissue"])
    assert chosen(frame) == []
    assert status(adata) == "refused"
    # Of a two by two table with agreement a, the effective share is 1 - (2a - 1)^2.
    agreement = (batch == follows).mean()
    expected = len(batch) * (1 - (2 * agreement - 1) ** 2)
    assert f"worth {expected:.0f} of {len(batch)} cells" in stored(adata, "_params")["summary"]
    assert "'tissue'" in stored(adata, "_params")["summary"]


def test_effective_cells_are_those_left_within_strata():
    adata, _ = perfect(2000, confounding={("cell_type", "batch"): 0.5})
    search(adata, "cell_type")
    table = pd.crosstab(adata.obs["cell_type"], adata.obs["batch"])
    within = (table.sum(axis=1) - (table**2).sum(axis=1) / table.sum(axis=1)).sum()
    overall = 2000 - (table.sum() ** 2).sum() / 2000
    assert stored(adata, "_params")["effective_cells"] == pytest.approx(2000 * within / overall)


def test_decided_on_one_half_and_reported_on_the_other():
    """Noise in the place of codes of the reporting cells changes the report, and no decision."""
    adata, truth = perfect(seed=3)
    frame = search(adata, "cell_type")
    report = stored(adata, "_report").iloc[0]
    decide = ~adata.obs["batch_dimensions_held_out"].to_numpy()
    rng = np.random.default_rng(0)
    adata.obsm["X_betavae"][~decide] = rng.normal(size=((~decide).sum(), adata.obsm["X_betavae"].shape[1]))
    again = search(adata, "cell_type")
    pd.testing.assert_frame_equal(frame, again, check_exact=True)
    assert chosen(again) == truth
    assert report["accuracy_before"] > 0.95
    assert stored(adata, "_report").iloc[0]["accuracy_before"] < 0.5
    assert abs(decide.sum() - len(decide) / 2) <= 1
    assert pd.crosstab(decide, [adata.obs["batch"], adata.obs["cell_type"]]).diff().iloc[1].abs().max() <= 1


def test_naming_a_covariate_twice_changes_no_rank():
    adata, _ = perfect()
    once = search(adata, "cell_type")
    adata.obs["again"] = adata.obs["cell_type"].cat.rename_categories(lambda name: name.upper())
    twice = search(adata, ["cell_type", "again"])
    strong = once["conserved_given_batch"] > 0.1
    assert strong.sum() == 4
    np.testing.assert_allclose(twice["conserved_given_batch"][strong], once["conserved_given_batch"][strong], atol=0.02)
    assert chosen(twice) == chosen(once)


def test_numbers_are_conserved_too():
    adata, truth = perfect()
    codes = adata.obsm["X_betavae"]
    codes[:, 6] += 0.5 * codes[:, truth[0]]  # the gradient's own dimension now holds some of batch as well
    assert chosen(search(adata, "cell_type")) == [truth[0], 6]
    frame = search(adata, ["cell_type", "gradient"])
    assert chosen(frame) == truth
    assert frame.loc[6, "conserved_covariate"] == "gradient"
    assert stored(adata, "_params")["stratified_by"] == "cell_type, gradient"
    assert "Much batch is left" in stored(adata, "_params")["summary"]


def test_dominant_compares_within_a_dimension():
    adata, truth = perfect(n_noise=0)
    adata.obsm["X_betavae"][:, 6] += 0.3 * adata.obsm["X_betavae"][:, truth[0]]
    assert chosen(search(adata, "cell_type", method="dominant")) == [truth[0], 6]
    frame = search(adata, ["cell_type", "gradient"], method="dominant")
    assert chosen(frame) == truth
    assert 0.05 < frame.loc[6, "batch_alone"] < frame.loc[6, "conserved_alone"]


def test_goes_no_further_than_the_conserved_covariates_imply():
    """Types predict batch. Once the batch dimension is gone, a weak one may stay: neighbors are no better without it."""
    adata, truth = perfect(1200, n_noise=2, confounding={("cell_type", "batch"): 0.6})
    adata.obsm["X_betavae"][:, -1] += 0.6 * (adata.obs["batch"] == "batch_1")
    frame = search(adata, "cell_type")
    assert frame["batch_p_adjusted"].iloc[-1] < 0.01
    assert chosen(frame) == truth
    assert stored(adata, "_steps")["n_zeroed"].max() == 1
    assert stored(adata, "_params")["batch_accuracy_expected"] > 0.5


def test_strata_are_crossed_only_as_far_as_cells_suffice():
    adata, truth = perfect(600)
    adata.obs["clone"] = pd.Categorical(np.random.default_rng(0).integers(0, 60, adata.n_obs).astype(str))
    frame = search(adata, ["cell_type", "clone"])
    assert stored(adata, "_params")["stratified_by"] == "cell_type"
    assert "too few to keep 'clone' constant" in stored(adata, "_params")["summary"]
    assert chosen(frame) == truth


def test_clusters_are_conserved_where_nothing_is_named():
    adata, truth = perfect(n_noise=1)
    frame = search(adata, None)
    assert chosen(frame) == truth
    assert "No covariate was given" in stored(adata, "_params")["summary"]
    assert "Leiden" in stored(adata, "_params")["summary"]
    clusters = adata.obs["batch_dimensions_clusters"]
    together = scbetavae.metrics.covariate_association(pd.DataFrame({"a": clusters, "b": adata.obs["cell_type"]}))
    assert together["association"].item() > 0.9
    apart = scbetavae.metrics.covariate_association(pd.DataFrame({"a": clusters, "b": adata.obs["batch"]}))
    assert apart["association"].item() < 0.3
    parameters = stored(adata, "_params")
    assert parameters["clustered"]
    assert parameters["conserve"] == "batch_dimensions_clusters"


def test_inactive_dimensions_take_no_part():
    adata, truth = perfect()
    n_dims = adata.obsm["X_betavae"].shape[1]
    kl = np.ones(n_dims)
    kl[truth[0]] = 0.001
    write_latent(adata, kl)
    frame = search(adata)
    row = frame.loc[truth[0]]
    assert not row["active"]
    assert row["rank"] == 0
    assert np.isnan(row["batch"])
    assert not row["chosen"]
    assert sorted(frame["rank"]) == list(range(n_dims))
    kl[:4] = 0.001  # the types
    write_latent(adata, kl)
    search(adata)
    assert stored(adata, "_report").set_index("covariate").loc["cell_type", "accuracy_before"] < 0.2


def test_cells_without_a_label_are_left_out():
    adata, truth = perfect()
    adata.obsm["X_betavae"][:100] = 50.0  # nonsense, among cells that nothing is known of
    adata.obs["batch"] = adata.obs["batch"].astype(object)
    adata.obs.iloc[:50, adata.obs.columns.get_loc("batch")] = np.nan
    adata.obs.iloc[50:100, adata.obs.columns.get_loc("cell_type")] = np.nan
    frame = search(adata, "cell_type")
    assert stored(adata, "_params")["n_cells"] == 500
    assert chosen(frame) == truth
    rest = adata[100:].copy()
    write_latent(rest, np.ones(len(frame)))
    write_latent(adata, np.ones(len(frame)))
    pd.testing.assert_frame_equal(search(rest, "cell_type"), search(adata, "cell_type"))


def test_a_batch_of_numbers_is_one_of_categories():
    adata, truth = perfect()
    expected = search(adata)
    adata.obs["batch"] = adata.obs["batch"].cat.codes.astype(float)
    pd.testing.assert_frame_equal(search(adata), expected)
    assert chosen(expected) == truth


def test_same_seed_same_result():
    adata, _ = perfect(600, n_noise=8)
    frames = [search(adata, seed=seed) for seed in (0, 0, 1)]
    pd.testing.assert_frame_equal(frames[0], frames[1], check_exact=True)
    assert not frames[0].equals(frames[2])


@pytest.mark.parametrize("file_type", ["h5ad", "zarr"])
def test_stored_and_read_back(tmp_path, file_type):
    adata, _, kind = make_cells()
    adata.obsm["X_betavae"] = np.random.default_rng(0).normal(size=(adata.n_obs, 3)) + 3 * kind.to_numpy()[:, None]
    search(adata, "cell_type", key_added="mine")
    search(adata, None)
    path = tmp_path / f"cells.{file_type}"
    getattr(adata, f"write_{file_type}")(path)
    back = getattr(anndata, f"read_{file_type}")(path)
    assert set(back.uns["betavae"]) == set(adata.uns["betavae"])
    for name, entry in adata.uns["betavae"].items():
        if isinstance(entry, dict):
            assert back.uns["betavae"][name] == entry
        else:
            pd.testing.assert_frame_equal(
                back.uns["betavae"][name], entry, check_index_type=False, check_dtype=False, check_column_type=False
            )
    assert back.uns["betavae"]["mine_params"]["summary"] == adata.uns["betavae"]["mine_params"]["summary"]
    assert "batch_dimensions_clusters" in back.obs


@pytest.mark.parametrize(
    ("batch_key", "arguments", "error", "word"),
    [
        ("bach", {}, KeyError, "Did you mean 'batch'"),
        ("batch", {"conserve": "cell_typ"}, KeyError, "conserve='cell_typ'.*'cell_type'"),
        ("batch", {"obsm_key": "X_betavea"}, KeyError, "X_betavae"),
        ("batch", {"conserve": "batch"}, ValueError, "the batch itself"),
        ("batch", {"conserve": ["cell_type", "alias"]}, ValueError, "alias of 'batch'"),
        ("batch", {"conserve": "number"}, ValueError, "alias of 'batch'"),
        ("batch", {"conserve": ["cell_type", "cell_type"]}, ValueError, "twice"),
        ("batch", {"conserve": "same"}, ValueError, "one value"),
        ("same", {"conserve": "cell_type"}, ValueError, "one category"),
        ("same", {}, ValueError, "one category"),
        ("nobody", {}, ValueError, "No cell"),
        ("gradient", {}, ValueError, "fractions"),
        ("batch", {"method": "stepwize"}, ValueError, "Did you mean 'stepwise'"),
        ("batch", {"method": [0]}, ValueError, "zero_batch_dimensions"),
        ("batch", {"n_permutations": 5}, ValueError, "at least 10"),
        ("batch", {"fdr": 0.0}, ValueError, r"in \(0, 1\)"),
        ("batch", {"key_added": "a/b"}, ValueError, "key_added"),
        ("batch", {"conserve": "day"}, TypeError, "dates"),
    ],
)
def test_mistakes_leave_no_trace(batch_key, arguments, error, word):
    adata, _ = perfect(200)
    adata.obs["alias"] = adata.obs["batch"].cat.rename_categories(["x", "y"])
    adata.obs["number"] = adata.obs["batch"].cat.codes.astype(int)
    adata.obs["same"] = "one"
    adata.obs["nobody"] = pd.Series(np.nan, index=adata.obs_names, dtype=object)
    adata.obs["day"] = pd.Timestamp("2024-01-01")
    before = list(adata.obs)
    with pytest.raises(error, match=word):
        find_batch_dimensions(adata, batch_key, **{"conserve": "cell_type", **arguments})
    assert "betavae" not in adata.uns
    assert list(adata.obs) == before


def test_a_collapsed_embedding_is_refused():
    adata, _ = perfect(200)
    write_latent(adata, np.zeros(9))
    with pytest.raises(ValueError, match="collapsed"):
        search(adata)


def test_a_view_is_refused():
    adata, _ = perfect(200)
    with pytest.raises(ValueError, match="view"):
        search(adata[:100])
