"""Effect sizes of the factors of a simulation."""

from dataclasses import dataclass, fields

from scbetavae._core.checks import check_number


@dataclass(frozen=True)
class FactorEffects:
    r"""Effect sizes of the factors of :func:`simulate_counts`.

    An effect of :math:`s` is a standard deviation of :math:`s` (natural log) of expected expression, over the genes of the
    factor's program and over cells in which its values are equally frequent. Log fold changes of treated against control have
    a standard deviation of :math:`2 s`; those between two cell types or batches, :math:`\sqrt{2}\, s`.

    Parameters
    ----------
    cell_type, condition, phase, gradient, batch
        Effect on the genes of the program, 0 (none) to 10.
    library_size
        Spread of the log library size in units of that of real cells, 0 (all cells equally deep) to 10.
    program_size
        Share of all genes in each of the five programs, above 0 and at most 1.
    program_overlap
        Share of each program that all five have in common, 0 to 1. ``program_size * (5 - 4 * program_overlap)`` is at most 1.

    Raises
    ------
    ValueError
        If a value is not a number or out of range.

    Examples
    --------
    >>> from scbetavae.datasets import FactorEffects
    >>> FactorEffects(condition=1.0).condition
    1.0
    """

    cell_type: float = 1.0
    condition: float = 0.5
    phase: float = 0.5
    gradient: float = 0.5
    batch: float = 0.5
    library_size: float = 1.0
    program_size: float = 0.2
    program_overlap: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            high = 1.0 if field.name.startswith("program_") else 10.0
            excluded = "low" if field.name == "program_size" else ""
            value = check_number(getattr(self, field.name), field.name, 0.0, high, open_=excluded)
            object.__setattr__(self, field.name, value)
        # Slack for products such as 0.2 * 5, which need not be exactly 1 in floating point.
        if self.program_size * (5 - 4 * self.program_overlap) > 1 + 1e-9:
            msg = (
                f"Five programs of program_size={self.program_size:g} with program_overlap={self.program_overlap:g} need more "
                f"genes than there are. Use a program_size of at most {1 / (5 - 4 * self.program_overlap):.4g}, or more overlap."
            )
            raise ValueError(msg)
