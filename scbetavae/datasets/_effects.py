"""How strongly each factor of a simulation acts, and on how many genes."""

from dataclasses import dataclass, fields

from scbetavae.datasets._checks import check_real

_HIGHEST_EFFECT = 10.0


@dataclass(frozen=True)
class FactorEffects:
    r"""Effect sizes of the factors of :func:`simulate_counts`.

    An effect of :math:`s` means that, over the genes of the factor's programme and over cells in which the factor's
    values are equally frequent, the log of the expected expression has a standard deviation of :math:`s` (natural log).
    For the condition, log fold changes of treated against control have a standard deviation of :math:`2 s`; between two
    cell types or batches, of :math:`\sqrt{2}\, s`.

    Parameters
    ----------
    cell_type, condition, phase, gradient, batch
        Effect on the genes of the programme, from 0 (none) to 10.
    library_size
        Spread of the log library size, in units of the spread of the real cells; from 0 (all cells equally deep) to 10.
    program_size
        Share of all genes that each of the five programmes holds, above 0 and at most 1.
    program_overlap
        Share of each programme that all five have in common, from 0 (disjoint) to 1 (the same genes in all).
        ``program_size * (5 - 4 * program_overlap)`` must be at most 1, for the genes to suffice.

    Raises
    ------
    TypeError, ValueError
        If a value is not a number, or out of range.

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
            highest = 1.0 if field.name.startswith("program_") else _HIGHEST_EFFECT
            value = check_real(field.name, getattr(self, field.name), low=0.0, high=highest)
            object.__setattr__(self, field.name, value)
        if self.program_size == 0:
            msg = "program_size must be above 0. To switch factors off, set their effects to 0."
            raise ValueError(msg)
        # Slack for products such as 0.2 * 5, which need not be exactly 1 in floating point.
        if self.program_size * (5 - 4 * self.program_overlap) > 1 + 1e-9:
            msg = (
                f"Five programmes of program_size {self.program_size:g} with program_overlap {self.program_overlap:g} "
                f"need more genes than there are. Take a program_size of at most "
                f"{1 / (5 - 4 * self.program_overlap):.4g}, or let them overlap more."
            )
            raise ValueError(msg)
