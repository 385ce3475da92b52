"""What a table of the papers is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from analysis.inputs.published import CELLS
from analysis.inputs.results import Results
from analysis.inputs.schemas import Experiment, TableSpec
from analysis.tables.rows import MeasuredRow


@dataclass(frozen=True)
class Content:
    """What a table is made of. `order` names all its rows, the published ones first."""

    results: Results
    name: str
    spec: TableSpec
    order: Sequence[str]
    rows: Mapping[str, MeasuredRow]
    published: Mapping[str, Mapping[str, str]]

    @property
    def experiment(self) -> Experiment:
        return self.results.experiment

    @property
    def sets(self) -> list[str]:
        """The sets with a column each."""
        return self.experiment.sets_of(self.spec)

    @property
    def cells(self) -> Mapping[str, str]:
        """The sets with a column each in the published table: column to heading."""
        return CELLS.get(self.spec.published or "", {})

    def title(self, text: str) -> str:
        """Names the experiment, and the table where an experiment has several of the kind."""
        name = self.experiment.name
        return f"{text} ({name})" if self.name == self.spec.kind else f"{text} ({name}, {self.name})"
