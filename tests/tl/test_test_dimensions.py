"""Tests over donors: p-values are scipy's on means of donors, a null gives none, and too few donors are refused."""

import logging

import anndata
import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import stats

from scbetavae import pl, tl

KEY = "dimension_tests"


def make(n_donors=8, n_cells=15, n_dims=4, *, paired=True, donor_sd=1.0, change_sd=0.0, seed=0):
    """Cells of two types whose means differ between donors; in a paired design every donor has both conditions."""
    rng = np.random.default_rng(seed)
    units = [
        (donor, condition, kind)
        for donor in range(n_donors)
        for condition in range(2)
        for kind in ("B cell", "T cell")
        if paired or donor % 2 == condition
    ]
    donor, condition, kind = (np.repeat(column, n_cells) for column in zip(*units, strict=True))
    obs = pd.DataFrame(
        {
            "donor": [f"donor {d}" for d in donor],
            "condition": pd.Categorical(np.array(["stim", "ctrl"])[1 - condition], categories=["ctrl", "stim"]),
            "kind": kind,
        },
        index=[f"cell {i}" for i in range(len(donor))],
    )
    own, change = donor_sd * rng.normal(size=(n_donors, n_dims)), change_sd * rng.normal(size=(n_donors, n_dims))
    z = rng.normal(size=(len(donor), n_dims)) + own[donor] + change[donor] * condition[:, None]
    adata = AnnData(obs=obs)
    adata.obsm["X_betavae"] = z
    return adata


def run(adata, covariate="condition", **kwargs):
    return tl.test_dimensions(adata, covariate, **{"donor_key": "donor"} | kwargs)


def means(adata, kind, condition):
    cells = ((adata.obs["kind"] == kind) & (adata.obs["condition"] == condition)).to_numpy()
    frame = pd.DataFrame(adata.obsm["X_betavae"][cells])
    return frame.groupby(adata.obs["donor"].to_numpy()[cells]).mean().to_numpy()


def drop(adata, chosen, keep=0):
    """Without all but ``keep`` of the chosen cells."""
    chosen = np.flatnonzero(chosen)
    return adata[np.setdiff1d(np.arange(adata.n_obs), chosen[keep:])].copy()


