"""How well a covariate of held-out cells is predicted from an embedding, and how mixed batches are among neighbors (iLISI)."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from scbetavae._core.checks import check_whole_number, finite_matrix
from scbetavae.metrics._checks import Covariate, check_column, check_factors, check_groups, check_mask, renumber
from scbetavae.metrics._held_out import Plan, accuracies, accuracy, make_plan

N_NEIGHBORS = 15
ILISI_NEIGHBORS = 30
N_TREES = 50
_N_PERMUTATIONS = 10

LIMITS = {"knn": (5_000, 50_000), "random_forest": (3_000, 3_000)}
"""Cells that a classifier reports on at most, and that it learns from (or looks for neighbors among) at most."""


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
    members, mask = check_groups(groups, len(array)), check_mask(test, len(array), "test", part=True)
    plan = make_plan(of_cell, members, mask, seed, LIMITS["knn"])
    return accuracy(predict_by_neighbors(array, plan, seed, n_neighbors), plan.reported)


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
    members, mask = check_groups(groups, len(array)), check_mask(test, len(array), "test", part=True)
    plan = make_plan(of_cell, members, mask, seed, LIMITS["random_forest"])
    return accuracy(predict_by_forest(array, plan, seed), plan.reported)


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
    of_batch = check_column(batch, n_cells, "batch", classes=True)
    members = check_groups(groups, n_cells)
    return composition_accuracy(
        of_batch, check_factors(conserved, n_cells), members, check_mask(test, n_cells, "test", part=True), seed
    )


def composition_accuracy(
    of_batch: Covariate,
    covariates: list[Covariate],
    members: np.ndarray | None = None,
    test: np.ndarray | None = None,
    seed: int = 0,
) -> float:
    """`expected_accuracy` of columns that were checked."""
    present = np.all([covariate.present for covariate in covariates], axis=0)
    of_batch = replace(of_batch, values=np.where(present, of_batch.values, -1))
    if any(covariate.is_numeric for covariate in covariates):
        columns = [c.values if c.is_numeric else np.eye(len(c.classes))[c.values] for c in covariates]
        plan = make_plan(of_batch, members, test, seed, LIMITS["random_forest"])
        predicted = predict_by_forest(np.nan_to_num(np.column_stack(columns)), plan, seed)
        return float(accuracies(predicted[None], plan.reported)[0])
    strata = renumber(np.stack([covariate.values for covariate in covariates], axis=1))
    plan = make_plan(of_batch, members, test, seed)
    predicted = np.zeros_like(plan.values)
    for train, query in plan.splits:
        counts = np.zeros((strata.max() + 1, plan.reported.n_classes))
        np.add.at(counts, (strata[train], plan.values[train]), 1)
        # The batch in which each stratum has the largest share; the most even guess, the first, for strata never seen.
        predicted[query] = (counts / np.maximum(counts.sum(axis=0), 1)).argmax(axis=1)[strata[query]]
    return float(accuracies(predicted[None, plan.reported.keep], plan.reported)[0])


def classifier_accuracy(codes: np.ndarray, covariate: Covariate, seed: int) -> float:
    """`knn_accuracy` of values that were checked."""
    plan = make_plan(covariate, None, None, seed, LIMITS["knn"])
    return accuracy(predict_by_neighbors(codes, plan, seed), plan.reported)


def predict_by_neighbors(codes: np.ndarray, plan: Plan, seed: int, n_neighbors: int = N_NEIGHBORS) -> np.ndarray:
    """Class index or value of the reported cells."""
    from sklearn.neighbors import NearestNeighbors

    rng, n_classes = np.random.default_rng(seed), plan.reported.n_classes
    codes = codes - codes.mean(axis=0)  # distances come from inner products, which lose digits far from the origin
    predicted = np.zeros_like(plan.values)
    for train, query in plan.splits:
        near = rng.permutation(train)  # equally near cells are taken in random order
        search = NearestNeighbors(n_neighbors=min(n_neighbors, len(near)), algorithm="brute").fit(codes[near])
        neighbors = plan.values[near][search.kneighbors(codes[query], return_distance=False)]
        if not n_classes:
            predicted[query] = neighbors.mean(axis=1)
            continue
        weight = 1 / np.maximum(np.bincount(plan.values[train], minlength=n_classes), 1)  # of each vote
        votes, rows = np.zeros((len(neighbors), n_classes)), np.arange(len(neighbors))
        for column in neighbors.T:
            votes[rows, column] += weight[column]
        predicted[query] = votes.argmax(axis=1)
    return predicted[plan.reported.keep]


def predict_by_forest(codes: np.ndarray, plan: Plan, seed: int) -> np.ndarray:
    """Class index or value of the reported cells."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    predicted = np.zeros_like(plan.values)
    for train, query in plan.splits:
        # Large leaves: in small ones, a heavy cell of a rare class outvotes all others.
        leaf = int(np.clip(len(train) // 50, 3, 10))
        shared: dict[str, Any] = {"n_estimators": N_TREES, "min_samples_leaf": leaf, "random_state": seed, "n_jobs": 1}
        if plan.reported.n_classes:
            model = RandomForestClassifier(class_weight="balanced", **shared)
        else:
            model = RandomForestRegressor(max_features=1 / 3, **shared)
        predicted[query] = model.fit(codes[train], plan.values[train]).predict(codes[query])
    return predicted[plan.reported.keep]


def ilisi(
    codes: ArrayLike, batch: ArrayLike | pd.Series, *, n_neighbors: int = ILISI_NEIGHBORS, seed: int = 0
) -> float:
    r"""Integration local inverse Simpson index, on a scale from separate to mixed :cite:p:`Korsunsky2019`.

    The effective number of batches among the nearest other cells of cell :math:`i` is
    :math:`L_i = 1 / \sum_b p_{ib}^2`, with :math:`p_{ib}` the share of batch :math:`b` among them. The score compares its
    mean with what it is for permuted batches,

    .. math:: \frac{\bar L - 1}{\bar L_\text{permuted} - 1},

    clipped to [0, 1]: 0 if every neighborhood has one batch, 1 if neighborhoods look like random cells, also small ones and with
    batches of unequal size. NaN with fewer than two batches or three cells. Neighbors count alike: 30 of them, the perplexity of
    the Gaussian weights in the original.

    Parameters
    ----------
    codes, batch
        Embedding of shape (n_cells, n_dims), finite, otherwise a ValueError is raised; batch of every cell. Cells without one are
        left out.
    n_neighbors, seed
        Neighbors of a cell, at least 2; seed of the permutations, and of the draw as in :func:`knn_accuracy`.

    Examples
    --------
    >>> batch = np.repeat(["plate 1", "plate 2"], 200)
    >>> codes = np.random.default_rng(0).normal(size=(400, 2))
    >>> round(ilisi(codes, batch), 1), ilisi(codes + 20 * (batch == "plate 1")[:, None], batch)
    (1.0, 0.0)
    """
    array = finite_matrix(codes, "codes")
    labels = check_column(batch, len(array), "batch", classes=True).values
    check_whole_number(n_neighbors, "n_neighbors", 2)
    near = find_neighborhoods(array, labels, n_neighbors, seed=seed)
    if not near.neighbors.size:
        return float("nan")
    return float(near.rescaled(near.indices(labels).mean(), labels, seed))


class Neighborhoods(NamedTuple):
    """Nearest other cells of some cells."""

    cells: np.ndarray  # cells whose neighbors were looked for, (n_queries,)
    neighbors: np.ndarray  # (n_queries, n_neighbors); no neighbors with fewer than three cells or two classes
    taken: np.ndarray  # cells among which they were looked for

    def indices(self, labels: np.ndarray) -> np.ndarray:
        """Inverse Simpson index of each neighborhood, (n_queries,)."""
        near = labels[self.neighbors]
        squares = sum(((near == label).mean(axis=1) ** 2 for label in range(labels.max() + 1)), np.zeros(len(near)))
        return 1 / squares

    def permuted(self, labels: np.ndarray, seed: int, strata: np.ndarray | None = None) -> float:
        """Mean index for labels permuted over the cells, or within strata of them."""
        rng = np.random.default_rng(seed)
        groups = [self.taken]
        if strata is not None:
            groups = [self.taken[strata[self.taken] == stratum] for stratum in np.unique(strata[self.taken])]
        means, drawn = [], labels.copy()
        for _ in range(_N_PERMUTATIONS):
            for group in groups:
                drawn[group] = rng.permutation(labels[group])
            means.append(self.indices(drawn).mean())
        return float(np.mean(means))

    def rescaled(self, means: Any, labels: np.ndarray, seed: int) -> np.ndarray:
        """Mean index, or several, on the scale from separate (0) to mixed (1)."""
        null = self.permuted(labels, seed)
        return np.clip((np.asarray(means) - 1) / (null - 1 if null > 1 else np.nan), 0.0, 1.0)


def find_neighborhoods(
    codes: np.ndarray,
    labels: np.ndarray,
    n_neighbors: int = ILISI_NEIGHBORS,
    *,
    test: np.ndarray | None = None,
    seed: int = 0,
) -> Neighborhoods:
    """Neighbors of the labeled cells (of those in `test`, if given) among all labeled cells."""
    from sklearn.neighbors import NearestNeighbors

    rng, (most_queries, most_references) = np.random.default_rng(seed), LIMITS["knn"]
    # In random order, so that equally near cells are taken at random.
    taken = rng.permutation(np.flatnonzero(labels >= 0))[:most_references]
    cells = taken if test is None else taken[test[taken]]
    cells = cells[:most_queries]
    k = min(n_neighbors, len(taken) - 1)
    if k < 2 or not len(cells) or len(np.unique(labels[taken])) < 2:
        return Neighborhoods(cells, np.zeros((len(cells), 0), dtype=np.int64), taken)
    centered = codes - codes.mean(axis=0)  # distances come from inner products, which lose digits far from the origin
    search = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(centered[taken])
    found = taken[search.kneighbors(centered[cells], return_distance=False)]
    # Without the cell itself, which need not be the first among duplicates, nor be there at all.
    others = np.argsort(found == cells[:, None], axis=1, kind="stable")[:, :k]
    return Neighborhoods(cells, np.take_along_axis(found, others, axis=1), taken)
