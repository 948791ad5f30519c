"""Guided dimensions: latent dimensions that are set from known covariates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scbetavae._core.checks import check_arguments, check_choice, check_number, check_whole_number

from ._guided_information import Pool, guided_information
from ._likelihood import NonzeroStructure

MODES = ("label", "inferred")
MOST_DIMENSIONS = 8
N_BINS = 12
"""Quantile bins of a numeric covariate in the mutual information."""

_SPREAD = 2.0  # standard deviation of the anchors of a covariate over its levels, on each dimension
_NOISE = {"categorical": 1.0, "numeric": 0.1}
_BANK, _PERMUTATIONS = 3, 4
_MOMENTUM = 0.05  # of the running mean of the information
_NONE, _FULL = -0.015, 0.005  # nats up to which there is no penalty, and from which on it has its full weight
_KL_WEIGHT = 10.0
NETWORK_OPTIONS = ("n_dimensions", "weight", "sigma", "mode")
_OPTIONS = (*NETWORK_OPTIONS, "conserve", "force")


class GuidedCovariate(NamedTuple):
    """A guided covariate: its name; number of levels, 0 for a number; mean and standard deviation of a number."""

    name: str
    n_levels: int
    mean: float = 0.0
    sd: float = 1.0

    @property
    def n_bins(self) -> int:
        """Levels that the mutual information distinguishes."""
        return self.n_levels or N_BINS

    def n_dimensions(self, most: int) -> int:
        """Guided dimensions of the covariate."""
        return min(max(self.n_levels - 1, 1), most)


class GuidedCoordinates(NamedTuple):
    """Coordinates of cells in the guided dimensions, without noise, and the posterior of ``mode="inferred"``."""

    mean: Tensor
    variance: Tensor | None = None


class Guided(torch.nn.Module):
    r"""Coordinates of the guided dimensions, and the information that the free dimensions have of their covariates.

    A covariate of K levels gets min(K - 1, 8) dimensions, a numeric one gets one:

    .. math:: z_g = m(u) + \sigma \varepsilon

    with fixed anchors :math:`m(u)`, the corners of a simplex of standard deviation 2 on each dimension, or :math:`2 (y - \bar y)
    / s` for a number; :math:`\sigma` is 1, or .1 for a number, in training and 0 afterwards. With ``mode="inferred"`` the encoder
    infers :math:`z_g`, whose KL divergence from :math:`N(m(u), \sigma^2)` has weight 10.

    Parameters
    ----------
    covariates
        The covariates.
    n_input
        Number of genes.
    n_hidden
        Hidden units of the encoder.
    n_dimensions, weight, sigma, mode
        ``guided_kwargs`` of the model.
    """

    noise: Tensor
    imputer: Tensor
    is_fitted: Tensor

    def __init__(
        self,
        covariates: Sequence[GuidedCovariate],
        n_input: int,
        n_hidden: int,
        *,
        n_dimensions: int = MOST_DIMENSIONS,
        weight: float = 30.0,
        sigma: float | None = None,
        mode: str = "label",
    ) -> None:
        super().__init__()
        self.covariates = tuple(covariates)
        self.weight, self.mode = float(weight), mode
        self.sizes = [covariate.n_dimensions(n_dimensions) for covariate in self.covariates]
        noise = []
        for k, (covariate, size) in enumerate(zip(self.covariates, self.sizes, strict=True)):
            kind = "categorical" if covariate.n_levels else "numeric"
            noise += [_NOISE[kind] if sigma is None else float(sigma)] * size
            self.register_buffer(f"shares_{k}", torch.full((covariate.n_bins,), 1.0 / covariate.n_bins))
            if covariate.n_levels:
                self.register_buffer(f"anchors_{k}", level_anchors(covariate.n_levels, size))
            else:
                self.register_buffer(f"anchors_{k}", torch.zeros(N_BINS, 1))  # means of the bins, once they are known
                self.register_buffer(f"edges_{k}", torch.zeros(N_BINS - 1))
        self.register_buffer("noise", torch.tensor(noise))
        self.register_buffer("is_fitted", torch.tensor(data=False))
        n_outputs = sum(max(covariate.n_levels, 1) for covariate in self.covariates)
        self.register_buffer("imputer", torch.zeros(n_input + 1, n_outputs))
        if mode == "inferred":
            self.mean_head = torch.nn.Linear(n_hidden, self.n_dimensions)
            self.variance_head = torch.nn.Linear(n_hidden, self.n_dimensions)
        # Neither a buffer, which several devices would overwrite with that of the first, nor part of the state.
        self._bank: list[Pool] = []
        self._running: Tensor | None = None
        self._fixed: Tensor | None = None

    @property
    def n_dimensions(self) -> int:
        """Number of guided dimensions."""
        return sum(self.sizes)

    @property
    def columns(self) -> dict[str, slice]:
        """Guided dimensions of each covariate, from 0."""
        ends = torch.tensor(self.sizes).cumsum(0).tolist()
        names = (covariate.name for covariate in self.covariates)
        return {name: slice(end - size, end) for name, end, size in zip(names, ends, self.sizes, strict=True)}

    @property
    def shares(self) -> list[Tensor]:
        """Share of the training cells that has each level, one tensor per covariate."""
        return [getattr(self, f"shares_{k}") for k in range(len(self.covariates))]

    def anchors(self, k: int) -> Tensor:
        """Coordinates of the levels of covariate ``k``, (levels, dims); of the bins of a number."""
        return getattr(self, f"anchors_{k}")

    def coordinates(self, values: Tensor) -> Tensor:
        """Coordinates (cells, dims) of values (cells, covariates): codes or numbers; NaN where a value is."""
        blocks = []
        for k, covariate in enumerate(self.covariates):
            column = values[:, k]
            if covariate.n_levels:
                known = column.isfinite()
                block = self.anchors(k)[torch.where(known, column, 0.0).long()]
                blocks.append(torch.where(known[:, None], block, torch.nan))
            else:
                blocks.append(self.coordinates_of_numbers(k, column)[:, None])
        return torch.cat(blocks, dim=1).to(self.noise.dtype)

    def coordinates_of_numbers(self, k: int, numbers: Tensor) -> Tensor:
        """Coordinate of each value of a numeric covariate."""
        return _SPREAD * (numbers - self.covariates[k].mean) / self.covariates[k].sd

    def numbers_at(self, k: int, coordinates: Tensor) -> Tensor:
        """Value of a numeric covariate at each coordinate."""
        return coordinates / _SPREAD * self.covariates[k].sd + self.covariates[k].mean

    def levels(self, values: Tensor) -> Tensor:
        """Level (cells, covariates) of each value, that of its bin for a number, -1 if unknown."""
        columns = []
        for k, covariate in enumerate(self.covariates):
            column = values[:, k]
            known = column.isfinite()
            level = (
                column.nan_to_num().long()
                if covariate.n_levels
                else torch.bucketize(column.contiguous(), getattr(self, f"edges_{k}"))
            )
            columns.append(torch.where(known, level, -1))
        return torch.stack(columns, dim=1)

    def members(self, values: Tensor) -> Tensor:
        """Indicators (cells, levels of all covariates) of the levels; 0 if unknown."""
        blocks = [
            torch.nn.functional.one_hot(level + 1, covariate.n_bins + 1)[:, 1:]
            for level, covariate in zip(self.levels(values).unbind(1), self.covariates, strict=True)
        ]
        return torch.cat(blocks, dim=1).to(self.noise.dtype)

    def impute(self, values: Tensor, nonzero: NonzeroStructure, logs: Tensor) -> Tensor:
        """Values with the prediction of a linear classifier on log-normalized counts where they are unknown."""
        unknown = values.isnan()
        if not unknown.any():
            return values
        options = {"mode": "sum", "per_sample_weights": logs.to(self.imputer.dtype), "include_last_offset": True}
        scores = torch.nn.functional.embedding_bag(nonzero.columns, self.imputer[:-1], nonzero.offsets, **options)
        scores += self.imputer[-1]
        blocks = scores.split([max(covariate.n_levels, 1) for covariate in self.covariates], dim=1)
        predicted = [
            block.argmax(dim=1) if covariate.n_levels else block[:, 0]
            for block, covariate in zip(blocks, self.covariates, strict=True)
        ]
        return torch.where(unknown, torch.stack([p.to(values.dtype) for p in predicted], dim=1), values)

    def infer(self, hidden: Tensor) -> GuidedCoordinates:
        """Posterior that the encoder infers from its hidden units."""
        return GuidedCoordinates(self.mean_head(hidden), self.variance_head(hidden).exp() + 1e-4)

    def join(self, z: Tensor, guided: GuidedCoordinates | None) -> Tensor:
        """What the decoder reads: ``z`` (..., cells, dims), guided dimensions with noise in training, and without.

        Without ``guided``, the guided dimensions are the last of ``z``.
        """
        if guided is None:
            return torch.cat([z, z[..., z.shape[-1] - self.n_dimensions :]], dim=-1)
        mean = guided.mean if self._fixed is None else torch.where(self._fixed.isnan(), guided.mean, self._fixed)
        drawn = mean
        if self.training:
            sd = self.noise if guided.variance is None else guided.variance.sqrt()
            drawn = mean + sd * torch.randn_like(mean)
        if z.ndim == 3:
            drawn, mean = (block.expand(len(z), *block.shape) for block in (drawn, mean))
        return torch.cat([z, drawn, mean], dim=-1)

    @contextmanager
    def fixed(self, coordinates: Tensor) -> Iterator[None]:
        """Decode every cell at these coordinates (dims,); NaN leaves a dimension as it is."""
        self._fixed = coordinates
        try:
            yield
        finally:
            self._fixed = None

    def penalty(
        self, z: Tensor, mean: Tensor, variance: Tensor, values: Tensor, n_obs: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Penalty of a minibatch in nats, and the information that free dimensions have of each covariate, by its name.

        .. math:: w \sum_k \operatorname{clip}\big((\bar I_k + 0.015) / 0.02,\, 0,\, 1\big)\; I_k

        with the estimates :math:`I_k` less those for permuted levels, and their running means :math:`\bar I_k`, which have no
        gradient. Without the factor, negative estimates would be a reward for placing each training cell among cells of other
        levels. ``values`` are the registered ones, the number of the cell first. In training the minibatch joins the bank.
        """
        minibatch = Pool(mean, variance, self.members(values[:, 1:]), values[:, 0])
        bank = (
            Pool(*(torch.cat(parts) for parts in zip(*self._bank, strict=True)))
            if self._bank and self.training
            else None
        )
        information = guided_information(z, minibatch, bank, self.shares, n_obs, _PERMUTATIONS)
        found = information.detach()
        if self.training and torch.is_grad_enabled():
            self._bank = [*self._bank, minibatch.detached()][-_BANK:]
            self._running = found if self._running is None else torch.lerp(self._running, found, _MOMENTUM)
        running = found if self._running is None else self._running
        share = ((running - _NONE) / (_FULL - _NONE)).clamp(0.0, 1.0)
        names = (covariate.name for covariate in self.covariates)
        return self.weight * (share * information).sum(), dict(zip(names, found, strict=True))

    def kl(self, guided: GuidedCoordinates, values: Tensor) -> Tensor:
        """KL divergence of inferred coordinates from their anchors, weighted, nats of each cell; unknown levels: from all."""
        if guided.variance is None:
            return guided.mean.new_zeros(len(guided.mean))
        anchors, noise = self.coordinates(values[:, 1:]), self.noise.square()
        known = anchors.isfinite()
        center, spread = torch.where(known, anchors, 0.0), torch.where(known, noise, noise + _SPREAD**2)
        ratio = guided.variance / spread
        kl = 0.5 * (ratio + (guided.mean - center).square() / spread - 1.0 - ratio.log())
        return _KL_WEIGHT * kl.sum(dim=1)

    def empty_bank(self) -> None:
        """Forget earlier minibatches, before and after a run."""
        self._bank, self._running = [], None


