"""The page in a real browser: Playwright drives the Chromium that is installed."""

import re
import shutil

import numpy as np
import pandas as pd
import pytest

from bn_experiments.claims import summary
from bn_experiments.claims.summary import summarise
from bn_experiments.records.results import done_below
from bn_experiments.report import write_page
from tests.cells_by_hand import write_cell

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

REPLICAS, STEPS, EPOCHS = 6, 20, 5
NORMS = ("bn", "ln", "none", "wn")
LOST = ("lenet", "wn")  # the model and the norm of which a replica diverges

# of each row that is seen, its metric, its arms and its numbers as text
ROWS = """() => [...document.querySelectorAll(".forest tbody tr")].filter(row => row.checkVisibility()).map(row => ({
  metric: row.closest(".box").dataset.metric,
  folder: row.querySelector("small").innerText.split(" ")[0],
  ...Object.fromEntries(["setting", "other", "difference", "p", "detectable", "pairs", "mean", "n"]
    .map(name => [name, row.querySelector(`.${name}`)?.innerText ?? ""])),
}))"""
# of each line that a chart draws, its arm, its seed and its values
LINES = """figure => {
  const found = [];
  const walk = item => {
    if (item.marktype === "line") {
      const points = item.items.map(each => each.datum);
      const [{arm, seed}] = points;
      found.push({arm, seed, x: points.map(each => each.x), y: points.map(each => each.y_over ?? each.y)});
    } else (item.items ?? []).forEach(walk);
  };
  walk(figure.embedded.view.scenegraph().root);
  return found;
}"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweeps") / "grid"
    random = np.random.default_rng(0)
    for model in ("lenet", "mlp"):
        for norm in NORMS:
            lost = [i == 0 and (model, norm) == LOST for i in range(REPLICAS)]
            losses, accuracies = random.normal([[0.9], [0.7]], 0.02 + 0.05 * random.random(), (2, REPLICAS))
            write_cell(
                folder / f"mnist1d-{model}-{norm}-sgd",
                norm,
                {
                    "test/acc": np.where(lost, 0.1, accuracies).tolist(),
                    "test/loss": [None if out else loss for loss, out in zip(losses.tolist(), lost, strict=True)],
                },
                {
                    "train/step_loss": (random.uniform(1, 2, (REPLICAS, STEPS)) / np.arange(1, STEPS + 1)).tolist(),
                    "val/loss": random.uniform(0.5, 1, (REPLICAS, EPOCHS)).tolist(),
                    "val/acc": random.uniform(0.5, 1, (REPLICAS, EPOCHS)).tolist(),
                },
                model=model,
                diverged=lost,
                config={"trainer.max_epochs": EPOCHS},
            )
    summary.write(summarise(done_below(folder), "none"), "none", folder)
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, sweep):
    """Opens the sweep's page; what the browser complains of, or asks for beside the page, fails the test."""
    complaints, asked, contexts = [], [], []

    def page(address="", **options):
        contexts.append(browser.new_context(viewport={"width": 1400, "height": 900}, **options))
        found = contexts[-1].new_page()
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("console", lambda message: complaints.append(message.text))
        found.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        found.goto(f"{(sweep / 'report.html').as_uri()}#{address}")
        return found

    yield page
    for context in contexts:
        context.close()
    assert not complaints
    assert set(asked) == {(sweep / "report.html").as_uri()}


def numbers(text):
    return [float(number) for number in re.findall(r"[+-]?\d[\d.]*(?:e-\d+)?", text.replace("\N{MINUS SIGN}", "-"))]


def assert_equal(rows, expected):
    """The rows that are seen are those of a summary, in its order, and their numbers to the digits that are shown."""
    expected = [row for metric in ("test/acc", "test/loss") for row in expected if row["metric"] == metric]
    assert [(row["metric"], row["folder"]) for row in rows] == [(row["metric"], row["folder"]) for row in expected]
    for row, wanted in zip(rows, expected, strict=True):
        factor, digits = (100, 2) if row["metric"] == "test/acc" else (1, 4)
        assert row["other"] == (wanted["baseline"] if isinstance(wanted["baseline"], str) else "")
        for name, keys in {
            "difference": ("difference", "difference_low", "difference_high"),
            "mean": ("mean", "low", "high"),
            "detectable": ("detectable",),
        }.items():
            values = [factor * wanted[key] for key in keys if not np.isnan(wanted[key])]
            assert numbers(row[name]) == pytest.approx(values, abs=0.50001 * 10**-digits)
        p = [wanted["p"]] if not np.isnan(wanted["p"]) else []
        assert numbers(row["p"]) == pytest.approx(p, rel=0.05)
        assert numbers(row["n"]) == [wanted["n"]]
        assert numbers(row["pairs"]) == ([] if np.isnan(wanted["pairs"]) else [wanted["pairs"]])


