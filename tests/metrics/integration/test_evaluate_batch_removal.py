"""The report: values are those of the classifiers, differences those of the codes, intervals those of what was resampled."""

import numpy as np
import pandas as pd
import pytest

from scbetavae import metrics
from scbetavae.metrics import evaluate_batch_removal


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch):
    monkeypatch.setattr("scbetavae.metrics.integration._classifiers.N_TREES", 10)


@pytest.fixture
def cells():
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"batch": rng.choice(["1", "2"], 400), "kind": rng.choice(["B", "T"], 400)})
    obs["age"] = rng.normal(size=400)
    obs["donor"] = np.arange(400) % 8
    codes = 0.2 * rng.normal(size=(400, 3)) + np.stack([obs["batch"] == "1", obs["kind"] == "B", obs["age"]], axis=1)
    return codes, obs


def value(report, covariate, classifier, column):
    return report.loc[(report["covariate"] == covariate) & (report["classifier"] == classifier), column].item()


def test_values_are_those_of_the_classifiers(cells):
    codes, obs = cells
    after = codes * [0, 1, 1]
    report = evaluate_batch_removal(
        codes, after, batch=obs["batch"], conserved=obs[["kind", "age"]], seed=3, n_bootstrap=20
    )
    classifiers = {"knn": metrics.knn_accuracy, "random_forest": metrics.random_forest_accuracy}
    for row in report[report["classifier"] != "ilisi"].itertuples():
        for column, of in (("before", codes), ("after", after)):
            assert getattr(row, column) == pytest.approx(classifiers[row.classifier](of, obs[row.covariate], seed=3))
    assert value(report, "batch", "ilisi", "before") == metrics.ilisi(codes, obs["batch"], seed=3)
    assert report["role"].tolist() == ["batch"] * 3 + ["conserved"] * 4
    assert (report["kept"].notna() == (report["role"] == "conserved")).all()
    assert value(report, "batch", "knn", "before") > 0.95
    assert abs(value(report, "batch", "knn", "after")) < 0.15
    assert value(report, "batch", "ilisi", "after") > 0.9
    assert value(report, "batch", "ilisi", "expected") > 0.9
    inside = report[report["before_ci_low"] < report["before_ci_high"]]
    assert ((inside["before"] > inside["before_ci_low"]) & (inside["before"] < inside["before_ci_high"])).all()
    assert len(inside) >= 5


def test_equal_codes_keep_all_without_uncertainty(cells):
    codes, obs = cells
    report = evaluate_batch_removal(codes, codes, batch=obs["batch"], conserved=obs[["kind", "age"]], n_bootstrap=20)
    conserved = report[report["role"] == "conserved"]
    assert (conserved[["kept", "kept_ci_low", "kept_ci_high"]] == 1).all(axis=None)
    np.testing.assert_array_equal(report["before"], report["after"])


def test_expected_mixing_is_that_of_batches_within_strata(cells):
    """Each batch is one type: to exchange batches within types changes nothing, and separate is all there can be."""
    codes, obs = cells
    kind = obs["batch"].map({"1": "B", "2": "T"})
    report = evaluate_batch_removal(
        codes, codes[:, 1:], batch=obs["batch"], conserved=kind.to_frame("kind"), n_bootstrap=0
    )
    assert value(report, "batch", "ilisi", "expected") == pytest.approx(value(report, "batch", "ilisi", "before"))
    assert value(report, "batch", "knn", "expected") == 1.0
    assert report.filter(like="_ci_").isna().all(axis=None)


def test_the_bootstrap_draws_donors(cells):
    """Donors who differ in how well they are told make wider intervals than as many cells would."""
    codes, obs = cells
    codes = np.where((obs["donor"] < 4).to_numpy()[:, None], codes, np.random.default_rng(1).normal(size=codes.shape))
    width = {}
    for name, groups in (("cells", None), ("donors", obs["donor"])):
        report = evaluate_batch_removal(codes, codes, batch=obs["batch"], conserved=obs[["kind"]], groups=groups)
        width[name] = value(report, "kind", "knn", "before_ci_high") - value(report, "kind", "knn", "before_ci_low")
    assert width["donors"] > 1.5 * width["cells"]


def test_tested_cells_alone_are_reported(cells):
    codes, obs = cells
    test = np.arange(400) % 4 == 0
    report = evaluate_batch_removal(codes, codes, batch=obs["batch"], conserved=obs[["kind"]], test=test, n_bootstrap=0)
    assert (report["n_cells"] == 100).all()


def test_cells_without_a_label_are_left_out_for_that_covariate(cells):
    codes, obs = cells
    obs.loc[:99, "kind"] = None
    report = evaluate_batch_removal(codes, codes, batch=obs["batch"], conserved=obs[["kind", "age"]], n_bootstrap=0)
    assert value(report, "kind", "knn", "n_cells") == 300
    assert value(report, "age", "knn", "n_cells") == 400


def test_other_cells_are_refused(cells):
    codes, obs = cells
    with pytest.raises(ValueError, match="same cells"):
        evaluate_batch_removal(codes, codes[1:], batch=obs["batch"], conserved=obs[["kind"]])
