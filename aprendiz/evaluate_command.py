"""How the evaluating commands of all families show what they do and what came out, and keep it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aprendiz.run import Run


def show_and_keep(
    run: Run, result: dict[str, Any], rows: Sequence[tuple[str, str]], units: str, *, strong: str = ""
) -> None:
    """Prints the rows of a result, and adds the result to the run's evaluations.json. Raises StorageError where it
    cannot be added; it is printed all the same."""
    chosen = f"checkpoint {result['which']}" if isinstance(result["which"], str) else "checkpoint"
    print_rows(f"{run.name}: {chosen}, {result['checkpoint_step']:,} {units} of training", rows, strong=strong)
    run.add_evaluation(result)
    print(f"saved in {run.path / 'evaluations.json'}\n", flush=True)


def print_rows(title: str, rows: Sequence[tuple[str, str]], *, strong: str = "") -> None:
    """Names and values below a title, that of `strong` in bold; where stdout is no terminal, as plain aligned text."""
    if not sys.stdout.isatty():
        print(title)
        width = max((len(name) for name, _ in rows), default=0)
        for name, value in rows:
            print(f"  {name:<{width}}  {value}", flush=True)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", box=None, show_header=False, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value, style="bold" if name == strong else ""))
    Console().print(table)


@contextlib.contextmanager
def progress(name: str) -> Iterator[Callable[[str], None] | None]:
    """What says on the terminal how far the work on a run is; None elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{name}: starting") as status:
        yield lambda words: status.update(f"{name}: {words}")