def choose(page, name, value):
    page.locator(f".sweep > .choices [name$='.{name}']").select_option(value)


def chart(page, name, setting=0):
    """The figure of that name, once it is drawn."""
    figure = page.locator(f"figure:has(a[download='{name}.csv'])").nth(setting)
    figure.scroll_into_view_if_needed()
    page.wait_for_function("figure => figure.classList.contains('drawn')", arg=figure.element_handle())
    return figure


def lines(figure, **chosen):
    """The lines of a chart, after a choice where there is one."""
    for name, value in chosen.items():
        before = figure.evaluate("figure => { window.before = figure.embedded; return true }")
        control = figure.locator(f"[name$='.{name}']")
        control.fill(value) if name == "over" else control.select_option(value)
        assert before
        figure.page.wait_for_function("figure => figure.embedded !== window.before", arg=figure.element_handle())
    return figure.evaluate(LINES)


def test_the_rows_that_are_seen_first_are_those_of_summary_csv(opened, sweep):
    written = pd.read_csv(sweep / "summary.csv").to_dict("records")
    page = opened()
    assert_equal(page.evaluate(ROWS), written)
    assert page.locator("tr:visible", has_text="(1 of 6 diverged)").count() == 2


@pytest.mark.parametrize("baseline", ["ln", "all"])
def test_another_baseline_shows_what_a_command_with_it_writes(opened, sweep, baseline):
    page = opened()
    choose(page, "baseline", baseline)
    assert_equal(page.evaluate(ROWS), summarise(done_below(sweep), baseline).to_dict("records"))


def test_without_scripts_the_rows_and_the_figures_are_there_and_nothing_to_choose(opened, sweep):
    page = opened(java_script_enabled=False)
    folders = page.locator(".forest tbody tr:visible small").all_inner_texts()
    written = pd.read_csv(sweep / "summary.csv").sort_values("metric", kind="stable")
    assert folders == (written["folder"] + " " + written["metric"]).tolist()
    assert page.locator("figure img:visible").count() == 4
    assert page.locator(".choices:visible").count() == 0


def test_an_arm_that_is_taken_out_leaves_tables_and_charts_and_its_boxes_agree(opened):
    page = opened()
    figure = chart(page, "loss_by_step")
    assert {line["arm"] for line in lines(figure)} == set(NORMS)
    figure.get_by_role("checkbox", name="ln").uncheck()
    assert not page.locator(".sweep > .choices").get_by_role("checkbox", name="ln").is_checked()
    assert not [row for row in page.evaluate(ROWS) if "-ln-" in row["folder"]]
    page.wait_for_timeout(100)
    assert {line["arm"] for line in figure.evaluate(LINES)} == {"bn", "none", "wn"}
    assert {line["arm"] for line in lines(chart(page, "loss_by_step", 1))} == {"bn", "none", "wn"}
    choose(page, "baseline", "all")
    assert not [row for row in page.evaluate(ROWS) if "-ln-" in row["folder"] or row["other"] == "ln"]


@pytest.mark.few(1)
@pytest.mark.parametrize("column", ["difference", "p", "mean"])
def test_a_heading_sorts_by_its_numbers_with_the_keyboard_and_once_more_the_other_way(opened, column):
    page = opened()
    heading = page.locator(f".forest th[data-key={column}]").first
    for order, sign in (("ascending", 1), ("descending", -1)):
        heading.locator("button").focus()
        page.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == order
        rows = [row for row in page.evaluate(ROWS) if row["metric"] == "test/acc"]
        values = [numbers(row[column])[:1] for row in rows]
        filled = [value[0] for value in values if value]
        assert filled == sorted(filled, key=lambda value: sign * value)
        assert values[len(filled) :] == [[]] * (len(rows) - len(filled))
    choose(page, "sort", "")
    assert heading.get_attribute("aria-sort") is None


def test_a_text_and_a_metric_leave_the_rows_that_they_name(opened):
    page = opened()
    page.get_by_placeholder("arm, setting or folder").fill("MLP")
    choose(page, "metric", "test/loss")
    rows = page.evaluate(ROWS)
    assert {row["metric"] for row in rows} == {"test/loss"}
    assert [row["folder"] for row in rows] == [f"mnist1d-mlp-{norm}-sgd" for norm in ("bn", "ln", "none", "wn")]


def test_the_address_holds_what_is_chosen_and_another_reader_sees_the_same(opened):
    page = opened()
    choose(page, "baseline", "bn")
    choose(page, "sort", "-difference")
    page.locator(".sweep > .choices").get_by_role("checkbox", name="wn").uncheck()
    lines(chart(page, "loss_by_step"), show="replicas")
    address = page.url.partition("#")[2]
    assert address.startswith("s1.baseline=bn&s1.sort=-difference&s1.without=wn&")
    other = opened(address)
    assert other.evaluate(ROWS) == page.evaluate(ROWS)
    assert len(lines(chart(other, "loss_by_step"))) == 3 * REPLICAS


