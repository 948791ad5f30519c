"""Genes by name, cells by position, mask or name, in the order asked for, from every storage."""

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scvi
from scipy import sparse

from scbetavae.datasets import simulate_counts
from scbetavae.model import BetaVAE

QUICK = {"enable_progress_bar": False, "accelerator": "cpu", "check_val_every_n_epoch": 1}


def build(adata, **kwargs):
    model = BetaVAE(adata, n_latent=4, n_hidden=16, **kwargs)
    return model.train(max_epochs=2, **QUICK)


@pytest.fixture(scope="module")
def simulated():
    return simulate_counts(150, 80, n_batches=2, seed=0)


@pytest.fixture(scope="module")
def model(simulated):
    scvi.settings.seed = 0
    adata = simulated.copy()
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    return build(adata)


@pytest.fixture(scope="module")
def codes(model):
    return model.get_latent_representation()


@pytest.fixture
def mixed(simulated):
    """The cells of the model, with their genes in another order."""
    return simulated[:, np.random.default_rng(1).permutation(80)].copy()


def on_disk(adata, folder, kind):
    """The cells in a file, of which only names are in memory."""
    counts = sparse.csr_matrix(adata.X)
    adata.X = {"csr": counts, "csc": counts.tocsc(), "dense": counts.toarray()}[kind]
    adata.write_h5ad(folder / f"{kind}.h5ad")
    return anndata.read_h5ad(folder / f"{kind}.h5ad", backed="r")


# --- Genes by name


def same(first, second):
    if isinstance(first, pd.DataFrame):
        pd.testing.assert_frame_equal(first, second)
    else:
        np.testing.assert_allclose(first, second, atol=1e-6)


METHODS = {
    "latent": lambda m, a: m.get_latent_representation(a),
    "draws": lambda m, a: m.get_latent_representation(a, give_mean=False),
    "elbo": lambda m, a: m.get_elbo(a, return_mean=False),
    "expression": lambda m, a: m.get_normalized_expression(a),
    "likelihood": lambda m, a: m.get_likelihood_parameters(a)["mean"],
    "differential expression": lambda m, a: m.differential_expression(a, groupby="condition", silent=True),
    "correlation": lambda m, a: m.get_feature_correlation_matrix(a, n_samples=2),
    "summary": lambda m, a: m.get_latent_summary(adata=a, indices=range(20)),
    "traversal": lambda m, a: m.traverse([0], adata=a, n_steps=3),
    "counterfactual": lambda m, a: m.counterfactual("condition", "control", "treated", adata=a).X.toarray(),
    "batch dimensions": lambda m, a: m.find_batch_dimensions(adata=a, conserve=[]),
}


@pytest.mark.filterwarnings("ignore:Dimensions .* are inactive")
@pytest.mark.parametrize("method", METHODS)
def test_every_method_knows_genes_by_name(model, simulated, mixed, method):
    results = []
    for adata in (simulated.copy(), mixed):
        scvi.settings.seed = 0
        results.append(METHODS[method](model, adata))
    same(*results)


@pytest.mark.filterwarnings("ignore:Training will be faster")
def test_genes_in_any_storage(model, mixed, codes, tmp_path):
    counts = sparse.csr_matrix(mixed.X)
    for matrix in (counts, counts.tocsc(), counts.toarray(), counts.astype(np.int64)):
        mixed.X = matrix
        np.testing.assert_allclose(model.get_latent_representation(mixed), codes, atol=1e-6)
    np.testing.assert_allclose(model.get_latent_representation(mixed[:, ::-1]), codes, atol=1e-6)
    backed = on_disk(mixed.copy(), tmp_path, "csr")
    np.testing.assert_allclose(model.get_latent_representation(backed), codes, atol=1e-6)
    backed.file.close()


def test_genes_of_a_layer_and_of_a_model_that_is_told_batch(simulated, mixed):
    for adata in (simulated := simulated.copy(), mixed):
        adata.layers["counts"] = adata.X.copy()
        adata.X = np.zeros(adata.shape, dtype=np.float32)
    BetaVAE.setup_anndata(simulated, layer="counts", batch_key="batch")
    model = build(simulated, condition_on_batch=True)
    np.testing.assert_allclose(model.get_latent_representation(mixed), model.get_latent_representation(), atol=1e-6)


