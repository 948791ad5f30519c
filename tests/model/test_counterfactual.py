"""Counterfactuals: who moves, by how much, from which cells the move is estimated, and the baselines."""

from functools import partial

import anndata
import numpy as np
import pandas as pd
import pytest

import scbetavae
from scbetavae.model import BetaVAE, Latent

ASK = ("condition", "control", "treated")
TRAIN = {"enable_progress_bar": False, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def make_model(make_model):
    return partial(make_model, epochs=3, beta=0.1)


@pytest.fixture(scope="module")
def _trained(make_model, _counts_adata):
    return make_model(_counts_adata.copy(), epochs=20)


@pytest.fixture
def model(_trained):
    return _trained


@pytest.fixture
def planted(model, monkeypatch):
    """A model whose codes are planted: the treated are 1 higher in dimension 0 where dimension 1 is 0, and 3 where it is 10."""
    obs = model.adata.obs
    high = np.arange(len(obs)) % 2 == 1
    codes = np.zeros((len(obs), 4), dtype=np.float32)
    codes[:, 0] = (obs["condition"] == "treated") * np.where(high, 3.0, 1.0)
    codes[:, 1] = 10.0 * high
    codes[:, 2:] = np.random.default_rng(0).normal(scale=0.01, size=(len(obs), 2))
    kl = np.array([1.0, 1.0, 1.0, 0.001])
    plant(monkeypatch, codes, kl)
    return model, high


def plant(monkeypatch, means, kl):
    """Counterfactuals of any model move these posterior means."""
    latent = Latent(means, np.ones_like(means), kl, kl > 0.01, ("free",) * 4, tuple("abcd"))
    monkeypatch.setattr("scbetavae.model._counterfactual.compute_latent", lambda *_: latent)


def twins(adata):
    """Control cells, and copies of them that are called treated."""
    control = adata[adata.obs["condition"] == "control"].copy()
    copies = control.copy()
    copies.obs["condition"] = "treated"
    both = anndata.concat([control, copies], index_unique="_")
    both.obs["condition"] = pd.Categorical(both.obs["condition"], categories=["control", "treated"])
    return both


def shifts(predicted):
    return predicted.obsm["X_counterfactual"] - predicted.obsm["X_betavae"]


def held_out(frame, method, genes="all", name="relative_error"):
    rows = frame[(frame["method"] == method) & (frame["genes"] == genes)]
    return rows.set_index("group")[name]


def test_no_shift_changes_no_count(model, counts_adata):
    """Treated cells that are copies of the control cells: there is no effect, and nothing happens."""
    adata = twins(counts_adata)
    predicted = model.counterfactual(*ASK, groupby="labels", adata=adata)
    np.testing.assert_allclose(shifts(predicted), 0, atol=1e-6)
    source = adata[adata.obs["condition"] == "control"]
    np.testing.assert_allclose(predicted.layers["expected"], source.X.toarray(), atol=1e-3)
    assert np.abs(predicted.X - source.X).sum() <= 2  # rounding of the codes may move a molecule
    np.testing.assert_array_equal(predicted.layers["observed"].toarray(), source.X.toarray())


def test_no_shift_decodes_what_was_encoded(model, counts_adata):
    adata = twins(counts_adata)
    predicted = model.counterfactual(*ASK, groupby="labels", adata=adata, add_to_observed=False)
    source = adata[adata.obs["condition"] == "control"].copy()
    sizes = np.asarray(source.X.sum(axis=1)).ravel()
    decoded = model.decode(model.get_latent_representation(source), library_size=sizes)
    np.testing.assert_allclose(predicted.layers["expected"], decoded, rtol=1e-4)


@pytest.mark.parametrize("method", ["group_shift", "dimension", "nearest"])
@pytest.mark.parametrize("add_to_observed", [True, False])
def test_library_size_and_annotation_are_kept(planted, method, add_to_observed):
    model, _ = planted
    adata = model.adata
    predicted = model.counterfactual(*ASK, groupby="labels", method=method, add_to_observed=add_to_observed)
    source = adata[adata.obs["condition"] == "control"]
    sizes = np.asarray(source.X.sum(axis=1)).ravel()
    for name in ("X", "observed", "mean_shift", "expected"):
        matrix = predicted.X if name == "X" else predicted.layers[name]
        np.testing.assert_allclose(
            np.asarray(matrix.sum(axis=1)).ravel(), sizes, rtol=1e-5 if name == "expected" else 0
        )
    np.testing.assert_array_equal(predicted.X.data, np.rint(predicted.X.data))
    assert list(predicted.obs_names) == list(source.obs_names)
    columns = ["batch", "labels", "donor", "condition", "age", "sf"]
    pd.testing.assert_frame_equal(predicted.obs[columns], source.obs[columns])
    assert set(predicted.obs["counterfactual"]) == {"treated"}


def test_molecules_stay_or_go_where_the_decoder_says(planted):
    """The rule, gene by gene, for one cell; and the draw follows its expectation."""
    model, _ = planted
    predicted = model.counterfactual(*ASK, groupby="labels")
    before, after = (model.decode(predicted.obsm[key])[7] for key in ("X_betavae", "X_counterfactual"))
    counts = predicted.layers["observed"][7].toarray().ravel()
    stay = [count * min(1.0, a / b) for count, a, b in zip(counts, after, before, strict=True)]
    rise = [max(a - b, 0.0) for a, b in zip(after, before, strict=True)]
    leave = sum(counts) - sum(stay)
    assert leave > 1
    expected = [kept + leave * gain / sum(rise) for kept, gain in zip(stay, rise, strict=True)]
    np.testing.assert_allclose(predicted.layers["expected"][7], expected, rtol=1e-4)
    means = predicted.layers["expected"].mean(axis=0), np.asarray(predicted.X.mean(axis=0)).ravel()
    assert np.corrcoef(*means)[0, 1] > 0.98


def test_groups_shift_by_their_own_means_and_an_excluded_one_by_the_mean_of_the_others(planted):
    model, high = planted
    group = np.where(high, "up", "down")
    model.adata.obs["half"] = group
    of_source = group[(model.adata.obs["condition"] == "control").to_numpy()]
    own = shifts(model.counterfactual(*ASK, groupby="half"))
    np.testing.assert_allclose(own[:, 0], np.where(of_source == "up", 3.0, 1.0), atol=1e-5)
    excluded = model.counterfactual(*ASK, groupby="half", exclude="up")
    np.testing.assert_allclose(shifts(excluded)[:, 0], 1.0, atol=1e-5)
    by_dict = model.counterfactual(*ASK, groupby="half", exclude={"half": ["up"]})
    np.testing.assert_array_equal(by_dict.X.toarray(), excluded.X.toarray())
    table = excluded.uns["betavae"]["counterfactual"]
    assert table.groupby("group")["held_out"].first().to_dict() == {"down": False, "up": True}
    del model.adata.obs["half"]


def test_pooled_shift_weighs_groups_equally(planted):
    model, high = planted
    names = np.where(high, "up", "down").astype(object)
    names[np.flatnonzero(~high)[:15]] = "third"
    model.adata.obs["three"] = names
    moved = shifts(model.counterfactual(*ASK, groupby="three", exclude="third"))
    of_source = names[(model.adata.obs["condition"] == "control").to_numpy()]
    np.testing.assert_allclose(moved[of_source == "third", 0], 2.0, atol=1e-5)
    del model.adata.obs["three"]


@pytest.mark.parametrize(("n_treated", "shift"), [(9, 3.0), (10, 1.0)])
def test_a_group_needs_ten_cells_of_either_condition_to_shift_by_its_own_mean(planted, n_treated, shift):
    model, high = planted
    names = np.where(high, "up", "small").astype(object)
    treated = (model.adata.obs["condition"] == "treated").to_numpy()
    names[np.flatnonzero(treated & ~high)[n_treated:]] = "others"
    model.adata.obs["sized"] = names
    moved = shifts(model.counterfactual(*ASK, groupby="sized"))
    np.testing.assert_allclose(moved[names[~treated] == "small", 0], shift, atol=1e-5)
    del model.adata.obs["sized"]


def test_nearest_neighbors_differ_where_the_group_mean_does_not(planted):
    model, high = planted
    source = (model.adata.obs["condition"] == "control").to_numpy()
    nearest = shifts(model.counterfactual(*ASK, method="nearest"))
    np.testing.assert_allclose(nearest[:, 0], np.where(high[source], 3.0, 1.0), atol=1e-5)
    pooled = shifts(model.counterfactual(*ASK))
    assert np.ptp(pooled[:, 0]) == pytest.approx(0, abs=1e-5)


def test_dimension_moves_what_carries_the_covariate_and_nothing_else(planted):
    model, _ = planted
    predicted = model.counterfactual(*ASK, groupby="labels", method="dimension")
    assert predicted.uns["betavae"]["counterfactual_params"]["encoding_dimensions"] == "0"
    assert (shifts(predicted)[:, 0] > 0.5).all()
    np.testing.assert_array_equal(shifts(predicted)[:, 1:], 0)


@pytest.mark.parametrize("method", ["group_shift", "dimension", "nearest"])
def test_named_dimensions_alone_move(planted, method):
    model, _ = planted
    predicted = model.counterfactual(*ASK, groupby="labels", method=method, dimensions=[2])
    assert (shifts(predicted)[:, 2] != 0).all()
    np.testing.assert_array_equal(shifts(predicted)[:, [0, 1, 3]], 0)


def test_inactive_dimensions_stay(planted):
    model, _ = planted
    for method in ("group_shift", "nearest"):
        predicted = model.counterfactual(*ASK, groupby="labels", method=method)
        np.testing.assert_array_equal(shifts(predicted)[:, 3], 0)
        assert predicted.uns["betavae"]["counterfactual_params"]["moved_dimensions"] == "0, 1, 2"


def test_excluded_target_cells_change_nothing(model, counts_adata):
    """Other counts for the treated cells of a group: without effect if it is excluded, and with one if it is not."""
    other = counts_adata.copy()
    cells = (other.obs["condition"] == "treated") & (other.obs["labels"] == "T cell")
    counts = other.X.toarray()
    counts[cells.to_numpy()] = counts[cells.to_numpy(), ::-1]
    other.X = type(other.X)(counts)
    for method in ("group_shift", "dimension", "nearest"):
        ask = {"groupby": "labels", "method": method}
        pairs = [model.counterfactual(*ASK, adata=a, exclude="T cell", **ask) for a in (counts_adata, other)]
        for layer in ("mean_shift", None):
            first, second = (pair.X if layer is None else pair.layers[layer] for pair in pairs)
            np.testing.assert_array_equal(first.toarray(), second.toarray())
        pairs = [model.counterfactual(*ASK, adata=a, **ask) for a in (counts_adata, other)]
        assert (pairs[0].layers["mean_shift"] != pairs[1].layers["mean_shift"]).nnz > 0
        assert np.abs(shifts(pairs[0]) - shifts(pairs[1])).max() > 1e-3


def test_table_is_what_the_layers_and_the_real_cells_say(model):
    predicted = model.counterfactual(*ASK, groupby="labels", exclude="B cell")
    table = predicted.uns["betavae"]["counterfactual"]
    adata = model.adata
    assert (held_out(table, "no_change") == 1.0).all()
    assert (held_out(table, "no_change", "top_50") == 1.0).all()
    for group in ("B cell", "T cell", "monocyte"):
        here = (predicted.obs["labels"] == group).to_numpy()
        real = adata[(adata.obs["condition"] == "treated") & (adata.obs["labels"] == group)]

        def profile(counts):
            counts = counts.toarray()
            return np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True)).mean(axis=0)

        source, target = profile(predicted.layers["observed"][here]), profile(real.X)
        for method, matrix in (("group_shift", predicted.X), ("mean_shift", predicted.layers["mean_shift"])):
            found = profile(matrix[here])
            ratio = ((found - target) ** 2).sum() / ((source - target) ** 2).sum()
            assert held_out(table, method)[group] == pytest.approx(ratio)
            assert held_out(table, method, name="r2")[group] == pytest.approx(np.corrcoef(found, target)[0, 1] ** 2)
        assert held_out(table, "split_half", name="n_target_cells")[group] == real.n_obs
    genes = predicted.uns["betavae"]["counterfactual_genes"]
    assert len(genes) == 3 * adata.n_vars
    first = genes[(genes["group"] == "monocyte") & (genes["rank"] == 1)].iloc[0]
    np.testing.assert_allclose(abs(first["source"] - first["target"]), np.abs(source - target).max(), rtol=1e-5)
    assert first["gene"] == adata.var_names[np.abs(source - target).argmax()]


