"""Every bad input of the issue has a test on its message."""

import anndata
import numpy as np
import pytest
from scipy import sparse

from scbetavae.model import BetaVAE
from scbetavae.model._checks import scan_matrix


def with_value(adata, value, row=5, column=7):
    matrix = adata.X.toarray().astype(np.float64)
    matrix[row, column] = value
    adata.X = sparse.csr_matrix(matrix)
    return adata


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-3.0, r"holds 1 negative values, the first -3 in cell 'cell_5', gene 'gene_7'.*raw counts"),
        (np.nan, r"holds 1 NaN or infinite values, the first nan in cell 'cell_5', gene 'gene_7'"),
        (np.inf, r"holds 1 NaN or infinite values, the first inf in cell 'cell_5', gene 'gene_7'"),
        (
            1e39,
            r"holds 1 too large \(beyond 3.4e\+38.*float32.* values, the first 1e\+39 in cell 'cell_5', gene 'gene_7'",
        ),
    ],
)
@pytest.mark.parametrize("dense", [True, False])
def test_impossible_counts(counts_adata, value, message, dense):
    adata = with_value(counts_adata, value)
    if dense:
        adata.X = adata.X.toarray()
    with pytest.raises(ValueError, match=message):
        BetaVAE.setup_anndata(adata)
    assert "_scvi_uuid" not in adata.uns


def test_a_layer_is_checked_in_place_of_x(counts_adata):
    counts_adata.layers["counts"][3, 2] = -1
    BetaVAE.setup_anndata(counts_adata.copy())
    with pytest.raises(ValueError, match=r"layers\['counts'\] holds 1 negative"):
        BetaVAE.setup_anndata(counts_adata, layer="counts")


def test_log_normalized_data_given_as_counts(counts_adata):
    counts_adata.X = counts_adata.X.log1p()
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(ValueError, match=r"not integers.*looks log-normalized.*layers\['counts'\] holds integers"):
        BetaVAE(counts_adata)
    BetaVAE(counts_adata, gene_likelihood="normal")


def test_large_values_are_not_called_log_normalized(counts_adata):
    del counts_adata.layers["counts"]
    counts_adata.X = counts_adata.X * 1000.5
    BetaVAE.setup_anndata(counts_adata)
    with pytest.raises(ValueError, match="not integers") as error:
        BetaVAE(counts_adata, gene_likelihood="poisson")
    assert "log-normalized" not in str(error.value)


def test_cells_without_counts(counts_adata):
    matrix = counts_adata.X.toarray()
    matrix[[2, 9]] = 0
    counts_adata.X = sparse.csr_matrix(matrix)
    with pytest.raises(ValueError, match=r"2 cells have no counts in adata.X: 'cell_2', 'cell_9'.*filter_cells"):
        BetaVAE.setup_anndata(counts_adata)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_key": "bathc"}, "batch_key='bathc' is not in adata.obs. Did you mean 'batch'"),
        ({"labels_key": "label"}, "Did you mean 'labels'"),
        ({"layer": "count"}, "layer='count' is not in adata.layers. Did you mean 'counts'"),
        ({"size_factor_key": "xx"}, "size_factor_key='xx' is not in adata.obs"),
        ({"categorical_covariate_keys": ["donor", "donr"]}, r"categorical_covariate_keys\[1\]='donr'.*'donor'"),
        ({"continuous_covariate_keys": ["ages"]}, r"continuous_covariate_keys\[0\]='ages'.*'age'"),
        ({"encoder_obsm_key": "X_pc"}, "encoder_obsm_key='X_pc' is not in adata.obsm. Did you mean 'X_pca'"),
    ],
)
def test_missing_keys_name_the_nearest(counts_adata, arguments, message):
    with pytest.raises(KeyError, match=message):
        BetaVAE.setup_anndata(counts_adata, **arguments)


@pytest.mark.parametrize("argument", ["batch_key", "labels_key"])
def test_missing_labels_are_counted(counts_adata, argument):
    counts_adata.obs["batch"] = counts_adata.obs["batch"].where(np.arange(120) > 2)
    with pytest.raises(ValueError, match=f"{argument}='batch': 3 of 120 cells have missing labels .'cell_0'"):
        BetaVAE.setup_anndata(counts_adata, **{argument: "batch"})


def test_numeric_covariates_must_be_finite_numbers(counts_adata):
    counts_adata.obs["age_text"] = "old"
    with pytest.raises(TypeError, match="must be numeric"):
        BetaVAE.setup_anndata(counts_adata, continuous_covariate_keys=["age_text"])
    counts_adata.obs.loc[counts_adata.obs_names[4], "age"] = np.nan
    with pytest.raises(ValueError, match=r"1 of 120 cells have missing or infinite values .'cell_4'"):
        BetaVAE.setup_anndata(counts_adata, continuous_covariate_keys=["age"])


def test_size_factors_must_be_positive(counts_adata):
    counts_adata.obs["sf"] = counts_adata.obs["sf"].where(np.arange(120) != 8, 0.0)
    with pytest.raises(ValueError, match=r"1 of 120 cells have a value of 0 or less .'cell_8'"):
        BetaVAE.setup_anndata(counts_adata, size_factor_key="sf")