@pytest.mark.parametrize("paired", [True, False])
def test_p_values_are_those_of_scipy_on_means_of_donors(paired):
    adata = make(paired=paired)
    frame = run(adata, groupby="kind")
    assert frame["paired"].eq(paired).all()
    assert frame["group"].tolist() == ["B cell"] * 4 + ["T cell"] * 4
    assert frame["dimension"].tolist() == [0, 1, 2, 3] * 2
    assert frame["n_donors_first"].eq(8 if paired else 4).all()
    assert frame["n_donors_second"].eq(8 if paired else 4).all()
    assert frame["n_cells"].eq(adata.n_obs // 2).all()
    for kind, part in frame.groupby("group"):
        first, second = (means(adata, kind, condition) for condition in ("ctrl", "stim"))
        expected = stats.ttest_rel(second, first) if paired else stats.ttest_ind(second, first, equal_var=False)
        np.testing.assert_allclose(part["p_value"], expected.pvalue)
        np.testing.assert_allclose(part["statistic"], expected.statistic)
        np.testing.assert_allclose(part["df"], expected.df)
        np.testing.assert_allclose(part["difference"], second.mean(axis=0) - first.mean(axis=0))
    np.testing.assert_allclose(frame["p_adjusted"], stats.false_discovery_control(frame["p_value"]))
    assert set(frame["flag"]) == {""}
    parameters = adata.uns["betavae"][f"{KEY}_params"]
    assert (parameters["reference"], parameters["target"]) == ("ctrl", "stim")
    assert parameters["test"] == ("paired t-test" if paired else "Welch's t-test")


def test_each_donor_counts_the_same():
    adata = make()
    few = ((adata.obs["donor"] == "donor 0") & (adata.obs["kind"] == "B cell")).to_numpy()
    adata.obsm["X_betavae"][few] = adata.obsm["X_betavae"][few].mean(axis=0)
    twice = anndata.concat([adata, adata[few]], index_unique="-")
    pd.testing.assert_series_equal(
        run(adata, groupby="kind")["p_value"], run(twice, groupby="kind")["p_value"], rtol=1e-9
    )


def test_an_effect_is_found_in_its_group_and_direction():
    adata = make(n_dims=3)
    changed = (adata.obs["condition"] == "stim") & (adata.obs["kind"] == "T cell")
    adata.obsm["X_betavae"][changed, 2] -= 2.0
    frame = run(adata, groupby="kind")
    found = frame[frame["p_adjusted"] < 0.05]
    assert found[["group", "dimension"]].to_numpy().tolist() == [["T cell", 2]]
    assert found["difference"].item() == pytest.approx(-2.0, abs=0.5)
    assert found["ci_high"].item() < 0
    reverse = run(adata, groupby="kind", levels=("stim", "ctrl"))
    np.testing.assert_allclose(reverse["difference"], -frame["difference"])
    np.testing.assert_allclose(reverse["p_value"], frame["p_value"])
    assert reverse["reference"].eq("stim").all()


@pytest.mark.parametrize("paired", [True, False])
def test_without_effect_donors_are_calibrated_and_cells_are_not(paired):
    adata = make(n_donors=10, n_dims=200, paired=paired, change_sd=0.7)
    n_found = int((run(adata)["p_value"] < 0.05).sum())
    assert stats.binomtest(n_found, 200, 0.05).pvalue > 0.01
    treated = (adata.obs["condition"] == "stim").to_numpy()
    z = adata.obsm["X_betavae"]
    of_cells = stats.ttest_ind(z[treated], z[~treated], equal_var=False).pvalue
    assert (of_cells < 0.05).mean() > 0.3


@pytest.mark.parametrize("paired", [True, False])
def test_three_donors_per_side_are_the_fewest(paired):
    per_side = 3 if paired else 6
    assert run(make(per_side, paired=paired))["p_value"].notna().all()
    adata = make(2 if paired else 5, paired=paired)
    with pytest.raises(
        ValueError, match=r"has [23] donors of 'ctrl' and 2 donors of 'stim'.*at least 3 of each"
    ) as error:
        run(adata)
    assert "not independent replicates" in str(error.value)
    assert "10.1038/s41467-021-25960-2" in str(error.value)
    assert "betavae" not in adata.uns


def test_ten_cells_per_donor_are_the_fewest():
    adata = make(5)
    of_one = (adata.obs["donor"] == "donor 0") & (adata.obs["kind"] == "B cell") & (adata.obs["condition"] == "stim")
    n_donors = [
        run(drop(adata, of_one, keep), groupby="kind").groupby("group")["n_donors_first"].first().tolist()
        for keep in (10, 9)
    ]
    assert n_donors == [[5, 5], [4, 5]]


def test_a_group_with_too_few_donors_is_skipped_with_a_reason(caplog):
    adata = make(4)
    of_two = adata.obs["donor"].isin(["donor 0", "donor 1"]) & (adata.obs["kind"] == "B cell")
    adata = drop(adata, of_two & (adata.obs["condition"] == "stim"), keep=9)
    frame = run(adata, groupby="kind").set_index("group")
    assert frame.loc["B cell", ["difference", "effect_size", "p_value", "p_adjusted"]].isna().all(axis=None)
    reason = "fewer than 3 donors: 2 with at least 10 cells of both levels"
    assert frame.loc["B cell", "flag"].eq(reason).all()
    assert frame.loc["T cell", "p_value"].notna().all()
    np.testing.assert_allclose(
        frame.loc["T cell", "p_adjusted"], stats.false_discovery_control(frame.loc["T cell", "p_value"])
    )
    assert "Not tested, for too few donors: B cell" in caplog.text
    with pytest.raises(ValueError, match=r"No group can be tested.*'B cell'.*2 with at least 10 cells.*replicates"):
        run(adata[adata.obs["kind"] == "B cell"].copy(), groupby="kind")


def test_cells_as_donors_are_refused():
    adata = make()
    adata.obs["cell"] = adata.obs_names
    with pytest.raises(ValueError, match=r"0 of 'ctrl' and 0 of 'stim' with at least 10 cells"):
        run(adata, donor_key="cell")


def test_donors_that_do_not_fit_the_design_are_left_out(caplog):
    adata = make(8)
    single = adata.obs["donor"].isin(["donor 6", "donor 7"]) & (adata.obs["condition"] == "stim")
    frame = run(drop(adata, single))
    assert frame["paired"].all()
    pairs = adata[~adata.obs["donor"].isin(["donor 6", "donor 7"])].copy()
    pd.testing.assert_frame_equal(frame, run(pairs))
    assert "2 donors left out of the paired test, because they have cells of one level only" in caplog.text

    caplog.clear()
    adata, other = make(10, paired=False), make(2)
    other.obs["donor"] = "both " + other.obs["donor"]
    frame = run(anndata.concat([adata, other], index_unique="-"))
    assert not frame["paired"].any()
    pd.testing.assert_frame_equal(frame, run(adata))
    assert "2 donors left out of the unpaired test, because they have cells of both levels" in caplog.text


def test_missing_labels_are_left_out_and_counted(caplog):
    adata = make()
    without = adata[8:].copy()
    adata.obs["condition"] = adata.obs["condition"].where(np.arange(adata.n_obs) >= 5)
    adata.obs.loc[adata.obs_names[5:8], "kind"] = np.nan
    with caplog.at_level(logging.WARNING):
        frame = run(adata, groupby="kind")
    assert "8 cells without 'condition' or without a group left out" in caplog.text
    assert adata.uns["betavae"][f"{KEY}_params"]["n_missing"] == 8
    pd.testing.assert_frame_equal(frame, run(without, groupby="kind"))
    adata.obs.loc[adata.obs_names[20], "donor"] = np.nan
    with pytest.raises(ValueError, match="donor_key='donor' is missing for 1 cells"):
        run(adata)


def test_two_levels_of_three():
    adata = make()
    adata.obs["dose"] = adata.obs["condition"].cat.codes.astype(int)
    other = make(seed=1)
    other.obs["dose"] = 2 * other.obs["condition"].cat.codes.astype(int)
    both = anndata.concat([adata, other], index_unique="-")
    with pytest.raises(ValueError, match=r"covariate='dose' has 3 levels: '0', '1', '2'. Choose two: levels="):
        run(both, "dose")
    frame = run(both, "dose", levels=(1, 2))
    assert frame[["reference", "target"]].drop_duplicates().to_numpy().tolist() == [["1", "2"]]
    pd.testing.assert_frame_equal(run(both, "dose", levels=("1", "2")), frame)
    for levels, words in (
        ((1, 3), "levels='3' is not allowed"),
        ((1, 1), "two different levels"),
        ("1", "two different"),
    ):
        with pytest.raises(ValueError, match=words):
            run(both, "dose", levels=levels)


def test_only_active_dimensions_that_vary_are_tested(write_latent):
    adata = make(n_dims=3)
    adata.obsm["X_betavae"][:, 2] = np.where(adata.obs["kind"] == "B cell", 0.0, adata.obsm["X_betavae"][:, 2])
    write_latent(adata, kl=[0.5, 0.001, 0.5])
    frame = run(adata, groupby="kind").set_index(["group", "dimension"])
    assert frame["active"].tolist() == [True, False, True] * 2
    inactive, constant = "not active: not tested", "no variation between donors"
    assert frame["flag"].tolist() == ["", inactive, constant, "", inactive, ""]
    assert frame["p_value"].isna().tolist() == [False, True, True, False, True, False]
    known = frame["p_value"].notna()
    np.testing.assert_allclose(frame["p_adjusted"][known], stats.false_discovery_control(frame["p_value"][known]))
    adata.obsm["X_flat"] = np.ones((adata.n_obs, 2))
    with pytest.raises(ValueError, match="None of the 2 dimensions"):
        run(adata, obsm_key="X_flat")


def test_order_of_cells_and_types_of_columns_do_not_matter():
    adata = make(paired=False)
    frame = run(adata, groupby="kind")
    mixed = adata[np.random.default_rng(0).permutation(adata.n_obs)].copy()
    mixed.obs["donor"] = mixed.obs["donor"].str.removeprefix("donor ").astype(float)
    mixed.obs["kind"] = mixed.obs["kind"].astype("category")
    pd.testing.assert_frame_equal(run(mixed, groupby="kind"), frame)


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"covariate": "conditon"}, KeyError, "Did you mean 'condition'"),
        ({"donor_key": "doner"}, KeyError, "donor_key='doner'.*Did you mean 'donor'"),
        ({"donor_key": None}, KeyError, "donor_key=None"),
        ({"groupby": "kid"}, KeyError, "groupby='kid'.*Did you mean 'kind'"),
        ({"obsm_key": "X_betavea"}, KeyError, "Did you mean 'X_betavae'"),
        ({"donor_key": "condition"}, ValueError, "covariate and donor_key are both 'condition'"),
        ({"groupby": "donor"}, ValueError, "donor_key and groupby are both 'donor'"),
        ({"covariate": "score"}, ValueError, "fractions"),
        ({"covariate": "same"}, ValueError, "has 1 level: 'x'. A comparison needs two"),
        ({"key_added": "a/b"}, ValueError, "key_added"),
    ],
)
def test_refused_with_nothing_stored(kwargs, error, words):
    adata = make()
    adata.obs["score"], adata.obs["same"] = np.linspace(0, 1, adata.n_obs), "x"
    with pytest.raises(error, match=words):
        run(adata, **kwargs)
    assert "betavae" not in adata.uns


def test_other_objects_are_refused():
    adata = make()
    with pytest.raises(ValueError, match="view"):
        run(adata[:100])
    with pytest.raises(TypeError, match="DataFrame"):
        run(adata.obs)
    adata.obsm["X_betavae"][0, 0] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        run(adata)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_stored_and_read_back(tmp_path, kind):
    adata = make()
    frame = run(adata, groupby="kind")
    path = tmp_path / f"cells.{kind}"
    getattr(adata, f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path)
    stored = again.uns["betavae"][KEY].reset_index(drop=True)
    pd.testing.assert_frame_equal(stored, frame, check_dtype=False, check_categorical=False)
    assert again.uns["betavae"][f"{KEY}_params"]["groupby"] == "kind"
    pl.dimension_tests(again)
    again.obsm["X_betavae"] = again.obsm["X_betavae"][:, ::-1].copy()
    with pytest.raises(ValueError, match="earlier embedding"):
        pl.dimension_tests(again)