def test_mean_shift_reproduces_a_group_that_it_was_estimated_from(model):
    """Shares of a group with target cells become theirs; of many cells, the drawn counts have the same mean."""
    predicted = model.counterfactual(*ASK)
    adata = model.adata
    target = adata.X[(adata.obs["condition"] == "treated").to_numpy()].toarray()
    shares = (target / target.sum(axis=1, keepdims=True)).mean(axis=0)
    shifted = predicted.layers["mean_shift"].toarray()
    found = (shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0)
    np.testing.assert_allclose(found, shares, atol=0.005)


def test_baselines_do_not_depend_on_the_method(model):
    first, second = (
        model.counterfactual(*ASK, groupby="labels", method=method) for method in ("group_shift", "dimension")
    )
    np.testing.assert_array_equal(first.layers["mean_shift"].toarray(), second.layers["mean_shift"].toarray())


def test_a_group_without_target_cells_is_predicted_and_not_judged(model, counts_adata):
    kept = counts_adata[
        ~((counts_adata.obs["condition"] == "treated") & (counts_adata.obs["labels"] == "B cell"))
    ].copy()
    predicted = model.counterfactual(*ASK, groupby="labels", adata=kept)
    table = predicted.uns["betavae"]["counterfactual"]
    ours = table[table["group"] == "B cell"]
    assert ours["relative_error"].isna().all()
    assert ours["held_out"].all()
    assert (ours["n_target_cells"] == 0).all()
    assert table.loc[table["group"] == "T cell", "relative_error"].notna().all()
    here = (predicted.obs["labels"] == "B cell").to_numpy()
    others = [shifts(predicted)[(predicted.obs["labels"] == name).to_numpy()][0] for name in ("T cell", "monocyte")]
    np.testing.assert_allclose(shifts(predicted)[here], np.mean(others, axis=0)[None].repeat(here.sum(), 0), atol=1e-5)