@pytest.mark.filterwarnings("ignore:Using .* after custom Dataloader")  # scvi-tools 1.5, of its own call
def test_results_are_written_to_the_users_data_in_the_users_order(model, simulated, mixed):
    order, plain = list(mixed.var_names), simulated.copy()
    with warnings.catch_warnings(action="ignore"):  # of what zeroing costs a model that was hardly trained
        zeroed = model.zero_batch_dimensions([1], adata=mixed, decode=True, conserve=[], n_bootstrap=10)
    assert list(mixed.var_names) == order
    assert "batch_removal" in mixed.uns["betavae"]
    expected = pd.DataFrame(model.decode(zeroed, library_size=10_000), columns=plain.var_names)[order]
    np.testing.assert_allclose(mixed.layers["betavae_zeroed"], expected, rtol=1e-5)
    for adata in (mixed, plain):
        model.differential_abundance(adata, sample_key="batch")
    pd.testing.assert_frame_equal(mixed.obsm["da_log_probs"], plain.obsm["da_log_probs"])


def test_copies_in_the_models_order_do_not_pile_up(model, mixed):
    model.get_latent_representation(mixed)
    kept = len(model._per_instance_manager_store[model.id])
    for _ in range(3):
        model.get_elbo(mixed)
    assert len(model._per_instance_manager_store[model.id]) == kept
    mixed.X = mixed.X * 2  # and no copy of before is read
    assert not np.allclose(model.get_latent_representation(mixed), model.get_latent_representation())


def load_with(model, folder, adata):
    model.save(folder / "model", overwrite=True)
    return BetaVAE.load(folder / "model", adata, accelerator="cpu")


HOLDERS = {
    "load": load_with,
    "query of a model": lambda model, _, adata: BetaVAE.load_query_data(adata, model, accelerator="cpu"),
    "query of a folder": lambda model, folder, adata: (
        model.save(folder / "reference", overwrite=True),
        BetaVAE.load_query_data(adata, folder / "reference", accelerator="cpu"),
    )[1],
}


@pytest.mark.parametrize("how", HOLDERS)
def test_a_model_holds_its_data_in_its_own_order(model, mixed, codes, tmp_path, how):
    with pytest.warns(UserWarning, match="another order than those of the model"):
        held = HOLDERS[how](model, tmp_path, mixed)
    np.testing.assert_allclose(held.get_latent_representation(), codes, atol=1e-6)
    assert list(held.adata.var_names) == list(model.adata.var_names)
    np.testing.assert_allclose(held.get_latent_representation(mixed), codes, atol=1e-6)
    mixed.var_names = "other_" + mixed.var_names
    with pytest.raises(ValueError, match="80 genes are unknown to it"):
        HOLDERS[how](model, tmp_path, mixed)


def test_a_model_loaded_without_data_and_one_given_other_data(model, mixed, codes, tmp_path):
    model.save(tmp_path / "model")
    loaded = BetaVAE.load(tmp_path / "model", adata=False, accelerator="cpu")
    np.testing.assert_allclose(loaded.get_latent_representation(mixed), codes, atol=1e-6)
    np.testing.assert_allclose(loaded.get_latent_representation(mixed), codes, atol=1e-6)
    loaded = BetaVAE.load(tmp_path / "model", model.adata.copy(), accelerator="cpu")
    with pytest.warns(UserWarning, match="another order"):
        loaded.adata = mixed
    np.testing.assert_allclose(loaded.get_latent_representation(), codes, atol=1e-6)


