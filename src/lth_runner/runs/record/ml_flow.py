"""The sink that keeps a view of the run in MLflow, on files, in a database or on a server."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shlex
import time
from collections.abc import Iterator, Sequence
from typing import Any

from lth_runner.runs.folder import (
    CURVE,
    DIVERGED,
    DONE,
    ROUNDS,
    Row,
    read_metrics,
    read_rounds,
    write_facts,
)
from lth_runner.runs.record.record import Progress, RunDescription
from lth_runner.runs.record.rows_as_numbers import (
    curve_of_evaluation,
    curve_of_round,
    numbers,
    require,
    settings,
    steps_of_training,
    total_step,
)
from lth_runner.store.ticket_file import Subnetwork
from lth_runner.values.json_files import read_object

FACTS = "mlflow.json"
DATABASE = "mlflow.db"
ARTIFACTS = "mlflow_artifacts"  # beside the database; MLflow's own default is the working folder
MOST_AT_ONCE = 1000  # metrics of one request, MLflow's own limit
MOST_PARAMETERS = 100
RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
LEVEL = "MLFLOW_LOGGING_LEVEL"
LAST = "seed"  # of a row's figures the one that is sent last
LONGEST = 500  # characters of a parameter, likewise
ENDS = {DONE: "FINISHED", DIVERGED: "FINISHED", "interrupted": "KILLED"}
log = logging.getLogger(__name__)


class MLflow:
    """Keeps one MLflow run for one run folder, which a continued run goes on with.

    ``uri`` is MLflow's tracking URI; null takes MLFLOW_TRACKING_URI, else ``mlflow.db`` in
    paths.outputs, with the files of its runs in a folder beside it. Which MLflow run it is stands
    in the run folder (``mlflow.json``). What a killed attempt has sent is known by the last figure
    of each row, and is not sent twice. Raises UserError where MLflow is not installed.
    """

    def __init__(self, uri: str | None = None, experiment: str = "lth-runner") -> None:
        require("mlflow", "mlflow", "'lth-runner[mlflow]'")
        self._uri, self._experiment = uri, experiment
        self._client: Any = None
        self._sent: dict[str, set[int]] = {}  # curve -> steps that are there

    def open(self, run: RunDescription) -> None:
        with _asked():
            self._open(run)

    def _open(self, run: RunDescription) -> None:
        from mlflow import MlflowClient  # not before it is asked for

        self._local = f"sqlite:///{(run.folder.parents[1] / DATABASE).absolute()}"
        uri = self._uri or os.environ.get("MLFLOW_TRACKING_URI") or self._local
        self._run, self._length = run, steps_of_training(run)
        self._client, self._place = MlflowClient(uri), uri
        self._id = self._known(uri) or self._begin(uri)
        self._evaluations(read_metrics(run.folder))
        self._send([(curve_of_round(row), row, row["round"]) for row in read_rounds(run.folder)])

    def _known(self, uri: str) -> str | None:
        """Finds the MLflow run that an earlier attempt began, and takes it up again."""
        facts = read_object(self._run.folder / FACTS) or {}
        if facts.get("uri") != uri or not isinstance(facts.get("run_id"), str):
            return None
        from mlflow.exceptions import MlflowException

        try:
            found = self._client.get_run(facts["run_id"])
        except MlflowException:
            return None  # somebody has removed it
        if found.info.lifecycle_stage != "active":
            return None
        self._client.update_run(facts["run_id"], status="RUNNING")
        for name in found.data.metrics:
            if name.endswith(f"/{LAST}"):
                history = self._client.get_metric_history(facts["run_id"], name)
                self._sent[name.removesuffix(f"/{LAST}")] = {one.step for one in history}
        return str(facts["run_id"])

    def _begin(self, uri: str) -> str:
        from mlflow.entities import Param

        client, run = self._client, self._run
        found = client.get_experiment_by_name(self._experiment)
        files = (run.folder.parents[1] / ARTIFACTS).absolute().as_uri()
        place = files if uri == self._local else None  # a server has a place of its own
        experiment = (
            found.experiment_id if found else client.create_experiment(self._experiment, place)
        )
        begun = client.create_run(
            experiment,
            run_name=f"{run.name}-{run.run_id[:8]}",
            tags={
                "lth_runner.run_id": run.run_id,
                "lth_runner.folder": str(run.folder),
                "lth_runner.command": run.command,
            },
        )
        found = str(begun.info.run_id)
        write_facts(run.folder / FACTS, {"uri": uri, "run_id": found})
        flat = settings(dict(run.config))
        parameters = [Param(key, str(value)[:LONGEST]) for key, value in flat.items()]
        for first in range(0, len(parameters), MOST_PARAMETERS):
            client.log_batch(found, params=parameters[first : first + MOST_PARAMETERS])
        return found

    def progress(self, progress: Progress) -> None:
        pass

    def metrics(self, rows: Sequence[Row]) -> None:
        with _asked():
            self._evaluations(rows)

    def _evaluations(self, rows: Sequence[Row]) -> None:
        length = self._length
        self._send([(curve_of_evaluation(row), row, total_step(row, length)) for row in rows])

    def samples(self, row: Row) -> None:
        pass

    def round(self, row: Row, ticket: Subnetwork) -> None:
        with _asked():
            self._send([(curve_of_round(row), row, row["round"])])

    def close(self, state: str, error: str | None) -> None:
        if self._client is None:
            return
        with _asked():
            for name in (CURVE, ROUNDS):
                if (self._run.folder / name).exists():
                    self._client.log_artifact(self._id, str(self._run.folder / name))
            self._client.set_tag(self._id, "lth_runner.state", state)
            self._client.set_terminated(self._id, ENDS.get(state, "FAILED"))
        log.info("MLflow   run %s of experiment %s", self._id, self._experiment)
        if self._place == self._local:
            shown = shlex.quote(self._local)
            log.info("         mlflow server --backend-store-uri %s shows it", shown)

    def _send(self, rows: Sequence[tuple[str, Row, int]]) -> None:
        """Sends what is not there yet, each row's seed last, by which that is known."""
        from mlflow.entities import Metric

        values, now = [], int(1000 * time.time())
        for curve, row, step in rows:
            if step in self._sent.setdefault(curve, set()):
                continue
            self._sent[curve].add(step)
            found = numbers(row)
            names = [*(name for name in found if name != LAST), LAST]
            values += [Metric(f"{curve}/{name}", found[name], now, step) for name in names]
        for first in range(0, len(values), MOST_AT_ONCE):
            self._client.log_batch(self._id, metrics=values[first : first + MOST_AT_ONCE])


@contextlib.contextmanager
def _asked() -> Iterator[None]:
    """Lets MLflow try a server three times and say warnings alone, where nothing else is set.

    By itself it takes minutes, for which trainings wait, and tells a run's terminal of its tables.
    """
    with contextlib.ExitStack() as after:
        if RETRIES not in os.environ:
            os.environ[RETRIES] = "2"
            after.callback(os.environ.pop, RETRIES, None)
        if LEVEL not in os.environ:
            importlib.import_module("mlflow")  # which sets a level of its own
            for name in ("mlflow", "alembic"):
                logger = logging.getLogger(name)
                after.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.WARNING)
        yield
