"""How long does a report of hundreds of long runs take, how much memory, and how large does the page get?

Makes runs of made-up metrics (the lines that a DQN logs, an evaluation in every hundred), several seeds a group, then
runs `python -m aprendiz.report` as a new process and measures its wall time, the memory of it and its child processes
together (their resident sets, looked at ten times a second) and its files. The bounds: 60 s, 2 GB, 10 MB. Where there
is a Chromium the page is opened in it: seconds until the first curves are drawn, until those in view are drawn anew
over another axis, and until the table of all runs is sorted.

    python -m benchmarks.report_size
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from aprendiz.cli import main, parse
from aprendiz.errors import ConfigError
from aprendiz.run import Run
from benchmarks.common import BenchmarkOptions, machine, print_table, write_result

BOUNDS = {"seconds": 60.0, "memory_gb": 2.0, "html_mb": 10.0}
EVALUATE_EVERY = 100
TASKS = ("breakout", "pong", "seaquest")
LEARNERS = ("dqn", "double-dqn", "c51", "rainbow")


@dataclass(frozen=True, kw_only=True)
class Options(BenchmarkOptions):
    """A report of many long runs."""

    runs: int = 300
    """Runs."""
    lines: int = 100_000
    """Lines of metrics of each."""
    seeds: int = 5
    """Runs of a group."""
    folder: Path | None = None
    """Where the runs are made, some 20 MB each, and kept for another time. None: in a temporary folder."""

    def __post_init__(self) -> None:
        if min(self.runs, self.lines, self.seeds) < 1:
            raise ConfigError("--runs, --lines and --seeds must be at least 1")


def make_runs(root: Path, options: Options) -> int:
    """The runs; returns the bytes of their metrics. All lines are made up, and no two runs have the same."""
    generator = np.random.default_rng(0)
    total = 0
    for index in range(options.runs):
        group, seed = divmod(index, options.seeds)
        task, learner = TASKS[group % len(TASKS)], LEARNERS[group // len(TASKS) % len(LEARNERS)]
        rate = 1e-4 * (1 + group // (len(TASKS) * len(LEARNERS)))
        hyperparameters = {"learning_rate": rate, "batch_size": 32, "discount": 0.99}
        run = Run.create(
            kind="agents",
            task=task,
            learner=learner,
            seed=seed,
            config={
                "agent": {"name": learner, "hyperparameters": hyperparameters},
                "cadence": {"step_name": "env_steps"},
                "budget": {"minutes": None},
            },
            command=["python -m agents.train", task, "--agent", learner, "--seed", str(seed)],
            device="cpu",
            root=root,
        )
        path = run.path / "metrics.jsonl"
        noise = generator.random((options.lines, 6))
        with path.open("w") as file:
            for place, row in enumerate(noise):
                step = 100 * (place + 1)
                metrics = {
                    "train/loss": row[0] + 1 / (1 + 0.01 * place),
                    "train/mean_value": 10 * row[1],
                    "train/gradient_norm": row[2],
                    "rollout/score_mean": 20 * place / options.lines + row[3] + group % 7,
                    "speed/units_per_second": 100 + row[4],
                    "speed/memory_mb": 500 + row[5],
                    "train/updates": 25 * place,
                }
                line = {"step": step, "time": round((0.01 + 0.001 * seed) * place, 3)}
                file.write(json.dumps(line | metrics) + "\n")
                if place % EVALUATE_EVERY == 0:
                    score = 20 * place / options.lines + 3 * row[0] + group % 7
                    file.write(json.dumps(line | {"eval/score": score, "eval/length": 10 * score}) + "\n")
        scores = (20 + group % 7 + generator.normal(0, 2, 30)).tolist()
        summary = {"mean": float(np.mean(scores)), "scores": scores, "human_normalized": float(np.mean(scores)) / 30}
        run.add_evaluation({"environment": task, "which": "best", "checkpoint_step": 1, "seed": 1000} | summary)
        run.set_status("finished", step=100 * options.lines)
        total += path.stat().st_size
    return total


def measure(root: Path, out: Path) -> dict[str, float]:
    """Wall time, peak of the resident sets of all processes together, and the size of the page."""
    command = [sys.executable, "-m", "aprendiz.report", str(root), "--out", str(out)]
    start = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, cwd=Path(__file__).resolve().parents[1])
    peak = 0
    while process.poll() is None:
        together = 0
        for one in [process, *_children(process)]:
            try:
                together += one.memory_info().rss
            except psutil.Error:  # it has just ended
                continue
        peak = max(peak, together)
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"the report failed with exit code {process.returncode}")
    files = {path.suffix[1:] + "_mb": path.stat().st_size / 1e6 for path in sorted(out.parent.glob(f"{out.stem}.*"))}
    return {"seconds": seconds, "memory_gb": peak / 1e9, **files}


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def use(page: Path) -> dict[str, float]:
    """Seconds that a reader waits for the page in a Chromium; nothing where there is none."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or importlib.util.find_spec("playwright") is None:
        return {}
    from playwright.sync_api import sync_playwright

    drawn = """act => new Promise(done => {
        const begin = performance.now();
        eval(act);
        requestAnimationFrame(() => requestAnimationFrame(() => done((performance.now() - begin) / 1000)));
    })"""
    axis = "const a = document.getElementById('axis'); a.value = 'seconds'; a.dispatchEvent(new Event('change'))"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        tab = browser.new_page(viewport={"width": 1400, "height": 1000})
        tab.set_default_timeout(120_000)
        start = time.perf_counter()
        tab.goto(page.as_uri())
        tab.locator(".plot").first.scroll_into_view_if_needed()
        tab.wait_for_selector(".plot[data-x]")
        found = {"open": time.perf_counter() - start, "other_axis": tab.evaluate(drawn, axis)}
        tab.locator("#all-runs").scroll_into_view_if_needed()
        found["sort_runs"] = tab.evaluate(drawn, "document.querySelector('#all-runs ~ .wide th').click()")
        browser.close()
    return found


def run_command(argv: list[str]) -> int:
    options: Options = parse(Options, argv, prog="python -m benchmarks.report_size", description=__doc__ or "")
    before = machine()
    root = options.folder or Path(tempfile.mkdtemp(prefix="report-size-"))
    try:
        ready = len(list(root.glob("*/config.json"))) == options.runs
        size = sum(path.stat().st_size for path in root.glob("*/metrics.jsonl")) if ready else make_runs(root, options)
        with tempfile.TemporaryDirectory(prefix="report-") as folder:
            result = measure(root, Path(folder) / "report.html")
            waited = use(Path(folder) / "report.html")
    finally:
        if options.folder is None:
            shutil.rmtree(root, ignore_errors=True)
    rows = [("", "measured", "bound")]
    rows += [(name, f"{value:.2f}", f"{BOUNDS[name]:g}" if name in BOUNDS else "") for name, value in result.items()]
    rows += [(f"browser, {name.replace('_', ' ')}, s", f"{value:.2f}", "") for name, value in waited.items()]
    print_table(rows)
    missed = [name for name, bound in BOUNDS.items() if result[name] > bound]
    print(f"out of bounds: {', '.join(missed)}" if missed else "within all bounds")
    found = {"metrics_gb": size / 1e9, "measured": result, "bounds": BOUNDS, "browser_seconds": waited}
    write_result("report_size", options, found, before)
    return 1 if missed else 0


if __name__ == "__main__":
    main(run_command)