def test_a_decoder_told_other_things_is_told_them_still(make_model, counts_adata):
    adata = twins(counts_adata)
    setup = {"batch_key": "batch", "categorical_covariate_keys": ["donor"]}
    model = make_model(adata, setup, condition_on_batch=True)
    predicted = model.counterfactual(*ASK, groupby="labels", add_to_observed=False)
    rows = np.flatnonzero(adata.obs["condition"] == "control")
    sizes = np.asarray(adata.X[rows].sum(axis=1)).ravel()
    decoded = model.decode(predicted.obsm["X_betavae"], library_size=sizes, adata=adata, indices=rows)
    np.testing.assert_allclose(predicted.layers["expected"], decoded, rtol=1e-3, atol=1e-4)


def test_values_that_are_no_counts_are_predicted_as_expected_values(make_model, counts_adata):
    counts_adata.X = type(counts_adata.X)(np.log1p(counts_adata.X.toarray()))
    model = make_model(counts_adata, gene_likelihood="normal")
    predicted = model.counterfactual(*ASK, groupby="labels")
    np.testing.assert_allclose(predicted.X.toarray(), predicted.layers["expected"], rtol=1e-6)
    for group in (
        "B cell",
        "T cell",
        "monocyte",
    ):  # without a draw, the baseline hits the shares of a group that taught it
        real = counts_adata[(counts_adata.obs["condition"] == "treated") & (counts_adata.obs["labels"] == group)]
        shifted = predicted.layers["mean_shift"][(predicted.obs["labels"] == group).to_numpy()].toarray()
        shares = [(m / m.sum(axis=1, keepdims=True)).mean(axis=0) for m in (real.X.toarray(), shifted)]
        np.testing.assert_allclose(*shares, rtol=1e-4)


