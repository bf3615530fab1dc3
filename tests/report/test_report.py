import io
import json
import os
import re
from html.parser import HTMLParser
from types import SimpleNamespace
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from bn_experiments.claims import verdicts
from bn_experiments.claims.protocol import parse
from bn_experiments.claims.summary import summarise
from bn_experiments.records import comparison
from bn_experiments.records.results import Result, done_below
from bn_experiments.report import FILE, write_page
from bn_experiments.report.__main__ import main
from bn_experiments.report.contents import collect
from bn_experiments.report.drawings import drawings
from bn_experiments.report.page import machines
from bn_experiments.statistics.intervals import mean_interval, prediction_interval
from tests.cells_by_hand import ORIGIN, a_result
from tests.probes.drawn import HOSTILE

REPLICAS, STEPS, EPOCHS = 6, 12, 3
PLACES = ("cat", "dog", "cow")  # where the tests' own probe measured a size
SEEDS = list(range(REPLICAS))


def protocol(**changes):
    arms = {"bn": {"norm": "bn"}, "none": {"norm": "none"}}
    plain = {
        "name": "small",
        "title": "A small experiment",
        "source": "A notebook",
        "arms": arms,
        "published": [
            {"arm": "bn", "metric": "train/running_loss", "each": "epoch", "values": [0.9, 0.5, 0.25]},
            {"arm": "none", "metric": "train/step_loss", "each": "4 steps", "values": [2.0, 1.5]},
            {"arm": "bn", "metric": "test/acc", "values": [0.75], "note": "of one run"},
            {"arm": "bn", "metric": "sizes/size", "values": [80.0, 85.0]},
        ],
        "claims": [
            {
                "claim": "The accuracy is higher with bn",
                "rule": "difference",
                "left": {"arm": "bn", "metric": "test/acc"},
                "right": {"arm": "none", "metric": "test/acc"},
            },
            {
                "claim": "The size grows exponentially",
                "rule": "exponential_over_linear",
                "values": {"arm": "bn", "metric": "sizes/size", "labels": list(PLACES)},
            },
        ],
        "mistakes": [{"what": "It never shuffles.", "changes": "Nothing."}],
        **changes,
    }
    found, lines = parse(plain)
    assert not lines
    return found


def numbers(norm):
    """Arrays that differ from arm to arm, the same in every run."""
    random = np.random.default_rng(len(norm))
    spread = random.uniform(0.0, 0.05, (REPLICAS, 64))
    return spread + (0.8 if norm == "bn" else 0.6)


