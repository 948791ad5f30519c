"""Planted codes with known scores."""

import numpy as np
import pandas as pd
import pytest


def planted_base(seed: int = 0, n_cells: int = 4000) -> tuple[np.ndarray, pd.DataFrame]:
    """Ten dimensions, four of which hold one covariate each."""
    rng = np.random.default_rng(seed)
    eight, binary, numeric = rng.integers(0, 8, n_cells), rng.integers(0, 2, n_cells), rng.uniform(size=n_cells)
    four = rng.choice(4, n_cells, p=[0.7, 0.2, 0.07, 0.03])
    codes = rng.normal(size=(n_cells, 10))
    for column, label in enumerate((eight, four, binary)):
        codes[:, column] = label + 0.1 * rng.normal(size=n_cells)
    codes[:, 3] = 10 * numeric + 0.3 * rng.normal(size=n_cells)
    factors = pd.DataFrame(
        {
            "eight": pd.Categorical(eight.astype(str)),
            "four": four.astype(str),
            "binary": binary.astype(bool),
            "numeric": numeric,
        }
    )
    return codes, factors


def identity_data(seed: int = 0, n_factors: int = 10, n_cells: int = 3000) -> tuple[np.ndarray, pd.DataFrame]:
    """Ten uniform integer factors."""
    values = np.random.default_rng(seed).integers(0, 10, (n_cells, n_factors))
    return values.astype(float), pd.DataFrame(values, columns=[f"factor {i}" for i in range(n_factors)])


def rotation(n_dims: int, seed: int) -> np.ndarray:
    """A random rotation."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n_dims, n_dims)))[0]


@pytest.fixture(scope="session")
def base() -> tuple[np.ndarray, pd.DataFrame]:
    return planted_base()


@pytest.fixture(scope="session")
def rotated(base: tuple[np.ndarray, pd.DataFrame]) -> np.ndarray:
    codes = base[0] / base[0].std(axis=0)
    return codes @ rotation(10, seed=1)


@pytest.fixture(scope="session")
def identity() -> tuple[np.ndarray, pd.DataFrame]:
    return identity_data()
