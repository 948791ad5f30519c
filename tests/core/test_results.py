"""Results are of the embedding that is there: another training, another model or another PCA makes them out of date."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scbetavae
from scbetavae import pl, tl
from scbetavae.model import BetaVAE

QUICK = {"n_permutations": 0, "n_bootstrap": 0}
RUN = {"max_epochs": 2, "enable_progress_bar": False, "accelerator": "cpu"}
COVARIATES = ["batch", "cell_type"]
DRAWN = [
    *(pl.disentanglement, pl.dimension_covariate, pl.embedding_comparison, pl.latent_summary, pl.batch_dimensions),
    *(pl.batch_removal, pl.traversal, pl.condition_prediction, pl.consensus, pl.dimension_tests),
]
MADE = {
    "disentanglement",
    "latent_summary",
    "batch_dimensions",
    "batch_removal",
    "traversal",
    "latent",
    "dimension_genes",
}
MADE |= {"condition_prediction", "embedding_comparison", "integration", "consensus", "dimension_tests"}


def set_up(**kwargs):
    adata = scbetavae.datasets.simulate_counts(150, 80, n_batches=2, seed=0)
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    return adata, BetaVAE(adata, n_latent=4, **kwargs)


def fit(model, **kwargs):
    return model.train(**RUN | {"plan_kwargs": {"lr": 5e-3}} | kwargs)


@pytest.fixture(scope="module")
def whole():
    """A trained model, and its cells with every result that is stored."""
    adata, model = set_up(beta=0.1)
    fit(model, max_epochs=5)
    adata.obsm["X_betavae"] = model.get_latent_representation()
    adata.obsm["X_pca"] = np.random.default_rng(0).normal(size=(150, 3))
    model.score_disentanglement(COVARIATES, metrics=["mig"], **QUICK)
    model.get_latent_summary()
    model.traverse(n_anchors=5, scale="quantile", n_steps=3)
    model.predict_condition("condition", **QUICK)
    model.find_batch_dimensions(n_permutations=10)
    with warnings.catch_warnings(action="ignore"):  # of what zeroing costs a model that was hardly trained
        model.zero_batch_dimensions([0], n_bootstrap=0)
    tl.rank_dimension_genes(adata)
    tl.score_integration(adata, "cell_type", "batch")
    adata.obs["donor"] = np.arange(150) % 3
    tl.test_dimensions(adata, "condition", donor_key="donor")
    tl.compare_embeddings(adata, COVARIATES, ["X_pca", "X_betavae"], metrics=["mig"], **QUICK)
    tl.consensus_dimensions(adata, ["X_pca", "X_betavae"])
    tl.score_disentanglement(adata, COVARIATES, obsm_key="X_pca", key_added="pca", metrics=["mig"], **QUICK)
    return adata, model


@pytest.fixture(scope="module")
def other_latent():
    _, model = set_up()
    return fit(model).get_latent_representation()


@pytest.fixture
def adata(whole):
    return whole[0].copy()


def results(adata):
    """Names of the stored results."""
    return {name.removesuffix("_params") for name in adata.uns["betavae"] if name.endswith("_params")}


def assert_current(adata):
    for read in [*DRAWN, tl.rank_dimension_genes]:
        read(adata)
    pl.disentanglement(adata, key="pca")


@pytest.mark.parametrize("function", [*DRAWN, tl.rank_dimension_genes])
def test_a_result_of_an_earlier_latent_is_refused(adata, other_latent, function):
    if function not in DRAWN:
        function(adata)
    adata.obsm["X_betavae"] = other_latent
    with pytest.raises(ValueError, match=r"describes an earlier embedding: adata.obsm\['X_betavae'\] has changed"):
        function(adata)


def test_a_ranking_is_of_the_latent_of_its_traversal(adata, other_latent):
    assert "X_betavae" in adata.uns["betavae"]["dimension_genes_params"]["fingerprint"]
    del adata.uns["betavae"]["traversal_params"]["fingerprint"]
    adata.obsm["X_betavae"] = other_latent
    tl.rank_dimension_genes(adata)  # nothing is known about this traversal, and nothing is made up
    assert "fingerprint" not in adata.uns["betavae"]["dimension_genes_params"]


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix, "frame"])
@pytest.mark.parametrize("change", ["sign", "fewer", "order"])
def test_any_embedding_that_is_computed_again(adata, kind, change):
    pca = adata.obsm["X_pca"]
    changed = {"sign": pca * [1, -1, 1], "fewer": pca[:, :2], "order": pca[::-1].copy()}[change]
    frame = pd.DataFrame(changed, index=adata.obs_names, columns=[str(i) for i in range(changed.shape[1])])
    adata.obsm["X_pca"] = frame if kind == "frame" else kind(changed)
    with pytest.raises(ValueError, match=r"adata.obsm\['X_pca'\] has changed"):
        pl.disentanglement(adata, key="pca")
    with pytest.raises(ValueError, match="earlier embedding"):
        pl.embedding_comparison(adata)
    pl.disentanglement(adata)  # of X_betavae
    tl.score_disentanglement(adata, COVARIATES, obsm_key="X_pca", key_added="pca", metrics=["mig"], **QUICK)
    pl.disentanglement(adata, key="pca")


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_a_round_trip_changes_nothing(adata, other_latent, tmp_path, kind):
    path = tmp_path / f"cells.{kind}"
    few = {name: e for name, e in adata.uns["betavae"].items() if name.startswith(("disentanglement", "pca"))}
    anndata_of = {"obs": adata.obs[["batch"]], "obsm": dict(adata.obsm), "uns": {"betavae": few}}
    getattr(anndata.AnnData(**anndata_of), f"write_{kind}")(path)
    again = getattr(anndata, f"read_{kind}")(path)
    pl.disentanglement(again)
    pl.disentanglement(again, key="pca")
    again.obsm["X_betavae"] = other_latent
    with pytest.raises(ValueError, match="earlier embedding"):
        pl.disentanglement(again)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: a[:, :20].copy(),
        lambda a: a[a.obs["batch"] == a.obs["batch"].iloc[0]].copy(),
        lambda a: a[[1]].copy(),  # a cell of which nothing is known
        lambda a: a[np.random.default_rng(0).permutation(a.n_obs)].copy(),
    ],
)
def test_the_same_cells_are_the_same(adata, other_latent, change):
    assert_current(change(adata))
    adata.obsm["X_betavae"] = other_latent
    changed = change(adata)
    if changed.n_obs > 1:
        with pytest.raises(ValueError, match="earlier embedding"):
            pl.disentanglement(changed)


@pytest.mark.parametrize(("n_alike", "known"), [(2, True), (150, False)])
def test_cells_of_one_name_say_nothing(adata, other_latent, n_alike, known):
    with warnings.catch_warnings(action="ignore"):  # of anndata: names are not unique
        adata.obs_names = ["cell"] * n_alike + [f"cell {i}" for i in range(150 - n_alike)]
        tl.score_disentanglement(adata, COVARIATES, metrics=["mig"], **QUICK)
        pl.disentanglement(adata)
        adata.obsm["X_betavae"] = other_latent
        if known:
            with pytest.raises(ValueError, match="earlier embedding"):
                pl.disentanglement(adata)
        else:
            pl.disentanglement(adata)


def test_rounding_and_storage_do_not_matter(adata):
    latent = adata.obsm["X_betavae"]
    noise = np.random.default_rng(0).normal(scale=1e-5, size=latent.shape).astype(np.float32)
    for same in (
        latent.astype(np.float64),
        latent + noise,
        pd.DataFrame(latent, index=adata.obs_names).add_prefix("z"),
    ):
        adata.obsm["X_betavae"] = same
        assert_current(adata)
    del adata.obsm["X_betavae"]
    assert_current(adata)


def test_training_again_removes_what_described_the_latent_before(whole):
    adata, model = set_up()
    fit(model)
    adata.obsm["X_pca"] = whole[0].obsm["X_pca"]
    adata.obs["donor"] = whole[0].obs["donor"]
    adata.obsm["X_betavae"] = latent = model.get_latent_representation()
    adata.uns["betavae"] |= {name: entry for name, entry in whole[0].uns["betavae"].items() if name != "history"}
    for name in MADE:  # as if they were of this model
        adata.uns["betavae"][f"{name}_params"] = {"n": 1}
    assert results(adata) == MADE | {"pca"}
    with pytest.raises(TypeError):
        fit(model, plan_kwargs={"nonsense": 1})
    assert results(adata) == MADE | {"pca"}  # nothing was trained

    fit(model)
    assert set(adata.uns["betavae"]) >= {"params", "history", "simulation"}
    assert results(adata) == {"pca"}
    assert not {name for name in adata.uns["betavae"] if name.startswith(tuple(MADE))}
    with pytest.raises(KeyError, match=r"Training removes .* Make it with `model.score_disentanglement\(covariates\)`"):
        pl.disentanglement(adata)
    pl.disentanglement(adata, key="pca")

    # The embedding is the user's and stays, but is not taken for that of the model as it is now.
    assert adata.obsm["X_betavae"] is latent or (adata.obsm["X_betavae"] == latent).all()
    readers = [
        lambda: tl.score_disentanglement(adata, COVARIATES, metrics=["mig"], **QUICK),
        lambda: tl.predict_condition(adata, "condition", **QUICK),
        lambda: tl.score_integration(adata, "cell_type"),
        lambda: tl.test_dimensions(adata, "condition", donor_key="donor"),
    ]
    for read in readers:
        with pytest.raises(ValueError, match="computed before the last training"):
            read()
    tl.compare_embeddings(adata, COVARIATES, ["X_betavae", "X_pca"], metrics=["mig"], **QUICK)  # models are compared so
    adata.obsm["X_earlier"] = adata.obsm["X_betavae"].copy()
    tl.score_integration(adata, "cell_type", obsm_key="X_earlier")

    # A result that is newer than the entry of .obsm is shown, until that entry becomes a third embedding.
    model.get_latent_summary()
    pl.latent_summary(adata)
    adata.obsm["X_betavae"] = model.get_latent_representation()
    pl.latent_summary(adata)
    for read in readers:
        read()
    adata.obsm["X_betavae"] = whole[1].get_latent_representation()
    with pytest.raises(ValueError, match=r"Make it again with `model.get_latent_summary\(\)`"):
        pl.latent_summary(adata)


def test_two_models_on_the_same_cells():
    adata, first = set_up()
    fit(first)
    first.score_disentanglement(COVARIATES, metrics=["mig"], **QUICK)
    second = fit(BetaVAE(adata, n_latent=4), key_added="second")
    pl.disentanglement(adata)  # a run with a name of its own takes nothing from the first
    tl.score_integration(adata, "cell_type")
    second.traverse(n_anchors=5, n_steps=3, key_added="mine")
    second.score_disentanglement(COVARIATES, metrics=["mig"], **QUICK)
    pl.traversal(adata, key="mine")
    pl.disentanglement(adata)
    first.predict_condition("condition", **QUICK)
    pl.condition_prediction(adata)
    with pytest.raises(ValueError, match=r"\['disentanglement'\] describes an earlier embedding"):
        pl.disentanglement(adata)
    fit(BetaVAE(adata, n_latent=4))  # in place of the first
    assert results(adata) == set()


class Stop(scbetavae.train.BetaVAETrainingPlan):
    """Fails after some steps."""

    def on_train_epoch_end(self):
        msg = "stopped"
        raise RuntimeError(msg)


def test_a_training_that_fails_halfway(monkeypatch):
    adata, first = set_up()
    fit(first)
    first.score_disentanglement(COVARIATES, metrics=["mig"], **QUICK)
    monkeypatch.setattr(BetaVAE, "_training_plan_cls", Stop)
    with pytest.raises(RuntimeError, match="stopped"):
        fit(BetaVAE(adata, n_latent=4))
    assert results(adata) == {"disentanglement", "latent"}  # the other model never came to be
    with pytest.raises(RuntimeError, match="stopped"):
        fit(first)
    assert results(adata) == set()  # its weights have moved


def test_draws_of_a_logistic_normal_are_not_another_model():
    adata, model = set_up(latent_distribution="ln")
    fit(model)
    model.predict_condition("condition", **QUICK)
    model.get_latent_summary()
    model.score_disentanglement(COVARIATES, metrics=["mig"], **QUICK)  # replaces .obsm["X_betavae"] with other draws
    for draw in (pl.condition_prediction, pl.latent_summary, pl.disentanglement):
        draw(adata)
    fit(model)
    assert results(adata) == set()