def write_curves(folder, norm):
    rows, values = [], numbers(norm)
    for i in range(REPLICAS):
        for step in range(STEPS):
            epoch = step * EPOCHS // STEPS + 1
            rows.append((step + 1, epoch, i, "train/step_loss", values[i, step] * (STEPS - step)))
        for epoch in range(EPOCHS):
            for j, name in enumerate(("train/running_loss", "val/loss", "val/acc")):
                rows.append(((epoch + 1) * STEPS // EPOCHS, epoch + 1, i, name, values[i, 20 + 3 * epoch + j]))
    table = pd.DataFrame(rows, columns=["step", "epoch", "replica", "name", "value"])
    table.to_csv(folder / "metrics.csv", index=False)


def arrays(norm, places=PLACES):
    """Readings of the tests' own probe at the start and at the end."""
    values = numbers(norm)
    sizes = np.stack([values[:, 30:33], values[:, 33:36] * [1, 2, 3]])
    return {"sizes/epochs": np.array([0, EPOCHS]), "sizes/place": np.array(places), "sizes/size": sizes}


def write_cell(sweep, norm, *, overrides=(), places=PLACES, probed=True, status="done", diverged=False, loss=None):
    folder = sweep / "-".join(["mnist1d-mlp", norm, *overrides]).replace("/", "_")
    folder.mkdir(parents=True)
    values = numbers(norm)
    Result(
        status=status,
        cell={
            "data": "mnist1d",
            "model": "mlp",
            "norm": norm,
            "optimizer": "sgd",
            "scheduler": "constant",
            "trainer": "default",
            "overrides": list(overrides),
        },
        config={
            "norm": {"_target_": None if norm == "none" else norm},
            "trainer": {"max_epochs": EPOCHS},
            **({"loss": {"_target_": loss}} if loss else {}),
            "probes": {"sizes": {"_target_": "tests.probes.sizes.Sizes"}},
            **{text.partition("=")[0]: text for text in overrides},
        },
        made_by=[ORIGIN],
        config_hash="0" * 16,
        seeds=SEEDS,
        metrics={"test/loss": values[:, 0].tolist(), "test/acc": values[:, 1].tolist()} if status == "done" else {},
        diverged=[diverged] * REPLICAS if status == "done" else [],
        timing={"setup_s": 30.0, "train_s": 60.0, "samples_per_s": 5.0} if status == "done" else {},
        device="cpu: small",
        versions={"python": "3.11.7"},
        git_commit="abc",
        error="no memory" if status == "failed" else None,
    ).write(folder)
    if status == "done":
        write_curves(folder, norm)
        np.savez_compressed(folder / "probes.npz", allow_pickle=False, **(arrays(norm, places) if probed else {}))
    os.utime(folder / "result.json", (1e9, 1e9))
    return folder


def write_experiment(folder, described=None, **cell):
    for norm in ("bn", "none"):
        write_cell(folder, norm, **cell)
    (folder / "experiment.json").write_text(json.dumps((described or protocol()).as_dict()))
    return folder


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its text, its scripts, and the cells of each table's rows."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.scripts, self.rows, self.in_cell = [], "", [], [], False
        self.feed(text)
        self.rows = [[flat(cell) for cell in row] for row in self.rows]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        if self.cdata_elem:
            return
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data + " "

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def flat(text):
    return " ".join(text.split())


def page_of(folder):
    return Page(write_page(folder).read_text())


def csv_of(page, name):
    """The numbers behind a figure."""
    (link,) = [a["href"] for a in page.all("a") if a.get("download") == f"{name}.csv"]
    head, _, body = link.partition(",")
    assert head == "data:text/csv;charset=utf-8"
    return pd.read_csv(io.StringIO(unquote(body)))


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("sweeps") / "small")


@pytest.fixture(scope="module")
def page(experiment):
    return page_of(experiment)


def test_the_verdicts_come_first_and_are_those_of_verdicts_json(experiment, page):
    recorded = json.loads((experiment / "verdicts.json").read_text())
    assert [each["verdict"] for each in recorded] == ["holds", "fails"]
    for each, word in zip(recorded, ("✓ holds", "✗ fails"), strict=True):
        (row,) = [row for row in page.rows if row[0] == each["claim"]]
        estimate = verdicts.estimate(verdicts.Verdict(**each)).replace("-", "\N{MINUS SIGN}")
        assert row[1] == word
        assert row[2].startswith(estimate + " ")
        assert row[3:5] == [str(each["n"]), f"{each['p']:.2g}"]
    text = flat(page.text)
    assert text.index("The accuracy is higher with bn") < text.index("Published against measured")
    assert page.all("table")[0]["class"] == "verdicts"


@pytest.mark.parametrize(("epochs", "trained"), [(0, False), (1, True)])
def test_the_page_says_first_whether_its_networks_were_trained(tmp_path, epochs, trained):
    for norm in ("bn", "none"):
        (tmp_path / norm).mkdir()
        a_result(norm, {"test/acc": [0.5] * 6}, config={"trainer.max_epochs": epochs}).write(tmp_path / norm)
    header, _, _ = flat(write_page(tmp_path).read_text()).partition("</header>")
    assert ("trained with and without normalization" in header) == trained
    assert ("measured at initialization" in header) == (not trained)


def test_the_claims_are_judged_anew_from_the_results(experiment):
    (experiment / "verdicts.json").write_text("[]")
    write_page(experiment)
    found = verdicts.judge(protocol(), done_below(experiment))
    assert [each["estimate"] for each in json.loads((experiment / "verdicts.json").read_text())] == [
        each.estimate for each in found
    ]


def test_a_published_number_stands_beside_the_mean_and_the_prediction_interval(page):
    values = 100 * numbers("bn")[:, 1]
    found = prediction_interval(values.tolist())
    numbers_shown = [f"{found.mean:.2f}", f"[{found.low:.2f}, {found.high:.2f}]", str(REPLICAS)]
    place = "✓ inside" if found.low <= 75 <= found.high else "✗ outside"
    assert ["bn", "test accuracy, % of one run", "75", *numbers_shown, place] in page.rows


def test_a_published_curve_is_compared_point_by_point_and_counted(page):
    values = numbers("bn")[:, [20, 23, 26]]
    inside = [
        found.low <= number <= found.high
        for found, number in zip((prediction_interval(v.tolist()) for v in values.T), (0.9, 0.5, 0.25), strict=True)
    ]
    assert f"bn: {sum(inside)} of 3 inside, n = {REPLICAS}" in page.text
    rows = [row for row in page.rows if row[:2] in (["1", "0.90"], ["2", "0.50"], ["3", "0.25"])]
    assert [row[-1] for row in rows] == ["✓ inside" if each else "✗ outside" for each in inside]
    assert [row[2] for row in rows] == [f"{mean:.4f}" for mean in values.mean(0)]


def test_an_inconclusive_claim_says_what_would_decide_it_on_the_page_and_in_markdown(tmp_path):
    higher = protocol().as_dict()["claims"][0]
    claims = [{**higher, "above": 0.2, "smallest": 0.02}]
    folder = write_experiment(tmp_path / "small", protocol(claims=claims))
    page = page_of(folder)
    (recorded,) = json.loads((folder / "verdicts.json").read_text())
    text = f"about {recorded['enough']['replicas']} replicas would decide it, "
    (row,) = [row for row in page.rows if row[0] == recorded["claim"]]
    assert row[1].startswith(f"~ inconclusive {text}")
    assert main([str(folder), "--markdown", str(tmp_path / "page.md")]) == 0
    assert f"~ inconclusive; {text}" in (tmp_path / "page.md").read_text()


def test_beside_a_difference_stands_the_smallest_one_that_its_pairs_find(page, experiment):
    (row,) = summarise(done_below(experiment), "none").query("arm == 'bn' and metric == 'test/acc'").to_dict("records")
    assert f"{100 * row['detectable']:.2f}" in [text for cells in page.rows for text in cells]


def test_a_published_curve_over_a_probe_has_the_probe_s_labels(page):
    assert [row[:2] for row in page.rows if row[0] in PLACES] == [["cat", "80"], ["dog", "85"]]


def test_a_published_curve_over_a_probe_has_the_probe_s_words(experiment, page, tmp_path):
    assert "size of the signal" in page.text
    assert main([str(experiment), "--markdown", str(tmp_path / "page.md")]) == 0
    assert "size of the signal" in (tmp_path / "page.md").read_text()


def test_the_summary_of_the_arms_is_in_per_cent(page):
    found = mean_interval((100 * numbers("bn")[:, 1]).tolist())
    assert f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]" in [text for cells in page.rows for text in cells]


