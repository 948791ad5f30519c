"""The lines at the end, from tables whose content is known."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scbetavae.cli._summary import describe_dimensions, describe_removal, describe_stability


@pytest.fixture
def adata():
    cells = AnnData(np.ones((4, 3), dtype=np.float32))
    cells.var_names = ["ENSG00000000001", "ENSG00000000002", "ENSG00000000003"]
    cells.uns["betavae"] = {}
    return cells


def summary_frame(stability, active=True):
    n = len(stability)
    return pd.DataFrame({"dimension": range(n), "stability": stability, "active": active, "order": range(n, 0, -1)})


def test_stability_counts_active_dimensions_and_names_those_below():
    text = describe_stability(summary_frame([0.9, 0.7, 0.65, np.nan, 0.1]))
    assert text == "2 of 4 dimensions at least 0.7 in resampled cells (0.10 to 0.90); below: 2, 4"
    text = describe_stability(summary_frame([0.9, 0.1], active=[True, False]))
    assert text == "1 of 1 dimension at least 0.7 in resampled cells (0.90 to 0.90)"
    assert describe_stability(summary_frame([np.nan])).startswith("not known")


def removal(**columns):
    row = {"role": "batch", "covariate": "plate", "classifier": "knn", "before": 0.9, "after": 0.1}
    return row | {"kept": np.nan, "expected": 0.05} | columns


@pytest.mark.parametrize(("conserved", "shown"), [("type", "type"), ("batch_removal_clusters", "clusters")])
def test_batch_before_and_after_with_its_status(conserved, shown, adata):
    rows = [
        removal(),
        removal(classifier="random_forest", before=1.0, after=0.12),
        removal(classifier="ilisi", before=0.2, after=1.0),
        removal(role="conserved", covariate=conserved, before=0.8, after=0.76, kept=0.95, expected=np.nan),
    ]
    adata.uns["betavae"] |= {
        "batch_removal": pd.DataFrame(rows),
        "batch_removal_params": {"status": "clean", "dimensions": "1, 3", "summary": "A sentence."},
    }
    assert describe_removal(adata) == (
        "clean: without dimensions 1, 3, k-NN accuracy for plate 0.90 -> 0.10; random forest accuracy for plate "
        f"1.00 -> 0.12 (0.05 expected from composition); {shown} keeps 95% (k-NN)"
    )
    adata.uns["betavae"]["batch_removal_params"]["dimensions"] = ""
    assert describe_removal(adata) == "A sentence."


def test_dimensions_are_named_most_important_first():
    cards = pd.DataFrame({"dimension": range(12), "name": [f"name {d}" for d in range(12)], "order": range(12, 0, -1)})
    text = describe_dimensions(cards)
    assert text.startswith("11 name 11; 10 name 10; ")
    assert text.endswith("2 name 2 ...")
    assert describe_dimensions(cards[:2]) == "1 name 1; 0 name 0"
