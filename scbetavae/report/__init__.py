"""One HTML page about a model, from what is stored in an AnnData."""

from scbetavae.report._write_report import check_target as check_target  # for the model
from scbetavae.report._write_report import write_report

__all__ = ["write_report"]