def test_padded_and_subset_queries_stay_possible(model, simulated, codes):
    query = simulated[:, 5:].copy()
    with pytest.raises(
        ValueError, match=r"5 genes of the model are missing \('gene_0', 'gene_1', 'gene_2' and 2 more\)"
    ):
        BetaVAE.load_query_data(query, model, accelerator="cpu")
    BetaVAE.prepare_query_anndata(query, model)
    assert BetaVAE.load_query_data(query, model, accelerator="cpu").get_latent_representation().shape == codes.shape
    wide = anndata.concat(
        [simulated, anndata.AnnData(np.ones((150, 1)), simulated.obs[[]], pd.DataFrame(index=["x"]))], axis=1
    )
    wide.obs = simulated.obs.copy()
    with pytest.raises(ValueError, match=r"1 genes are unknown to it \('x'\).*model.get_var_names\(\)"):
        model.get_elbo(wide)
    query = BetaVAE.load_query_data(wide, model, inplace_subset_query_vars=True, accelerator="cpu")
    np.testing.assert_allclose(query.get_latent_representation(), codes, atol=1e-6)


@pytest.mark.parametrize(
    ("rename", "hint"),
    [
        (lambda names: [f"{name}.7" for name in names], "differ only in version suffixes"),
        (lambda names: [name.upper() for name in names], "differ only in upper and lower case"),
        (lambda names: [f"ENSG{i:011d}" for i in range(len(names))], r"adata.var\['symbol'\] holds the names"),
        (lambda names: [f"other_{name}" for name in names], "prepare_query_anndata"),
        (lambda names: ["gene_0", *names[:-1]], r"'gene_0'.*var_names_make_unique"),
    ],
)
@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_other_genes_are_refused_with_a_hint(model, simulated, rename, hint):
    adata = simulated.copy()
    if "symbol" in hint:
        adata.var["symbol"] = adata.var_names.to_numpy()
    adata.var_names = rename(list(adata.var_names))
    for method in (model.get_latent_representation, model.get_normalized_expression, model.get_marginal_ll):
        with pytest.raises(ValueError, match=hint):
            method(adata)
    assert "_scvi_uuid" not in adata.uns


def test_ids_are_told_from_symbols(model, simulated):
    adata = simulated.copy()
    adata.var_names = [f"ENSMUSG{i:011d}.1" for i in range(80)]
    adata.var = adata.var[[]]
    with pytest.raises(ValueError, match="The model identifies genes by symbols, adata by ids"):
        model.get_latent_representation(adata)


# --- Cells


PICKS = {
    "from the end": [-2, 5],
    "mask": np.arange(150) % 7 == 3,
    "list of a mask": [i % 7 == 3 for i in range(150)],
    "names": ["cell_40", "cell_3"],
    "an index": pd.Index(["cell_9"]),
    "a slice": slice(10, 4, -2),
    "twice": [4, 4, 1],
    "small unsigned": np.array([149, 0], dtype=np.uint8),
}


def expected_rows(pick):
    if isinstance(pick, (slice, np.ndarray)):
        return np.arange(150)[pick]
    pick = np.asarray(pick)
    return np.array([int(name.split("_")[1]) for name in pick]) if pick.dtype.kind in "OU" else np.arange(150)[pick]


@pytest.mark.parametrize("pick", PICKS)
def test_cells_mean_the_same_in_every_method(model, codes, pick):
    pick, rows = PICKS[pick], expected_rows(PICKS[pick])
    np.testing.assert_allclose(model.get_latent_representation(indices=pick), codes[rows], atol=1e-6)
    np.testing.assert_allclose(
        model.get_latent_representation(indices=pick, batch_size=2, num_workers=0), codes[rows], atol=1e-6
    )
    assert list(model.get_normalized_expression(indices=pick).index) == list(model.adata.obs_names[rows])
    summary = model.get_latent_summary(indices=pick)
    pd.testing.assert_frame_equal(summary, model.get_latent_summary(indices=rows))
    mixture = model.get_aggregated_posterior(indices=pick)
    np.testing.assert_allclose(mixture.component_distribution.base_dist.loc.numpy(), codes[rows], atol=1e-6)


def test_a_mask_that_lists_cells_in_another_order_is_read_by_its_names(model, codes):
    mask = model.adata.obs["cell_type"] == "type_0"
    shuffled = mask.sample(frac=1, random_state=0)
    np.testing.assert_array_equal(model.get_latent_representation(indices=shuffled), codes[mask.to_numpy()])
    by_place = pd.Series(mask.to_numpy())
    np.testing.assert_array_equal(model.get_latent_representation(indices=by_place), codes[mask.to_numpy()])