def level_anchors(n_levels: int, n_dims: int) -> Tensor:
    """Well-spread points (n_levels, n_dims), a simplex where it fits; centered, with standard deviation 2 on each axis."""
    if n_levels == 1:
        return torch.zeros(1, n_dims)
    if n_dims == n_levels - 1:  # Helmert's contrasts
        points = torch.zeros(n_levels, n_dims, dtype=torch.float64)
        for d in range(n_dims):
            points[: d + 1, d] = -1.0
            points[d + 1, d] = d + 1.0
    else:  # points of a sphere that repel each other
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(n_levels, n_dims, dtype=torch.float64, generator=generator)
        for step in range(200):
            points /= points.norm(dim=1, keepdim=True)
            apart = points[:, None] - points[None]
            squares = apart.square().sum(dim=2).fill_diagonal_(math.inf).clamp(min=1e-6)
            push = (apart / squares.square()[:, :, None]).sum(dim=1)
            points += 0.3 * (1.0 - step / 200) * push / push.norm(dim=1).max().clamp(min=1e-12)
        points -= points.mean(dim=0)
        variances, axes = torch.linalg.eigh(points.T @ points / n_levels)
        points = points @ axes / variances.clamp(min=1e-12).sqrt()
    return (_SPREAD * points / points.std(dim=0, correction=0)).float()


def check_guided_arguments(given: Mapping[str, Any] | None, *, is_guided: bool) -> None:
    """Refuse ``guided_kwargs`` without guided covariates, unknown names and values out of range."""
    given = given or {}
    check_arguments(given, _OPTIONS, "guided_kwargs")
    if given and not is_guided:
        msg = (
            f"guided_kwargs={dict(given)!r} was given, but no covariate is guided. Name them: "
            "setup_anndata(adata, guided_keys=[...]), or leave guided_kwargs out."
        )
        raise ValueError(msg)
    if "n_dimensions" in given:
        check_whole_number(given["n_dimensions"], "guided_kwargs['n_dimensions']", 1)
    if "weight" in given:
        check_number(given["weight"], "guided_kwargs['weight']", 0)
    if given.get("sigma") is not None:
        check_number(given["sigma"], "guided_kwargs['sigma']", 0, open_="low")
    if "mode" in given:
        check_choice(given["mode"], MODES, "guided_kwargs['mode']")
