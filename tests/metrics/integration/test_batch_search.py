"""The search: the conservation threshold on both sides, and a report on held-out cells that can be computed by hand."""

import numpy as np
import pandas as pd
import pytest

from scbetavae.metrics import impossible_search, knn_accuracy, search_batch_dimensions
from scbetavae.metrics.integration import _elimination


def make_cells(n=400, seed=0):
    """Dimension 0 is batch, 1 is kind, 2 is noise."""
    rng = np.random.default_rng(seed)
    batch, kind = rng.choice(["1", "2"], n), rng.choice(["B", "T"], n)
    codes = rng.normal(size=(n, 3)) + np.stack([2.0 * (batch == "1"), 2.0 * (kind == "B"), np.zeros(n)], axis=1)
    return codes, pd.Series(batch, name="batch"), pd.DataFrame({"kind": kind})


def search(cells, **arguments):
    return search_batch_dimensions(*cells, active=np.ones(3, dtype=bool), **arguments)


@pytest.mark.parametrize(("kept", "chosen", "reason"), [(0.96, [], "conservation"), (0.98, [0], "")])
def test_conserved_covariates_keep_97_percent_of_their_accuracy(monkeypatch, kept, chosen, reason):
    def accuracy(codes, covariate, seed):
        is_whole = codes.shape[1] == 3
        return {"batch": 0.9 if is_whole else 0.0, "kind": 1.0 if is_whole else kept}[covariate.name]

    monkeypatch.setattr(_elimination, "classifier_accuracy", accuracy)
    found = search(make_cells())
    assert (found.chosen, found.reason) == (chosen, reason)
    assert found.status == ("found" if chosen else "none")


@pytest.mark.parametrize(("kept", "chosen"), [(0.088, []), (0.092, [0])])
def test_a_small_accuracy_may_lose_a_hundredth(monkeypatch, kept, chosen):
    monkeypatch.setattr(_elimination.Question, "standard_error", 0.01)
    accuracies = {("batch", True): 0.9, ("batch", False): 0.0, ("kind", True): 0.1, ("kind", False): kept}
    monkeypatch.setattr(
        _elimination, "classifier_accuracy", lambda codes, c, seed: accuracies[c.name, codes.shape[1] == 3]
    )
    assert search(make_cells()).chosen == chosen


def nearest_by_hand(codes, labels, test):
    """Chance-corrected mean recall of 15 nearest neighbors, weighted by one over the size of their class, in plain loops."""
    classes = sorted(set(labels))
    train = np.flatnonzero(~test)
    sizes = {c: (labels[train] == c).sum() for c in classes}
    hits = {c: [] for c in classes}
    for cell in np.flatnonzero(test):
        near = train[np.argsort(((codes[train] - codes[cell]) ** 2).sum(axis=1))[:15]]
        votes = {c: (labels[near] == c).sum() / sizes[c] for c in classes}
        hits[labels[cell]].append(max(classes, key=votes.get) == labels[cell])
    recall = np.mean([np.mean(of_class) for of_class in hits.values()])
    return (recall - 1 / len(classes)) / (1 - 1 / len(classes))


def test_the_report_is_computed_on_the_held_out_half():
    cells = codes, batch, conserved = make_cells()
    found = search(cells)
    assert found.chosen == [0]
    assert found.held_out.sum() == 200
    report = found.report.set_index("covariate")
    left = codes[:, 1:]
    for name, labels in (("batch", batch.to_numpy()), ("kind", conserved["kind"].to_numpy())):
        before, after = (nearest_by_hand(z, labels, found.held_out) for z in (codes, left))
        assert report.loc[name, ["accuracy_before", "accuracy_after"]].tolist() == pytest.approx([before, after])
        assert before != pytest.approx(nearest_by_hand(codes, labels, ~found.held_out))
        assert before != pytest.approx(knn_accuracy(codes, labels))
    assert report.loc["kind", "kept"] == pytest.approx(after / before)


def test_the_halves_have_every_batch_and_class_alike():
    cells = _, batch, conserved = make_cells(403)
    table = pd.crosstab([batch, conserved["kind"]], search(cells).held_out)
    assert ((table[True] - table[False]).abs() <= 1).all()


def test_an_impossible_search_knows_nothing():
    found = impossible_search(np.array([True, False]), "batch", ["kind"], 7)
    assert found.status == "not possible"
    assert found.chosen == []
    assert found.report["accuracy_before"].isna().all()
    assert found.report["role"].tolist() == ["batch", "conserved"]
    assert not found.held_out.any()
