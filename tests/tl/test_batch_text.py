"""The status of a removal is decided on intervals: both sides of every threshold, by either classifier, in words that agree."""

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import scbetavae
from scbetavae._core.constants import ALLOWED_LOSS, REMAINING, TOO_WIDE
from scbetavae.tl import _batch_text

NAMES = {"knn": "k-NN", "random_forest": "random forest"}
EXPECTED = 0.1
THRESHOLD = EXPECTED + REMAINING


def spread(name, value, low, high):
    return {name: value, f"{name}_ci_low": low, f"{name}_ci_high": high}


def make_report(after=(0.05, -0.05, 0.15), kept=(1.0, 0.95, 1.05), odd="random_forest", expected=EXPECTED):
    """A clean removal, but for one classifier: value and ends of the interval of batch after, and of the share kept."""
    rows = []
    for classifier in NAMES:
        after_, kept_ = (after, kept) if classifier == odd else ((0.05, -0.05, 0.15), (1.0, 0.95, 1.05))
        batch = {"role": "batch", "covariate": "plate", "kept": np.nan, "kept_ci_low": np.nan, "kept_ci_high": np.nan}
        rows.append(batch | spread("before", 0.9, 0.85, 0.95) | spread("after", *after_) | {"classifier": classifier})
        rows[-1]["expected"] = expected
        kind = {"role": "conserved", "covariate": "kind", "classifier": classifier, "expected": np.nan}
        of_after = spread("after", 0.8 * kept_[0], 0.8 * kept_[1], 0.8 * kept_[2])
        rows.append(kind | spread("before", 0.8, 0.75, 0.85) | of_after | spread("kept", *kept_))
    return pd.DataFrame(rows).assign(flag="")


def judge(report):
    return _batch_text.describe_removal(report, [2], clusters=False)


@pytest.mark.parametrize("odd", NAMES)
@pytest.mark.parametrize(
    ("low", "value", "high", "status", "words"),
    [
        (THRESHOLD + 0.001, 0.4, 0.44, "batch remains", "Batch remains in"),
        (THRESHOLD - 0.001, 0.4, 0.44, "clean", "within noise"),
        (THRESHOLD - 0.2, THRESHOLD - 0.001, 0.44, "clean", ""),
        (
            THRESHOLD - 0.1,
            0.3,
            THRESHOLD + TOO_WIDE + 0.001,
            "undecided",
            "Too few cells to tell whether batch remains",
        ),
        (THRESHOLD - 0.1, 0.3, THRESHOLD + TOO_WIDE - 0.001, "clean", "within noise"),
        (np.nan, THRESHOLD + 0.001, np.nan, "batch remains", "Batch remains in"),  # no bootstrap
        (np.nan, THRESHOLD - 0.001, np.nan, "clean", ""),
    ],
)
def test_batch_remains_only_where_the_whole_interval_says_so(odd, low, value, high, status, words):
    summary = judge(make_report(after=(value, low, high), odd=odd))
    assert summary.status == status
    assert words in summary.sentence
    assert ("within noise" in summary.sentence) == (words == "within noise")
    assert NAMES[odd].replace("k-NN", "") in summary.sentence.partition(words)[2] if words else True


@pytest.mark.parametrize("odd", NAMES)
@pytest.mark.parametrize(
    ("low", "value", "high", "status", "words"),
    [
        (0.85, 0.9, 1 - ALLOWED_LOSS - 0.001, "biology lost", "It took more than 5%"),
        (0.85, 0.9, 1 - ALLOWED_LOSS + 0.001, "clean", "within noise"),
        (0.85, 1 - ALLOWED_LOSS + 0.001, 1.1, "clean", ""),
        (1 - ALLOWED_LOSS - TOO_WIDE / 0.8 - 0.01, 0.9, 1.1, "undecided", "Too few cells to tell whether more than 5%"),
        (1 - ALLOWED_LOSS - TOO_WIDE / 0.8 + 0.01, 0.9, 1.1, "clean", "within noise"),
        (np.nan, 1 - ALLOWED_LOSS - 0.001, np.nan, "biology lost", "It took more than 5%"),
        (np.nan, 1 - ALLOWED_LOSS + 0.001, np.nan, "clean", ""),
    ],
)
def test_biology_is_lost_only_where_the_whole_interval_says_so(odd, low, value, high, status, words):
    summary = judge(make_report(kept=(value, low, high), odd=odd))
    assert summary.status == status
    assert bool(summary.warning) == (status == "biology lost")
    assert words in summary.sentence
    assert ("within noise" in summary.sentence) == (words == "within noise")
    if words:
        assert NAMES[odd] in summary.sentence.partition(words)[2]