def test_a_view_is_read_as_its_copy(model, counts_adata):
    view = counts_adata[counts_adata.obs["labels"] != "B cell"]
    predicted = model.counterfactual(*ASK, groupby="labels", adata=view)
    copied = model.counterfactual(*ASK, groupby="labels", adata=view.copy())
    np.testing.assert_array_equal(predicted.X.toarray(), copied.X.toarray())


def test_same_seed_same_cells(model):
    draws = [model.counterfactual(*ASK, groupby="labels", seed=seed).X.toarray() for seed in (0, 0, 1)]
    np.testing.assert_array_equal(draws[0], draws[1])
    assert (draws[0] != draws[2]).any()


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_result_survives_a_file(model, tmp_path, kind):
    model.adata.obs["slash"] = model.adata.obs["labels"].astype(str) + "/a"
    predicted = model.counterfactual(*ASK, groupby="slash", exclude="B cell/a", key_added="mine")
    del model.adata.obs["slash"]
    path = tmp_path / f"cells.{kind}"
    getattr(predicted, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path)
    for name, table in predicted.uns["betavae"].items():
        stored = again.uns["betavae"][name]
        if isinstance(table, dict):
            assert {key: type(table[key])(value) for key, value in stored.items()} == table
        else:
            pd.testing.assert_frame_equal(stored, table, check_dtype=False, check_index_type=False)
    np.testing.assert_array_equal(again.X.toarray(), predicted.X.toarray())
    assert sorted(predicted.uns["betavae"]) == ["mine", "mine_genes", "mine_params"]
    assert "X_mine" in again.obsm
    assert predicted.uns["betavae"]["mine_params"]["exclude"] == "slash = B cell/a"