def test_a_chart_shows_means_replicas_and_moving_means_of_what_was_measured(opened, sweep):
    figure = chart(opened(), "loss_by_step", 1)
    measured = {}
    for norm in NORMS:
        table = pd.read_csv(sweep / f"mnist1d-mlp-{norm}-sgd" / "metrics.csv")
        steps = table[table["name"] == "train/step_loss"]
        measured[norm] = steps.pivot_table(index="replica", columns="step", values="value").to_numpy()
    for line in lines(figure):
        assert line["x"] == list(range(1, STEPS + 1))
        assert line["y"] == pytest.approx(measured[line["arm"]].mean(0), rel=1e-4)
    for line in lines(figure, over="3"):
        mean = pd.Series(measured[line["arm"]].mean(0)).rolling(3, center=True, min_periods=1).mean()
        assert line["y"] == pytest.approx(mean.tolist(), rel=1e-4)
    found = lines(figure, over="1", show="replicas", y="linear", x="log")
    assert len(found) == len(NORMS) * REPLICAS
    for line in found:
        assert line["y"] == pytest.approx(measured[line["arm"]][line["seed"]], rel=1e-4)
    scales = figure.evaluate("f => f.embedded.vgSpec.scales.filter(s => /_[xy]$/.test(s.name)).map(s => s.type)")
    assert scales == ["log", "linear"]


def test_a_pointer_over_a_chart_is_told_the_values(opened, sweep):
    page = opened()
    figure = chart(page, "curves_by_epoch")
    lines(figure, metric="val/loss")
    canvas = figure.locator("canvas").bounding_box()
    page.mouse.move(canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    texts = [tooltip.locator(f".{part}").all_text_contents() for part in ("key", "value")]
    told = dict(zip(*texts, strict=True))
    table = pd.read_csv(sweep / f"mnist1d-lenet-{told['arm']}-sgd" / "metrics.csv")
    at = table[(table["name"] == "val/loss") & (table["epoch"] == int(told["epoch"]))]["value"]
    found = [float(told[key]) for key in ("validation loss, nats", "99% from", "to", "n")]
    expected = summary.mean_interval(at.tolist())
    assert found == pytest.approx([*expected[:3], REPLICAS], rel=1e-3)


def test_every_arm_taken_out_leaves_an_empty_chart_and_no_complaint(opened):
    page = opened("&".join(f"s1.without={norm}" for norm in NORMS))
    figure = chart(page, "curves_by_epoch")
    assert figure.locator("canvas, img:visible").count() == 0
    assert page.evaluate(ROWS) == []
    figure.get_by_role("checkbox", name="bn").check()
    figure.locator("canvas").wait_for()
    assert {line["arm"] for line in figure.evaluate(LINES)} == {"bn"}


def test_in_print_the_page_is_that_without_anything_to_choose(opened):
    page = opened()
    chart(page, "loss_by_step")
    page.emulate_media(media="print")
    assert page.locator("figure img:visible").count() == 4
    assert page.locator(".chart:visible, .choices:visible, nav:visible").count() == 0
    assert page.locator(".forest tbody tr:visible").count() == 16


def test_on_a_phone_nothing_reaches_beyond_the_screen(opened):
    page = opened()
    page.set_viewport_size({"width": 400, "height": 800})
    chart(page, "curves_by_epoch")
    page.wait_for_function("innerWidth >= document.documentElement.scrollWidth")
    inside = "all => all.every(each => each.getBoundingClientRect().right <= innerWidth)"
    assert page.locator(".forest td:visible, .forest th:visible, canvas:visible").evaluate_all(inside)


@pytest.mark.slow
def test_a_grid_of_18_cells_stays_under_4_mb_and_opens_in_under_2_s(browser, tmp_path):
    random = np.random.default_rng(0)
    for model in ("lenet", "mlp", "residual_mlp"):
        for norm in ("bn", "gn", "ln", "none", "rms", "wn"):
            values = random.uniform(0.5, 1, (4, 10, 40)).tolist()
            steps = random.uniform(0.5, 1, (10, 1000)).tolist()
            names = ("train/running_loss", "val/loss", "val/acc")
            curves = {"train/step_loss": steps, **dict(zip(names, values[:3], strict=True))}
            metrics = {name: [row[0] for row in values[3]] for name in ("test/acc", "test/loss")}
            config = {"trainer.max_epochs": 40}
            write_cell(tmp_path / f"{model}-{norm}", norm, metrics, curves, model=model, config=config)
    file = write_page(tmp_path)
    assert file.stat().st_size < 4e6
    page = browser.new_page()
    page.goto(f"{file.as_uri()}#s1.1")
    page.wait_for_function("performance.getEntriesByName('chart').length")
    assert page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd") < 2000
    assert page.evaluate("performance.getEntriesByName('chart')[0].startTime") < 2000