def test_cells_to_compare_and_to_start_from(model):
    tables = []
    for one, two in ((["cell_3", "cell_149"], [-2, 5]), ([3, 149], [148, 5])):
        scvi.settings.seed = 0
        tables.append(model.differential_expression(idx1=one, idx2=two, silent=True))
    pd.testing.assert_frame_equal(*tables)
    kwargs = {"dimensions": [0], "n_steps": 3}
    with warnings.catch_warnings(action="ignore"):
        pd.testing.assert_frame_equal(
            model.traverse(around=[-1, 7], **kwargs),
            model.traverse(around=["cell_149", "cell_7"], **kwargs),
        )


def test_decoding_as_the_batches_of_cells(simulated):
    adata = simulated.copy()
    BetaVAE.setup_anndata(adata, batch_key="batch")
    model = build(adata, condition_on_batch=True)
    z = model.get_latent_representation()[:2]
    expected = model.decode(z, indices=[148, 5])
    np.testing.assert_array_equal(model.decode(z, indices=[-2, 5]), expected)
    np.testing.assert_array_equal(model.decode(z, indices=["cell_148", "cell_5"]), expected)
    with pytest.raises(ValueError, match="the first 150"):
        model.decode(z, indices=[0, 150])


CALLS = {
    "latent": lambda m, i: m.get_latent_representation(indices=i),
    "elbo": lambda m, i: m.get_elbo(indices=i),
    "marginal": lambda m, i: m.get_marginal_ll(indices=i, n_mc_samples=1),
    "expression": lambda m, i: m.get_normalized_expression(indices=i),
    "samples": lambda m, i: m.posterior_predictive_sample(indices=i),
    "summary": lambda m, i: m.get_latent_summary(indices=i),
    "mixture": lambda m, i: m.get_aggregated_posterior(indices=i),
    "comparison": lambda m, i: m.differential_expression(idx1=i, idx2=[0], silent=True),
    "traversal": lambda m, i: m.traverse([0], around=i),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("cells", "error", "message"),
    [
        ([0, 150], ValueError, "the first 150: adata has 150 cells"),
        ([-151], ValueError, "the first -151"),
        (np.ones(149, dtype=bool), ValueError, "a mask of 149 values, but adata has 150"),
        ([True, False], ValueError, "a mask of 2 values"),
        ([0.5, 1.0], ValueError, "dtype float64"),
        (np.zeros((2, 3), dtype=int), ValueError, r"shape \(2, 3\)"),
        ([[0, 1], [2]], ValueError, "names no cells"),
        (
            ["cell_1", "cel_17"],
            KeyError,
            "1 of 2 names are of no cell of adata, the first 'cel_17'. Did you mean 'cell_17'",
        ),
    ],
)
def test_cells_that_are_not_there_are_refused(model, call, cells, error, message):
    with pytest.raises(error, match=message):
        CALLS[call](model, cells)


def test_no_cells(model):
    assert model.get_latent_representation(indices=[]).shape == (0, 4)
    assert model.get_latent_representation(indices=np.zeros(150, dtype=bool)).shape == (0, 4)
    for call in ("elbo", "expression", "summary", "mixture", "traversal"):
        with pytest.raises(ValueError, match="at least one cell"):
            CALLS[call](model, [])


# --- The order asked for, from every storage


@pytest.mark.parametrize("kind", ["csr", "csc", "dense"])
def test_backed_cells_come_in_the_order_asked_for(model, simulated, codes, tmp_path, kind):
    backed = on_disk(simulated.copy(), tmp_path, kind)
    rows = [50, 3, 7, 3]
    np.testing.assert_allclose(model.get_latent_representation(backed, indices=rows), codes[rows], atol=1e-6)
    np.testing.assert_allclose(
        model.get_latent_representation(backed, indices=rows, batch_size=2), codes[rows], atol=1e-6
    )
    named = model.get_latent_representation(backed, indices=["cell_50", "cell_3"])
    np.testing.assert_allclose(named, codes[[50, 3]], atol=1e-6)
    expected = np.asarray(sparse.csr_matrix(simulated.X)[rows].sum(axis=1)).ravel()
    sizes = [b["X"].sum(axis=1) for b in model._make_data_loader(model._validate_anndata(backed), rows, batch_size=3)]
    np.testing.assert_array_equal(np.concatenate(sizes), expected)
    backed.file.close()


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support", "ignore:Sparse invariant checks")
def test_backed_cells_as_sparse_tensors(model, simulated, codes, tmp_path):
    backed = on_disk(simulated.copy(), tmp_path, "csr")
    for rows in ([50, 3, 7], [3, 7, 50]):
        loader = model._make_data_loader(model._validate_anndata(backed), rows, load_sparse_tensor=True)
        (minibatch,) = loader
        np.testing.assert_array_equal(minibatch["X"].to_dense().numpy(), sparse.csr_matrix(simulated.X)[rows].toarray())
    backed.file.close()