@pytest.mark.parametrize(("left", "status"), [(0.14, "clean"), (0.16, "batch remains")])
def test_batch_remains_above_15_hundredths(left, status):
    assert judge(make_report(after=(left, left, left), expected=0.0)).status == status


@pytest.mark.parametrize(("loss", "status"), [(0.04, "clean"), (0.06, "biology lost")])
def test_a_loss_above_5_percent_is_too_much(loss, status):
    assert judge(make_report(kept=(1 - loss, 1 - loss, 1 - loss))).status == status


def test_an_expected_accuracy_below_zero_lowers_no_threshold():
    for expected in (-0.1, np.nan):
        assert judge(make_report(after=(0.2, REMAINING - 0.001, 0.3), expected=expected)).status == "clean"
        assert judge(make_report(after=(0.2, REMAINING + 0.001, 0.3), expected=expected)).status == "batch remains"


def test_a_covariate_without_accuracy_has_none_to_lose():
    for low, status in ((-0.001, "clean"), (0.001, "biology lost")):
        report = make_report(kept=(0.5, 0.4, 0.6))
        report.loc[report["role"] == "conserved", "before_ci_low"] = low
        assert judge(report).status == status


def make_cells(n_cells=400, noise=0.3):
    """Batch in dimension 0, type in 1 to 3; the batch of few cells is in dimension 4."""
    rng = np.random.default_rng(0)
    batch, kind = rng.integers(0, 2, n_cells), rng.integers(0, 4, n_cells)
    codes = rng.normal(size=(n_cells, 5)) * noise
    codes[:, 0] += 3 * batch
    codes[:, 1:4] += 3 * np.eye(4)[kind][:, :3]
    obs = pd.DataFrame({"plate": batch.astype(str), "kind": kind.astype(str)}, index=[f"c{i}" for i in range(n_cells)])
    return AnnData(obs=obs, obsm={"X_betavae": codes})


@pytest.fixture(scope="module")
def removed():
    adata = make_cells()
    scbetavae.tl.zero_batch_dimensions(adata, batch_key="plate", conserve="kind", n_bootstrap=50)
    return adata


def test_sentence_and_pictures_name_the_classifier_of_every_number(removed):
    stored = removed.uns["betavae"]
    report, sentence = stored["batch_removal"], stored["batch_removal_params"]["summary"]
    kept = report[report["role"] == "conserved"].set_index("classifier")["kept"]
    for classifier, name in NAMES.items():
        assert f"{name} accuracy for batch 'plate' from" in sentence
        assert f"{kept[classifier]:.0%} ({name})" in sentence
    figure = scbetavae.pl.batch_removal(removed)
    assert figure.get_suptitle() == "Without dimension 0: clean"
    written = [text.get_text() for text in figure.axes[0].texts]
    assert written == [f"keeps {kept[classifier]:.0%}" for classifier in NAMES]
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[-2:] == [f"kind, {name}" for name in NAMES.values()]
    title = scbetavae.pl.batch_dimensions(removed).get_title(loc="left").replace("\n", " ")
    assert f"keeps {kept['knn']:.0%} of its k-NN accuracy" in title


def test_the_search_reports_the_same_intervals(removed):
    found = removed.uns["betavae"]["batch_dimensions_report"]
    report = removed.uns["betavae"]["batch_removal"].query("classifier == 'knn'")
    for mine, theirs in (("accuracy_before", "before"), ("accuracy_after", "after"), ("kept", "kept")):
        rows = slice(1 if theirs == "kept" else 0, None)
        np.testing.assert_allclose(found[mine][rows], report[theirs][rows], atol=1e-9)
        for end in ("low", "high"):
            near = found[f"{mine}_ci_{end}"][rows].to_numpy(), report[f"{theirs}_ci_{end}"][rows].to_numpy()
            np.testing.assert_allclose(*near, atol=0.06)  # of other resamples


def test_few_cells_decide_nothing():
    adata = make_cells(24)
    scbetavae.tl.zero_batch_dimensions(adata, [0], "plate", conserve="kind", n_bootstrap=50)
    parameters = adata.uns["betavae"]["batch_removal_params"]
    assert parameters["status"] == "undecided"
    assert "Too few cells to tell" in parameters["summary"]
