"""Runs that lie at W&B, by their path `entity/project/run_id`."""

from __future__ import annotations

import contextlib
from typing import Any

from aprendiz.errors import RunError
from aprendiz.report import series
from aprendiz.report.core import RunData
from aprendiz.report.offline import from_wandb
from aprendiz.tracking import key_is_configured

TIMEOUT_SECONDS = 20


def read_online(path: str, points: int = series.POINTS) -> RunData:
    """Pulls a run: its configuration, its whole history, its state. Raises RunError in one line without a key, without
    a network, and where there is no such run."""
    if not key_is_configured():
        raise RunError(
            f"{path} is neither a folder nor a run here, and pulling it from W&B takes a key: `wandb login` stores one"
        )
    import wandb  # 0.5 s

    try:
        api: Any = wandb.Api(timeout=TIMEOUT_SECONDS)
        run = api.run(path)
        rows = [_without_nulls(row) for row in run.scan_history(page_size=10_000)]
    except Exception as error:  # W&B raises its own, requests' and ValueError
        raise RunError(f"cannot pull {path} from W&B: {one_line(error)}") from error
    metadata = None
    with contextlib.suppress(Exception):  # a file that need not be there
        metadata = run.metadata
    metadata = metadata if isinstance(metadata, dict) else {}
    entity, project, run_id = path.split("/")
    facts = {
        "id": run_id,
        "name": run.name,
        "entity": entity,
        "project": project,
        "created": str(run.created_at or ""),
        "state": run.state,
        "program": metadata.get("program"),
        "args": metadata.get("args"),
    }
    return from_wandb(dict(run.config), facts, rows, origin="W&B", points=points)


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def one_line(error: BaseException) -> str:
    """What an error says, short."""
    text = " ".join(str(error).split())
    return f"{text[:200]}..." if len(text) > 200 else text or type(error).__name__