@pytest.mark.parametrize(
    ("ask", "more", "error", "word"),
    [
        (("conditon", "control", "treated"), {}, KeyError, "Did you mean 'condition'"),
        (("age", "control", "treated"), {}, TypeError, "holds numbers"),
        (("condition", "contrl", "treated"), {}, ValueError, "source='contrl'.*Did you mean 'control'"),
        (("condition", "control", "treatd"), {}, ValueError, "target='treatd'.*Did you mean 'treated'"),
        (("condition", "control", "control"), {}, ValueError, "both 'control'"),
        (ASK, {"groupby": "lables"}, KeyError, "'labels'"),
        (ASK, {"groupby": "condition"}, ValueError, "the covariate itself"),
        (ASK, {"groupby": "age"}, TypeError, "holds numbers"),
        (ASK, {"method": "shift"}, ValueError, "group_shift"),
        (ASK, {"dimensions": [4]}, ValueError, "numbered from 0 to 3"),
        (ASK, {"dimensions": []}, ValueError, "at least one dimension"),
        (ASK, {"dimensions": [True]}, ValueError, "has True"),
        (ASK, {"exclude": "T cell"}, ValueError, "groupby is None"),
        (ASK, {"groupby": "labels", "exclude": "T cel"}, ValueError, "Did you mean 'T cell'"),
        (ASK, {"groupby": "labels", "exclude": ["T cell", "B cell", "monocyte"]}, ValueError, "left out"),
        (ASK, {"exclude": {"condition": "treated"}}, ValueError, "left out"),
        (ASK, {"key_added": "a/b"}, ValueError, "key_added"),
        (ASK, {"key_added": "labels"}, ValueError, "would replace"),
        (ASK, {"key_added": "betavae"}, ValueError, "would replace"),
        (ASK, {"seed": -1}, ValueError, "seed"),
        (ASK, {"method": "nearest", "dimensions": [0, 1, 2, 3]}, ValueError, "every active dimension"),
    ],
)
def test_mistakes(model, ask, more, error, word):
    before = set(model.adata.obs), set(model.adata.obsm), set(model.adata.uns["betavae"])
    with pytest.raises(error, match=word):
        model.counterfactual(*ask, **more)
    assert before == (set(model.adata.obs), set(model.adata.obsm), set(model.adata.uns["betavae"]))


