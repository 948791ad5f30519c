"""The bill: values are those of the probes, differences those of the codes, intervals those of what was resampled."""

import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics
from scbetavae.metrics import zeroing_bill


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics._batch_probes.N_TREES", 10)


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"batch": rng.choice(["1", "2"], 400), "kind": rng.choice(["B", "T"], 400)})
    obs["age"] = rng.normal(size=400)
    obs["donor"] = np.arange(400) % 8
    codes = 0.2 * rng.normal(size=(400, 3)) + np.stack([obs["batch"] == "1", obs["kind"] == "B", obs["age"]], axis=1)
    return codes, obs


def value(bill, covariate, probe, column):
    return bill.loc[(bill["covariate"] == covariate) & (bill["probe"] == probe), column].item()


def test_values_are_those_of_the_probes(cells):
    codes, obs = cells
    after = codes * [0, 1, 1]
    bill = zeroing_bill(codes, after, batch=obs["batch"], protected=obs[["kind", "age"]], seed=3, n_bootstrap=20)
    probes = {"neighbours": metrics.neighbour_skill, "random_forest": metrics.random_forest_skill}
    for row in bill[bill["probe"] != "ilisi"].itertuples():
        for column, of in (("before", codes), ("after", after)):
            assert getattr(row, column) == pytest.approx(probes[row.probe](of, obs[row.covariate], seed=3))
    assert value(bill, "batch", "ilisi", "before") == metrics.ilisi(codes, obs["batch"], seed=3)
    assert bill["role"].tolist() == ["batch"] * 3 + ["protected"] * 4
    assert (bill["kept"].notna() == (bill["role"] == "protected")).all()
    assert value(bill, "batch", "neighbours", "before") > 0.95
    assert abs(value(bill, "batch", "neighbours", "after")) < 0.15
    assert value(bill, "batch", "ilisi", "after") > 0.9
    assert value(bill, "batch", "ilisi", "implied") > 0.9
    inside = bill[bill["before_ci_low"] < bill["before_ci_high"]]
    assert ((inside["before"] > inside["before_ci_low"]) & (inside["before"] < inside["before_ci_high"])).all()
    assert len(inside) >= 5


def test_equal_codes_keep_all_without_uncertainty(cells):
    codes, obs = cells
    bill = zeroing_bill(codes, codes, batch=obs["batch"], protected=obs[["kind", "age"]], n_bootstrap=20)
    protected = bill[bill["role"] == "protected"]
    assert (protected[["kept", "kept_ci_low", "kept_ci_high"]] == 1).all(axis=None)
    np.testing.assert_array_equal(bill["before"], bill["after"])


def test_implied_mixing_is_that_of_batches_within_strata(cells):
    """Each batch is one type: to exchange batches within types changes nothing, and separate is all there can be."""
    codes, obs = cells
    kind = obs["batch"].map({"1": "B", "2": "T"})
    bill = zeroing_bill(codes, codes[:, 1:], batch=obs["batch"], protected=kind.to_frame("kind"), n_bootstrap=0)
    assert value(bill, "batch", "ilisi", "implied") == pytest.approx(value(bill, "batch", "ilisi", "before"))
    assert value(bill, "batch", "neighbours", "implied") == 1.0
    assert bill.filter(like="_ci_").isna().all(axis=None)


def test_the_bootstrap_draws_donors(cells):
    """Donors who differ in how well they are told make wider intervals than as many cells would."""
    codes, obs = cells
    codes = np.where((obs["donor"] < 4).to_numpy()[:, None], codes, np.random.default_rng(1).normal(size=codes.shape))
    width = {}
    for name, groups in (("cells", None), ("donors", obs["donor"])):
        bill = zeroing_bill(codes, codes, batch=obs["batch"], protected=obs[["kind"]], groups=groups)
        width[name] = value(bill, "kind", "neighbours", "before_ci_high") - value(
            bill, "kind", "neighbours", "before_ci_low"
        )
    assert width["donors"] > 1.5 * width["cells"]


def test_tested_cells_alone_are_reported(cells):
    codes, obs = cells
    test = np.arange(400) % 4 == 0
    bill = zeroing_bill(codes, codes, batch=obs["batch"], protected=obs[["kind"]], test=test, n_bootstrap=0)
    assert (bill["n_cells"] == 100).all()


def test_cells_without_a_label_are_left_out_for_that_covariate(cells):
    codes, obs = cells
    obs.loc[:99, "kind"] = None
    bill = zeroing_bill(codes, codes, batch=obs["batch"], protected=obs[["kind", "age"]], n_bootstrap=0)
    assert value(bill, "kind", "neighbours", "n_cells") == 300
    assert value(bill, "age", "neighbours", "n_cells") == 400


def test_other_cells_are_refused(cells):
    codes, obs = cells
    with pytest.raises(ValueError, match="same cells"):
        zeroing_bill(codes, codes[1:], batch=obs["batch"], protected=obs[["kind"]])
