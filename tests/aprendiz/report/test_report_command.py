from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_runs import make_run

from aprendiz.errors import ConfigError, RunError, StorageError
from aprendiz.report import build, media, page, reading, tables
from aprendiz.report.__main__ import command
from aprendiz.run import Run

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("APRENDIZ_RUNS", raising=False)
    return tmp_path


def data_of(page_file: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page_file.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found.group(1))


def test_one_command_writes_page_picture_tables_and_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (1, 2):
        make_run(tmp_path / "runs", seed=seed, games=[5.0, 6.0])
    command(["runs"])
    names = ["report.html", "report.png", "report.csv", "report-curves.csv", "report.md"]
    assert capsys.readouterr().out.split() == names
    assert all((tmp_path / name).stat().st_size > 100 for name in names)
    with Image.open("report.png") as picture:
        assert picture.width > 500


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    command(["runs", "--formats", "html"])
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", text) and "import(" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "runs"]


def test_nothing_in_a_run_can_end_the_data_of_the_page(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", command=["python -m agents.train", "</script><script>alert(1)</script>", "<!--"])
    command(["runs", "--formats", "html", "--title", "<b>& me</b>"])
    text = (tmp_path / "report.html").read_text()
    assert "<script>alert" not in text and "<title>&lt;b&gt;&amp; me&lt;/b&gt;</title>" in text
    assert "</script><script>alert(1)</script>" in data_of(tmp_path / "report.html")["runs"][0]["command"]


def test_the_suffix_decides_what_is_written(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    command(["runs", "--out", "only.md"])
    assert (tmp_path / "only.md").exists() and not (tmp_path / "only.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which runs"),
        (["runs", "--out", "report.pdf"], "must end in .html"),
        (["runs", "--out", "missing/report.html"], "there is no folder missing"),
        (["runs", "--formats", "html,pdf"], "choose from html, png, csv, md"),
        (["runs", "--group-by", "discuont"], "no run has a setting 'discuont'"),
        (["runs", "--statistic", "mode"], "--statistic"),
    ],
)
def test_a_wrong_word_is_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    make_run(tmp_path / "runs")
    with pytest.raises(ConfigError, match=re.escape(message)) as caught:
        command(words)
    assert "\n" not in str(caught.value)


def test_a_run_that_is_not_there_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    done = subprocess.run(
        [sys.executable, "-m", "aprendiz.report", "breakuot"],
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2 and done.stderr.startswith("error: there is no run 'breakuot'")
    assert done.stderr.count("\n") == 1 and not done.stdout


def test_a_run_without_anything_still_makes_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "runs", scores=[])
    command(["runs", "--formats", "html,md,csv"])
    errors = capsys.readouterr().err.splitlines()
    assert any("without any metric yet" in line for line in errors) and (tmp_path / "report.html").exists()


def test_only_damaged_runs_are_an_error(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    (run.path / "config.json").write_text("{")
    with pytest.raises(RunError, match="half-written"):
        command(["runs"])


def test_curves_of_a_group_come_with_their_runs_and_interval(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", scores=[10.0, 20.0])
    make_run(tmp_path / "runs", scores=[30.0, 40.0], seed=2)
    command(["runs", "--formats", "csv"])
    rows = list(csv.DictReader((tmp_path / "report-curves.csv").open()))
    found = [row for row in rows if row["metric"] == "eval/score"]
    last = {row["axis"]: row for row in found if float(row["centre"]) == 30.0}
    assert (last["step"]["x"], last["seconds"]["x"], last["updates"]["x"]) == ("200", "2", "400")
    assert (last["step"]["low"], last["step"]["high"], last["step"]["runs"]) == ("20", "40", "2")


def test_the_csv_has_the_numbers_of_the_table(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed=seed, games=[float(seed)], human=0.5) for seed in (1, 3)]
    report = build.build([reading.read_run(run.path) for run in runs])
    (row,) = csv.DictReader(io.StringIO(tables.results_csv(report)))
    assert (row["group"], row["mean"], row["values"], row["human_normalized"]) == ("dqn", "2.0", "1 3", "0.5")
    assert (row["units_per_second"], row["memory_mb"]) == ("50.0", "103.0")


def test_markdown_has_the_command_of_every_run(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, seed=seed, command=["python -m agents.train", "a|b", "c d"]) for seed in (1, 2)]
    text = tables.markdown(build.build([reading.read_run(run.path) for run in runs]))
    assert text.count("`python -m agents.train 'a\\|b' 'c d'`") == 2
    assert all(line.count(" | ") == text.splitlines()[-1].count(" | ") for line in text.splitlines()[-2:])


def test_markdown_s_table_of_settings_is_as_narrow_as_it_can_be(tmp_path: Path) -> None:
    few = [make_run(tmp_path / "few", learner=name, changes={"a": name, "b": name}) for name in ("dqn", "c51")]
    text = tables.markdown(build.build([reading.read_run(run.path) for run in few]))
    assert "| setting | cartpole: dqn | cartpole: c51 |" in text
    many = [make_run(tmp_path / "many", changes={"learning_rate": rate}) for rate in (1.0, 2.0, 3.0)]
    text = tables.markdown(build.build([reading.read_run(run.path) for run in many]))
    assert "| group | agent.hyperparameters.learning_rate |" in text


def report_of(root: Path, count: int, points: int) -> build.Report:
    generator = np.random.default_rng(0)
    runs = [
        make_run(root, seed=seed, scores=generator.normal(size=points).tolist(), changes={"learning_rate": seed // 3})
        for seed in range(count)
    ]
    return build.build([reading.read_run(run.path) for run in runs])


def test_more_runs_mean_fewer_points_and_not_a_larger_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(tmp_path, 9, 200)
    large = len(page.render(report, tmp_path / "r.html"))
    monkeypatch.setattr(page, "CURVE_BYTES", 40_000)
    small = page.payload(report)
    assert sum(map(len, small["blobs"])) <= 60_000 < large
    assert sum(section["left_out"] for section in small["sections"]) == 0 or small["sections"][0]["panels"]


def test_where_not_even_the_fewest_points_fit_metrics_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = report_of(tmp_path, 6, 60)
    monkeypatch.setattr(page, "CURVE_BYTES", 12_000)
    (section,) = page.payload(report)["sections"]
    assert section["left_out"] > 0 and section["panels"][0]["metric"] == "eval/score"
    assert len(section["panels"]) + section["left_out"] == len(report.sections[0].metrics)


def test_pictures_lie_in_the_page_until_the_room_is_used_up_and_the_newest_first(tmp_path: Path) -> None:
    for seed in (1, 2):
        run = make_run(tmp_path / "runs", seed=seed)
        for step in (100, 200):
            noise = np.random.default_rng(step).integers(0, 255, (60, 60, 3), np.uint8)
            Image.fromarray(noise).save(run.samples / f"images-{step:012d}.png")
    runs = [reading.read_run(path) for path in sorted((tmp_path / "runs").iterdir())]
    whole = media.show(runs, tmp_path / "report.html", 10**6)
    assert [(one.run, one.step) for one in whole] == [(0, 100), (0, 200), (1, 100), (1, 200)]
    assert all(one.content.startswith("data:image/png;base64,") for one in whole)
    room = max(len(one.content) for one in whole)
    some = media.show(runs, tmp_path / "report.html", 2 * room)
    assert [(one.step, bool(one.content)) for one in some] == [(100, False), (200, True)] * 2
    assert (tmp_path / some[0].link).exists()


def test_a_large_picture_is_made_smaller(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    content = media.picture(tmp_path / "large.png")
    assert content.startswith("data:image/jpeg") and len(content) < 4 / 3 * media.PICTURE_BYTES + 100


def test_a_short_video_lies_in_the_page_and_a_long_one_is_linked(tmp_path: Path) -> None:
    for seed, length in ((1, 100), (2, media.VIDEO_BYTES + 1)):
        run = make_run(tmp_path / "runs", seed=seed)
        (run.videos / "step-000000000300.mp4").write_bytes(b"x" * length)
    runs = [reading.read_run(path) for path in sorted((tmp_path / "runs").iterdir())]
    shown = media.show(runs, tmp_path / "report.html", 10**7)
    assert [one.content[:22] for one in shown] == ["data:video/mp4;base64,", ""]
    assert all((tmp_path / one.link).is_file() for one in shown)


def test_a_damaged_picture_is_only_linked(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs")
    (run.samples / "images-000000000100.png").write_bytes(b"no picture")
    (shown,) = media.show([reading.read_run(run.path)], tmp_path / "report.html", 10**6)
    assert shown.content == "" and shown.link.endswith("images-000000000100.png")


def best_of(*runs: Run) -> list[tuple[str, float]]:
    report = build.build([reading.read_run(run.path) for run in runs])
    rows = page.payload(report)["tables"][0]["rows"]
    return [(row["metric"], row["mean"]) for row in rows if row["best"]]


def test_a_score_of_training_is_never_the_best_beside_evaluations(tmp_path: Path) -> None:
    runs = [make_run(tmp_path, learner=name, games=[mean]) for name, mean in (("dqn", 5.0), ("c51", 7.0))]
    runs.append(make_run(tmp_path, learner="rainbow", scores=[999.0]))
    assert best_of(*runs) == [("score", 7.0)]


def test_no_score_is_the_best_of_models_that_measure_other_things(tmp_path: Path) -> None:
    runs = []
    measured = {"dcgan": {"score": -9.0, "fid": 9.0}, "vae": {"score": -90.0, "elbo": -90.0, "fid": 5.0}}
    for learner, metrics in measured.items():
        runs.append(make_run(tmp_path, kind="generative", task="mnist", learner=learner, scores=[]))
        runs[-1].add_evaluation({"which": "best", "metrics": metrics})
    assert best_of(*runs) == [("fid", 5.0)]


def test_a_picture_that_is_too_large_to_be_opened_is_only_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    run = make_run(tmp_path / "runs")
    Image.fromarray(np.zeros((50, 50, 3), np.uint8)).save(run.samples / "images-000000000100.png")
    (shown,) = media.show([reading.read_run(run.path)], tmp_path / "report.html", 10**6)
    assert shown.content == "" and shown.link.endswith("images-000000000100.png")


def test_texts_of_any_script_are_counted_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(6):
        run = make_run(tmp_path / "runs", seed=seed)
        (run.samples / "text-000000000100.txt").write_text('"\u8a9e<\n' * 300, encoding="utf-8")
    report = build.build([reading.read_run(path) for path in sorted((tmp_path / "runs").iterdir())])
    empty = len(page.render(report, tmp_path / "r.html").encode()) - 6 * 300 * (2 + 3 + 6 + 2)
    monkeypatch.setattr(page, "PAGE_BYTES", empty + 2 * 300 * 13 + 100)
    text = page.render(report, tmp_path / "r.html")
    assert page.PAGE_BYTES - 300 < len(text.encode()) <= page.PAGE_BYTES and text.count("\u8a9e") == 2 * 300


def test_a_name_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs", changes={"x": "\udc80 $\\frac$"}, task="$\\frac$")
    make_run(tmp_path / "runs", changes={"x": "<unk>"}, task="$\\frac$", command=["python -m agents.train", "a`b"])
    (run.samples / "\udc80-000000000100.txt").write_text("once")
    command(["runs"])
    differing = dict(data_of(tmp_path / "report.html")["differing"])
    assert sorted(differing["agent.hyperparameters.x"]) == ["<unk>", "\udc80 $\\frac$"]
    text = (tmp_path / "report.md").read_text()
    assert "&lt;unk>" in text and "`` python -m agents.train 'a`b' ``" in text
    with Image.open("report.png") as picture:
        assert picture.width > 500


def test_a_report_leaves_nothing_but_its_files(tmp_path: Path) -> None:
    make_run(tmp_path / "runs")
    (tmp_path / "report.csv").mkdir()
    with pytest.raises(StorageError, match="cannot write report.csv"):
        command(["runs", "--formats", "html,csv"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.csv", "report.html", "runs"]
