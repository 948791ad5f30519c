"""A negative binomial simulator with known factors and gene programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scipy.special import log_softmax, ndtri, softmax

from scbetavae._core import keys
from scbetavae._core.checks import check_whole_number
from scbetavae.datasets._factors import CLASSES, FactorEffects, check_confounding, check_proportions, draw_ranks

# What benchmarks/fit_simulator.py measures on the cells of `pbmc68k`, to three digits. The dispersion 1 / theta is that within
# cell types of a gene with one count per cell, and falls with the mean to the power of minus DISPERSION_EXPONENT.
COUNTS_PER_GENE = 0.854
LOG_LIBRARY_SIZE_SD = 0.302
LOG_ABUNDANCE_SD = 1.29
DISPERSION_AT_MEAN_ONE = 0.274
DISPERSION_EXPONENT = 0.501

# Factors with a gene program; the library size scales all genes alike.
_PROGRAMS = ("cell_type", "condition", "phase", "gradient", "batch")
_OBS = ("cell_type", "condition", "phase", "phase_angle", "gradient", "batch", "library_size")

_VALUES_AT_A_TIME = 4_000_000  # dense while counts are drawn: 32 MB for each of a few arrays


def simulate_counts(
    n_cells: int = 1000,
    n_genes: int = 500,
    *,
    n_cell_types: int = 4,
    n_batches: int = 2,
    proportions: Mapping[str, Sequence[float]] | None = None,
    confounding: Mapping[tuple[str, str], float] | None = None,
    effects: FactorEffects | None = None,
    seed: int = 0,
) -> AnnData:
    r"""Simulate counts with known factors and known gene programs.

    .. math::

        x_{ng} \sim \operatorname{NB}(\text{mean } \ell_n\, \rho_{ng},\ \text{variance } \mu + \phi_g\, \mu^2), \qquad
        \rho_n = \operatorname{softmax}\Big(b + \sum_f W_f\, h_f(n)\Big)

    with the library size :math:`\ell_n`, baseline :math:`b` and, for each of the five factors :math:`f`, loadings :math:`W_f`
    that are normal on the genes of its program and 0 elsewhere. The codes :math:`h_f` are one-hot for cell type and batch, -1 or
    +1 for the condition, :math:`\sqrt{2}\,(\cos, \sin)` of the phase angle, and :math:`\sqrt{12}\,(u - 1/2)` for the gradient
    :math:`u`, so that one unit of effect is one standard deviation (:class:`FactorEffects`).

    Depth, gene means and dispersion are those measured on :func:`pbmc68k`. Depth grows with the number of genes, so that sparsity
    stays the same. The design follows Splatter (Zappia, Phipson and Oshlack 2017, *Genome Biology* 18, 174,
    doi:10.1186/s13059-017-1305-0). A TypeError or ValueError says if an argument is out of range, a factor unknown, confounding
    circular, or cells or genes are too few.

    Parameters
    ----------
    n_cells, n_genes
        Enough for one cell in the smallest class, and one gene per program (5 genes with the default ``program_size``).
    n_cell_types, n_batches
        At least 1.
    proportions
        Shares of the classes of ``"cell_type"``, ``"condition"`` (control, treated), ``"batch"`` or ``"phase"`` (G1, S, G2M),
        each with a sum of 1. Default: equal; 1/2, 1/4, 1/4 for the phase. They are exact up to rounding.
    confounding
        How closely one factor follows another: ``{("cell_type", "batch"): 0.8}``, probabilities from 0 to 1. Factors are the five
        and ``"library_size"``. Each cell has a *rank* in each factor, uniform on (0, 1): a categorical factor is cut from it by
        its shares, the gradient is the rank, the phase angle :math:`2\pi` times the rank, the log library size its normal
        quantile. With probability :math:`c` the rank of a cell in the second factor is its rank in the first, otherwise an
        independent one. So every factor keeps its own distribution. Two factors with the same :math:`K` equally frequent classes
        agree with probability :math:`c + (1 - c) / K`; two continuous ones have a rank correlation of :math:`c`. A factor can
        follow one other, in chains but not in circles.
    effects
        Effect sizes and program sizes. Default: ``FactorEffects()``.
    seed
        Seed, at least 0. The factors of the cells do not depend on the effects.

    Returns
    -------
    AnnData of cells x genes:

    - ``.X``: counts, CSR matrix of float32. A cell without counts, which happens with few genes, gets one.
    - ``.obs``: ``cell_type`` (``"type_0"``, ...), ``condition`` (control, treated), ``phase`` (G1, S, G2M) and ``phase_angle``
      (radians, 0 to :math:`2\pi`), ``gradient`` (0 to 1), ``batch`` (``"batch_0"``, ...), ``library_size`` (:math:`\ell_n`,
      expected counts)
    - ``.var``: ``abundance`` (softmax of the baseline :math:`b`) and ``dispersion`` (:math:`\phi_g`)
    - ``.varm``: ``program_cell_type`` (genes x types), ``program_condition`` (genes x 1), ``program_phase`` (genes x 2, cosine
      and sine), ``program_gradient`` (genes x 1), ``program_batch`` (genes x batches): the loadings :math:`W_f`
    - ``.uns["betavae"]["simulation"]``: flat dict of all parameters

    Examples
    --------
    >>> from scbetavae.datasets import FactorEffects, simulate_counts
    >>> adata = simulate_counts(400, 200, confounding={("cell_type", "batch"): 0.8}, effects=FactorEffects(batch=1.0))
    >>> adata.shape
    (400, 200)
    >>> sorted(adata.varm)
    ['program_batch', 'program_cell_type', 'program_condition', 'program_gradient', 'program_phase']
    """
    sizes = {"n_cells": n_cells, "n_genes": n_genes, "n_cell_types": n_cell_types, "n_batches": n_batches}
    sizes = {name: check_whole_number(value, name, 1) for name, value in sizes.items()}
    names = {"cell_type": [f"type_{i}" for i in range(n_cell_types)], **CLASSES}
    names["batch"] = [f"batch_{i}" for i in range(n_batches)]
    n_classes = {name: len(classes) for name, classes in names.items()}
    seed = check_whole_number(seed, "seed", 0)
    effects = _check_effects(effects, n_genes)
    shares = check_proportions(proportions, n_classes, n_cells)
    followed = check_confounding(confounding)

    # One stream each, so that the effects do not change what the cells are, nor confounding which genes respond.
    for_factors, for_programs, for_baseline, for_counts = np.random.SeedSequence(seed).spawn(4)
    ranks = draw_ranks(n_cells, followed, for_factors)
    # Classes are cut from the ranks: the first class has the lowest.
    codes = {name: np.searchsorted(np.cumsum(shares[name])[:-1], ranks[name], side="right") for name in names}
    loadings = _draw_loadings(n_genes, n_classes, effects, for_programs)
    median_library_size = COUNTS_PER_GENE * n_genes
    log_library_size_sd = LOG_LIBRARY_SIZE_SD * effects.library_size
    library_size = median_library_size * np.exp(log_library_size_sd * ndtri(ranks["library_size"]))
    baseline = LOG_ABUNDANCE_SD * np.random.default_rng(for_baseline).standard_normal(n_genes)
    abundance = softmax(baseline)
    dispersion = DISPERSION_AT_MEAN_ONE * (median_library_size * abundance) ** -DISPERSION_EXPONENT
    angle = 2 * np.pi * ranks["phase"]
    design = {
        "cell_type": np.eye(n_cell_types)[codes["cell_type"]],
        "condition": 2.0 * codes["condition"][:, None] - 1.0,
        "phase": np.sqrt(2) * np.column_stack([np.cos(angle), np.sin(angle)]),
        "gradient": np.sqrt(12) * (ranks["gradient"][:, None] - 0.5),
        "batch": np.eye(n_batches)[codes["batch"]],
    }
    counts = _draw_counts(design, loadings, baseline, library_size, dispersion, for_counts)

    classes: Any = names
    obs: dict[str, Any] = {name: pd.Categorical.from_codes(codes[name], classes[name]) for name in names}
    obs |= {"phase_angle": angle, "gradient": ranks["gradient"], "library_size": library_size}
    parameters = {**sizes, "seed": seed}
    parameters |= {"median_library_size": median_library_size, "log_library_size_sd": log_library_size_sd}
    parameters |= {f"effect_{name}": value for name, value in asdict(effects).items() if "program" not in name}
    parameters |= {"program_size": effects.program_size, "program_overlap": effects.program_overlap}
    parameters |= {f"proportions_{name}": value for name, value in shares.items()}
    parameters |= {f"confounding_{first}_{second}": value for second, (first, value) in followed.items()}
    return AnnData(
        counts,
        obs=pd.DataFrame(obs, index=pd.Index([f"cell_{i}" for i in range(n_cells)]))[list(_OBS)],
        var=pd.DataFrame(
            {"abundance": abundance, "dispersion": dispersion}, index=pd.Index([f"gene_{i}" for i in range(n_genes)])
        ),
        varm=cast("Any", {f"program_{name}": value for name, value in loadings.items()}),
        uns={keys.UNS: {keys.SIMULATION: parameters}},
    )


def _check_effects(effects: FactorEffects | None, n_genes: int) -> FactorEffects:
    """Effects, the default ones if there are none; refused if a program would have no gene."""
    effects = FactorEffects() if effects is None else effects
    if not isinstance(effects, FactorEffects):
        msg = f"effects={effects!r} is not a FactorEffects. Pass one, such as scbetavae.datasets.FactorEffects(batch=1.0)."
        raise TypeError(msg)
    if _program_length(n_genes, effects) < 1:
        msg = (
            f"n_genes={n_genes} leaves programs of program_size={effects.program_size:g} without a gene. "
            f"Pass at least {int(np.ceil(1 / effects.program_size))} genes, or a larger program_size."
        )
        raise ValueError(msg)
    return effects


def _program_length(n_genes: int, effects: FactorEffects) -> int:
    """Genes per program."""
    return int(effects.program_size * n_genes + 1e-9)  # 0.29 * 100 is 28.999999999999996


def _draw_loadings(
    n_genes: int, n_classes: Mapping[str, int], effects: FactorEffects, seed: np.random.SeedSequence
) -> dict[str, np.ndarray]:
    """Loadings of every program, genes x columns."""
    rng = np.random.default_rng(seed)
    length = _program_length(n_genes, effects)
    # Rounded up, so that what the programs do not share never exceeds the genes there are.
    n_shared = int(np.ceil(effects.program_overlap * length - 1e-9))
    order = rng.permutation(n_genes)
    shared, own = order[:n_shared], order[n_shared:]
    n_columns = {**n_classes, "condition": 1, "phase": 2, "gradient": 1}
    loadings = {}
    for number, name in enumerate(_PROGRAMS):
        genes = np.concatenate([shared, own[number * (length - n_shared) : (number + 1) * (length - n_shared)]])
        scale = getattr(effects, name) / np.sqrt(2 if name == "phase" else 1)  # cosine and sine share the variance
        loadings[name] = np.zeros((n_genes, n_columns[name]))
        loadings[name][genes] = scale * rng.standard_normal((len(genes), n_columns[name]))
    return loadings


def _draw_counts(
    coded: Mapping[str, np.ndarray],
    loadings: Mapping[str, np.ndarray],
    baseline: np.ndarray,
    library_size: np.ndarray,
    dispersion: np.ndarray,
    seed: np.random.SeedSequence,
) -> sp.csr_matrix:
    """Negative binomial counts, block by block; no cell is left empty."""
    rng = np.random.default_rng(seed)
    design, weights = (np.hstack([part[name] for name in _PROGRAMS]) for part in (coded, loadings))
    step = max(1, _VALUES_AT_A_TIME // len(baseline))
    blocks = []
    for start in range(0, len(design), step):
        share = np.exp(log_softmax(baseline + design[start : start + step] @ weights.T, axis=1))
        # A gamma of shape 1 / dispersion as rate of a Poisson is the negative binomial.
        rate = rng.gamma(1 / dispersion, dispersion * share) * library_size[start : start + step, None]
        counts = rng.poisson(rate)
        for cell in np.flatnonzero(counts.sum(axis=1) == 0):
            counts[cell, rng.choice(len(baseline), p=share[cell])] = 1
        blocks.append(sp.csr_matrix(counts.astype(np.float32)))
    return sp.csr_matrix(sp.vstack(blocks))
