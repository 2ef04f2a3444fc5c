"""The rows of ``samples.jsonl``: what trainings made of each test sample, in few bytes."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lth_runner.runs.folder import SAMPLES, Row, checked_rows
from lth_runner.values.errors import UserError

if TYPE_CHECKING:  # a listing of runs starts without it
    import numpy as np
    from numpy.typing import NDArray

DRAWN, FIXED = "drawn", "fixed"  # values of report.samples

Values: TypeAlias = "NDArray[np.float64]"


def samples_row(place: Row, packed: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the row of a training, of its ``packed`` outcomes.

    ``bits``: values of 0 or 1, eight to a byte, the first sample in the highest bit; ``values``:
    float32, little-endian; both as base64. Neither, where the headline is no mean over samples.
    """
    row = {**place, "num_samples": 0}
    if "bits" in packed:
        row["num_samples"] = int(packed["num_samples"])
        row["bits"] = base64.b64encode(packed["bits"].numpy().tobytes()).decode()
    elif "values" in packed:
        row["num_samples"] = len(packed["values"])
        numbers = packed["values"].numpy().astype("<f4")
        row["values"] = base64.b64encode(numbers.tobytes()).decode()
    return row


def _unpacked(row: Row) -> Values | None:
    """Reads a row back; None where it has no values. Raises ValueError for what is none."""
    import numpy as np

    num, bits, values = (row.get(name) for name in ("num_samples", "bits", "values"))
    if not isinstance(num, int) or not (bits or values):
        return None
    if bits:
        packed = np.frombuffer(base64.b64decode(str(bits), validate=True), np.uint8)
        found = np.unpackbits(packed, count=num) if 8 * len(packed) >= num else packed[:0]
    else:
        found = np.frombuffer(base64.b64decode(str(values), validate=True), "<f4")
    if len(found) != num or not np.isfinite(found).all():
        raise ValueError(f"{len(found)} values where num_samples says {num}")
    return found.astype(np.float64)


@dataclass(frozen=True)
class KeptSamples:
    """What the trainings of some run folders made of each test sample, by their training keys.

    The files are read when they are first asked for.
    """

    folders: tuple[Path, ...] = ()

    @cached_property
    def _rows(self) -> dict[str, tuple[Path, int, Row]]:
        files = (folder / SAMPLES for folder in self.folders)
        return {
            str(row.get("training_key")): (file, line, row)
            for file in files if file.is_file()
            for line, row in checked_rows(file)
        }  # fmt: skip

    def of(self, key: object) -> Values | None:
        """Reads a training's values, in the order of the test split; None where none were kept.

        Raises UserError for a row that is not what was written.
        """
        if not isinstance(key, str) or key not in self._rows:
            return None
        file, line, row = self._rows[key]
        try:
            return _unpacked(row)
        except ValueError as error:  # no base64, or cut
            raise UserError(
                f"{file}, line {line} is no row of samples: {error}. The run's command writes it "
                "again from the Store."
            ) from error
