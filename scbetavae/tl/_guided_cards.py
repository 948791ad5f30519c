"""What the cards of guided dimensions say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from scbetavae._core import keys

if TYPE_CHECKING:
    from anndata import AnnData

    from scbetavae.tl._embedding import Embedding

ENCODES_NOTHING: dict[str, Any] = {
    "covariate": "",
    "class": "",
    "information": np.nan,
    "direction": np.nan,
    "encodes": "",
    "marks_class": False,
}
"""What the card of a dimension says that encodes no covariate."""


def guided_cards(adata: AnnData, embedding: Embedding) -> dict[int, dict[str, Any]]:
    """What guided dimensions encode: their covariate, and how much of it is left in the free dimensions, if that is known."""
    table = adata.uns.get(keys.UNS, {}).get(keys.GUIDED)
    known = {} if table is None else {row["covariate"]: row for row in table.to_dict("records")}
    found = {}
    for dimension, role in enumerate(embedding.roles):
        covariate = role.removeprefix("guided:")
        if role == covariate:
            continue
        texts = [f"guided by {covariate}"]
        for prefix, cells in (("", ""), ("held_out_", "held out: ")):
            row = known.get(covariate, {})
            value, low, high = (row.get(f"{prefix}{name}", np.nan) for name in ("accuracy", "ci_low", "ci_high"))
            if np.isfinite(value):
                left = "" if prefix else "left in free dimensions: "
                texts.append(f"{left}{cells}{value:.2f} [{low:.2f}, {high:.2f}]")
        found[dimension] = ENCODES_NOTHING | {"covariate": covariate, "encodes": "; ".join(texts)}
    return found