def test_missing_labels_and_groups_without_source_cells(model, counts_adata):
    for column in ("condition", "labels"):
        adata = counts_adata.copy()
        adata.obs.loc["cell_3", column] = np.nan
        with pytest.raises(ValueError, match=f"'{column}' is missing for 1 of 120 cells"):
            model.counterfactual(*ASK, groupby="labels", adata=adata)
    kept = counts_adata[
        ~((counts_adata.obs["condition"] == "control") & (counts_adata.obs["labels"] == "B cell"))
    ].copy()
    with pytest.raises(ValueError, match="without source cells"):
        model.counterfactual(*ASK, groupby="labels", exclude="B cell", adata=kept)
    predicted = model.counterfactual(*ASK, groupby="labels", adata=kept)
    assert set(predicted.uns["betavae"]["counterfactual"]["group"]) == {"T cell", "monocyte"}
    none = counts_adata.copy()
    none.obs["labels"] = np.where(none.obs["condition"] == "control", "before", "after")
    with pytest.raises(ValueError, match="No group of 'labels' holds both"):
        model.counterfactual(*ASK, groupby="labels", adata=none)


def test_a_collapsed_model(model, monkeypatch):
    plant(monkeypatch, model.get_latent_representation(), np.full(4, 0.001))
    with pytest.raises(ValueError, match="All 4 latent dimensions have collapsed"):
        model.counterfactual(*ASK)


@pytest.mark.parametrize(
    ("setup", "arguments", "target"),
    [
        ({"batch_key": "condition"}, {"condition_on_batch": True}, {"batch": "treated"}),
        ({"categorical_covariate_keys": ["condition"]}, {}, {"covariates": {"condition": "treated"}}),
    ],
)
def test_a_decoder_that_is_conditioned_on_the_covariate_changes_it(make_model, counts_adata, setup, arguments, target):
    model = make_model(counts_adata, setup, epochs=2, **arguments)
    predicted = model.counterfactual(*ASK)
    z = predicted.obsm["X_betavae"]
    np.testing.assert_array_equal(predicted.obsm["X_counterfactual"], z)
    rows = np.flatnonzero(counts_adata.obs["condition"] == "control")
    totals = np.asarray(predicted.layers["observed"].sum(axis=1))
    before, after = model.decode(z, indices=rows), model.decode(z, indices=rows, **target)
    expected = np.maximum(predicted.layers["observed"].toarray() + totals * (after - before), 0.0)
    np.testing.assert_allclose(predicted.layers["expected"], expected, rtol=1e-3, atol=1e-3)
    with pytest.raises(ValueError, match="do not encode it"):
        model.counterfactual(*ASK, method="group_shift")


def test_other_models_that_cannot(make_model, counts_adata):
    simplex = make_model(counts_adata, epochs=1, latent_distribution="ln")
    with pytest.raises(ValueError, match="simplex"):
        simplex.counterfactual(*ASK)
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(RuntimeError, match="train"):
        BetaVAE(counts_adata, n_latent=4).counterfactual(*ASK)
    with pytest.raises(TypeError, match="not an AnnData"):
        simplex.counterfactual(*ASK, adata=counts_adata.obs)


def test_minified_cells(make_model, counts_adata):
    model = make_model(counts_adata, epochs=1)
    model.adata.obsm["X_latent"], model.adata.obsm["X_variance"] = model.get_latent_representation(return_dist=True)
    model.minify_adata(use_latent_qzm_key="X_latent", use_latent_qzv_key="X_variance")
    with pytest.raises(ValueError, match="minified"):
        model.counterfactual(*ASK)


def test_bools_and_simulated_cells_find_their_program():
    """The condition of simulated cells, as true and false: the genes of its program change most."""
    adata = scbetavae.datasets.simulate_counts(400, 80, seed=2)  # its condition is strong, as the programs drawn go
    adata.obs["treated"] = adata.obs["condition"] == "treated"
    BetaVAE.setup_anndata(adata)
    predicted = BetaVAE(adata).train(**TRAIN).counterfactual("treated", False, True, groupby="cell_type")
    genes = predicted.uns["betavae"]["counterfactual_genes"]
    change = genes.assign(change=genes["predicted"] - genes["source"]).groupby("gene", sort=False)["change"].mean()
    program = adata.varm["program_condition"][:, 0]
    strong = np.argsort(-np.abs(program))[:6]
    assert np.corrcoef(change.loc[adata.var_names[strong]], program[strong])[0, 1] > 0.7
