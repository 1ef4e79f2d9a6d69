"""The page in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_runs import make_run

from aprendiz.report import build, page, reading

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
ARGUMENTS += ["--disable-component-update", "--disable-sync"]

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def report_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for learner, base in (("dqn", 10.0), ("c51", 40.0)):
        for seed in (1, 2, 3):
            scores = [base + 10 * place + seed for place in range(5)]
            run = make_run(folder / "runs", learner=learner, seed=seed, scores=scores, games=[base + seed] * 3)
            (run.samples / "text-000000000100.txt").write_text("once upon <b>a time</b>")
            run.log(1, {"speed/units_per_second": 1500.0, "train/peak": 1500.0}, seconds=0.5)
            for step in range(500, 540):
                run.log(step, {"speed/units_per_second": 50.0, "train/peak": 50.0}, seconds=5.0)
    make_run(folder / "runs", learner="rainbow", scores=[5.0, 90.0])
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(run.samples / "images-000000000300.png")
    runs, _ = reading.read_all(sorted((folder / "runs").iterdir()))
    path = folder / "report.html"
    path.write_text(page.render(build.build(runs), path))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, report_file: Path) -> Iterator[Any]:
    """The page, without an error in its console from its start to the end of the test."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    tab.set_default_timeout(60_000)
    errors: list[str] = []
    requests: list[str] = []
    tab.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("request", lambda request: requests.append(request.url))
    tab.goto(report_file.as_uri())
    tab.locator(".plot[data-x]").first.scroll_into_view_if_needed()
    yield tab
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    tab.close()


def plot(tab: Any, metric: str = "eval/score") -> Any:
    found = tab.locator(f'.plot[data-metric="{metric}"]')
    found.scroll_into_view_if_needed()
    found.and_(tab.locator("[data-x]")).wait_for()
    return found


def limits(place: Any, axis: str = "x") -> list[float]:
    return [float(one) for one in place.get_attribute(f"data-{axis}").split()]


def test_every_metric_has_a_panel_that_is_drawn_when_it_comes_into_view(opened: Any) -> None:
    assert limits(plot(opened)) == [100, 500] and limits(plot(opened, "train/loss"), "y")[1] > 0.9
    # Three runs of each of two groups, two bands, and a single run.
    assert plot(opened).get_attribute("data-series") == "9"


def test_hovering_tells_the_mean_the_interval_and_the_run(opened: Any) -> None:
    box = plot(opened).bounding_box()
    opened.mouse.move(box["x"] + box["width"] - 5, box["y"] + 100)
    text = opened.locator("#tooltip").inner_text()
    assert "500 environment steps" in text
    assert "dqn: 52 [51, 53] of 3 runs" in text and "c51: 82 [81, 83] of 3 runs" in text
    opened.mouse.move(5, 5)
    assert opened.locator("#tooltip").is_hidden()


def test_dragging_zooms_all_panels_of_the_section_and_a_double_click_goes_back(opened: Any) -> None:
    place = plot(opened)
    box = place.bounding_box()
    opened.mouse.move(box["x"] + 200, box["y"] + 100)
    opened.mouse.down()
    opened.mouse.move(box["x"] + 300, box["y"] + 100, steps=4)
    opened.mouse.up()
    low, high = limits(place)
    assert 100 < low < high < 500
    assert limits(plot(opened, "train/loss")) == [low, high]
    plot(opened).dblclick(position={"x": 250, "y": 100})
    assert limits(place) == [100, 500]


def test_the_axis_can_be_time_or_updates(opened: Any) -> None:
    opened.select_option("#axis", "seconds")
    assert limits(plot(opened)) == [1, 5]
    opened.select_option("#axis", "updates")
    assert limits(plot(opened)) == [200, 1000]


def test_a_logarithmic_axis_and_smoothing_redraw(opened: Any) -> None:
    place = plot(opened)
    opened.check("#log")
    assert limits(place, "y")[0] == pytest.approx(5.0)
    opened.evaluate("const s = document.getElementById('smooth'); s.value = 0.9; s.dispatchEvent(new Event('input'))")
    assert limits(place, "y")[1] < 93


def test_a_name_in_the_legend_hides_its_curves_and_with_shift_all_others(opened: Any) -> None:
    place = plot(opened)
    opened.locator("#legend .chip", has_text="c51").click()
    assert place.get_attribute("data-series") == "5"
    opened.locator("#legend .chip", has_text="rainbow").click(modifiers=["Shift"])
    assert place.get_attribute("data-series") == "1"
    opened.uncheck("#runs")
    assert place.get_attribute("data-series") == "1"  # the only run of a group is its curve


def test_a_table_sorts_by_the_column_that_is_clicked(opened: Any) -> None:
    table = opened.locator("#final-0 ~ .wide table").first
    table.locator("th", has_text="mean").click()
    first = table.locator("tbody tr").first
    assert "rainbow" in first.inner_text()
    table.locator("th", has_text="mean").click()
    assert "dqn" in first.inner_text()


def test_columns_in_which_no_row_has_anything_are_left_out(opened: Any) -> None:
    heads = opened.locator("#final-0 ~ .wide table").first.locator("th").all_inner_texts()
    assert "mean" in heads and "human-normalised" not in heads


def test_a_peak_of_the_speed_leaves_its_panel_and_others_do_not(opened: Any) -> None:
    assert limits(plot(opened, "speed/units_per_second"), "y")[1] < 200
    assert limits(plot(opened, "train/peak"), "y")[1] > 1000


def test_the_table_of_runs_is_filtered_by_words(opened: Any) -> None:
    opened.locator(".filter").fill("c51 finished")
    assert opened.locator("#all-runs ~ .wide").first.locator("tbody tr:visible").count() == 3


def test_texts_are_shown_as_they_are_and_pictures_as_pictures(opened: Any) -> None:
    assert opened.locator(".gallery pre").first.inner_text() == "once upon <b>a time</b>"
    image = opened.locator(".gallery img")
    image.scroll_into_view_if_needed()
    assert image.evaluate("one => one.naturalWidth") == 9


def test_settings_that_are_not_as_with_most_are_marked(opened: Any) -> None:
    marked = opened.locator(".configurations td.differs").all_inner_texts()
    assert "rainbow" in marked and len(marked) > 1


def test_the_command_of_every_run_is_there(opened: Any) -> None:
    assert opened.locator("td code").count() == 7
    assert opened.locator("td code").first.inner_text().startswith("python -m agents.train cartpole --seed")


def test_what_is_measured_beside_the_models_own_quality_is_folded_away(browser: Any, tmp_path: Path) -> None:
    for learner, fid in (("dcgan", 13.0), ("wgan-gp", 67.0)):
        run = make_run(tmp_path / "runs", kind="generative", task="mnist", learner=learner)
        run.add_evaluation({"which": "best", "checkpoint_step": 300, "metrics": {"fid": fid, "floor_fid": 1.0}})
    runs, _ = reading.read_all(sorted((tmp_path / "runs").iterdir()))
    path = tmp_path / "report.html"
    path.write_text(page.render(build.build(runs), path))
    tab = browser.new_page()
    tab.goto(path.as_uri())
    assert tab.locator("#final-0 ~ .wide").first.locator("tbody tr").count() == 2
    beside = tab.locator("details.beside")
    assert beside.locator("summary").inner_text() == "also measured: floor_fid"
    assert not beside.locator("td").first.is_visible()
    beside.locator("summary").click()
    assert beside.locator("tbody tr:visible").count() == 2
    tab.close()
