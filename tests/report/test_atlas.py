"""The atlas: a row for each claim of the literature, with its figures beside it, and nothing of it elsewhere."""

import json
from dataclasses import replace

import pytest

from bn_experiments.claims.protocol import Claim
from bn_experiments.records.quantities import Quantity
from bn_experiments.report.__main__ import main
from tests.cells_by_hand import write_cell
from tests.report.test_report import protocol, write_experiment


@pytest.fixture
def sweeps(tmp_path):
    """An experiment of the atlas beside one of the notebooks."""
    write_experiment(tmp_path / "notebook")
    known = replace(protocol(), name="known", area="signal", belief="All | believe it.", traps=["Mind the gap."])
    write_experiment(tmp_path / "known", known)
    return tmp_path


def test_each_claim_of_the_atlas_has_a_row_with_its_verdict_and_a_section_with_its_figures(sweeps):
    assert main([str(sweeps), "--atlas", str(sweeps / "docs" / "atlas.md")]) == 0
    text = (sweeps / "docs" / "atlas.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| signal |")]
    recorded = json.loads((sweeps / "known" / "verdicts.json").read_text())
    assert len(rows) == len(recorded) == 2
    for row, verdict in zip(rows, recorded, strict=True):
        assert f"{verdict['verdict']} |" in row
        assert (
            f"{verdict['estimate'] * (100 if verdict['is_of_accuracies'] else 1):+.4g}".replace("-", "\N{MINUS SIGN}")
            in row
        )
        assert "(#known)" in row
        assert "`python train.py experiment=known` |" in row
        assert row.count(" | ") == 9, "a stranger's bar is no column"
    assert "## known" in text
    assert "experiment=small" not in text, "the notebook's"
    assert "Traps: Mind the gap." in text
    figures = sorted(file.name for file in (sweeps / "docs" / "atlas").iterdir())
    assert figures
    assert all(f"](atlas/{name})" in text for name in figures)
    assert all((sweeps / "docs" / "atlas" / name).read_text().startswith("<?xml") for name in figures)


def test_what_theory_says_stands_beside_the_estimate(tmp_path):
    near = Claim("near", "equivalence", {"left": Quantity("bn", "test/acc"), "margin": 0.5}, oracle=0.25)

    write_experiment(tmp_path / "known", replace(protocol(), name="known", area="signal", claims=[near]))
    main([str(tmp_path), "--atlas", str(tmp_path / "atlas.md")])
    rows = [line for line in (tmp_path / "atlas.md").read_text().splitlines() if line.startswith("| signal |")]

    assert [" | 0.25 | 6 | " in row for row in rows] == [True]


def batch_size_of(config) -> float:
    return config["data"]["batch_size"]


def test_each_setting_has_the_theory_of_its_own_configuration(tmp_path):
    claim = Claim(
        "near", "equivalence", {"left": Quantity("bn", "test/acc"), "margin": 9}, oracle=f"{__name__}.batch_size_of"
    )
    metrics = {"test/acc": [0.5 + i / 100 for i in range(6)]}
    for size in (8, 64):
        settings = {"config": {"data.batch_size": size}, "overrides": [f"data.batch_size={size}"]}
        for norm in ("bn", "none"):
            write_cell(tmp_path / "known" / f"{norm}-{size}", norm, metrics, **settings)
    known = replace(protocol(), name="known", area="signal", claims=[claim], published=[])
    (tmp_path / "known" / "experiment.json").write_text(json.dumps(known.as_dict()))
    main([str(tmp_path), "--atlas", str(tmp_path / "atlas.md")])
    rows = [line for line in (tmp_path / "atlas.md").read_text().splitlines() if line.startswith("| signal |")]
    assert sorted(row.split(" | ")[6] for row in rows) == ["64", "8"]


def test_the_other_page_leaves_the_atlas_out(sweeps):
    assert main([str(sweeps), "--markdown", str(sweeps / "page.md")]) == 0
    assert "experiment=known" not in (sweeps / "page.md").read_text()


def test_without_an_experiment_of_the_atlas_there_is_a_line(tmp_path, capsys):
    write_experiment(tmp_path / "notebook")
    assert main([str(tmp_path), "--atlas", str(tmp_path / "atlas.md")]) == 1
    assert "no experiment of the atlas is among the sweeps" in capsys.readouterr().err
    assert not (tmp_path / "atlas").exists()