def test_encoder_input_must_be_a_finite_dense_matrix(counts_adata):
    counts_adata.obsm["sparse"] = sparse.csr_matrix(counts_adata.obsm["X_pca"])
    with pytest.raises(TypeError, match="is sparse"):
        BetaVAE.setup_anndata(counts_adata, encoder_obsm_key="sparse")
    counts_adata.obsm["X_pca"][11, 0] = np.nan
    with pytest.raises(ValueError, match=r"1 of 120 cells have NaN.*'cell_11'"):
        BetaVAE.setup_anndata(counts_adata, encoder_obsm_key="X_pca")


def test_a_view_is_refused(counts_adata):
    with pytest.raises(ValueError, match=r"is a view.*adata.copy\(\)"):
        BetaVAE.setup_anndata(counts_adata[:50])


def test_what_is_no_anndata_is_refused(counts_adata):
    with pytest.raises(TypeError, match=r"adata is a DataFrame, not an AnnData"):
        BetaVAE.setup_anndata(counts_adata.obs)


@pytest.mark.parametrize("shape", [(0, 40), (120, 0)])
def test_nothing_to_train_on(shape):
    adata = anndata.AnnData(np.zeros(shape, dtype=np.float32))
    with pytest.raises(ValueError, match="nothing to train on"):
        BetaVAE.setup_anndata(adata)


def test_empty_x_points_at_layers(counts_adata):
    counts_adata.X = None
    with pytest.raises(ValueError, match=r"adata.X is None"):
        BetaVAE.setup_anndata(counts_adata)
    BetaVAE.setup_anndata(counts_adata, layer="counts")


def test_an_adata_that_was_not_set_up(counts_adata):
    with pytest.raises(ValueError, match=r"set up your AnnData with BetaVAE.setup_anndata first"):
        BetaVAE(counts_adata)


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_scan_finds_the_first_of_each_kind_in_any_block(layout):
    dense = np.zeros((9000, 3), dtype=np.float32)
    dense[:, 0] = 1
    dense[8999, 2] = 0.5
    dense[5000, 1] = -1
    dense[4097] = 0
    matrix = {"csr": sparse.csr_matrix, "csc": sparse.csc_matrix, "dense": np.array}[layout](dense)
    scan = scan_matrix(matrix)
    assert (scan.fractional.row, scan.fractional.column, scan.fractional.n_values) == (8999, 2, 1)
    assert (scan.negative.row, scan.negative.column) == (5000, 1)
    assert scan.non_finite is None
    assert scan.largest == 1
    assert scan.empty_rows.tolist() == [4097, 5000]


@pytest.mark.parametrize("dense", [True, False])
def test_backed_files_are_checked_without_reading_them_whole(counts_adata, tmp_path, dense):
    if dense:
        counts_adata.X = counts_adata.X.toarray()
    counts_adata.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    BetaVAE.setup_anndata(backed, batch_key="batch")
    model = BetaVAE(backed, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    assert model.get_latent_representation().shape == (120, 2)


def test_new_data_are_checked_too(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    new = anndata.AnnData(counts_adata.X.log1p(), var=counts_adata.var)
    with pytest.raises(ValueError, match="not integers"):
        model.get_latent_representation(new)


def test_encoder_input_beyond_float32_is_refused_and_up_to_it_is_not(counts_adata):
    counts_adata.obsm["X_pca"] = counts_adata.obsm["X_pca"].astype(np.float64)
    counts_adata.obsm["X_pca"][11, 0] = -3.4e38
    BetaVAE.setup_anndata(counts_adata.copy(), encoder_obsm_key="X_pca")
    counts_adata.obsm["X_pca"][11, 0] = -3.5e38
    with pytest.raises(ValueError, match=r"1 of 120 cells have NaN.*beyond 3.4e\+38 .float32. .'cell_11'"):
        BetaVAE.setup_anndata(counts_adata, encoder_obsm_key="X_pca")


@pytest.mark.parametrize("argument", ["continuous_covariate_keys", "size_factor_key"])
def test_numeric_columns_beyond_float32_are_refused(counts_adata, argument):
    counts_adata.obs["sf"] = counts_adata.obs["sf"].where(np.arange(120) != 8, 1e39)
    with pytest.raises(ValueError, match=r"1 of 120 cells have missing or infinite values .'cell_8'.*float32"):
        BetaVAE.setup_anndata(counts_adata, **{argument: "sf" if argument == "size_factor_key" else ["sf"]})


def test_counts_whose_sum_overflows_float32(counts_adata):
    adata = with_value(with_value(counts_adata, 2e38), 2e38, column=8)
    with pytest.raises(
        ValueError, match=r"1 cells have counts that sum to more than float32 can hold in adata.X: 'cell_5'"
    ):
        BetaVAE.setup_anndata(adata)


def test_new_data_beyond_float32_are_refused(counts_adata):
    BetaVAE.setup_anndata(counts_adata)
    model = BetaVAE(counts_adata, n_hidden=8, n_latent=2)
    model.train(max_epochs=1, accelerator="cpu", enable_progress_bar=False)
    with pytest.raises(ValueError, match="holds 1 too large"):
        model.get_latent_representation(with_value(counts_adata.copy(), 1e39))


@pytest.mark.filterwarnings("always")
def test_counts_that_float32_rounds_warn_and_the_largest_exact_one_does_not(counts_adata, recwarn):
    adata = with_value(counts_adata, 2.0**24)
    BetaVAE.setup_anndata(adata)
    BetaVAE(adata)
    assert not [w for w in recwarn if "float32" in str(w.message)]
    BetaVAE.setup_anndata(with_value(adata, 2.0**24 + 1))
    with pytest.warns(UserWarning, match=r"Above 16,777,216 float32.*rounds"):
        BetaVAE(adata)
