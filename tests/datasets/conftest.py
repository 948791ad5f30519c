"""Shared by the tests of the data sets."""

from pathlib import Path

import anndata
import pytest


def pytest_collection_modifyitems(items):
    # Markers outlast `-W error` on the command line. anndata 0.13 reads options that pandas 3.1 has deprecated,
    # whenever an AnnData is read or sliced; anndata 0.12 announces a new default at every write_zarr.
    quiet = pytest.mark.filterwarnings(
        "ignore:.*(infer_string|chained_assignment).*:DeprecationWarning",
        "ignore:Writing zarr v2 data will no longer be the default:UserWarning",
    )
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(quiet)


@pytest.fixture(params=["h5ad", "zarr"])
def round_trip(request, tmp_path):
    """Write an AnnData and read it back, in either format."""

    def write_and_read(adata):
        path = tmp_path / f"cells.{request.param}"
        if request.param == "h5ad":
            adata.write_h5ad(path)
            return anndata.read_h5ad(path)
        pytest.importorskip("zarr")
        adata.write_zarr(path)
        return anndata.io.read_zarr(path)

    return write_and_read
