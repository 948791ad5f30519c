"""Classifiers: how well held-out cells' batch, or another covariate, can be predicted from an embedding."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number, finite_matrix
from scbetavae.metrics._checks import Covariate, check_column, check_factors, check_groups, check_test, renumber
from scbetavae.metrics._held_out import Plan, make_plan

N_NEIGHBORS = 15
N_TREES = 50

MAXIMUM_NEIGHBOR_QUERIES = 5_000  # cells that the k-nearest-neighbor classifier reports on at most
MAXIMUM_NEIGHBOR_REFERENCES = 50_000  # cells among which neighbors are looked for at most
MAXIMUM_FOREST_CELLS = 3_000  # cells that a random forest is trained on at most, and reports on at most


def knn_accuracy(
    codes: ArrayLike,
    covariate: ArrayLike | pd.Series,
    *,
    groups: ArrayLike | pd.Series | None = None,
    n_neighbors: int = N_NEIGHBORS,
    test: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    r"""Held-out accuracy of the k nearest neighbors.

    A cell is predicted from its nearest cells (Euclidean distance, dimensions as they are) among cells of other folds. A
    neighbor of class :math:`c` votes with weight :math:`1/N_c`, one over the size of its class, so that rare classes
    count. The accuracy is balanced accuracy corrected for chance,
    :math:`(\text{mean recall} - 1/C) / (1 - 1/C)` for :math:`C` classes; for a numeric covariate, predicted by the mean
    of the neighbors, the squared correlation with the sign of the correlation.

    Parameters
    ----------
    codes, covariate
        Embedding of shape (n_cells, n_dims); one value per cell, categorical, boolean, string or numeric. Cells without a value
        are left out.
    groups
        Donor of every cell, none missing; neighbors then come from other donors.
    n_neighbors
        Neighbors that vote, at least 1; all, if there are fewer.
    test
        Boolean mask of the cells that are reported on; neighbors are the other cells (with ``groups``, all cells of other
        donors). Without it all cells are reported on, in four folds.
    seed
        Seed of the folds, and of the draw where there are more than 5 000 cells to report on or 50 000 to look for
        neighbors among. A draw takes as many cells of each class as it can.

    Returns
    -------
    Accuracy: 1 if perfect, 0 by chance, negative below. NaN where undefined: fewer than 10 labeled cells, fewer than two
    classes of two cells, or one fold of donors.

    Raises
    ------
    ValueError
        If shapes do not agree, codes are not finite, groups are missing, or ``test`` is not a mask or holds all cells or none.

    Examples
    --------
    >>> batch = np.repeat(["plate 1", "plate 2"], 200)
    >>> codes = np.random.default_rng(0).normal(size=(400, 2)) + 8 * (batch == "plate 1")[:, None]
    >>> knn_accuracy(codes, batch), abs(knn_accuracy(codes, np.random.default_rng(1).permutation(batch))) < 0.2
    (1.0, True)
    """
    array = finite_matrix(codes, "codes")
    check_whole_number(n_neighbors, "n_neighbors", 1)
    of_cell = check_column(covariate, len(array), "covariate")
    plan = classifier_plan(of_cell, check_groups(groups, len(array)), check_test(test, len(array)), seed)
    return plan.accuracy(predict_by_neighbors(array, plan, seed, n_neighbors))


def random_forest_accuracy(
    codes: ArrayLike,
    covariate: ArrayLike | pd.Series,
    *,
    groups: ArrayLike | pd.Series | None = None,
    test: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    """Held-out accuracy of a random forest :cite:p:`Breiman2001`.

    As :func:`knn_accuracy`, with its arguments, result and errors, but trees find a covariate that few of many dimensions encode,
    which distances hide. 50 trees, 10 cells per leaf (down to 3 with fewer than 500 training cells), classes weighted to count
    alike; at most 3 000 training cells and 3 000 to report on.

    Examples
    --------
    >>> codes = np.random.default_rng(0).normal(size=(300, 3))
    >>> random_forest_accuracy(codes, np.where(codes[:, 0] > 0, "stimulated", "control")) > 0.9
    True
    """
    array = finite_matrix(codes, "codes")
    of_cell = check_column(covariate, len(array), "covariate")
    plan = classifier_plan(
        of_cell, check_groups(groups, len(array)), check_test(test, len(array)), seed, "random_forest"
    )
    return plan.accuracy(predict_by_forest(array, plan, seed))


def expected_accuracy(
    batch: ArrayLike | pd.Series,
    conserved: pd.DataFrame,
    *,
    groups: ArrayLike | pd.Series | None = None,
    test: ArrayLike | None = None,
    seed: int = 0,
) -> float:
    r"""Batch accuracy expected from composition: the one that the conserved covariates alone explain.

    An embedding that encodes the conserved covariates and nothing else still predicts a batch that has its own mix of them. With
    categories alone, cells of a stratum :math:`s` (a combination of categories) are predicted as the batch
    :math:`\arg\max_b P(s \mid b)`, counted on other cells; in expectation the accuracy is

    .. math:: \frac{\frac{1}{B} \sum_s \max_b P(s \mid b) - \frac{1}{B}}{1 - \frac{1}{B}}.

    With a numeric covariate among them, a random forest predicts batch from all. A batch accuracy of an embedding below this
    value suggests that conserved covariates were removed with the batch. With few cells, classifiers also fall short of a small
    value by themselves: look at the accuracy for the conserved covariates, too.

    ``batch`` and ``conserved`` have one row per cell; cells that lack one of them are left out. ``groups``, ``test``, ``seed``
    and errors are as in :func:`knn_accuracy`. Returns 0 if the covariates carry no information about the batch, 1 if they
    determine it, NaN where undefined.

    Examples
    --------
    Nine of ten cells of batch 1 are T cells, and one of ten of batch 2: mean recall is 0.9, the accuracy 0.8.

    >>> is_t_cell = np.r_[np.arange(100) < 90, np.arange(100) < 10]
    >>> conserved = pd.DataFrame({"cell type": np.where(is_t_cell, "T", "B")})
    >>> round(expected_accuracy(np.repeat(["1", "2"], 100), conserved), 6)
    0.8
    """
    n_cells = len(conserved)
    of_batch = check_column(batch, n_cells, "batch").as_classes()
    members = check_groups(groups, n_cells)
    return composition_accuracy(of_batch, check_factors(conserved, n_cells), members, check_test(test, n_cells), seed)


def composition_accuracy(
    of_batch: Covariate,
    covariates: list[Covariate],
    members: np.ndarray | None = None,
    test: np.ndarray | None = None,
    seed: int = 0,
) -> float:
    """`expected_accuracy` of columns that were checked."""
    present = np.all([covariate.present for covariate in covariates], axis=0)
    of_batch = of_batch.where(present)
    if any(covariate.is_numeric for covariate in covariates):
        columns = [c.values if c.is_numeric else np.eye(len(c.classes))[c.values] for c in covariates]
        plan = classifier_plan(of_batch, members, test, seed, "random_forest")
        return plan.accuracy(predict_by_forest(np.nan_to_num(np.column_stack(columns)), plan, seed))
    strata = renumber(np.stack([covariate.values for covariate in covariates], axis=1))
    plan = make_plan(of_batch, members, test, seed)
    return plan.accuracy(plan.predict(strata, _by_stratum))


def classifier_accuracy(codes: np.ndarray, covariate: Covariate, seed: int) -> float:
    """`knn_accuracy` of values that were checked."""
    plan = classifier_plan(covariate, None, None, seed)
    return plan.accuracy(predict_by_neighbors(codes, plan, seed))


def classifier_plan(
    covariate: Covariate, groups: np.ndarray | None, test: np.ndarray | None, seed: int, name: str = "knn"
) -> Plan:
    """Plan of the classifier ``"knn"`` or ``"random_forest"``."""
    of_neighbors = (MAXIMUM_NEIGHBOR_QUERIES, MAXIMUM_NEIGHBOR_REFERENCES)
    most = of_neighbors if name == "knn" else (MAXIMUM_FOREST_CELLS, MAXIMUM_FOREST_CELLS)
    return make_plan(covariate, groups, test, seed, most)


def predict_by_neighbors(codes: np.ndarray, plan: Plan, seed: int, n_neighbors: int = N_NEIGHBORS) -> np.ndarray:
    """Class index or value of the reported cells."""
    from sklearn.neighbors import NearestNeighbors

    rng = np.random.default_rng(seed)
    # Distances come from inner products, which lose digits far from the origin.
    codes = codes - codes.mean(axis=0)

    def predict(reference: np.ndarray, values: np.ndarray, query: np.ndarray, n_classes: int) -> np.ndarray:
        order = rng.permutation(len(reference))  # equally near cells are taken in random order
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(reference)), algorithm="brute")
        index = search.fit(reference[order]).kneighbors(query, return_distance=False)
        neighbors = values[order][index]
        if not n_classes:
            return neighbors.mean(axis=1)
        weight = 1 / np.maximum(np.bincount(values, minlength=n_classes), 1)  # of each vote
        votes, rows = np.zeros((len(neighbors), n_classes)), np.arange(len(neighbors))
        for column in neighbors.T:
            votes[rows, column] += weight[column]
        return votes.argmax(axis=1)

    return plan.predict(codes, predict)


def predict_by_forest(codes: np.ndarray, plan: Plan, seed: int) -> np.ndarray:
    """Class index or value of the reported cells."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    shared: dict[str, Any] = {"n_estimators": N_TREES, "random_state": seed, "n_jobs": 1}

    def predict(reference: np.ndarray, values: np.ndarray, query: np.ndarray, n_classes: int) -> np.ndarray:
        # Large leaves: in small ones, a heavy cell of a rare class outvotes all others.
        leaf = int(np.clip(len(reference) // 50, 3, 10))
        if n_classes:
            model = RandomForestClassifier(class_weight="balanced", min_samples_leaf=leaf, **shared)
        else:
            model = RandomForestRegressor(max_features=1 / 3, min_samples_leaf=leaf, **shared)
        return model.fit(reference, values).predict(query)

    return plan.predict(codes, predict)


def _by_stratum(reference: np.ndarray, values: np.ndarray, query: np.ndarray, n_classes: int) -> np.ndarray:
    """Batch in which each stratum has the largest share; the most even guess, the first, for strata never seen."""
    counts = np.zeros((max(reference.max(), query.max()) + 1, n_classes))
    np.add.at(counts, (reference, values), 1)
    return (counts / np.maximum(counts.sum(axis=0), 1)).argmax(axis=1)[query]
