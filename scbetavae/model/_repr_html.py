"""What a model shows of itself in a notebook."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import pandas as pd

from scbetavae._core import keys

if TYPE_CHECKING:
    from ._betavae import BetaVAE

_NEXT_UNTRAINED = ("train()",)
_NEXT = (
    "describe_dimensions()",
    "score_disentanglement(covariates)",
    "zero_batch_dimensions()",
    'write_report("report.html")',
)


def repr_html(self: BetaVAE) -> str:
    """Data, model, training and what to call next, as a small table."""
    rows = [*_data(self), *_model(self), *(_training(self) if self.is_trained_ else [("training", "not trained")])]
    calls = ", ".join(f"<code>model.{escape(call)}</code>" for call in (_NEXT if self.is_trained_ else _NEXT_UNTRAINED))
    cells = "".join(
        f"<tr><td style='text-align:left'>{escape(name)}</td><td style='text-align:left'>{escape(value)}</td></tr>"
        for name, value in rows
    )
    return f"<div><strong>BetaVAE</strong><table>{cells}</table><span>Next: {calls}</span></div>"


def _data(self: BetaVAE) -> list[tuple[str, str]]:
    if self.module is None:
        return [("data", "none: train(datamodule=...)")]
    statistics = self.summary_stats
    setup = self.registry_.get("setup_args", {})
    columns = [setup.get(name) for name in ("batch_key", "labels_key")]
    text = f"{statistics.n_cells:,} cells x {statistics.n_vars:,} genes"
    return [("data", ", ".join([text, *(str(column) for column in columns if column)]))]


def _model(self: BetaVAE) -> list[tuple[str, str]]:
    arguments = self._arguments["non_kwargs"]
    anchor = arguments.get("anchor") or "no"
    text = f"{arguments.get('objective')}, beta {arguments.get('beta'):g}"
    return [("model", f"{text}, {arguments.get('n_latent')} latent dimensions, {anchor} anchor")]


def _training(self: BetaVAE) -> list[tuple[str, str]]:
    stored: dict[str, Any] = {} if self.adata is None else dict(self.adata.uns.get(keys.UNS, {}))
    params, history = stored.get(keys.PARAMS) or {}, stored.get(keys.HISTORY)
    rows = []
    if params:
        seed = "no seed" if params.get("seed", -1) == -1 else f"seed {params['seed']}"
        rows.append(("training", f"{params.get('steps')} steps in {params.get('seconds')} s on {self.device}, {seed}"))
    if isinstance(history, pd.DataFrame) and len(history):
        last, where = history.ffill().iloc[-1], "held-out"
        nll = last.get("nll_validation", float("nan"))
        if pd.isna(nll):
            nll, where = last["nll_train"], "training"
        active = f"{last['active_dimensions']:.0f} of {self.module.n_latent} dimensions active"
        rows.append(("result", f"{where} negative log-likelihood {nll:.1f} nats per cell, {active}"))
    versions = [f"{name.removeprefix('version_')} {value}" for name, value in params.items() if "version_" in name]
    return [*rows, *([("versions", ", ".join(versions))] if versions else [])]