def test_the_page_needs_nothing_but_itself(page):
    assert all(script.keys() <= {"type"} for script in page.all("script"))
    assert not page.all("link")
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert page.all("img")
    for image in page.all("img"):
        assert image["src"].startswith("data:image/svg+xml,")
        assert len(image["alt"]) > 20
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "style"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or "")
    assert all(a["href"].startswith(("#", "data:text/csv")) for a in page.all("a"))


def test_a_figure_needs_nothing_but_itself(page):
    for image in page.all("img"):
        svg = unquote(image["src"].partition(",")[2])
        links = re.findall(r'(?:href|src)="([^"]*)"', svg) + re.findall(r"url\(([^)]*)\)", svg)
        assert all(link.startswith(("#", "data:")) for link in links)
        assert "<script" not in svg
        assert "sans-serif" in svg


def test_the_page_is_made_again_byte_by_byte(experiment):
    assert write_page(experiment).read_bytes() == write_page(experiment).read_bytes()


def test_the_numbers_behind_the_loss_are_those_of_metrics_csv(experiment, page):
    found = csv_of(page, "loss_by_step")
    for norm in ("bn", "none"):
        table = pd.read_csv(next(experiment.glob(f"*-{norm}")) / "metrics.csv")
        steps = table[table["name"] == "train/step_loss"].groupby("step")["value"]
        own = found[found["arm"] == norm]
        assert own["mean"].tolist() == pytest.approx(steps.mean().tolist(), rel=1e-5)
        assert own["low"].tolist() == pytest.approx([mean_interval(v.tolist()).low for _, v in steps], rel=1e-5)
        assert set(own["n"]) == {REPLICAS}


def test_the_numbers_behind_the_epochs_are_those_of_metrics_csv(experiment, page):
    found = csv_of(page, "curves_by_epoch")
    table = pd.read_csv(next(experiment.glob("*-bn")) / "metrics.csv")
    for metric, factor in (("val/loss", 1), ("val/acc", 100)):
        means = table[table["name"] == metric].groupby("epoch")["value"].mean()
        own = found[(found["metric"] == metric) & (found["arm"] == "bn")]
        assert own["mean"].tolist() == pytest.approx((factor * means).tolist(), rel=1e-5)