def test_counts_of_an_open_file_in_an_adata_in_memory(model, simulated, codes, tmp_path):
    backed = on_disk(simulated.copy(), tmp_path, "dense")
    adata = anndata.AnnData(obs=simulated.obs, var=simulated.var)
    adata.X = backed.file["X"]
    rows = [50, 3, 7]
    np.testing.assert_allclose(model.get_latent_representation(adata, indices=rows), codes[rows], atol=1e-6)
    backed.file.close()


@pytest.mark.filterwarnings("ignore:.*zarr")
def test_counts_in_a_zarr_store(model, simulated, codes, tmp_path):
    zarr = pytest.importorskip("zarr")
    adata = anndata.AnnData(sparse.csr_matrix(simulated.X), obs=simulated.obs, var=simulated.var)
    adata.write_zarr(tmp_path / "cells.zarr")
    adata.X = anndata.io.sparse_dataset(zarr.open_group(str(tmp_path / "cells.zarr"), mode="r")["X"])
    rows = [50, 3, 7, 3]
    np.testing.assert_allclose(model.get_latent_representation(adata, indices=rows), codes[rows], atol=1e-6)


# --- Names that are not unique


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_gene_names_that_are_not_unique_are_refused_at_set_up(simulated):
    adata = simulated.copy()
    adata.var_names = ["g", "g", *adata.var_names[2:]]
    for arguments in ({}, {"batch_key": "batch"}):
        with pytest.raises(
            ValueError, match=r"1 gene names occur more than once.*'g'.*adata.var_names_make_unique\(\)"
        ):
            BetaVAE.setup_anndata(adata, **arguments)
    assert "_scvi_uuid" not in adata.uns
    adata.var_names_make_unique()
    BetaVAE.setup_anndata(adata)
    model = build(adata)
    z = model.get_latent_representation()
    np.testing.assert_array_equal(model.decode(z, gene_list=["g"]), model.decode(z)[:, :1])


@pytest.mark.filterwarnings("ignore:Observation names are not unique", "ignore:Dimensions .* are inactive")
def test_cell_names_that_are_not_unique(simulated, codes):
    adata = simulated.copy()
    adata.obs_names = [f"cell_{i % 75}" for i in range(150)]
    BetaVAE.setup_anndata(adata, batch_key="batch", labels_key="cell_type")
    scvi.settings.seed = 0
    model = build(adata)
    np.testing.assert_allclose(model.get_latent_representation(), codes, atol=1e-6)
    assert model.get_normalized_expression(indices=[1, 76]).index.tolist() == ["cell_1", "cell_1"]
    assert model.to_latent_adata().n_obs == 150
    assert model.counterfactual("condition", "control", "treated").n_obs == (adata.obs["condition"] == "control").sum()
    for call in ("latent", "expression", "traversal", "mixture"):
        with pytest.raises(ValueError, match=r"'cell_1', a name of 2 cells.*adata.obs_names_make_unique\(\)"):
            CALLS[call](model, ["cell_1"])
    # A query finds cells, not their namesakes.
    adata.obs["first"] = np.arange(150) < 75
    tables = []
    for cells in ("first", np.arange(75)):
        scvi.settings.seed = 0
        tables.append(model.differential_expression(idx1=cells, idx2=[100, 101], silent=True, n_samples_overall=50))
    pd.testing.assert_frame_equal(*tables)