def test_the_numbers_behind_a_probe_are_those_of_probes_npz(experiment, page):
    found = csv_of(page, "sizes")
    for norm in ("bn", "none"):
        arrays = np.load(next(experiment.glob(f"*-{norm}")) / "probes.npz")
        for moment, at in {"start": 0, "end": -1}.items():
            own = found[(found["arm"] == norm) & (found["moment"] == moment)]
            assert own["place"].tolist() == list(PLACES)
            assert own["mean"].tolist() == pytest.approx(arrays["sizes/size"][at].mean(0).tolist(), rel=1e-5)


def test_a_probe_that_was_not_asked_for_leaves_its_figures_out(tmp_path, page):
    every = [a["download"] for a in page.all("a") if "download" in a]
    assert every == ["loss_by_step.csv", "curves_by_epoch.csv", "sizes.csv"]
    write_experiment(tmp_path, probed=False)
    assert [a["download"] for a in page_of(tmp_path).all("a") if "download" in a] == every[:2]


def test_a_probe_s_drawing_is_given_the_claims(page):
    assert "Claims: The accuracy is higher with bn, The size grows exponentially." in flat(page.text)


@pytest.mark.parametrize(("loss", "unit"), [("cross_entropy", ", nats"), ("mse", "")])
def test_a_loss_has_the_unit_of_a_cross_entropy_where_it_is_one(tmp_path, loss, unit):
    for norm in ("bn", "none"):
        write_cell(tmp_path, norm, loss=f"bn_experiments.training.losses.{loss}")
    found = page_of(tmp_path)
    assert ("nats" in found.text) == bool(unit)
    assert f"test loss{unit}" in found.text
    assert all(("nats" in image["alt"]) == bool(unit) for image in found.all("img") if "raining loss" in image["alt"])


def test_a_stranger_s_words_never_become_markup(tmp_path):
    described = protocol(
        title=HOSTILE,
        source=HOSTILE,
        note=HOSTILE,
        arms={HOSTILE: {"norm": "bn"}, "none": {"norm": "none"}},
        published=[
            {"arm": HOSTILE, "metric": "train/running_loss", "each": "epoch", "values": [0.5, 0.4], "note": HOSTILE}
        ],
        claims=[
            {
                "claim": HOSTILE,
                "rule": "difference",
                "left": {"arm": HOSTILE, "metric": "test/acc"},
                "right": {"arm": "none", "metric": "test/acc"},
            }
        ],
        mistakes=[{"what": HOSTILE, "changes": HOSTILE}],
    )
    write_experiment(tmp_path, described, places=(HOSTILE, "$x^", "plain"))
    write_cell(tmp_path, "gn").joinpath("result.json").write_text("{")
    text = write_page(tmp_path).read_text()
    assert "<script>alert" not in text
    assert "alert('x')" not in text
    found, plain = Page(text), page_of(write_experiment(tmp_path.with_name("plain")))
    scripts = [script for script in found.scripts if not script.startswith("{")]
    assert scripts == [script for script in plain.scripts if not script.startswith("{")]
    data = [json.loads(script) for script in found.scripts if script.startswith("{")]
    assert [[arm["name"] for arm in each["arms"]] for each in data] == [[HOSTILE, "none"]] * 2
    assert found.text.count(HOSTILE) > 8
    for image in found.all("img"):
        assert "<script" not in unquote(image["src"].partition(",")[2])
    assert HOSTILE in set(csv_of(found, "sizes")["place"])


def test_a_stranger_s_words_keep_the_markdown_s_tables(tmp_path):
    described = protocol(title="a|b <b>", note=HOSTILE, mistakes=[{"what": HOSTILE, "changes": "x"}])
    write_experiment(tmp_path / "s", described, overrides=("data.root=/home/someone/images", "replicas=4"))
    assert main([str(tmp_path), "--markdown", str(tmp_path / "docs" / "page.md")]) == 0
    text = (tmp_path / "docs" / "page.md").read_text()
    assert "<" not in text
    assert "a\\|b" in text
    assert "/home" not in text
    assert str(tmp_path) not in text
    assert "replicas=4" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_the_markdown_holds_the_verdicts_the_mistakes_and_the_published_numbers(tmp_path):
    write_experiment(tmp_path / "small")
    assert main([str(tmp_path), "--markdown", str(tmp_path / "page.md")]) == 0
    text = (tmp_path / "page.md").read_text()
    recorded = json.loads((tmp_path / "small" / "verdicts.json").read_text())
    of_accuracies, of_sizes = recorded
    assert f"{100 * of_accuracies['estimate']:+.4g} points".replace("-", "\N{MINUS SIGN}") in text
    assert f"{of_sizes['estimate']:+.4g} ".replace("-", "\N{MINUS SIGN}") in text
    assert "make reproduce" in text
    assert "It never shuffles." in text
    assert "| published | 0.90 | 0.50 | 0.25 |" in text
    assert "3.0 minutes" in text


def test_a_settings_list_that_differs_from_the_protocol_stands_with_the_verdict(tmp_path):
    write_experiment(tmp_path, overrides=("replicas=4",))
    text = flat(page_of(tmp_path).text)
    assert "replicas=4" in text[: text.index("The accuracy is higher")]


def test_a_folder_of_sweeps_has_a_section_for_each(tmp_path):
    write_experiment(tmp_path / "b")
    for norm in ("bn", "gn", "none"):
        write_cell(tmp_path / "deep" / "grid", norm)
    found = page_of(tmp_path)
    assert [section["id"] for section in found.all("section") if section.get("class") == "sweep"] == ["s1", "s2"]
    text = flat(found.text)
    assert "1 experiment, 1 grid, 5 cells, 30 networks" in text
    assert text.index("A small experiment") < text.index("deep/grid")
    assert not (tmp_path / "b" / FILE).exists()


def test_a_single_run_is_a_sweep_too(tmp_path):
    write_cell(tmp_path, "none", probed=False)
    found = page_of(tmp_path)
    assert {a["download"] for a in found.all("a") if "download" in a} == {"loss_by_step.csv", "curves_by_epoch.csv"}


def test_diverged_replicas_are_counted(tmp_path):
    write_cell(tmp_path, "none", diverged=True)
    assert f"({REPLICAS} of {REPLICAS} diverged)" in page_of(tmp_path).text


@pytest.mark.parametrize("kind", ["damaged", "failed", "unfinished", "without metrics", "broken probes"])
def test_a_cell_that_is_not_whole_is_left_out_with_its_reason(tmp_path, kind):
    write_cell(tmp_path, "none", probed=False)
    bad = write_cell(tmp_path, "bn", probed=False, status="failed" if kind == "failed" else "done")
    if kind == "damaged":
        (bad / "result.json").write_text('{"status": "do')
    if kind == "unfinished":
        (bad / "result.json").unlink()
        (bad / "train.log").write_text("")
    if kind == "without metrics":
        record = json.loads((bad / "result.json").read_text())
        (bad / "result.json").write_text(json.dumps({**record, "metrics": {"test/acc": 3}}))
    if kind == "broken probes":
        (bad / "probes.npz").write_bytes(b"PK no archive")
    found = flat(page_of(tmp_path).text)
    assert f"Left out: {bad.name}: " in found
    assert "1 cell, 6 networks" in found
    assert "no memory" in found or kind != "failed"


def test_an_arm_that_is_missing_leaves_its_claims_unjudged_with_a_reason(tmp_path):
    write_experiment(tmp_path)
    (tmp_path / "mnist1d-mlp-none" / "result.json").unlink()
    text = flat(page_of(tmp_path).text)
    assert "not judged" in text
    assert "arm none was not trained" in text
    assert "not compared: arm none was not trained" in text


def test_a_protocol_that_cannot_be_read_leaves_a_grid(tmp_path):
    write_experiment(tmp_path)
    (tmp_path / "experiment.json").write_text("{")
    assert "experiment.json: damaged" in page_of(tmp_path).text


def test_no_finished_cells_is_a_line_and_status_one(tmp_path, capsys):
    write_cell(tmp_path / "sweep", "bn", status="interrupted")
    assert main([str(tmp_path)]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.count("\n") == 1
    assert "no finished cells" in output.err
    assert not (tmp_path / FILE).exists()


def test_nothing_but_the_page_and_the_verdicts_is_written(tmp_path):
    write_experiment(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_page(tmp_path)
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after.keys() - before.keys() == {tmp_path / FILE, tmp_path / "verdicts.json"}
    assert all(after[path] == before[path] for path in before)


def test_a_long_curve_is_drawn_in_means_of_at_most_150_points(tmp_path):
    folder = write_cell(tmp_path, "none", probed=False)
    values = np.random.default_rng(0).uniform(1, 2, (REPLICAS, 1001))
    rows = [(j + 1, EPOCHS, i, "train/step_loss", values[i, j]) for i in range(REPLICAS) for j in range(1001)]
    rows += [(1001, epoch + 1, i, "val/acc", 0.5) for i in range(REPLICAS) for epoch in range(EPOCHS)]
    pd.DataFrame(rows, columns=["step", "epoch", "replica", "name", "value"]).to_csv(
        folder / "metrics.csv", index=False
    )
    drawn, _ = drawings(collect(tmp_path)[0].sections[0])
    expected = values[:, : 143 * 7].reshape(REPLICAS, 143, 7).mean(axis=(0, 2))
    assert drawn.data["mean"].tolist() == pytest.approx(expected.tolist())
    assert drawn.data["step"].tolist()[:2] == [4.0, 11.0]


def test_a_note_names_the_arm_as_the_table_does():
    cell = SimpleNamespace(
        notes=["it trains alone"], cell={"model": "mlp", "norm": "none"}, config_hash="a", device="cpu", versions={},
        git_commit="b",
    )  # fmt: skip
    arm = SimpleNamespace(name="MyNorm", result=cell)
    sweep = SimpleNamespace(cells=[cell], sections=[SimpleNamespace(arms={"MyNorm": arm})])
    assert machines([sweep])["notes"] == ["it trains alone (mlp, MyNorm)"]


def test_the_page_of_a_folder_with_looks_judges_at_them_and_says_so(tmp_path):
    for norm in ("bn", "none"):
        write_cell(tmp_path / "looked_at", norm)
    comparison.write(tmp_path / "looked_at", "none", (2, 3))
    (sweep,) = collect(tmp_path / "looked_at")
    assert sweep.looks == (2, 3)
    (section,) = sweep.sections
    assert section.summary["bn"]["test/acc"][0]["pairs"] == 3, "not all of the replicas"
    text = write_page(tmp_path / "looked_at").read_text()
    assert "with 2, 3 replicas, until they are decided" in text


@pytest.mark.parametrize(
    ("options", "covered", "shared"),
    [
        ([], ", order of batches. ", "The data and their split are the same for all"),
        (["data.batch_size=full"], ". ", "The data and their split are the same for all"),
        (["augmentation=shift"], ", order of batches, augmentation. ", "The data and their split"),
        (
            ["data.split_seed=replica"],
            ", order of batches, split of the data (and the data,",
            "A published test set is",
        ),
    ],
)
def test_the_page_says_what_its_intervals_cover(compose_cell, tmp_path, options, covered, shared):
    config = compose_cell(*options).config
    for norm in ("bn", "none"):
        file = write_cell(tmp_path / "covered", norm) / "result.json"
        written = json.loads(file.read_text())
        for key in ("data", "augmentation", "trainer"):
            written["config"][key] = config[key]
        file.write_text(json.dumps(written))
    text = write_page(tmp_path / "covered").read_text()
    assert f"Intervals cover what differs between replicas: initial weights{covered}" in text
    assert shared in text


def test_where_there_is_nothing_to_show_the_line_says_why_and_what_to_do(tmp_path, capsys):
    write_cell(tmp_path / "failed", "bn", status="failed")
    one = write_cell(tmp_path / "whole", "bn")
    (tmp_path / "empty").mkdir()
    for folder, said in {
        tmp_path / "failed": "no finished cells (mnist1d-mlp-bn: failed",
        one: "is the folder of one cell; ",
        tmp_path / "empty": "no finished cells; ",
        tmp_path / "nowhere": "is no folder; ",
    }.items():
        assert main([str(folder)]) == 1
        assert f"{folder}: {said}" in capsys.readouterr().err


def test_a_recorded_baseline_that_is_no_arm_is_said_and_the_first_arm_takes_its_place(tmp_path):
    for norm in ("bn", "ln"):
        write_cell(tmp_path, norm)
    comparison.write(tmp_path, "nobody", ())
    text = flat(page_of(tmp_path).text)
    assert "the baseline nobody, for no arm here has this name; the arms are beside bn" in text
    assert collect(tmp_path)[0].baseline == "bn"
