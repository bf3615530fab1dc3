import os
import sys
import zipfile

import pytest
import torch

import bn_experiments
from bn_experiments.system import sources


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of the user's: `mine_norms.norm` imports `mine_norms.parts`, `beside_norms` and torch."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mine_norms").mkdir()
    files = {
        "mine_norms/__init__.py": "",
        "mine_norms/norm.py": (
            "import beside_norms\nimport os\nfrom torch import nn\nfrom . import parts\n"
            "class Norm(nn.Module):\n    def forward(self, x):\n        return parts.half(x)\n"
        ),
        "mine_norms/parts.py": "def half(x):\n    return x / 2\n",
        "mine_norms/unused.py": "",
        "beside_norms.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mine_norms", "beside_norms")]:
        del sys.modules[name]


def code(*names):
    """The digests as another process would find them."""
    sources.digest.cache_clear()
    sources.imports.cache_clear()
    return sources.of_modules(names, own=())[0]


def edit(file, text):
    before = file.stat().st_mtime_ns
    file.write_text(text)
    os.utime(file, ns=(before + 1, before + 1))


def test_the_code_of_a_module_is_its_own_and_what_it_imports_beside_it(package):
    assert set(code("mine_norms.norm")) == {"mine_norms", "mine_norms.norm", "mine_norms.parts", "beside_norms"}


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("# half of it\ndef half(x):\n    return x / 2  # exactly\n", True),
        ('"""Halves."""\n\n\ndef half(x):\n    """The half."""\n    return (x /\n        2)\n', True),
        ("def half(x):\n    return x / 3\n", False),
        ("def half(x, y=1):\n    return x / 2\n", False),
    ],
)
def test_comments_docstrings_and_line_breaks_do_not_count_and_all_else_does(package, text, same):
    before = code("mine_norms.norm")
    edit(package / "mine_norms" / "parts.py", text)
    after = code("mine_norms.norm")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == (set() if same else {"mine_norms.parts"})


def test_an_installed_package_counts_by_its_version():
    digests, versions = sources.of_modules(["torch.nn.modules.batchnorm", "json"], own=())
    assert (digests, set(versions)) == ({}, {"torch"})
    assert versions["torch"].partition("+")[0] == torch.__version__.partition("+")[0]


def test_of_this_project_the_parts_that_make_numbers_count_and_not_what_they_use_of_the_rest():
    own = ["bn_experiments.norms", "bn_experiments.models"]
    digests, _ = sources.of_modules(["bn_experiments.models.mlp"], own)
    assert "bn_experiments.models.mlp" in digests
    assert "bn_experiments.norms.slot" in digests
    assert "bn_experiments.refusal" in sources.imports("bn_experiments.norms.slot")
    assert {name.split(".")[1] for name in digests} == {"norms", "models"}


def test_a_module_elsewhere_in_this_project_that_is_named_counts_with_what_it_imports_there(tmp_path, monkeypatch):
    monkeypatch.setattr(bn_experiments, "__path__", [*bn_experiments.__path__, str(tmp_path)])
    imports = "from bn_experiments import mine_part\nfrom bn_experiments.norms import rms\n"
    (tmp_path / "mine_norm.py").write_text(imports)
    (tmp_path / "mine_part.py").write_text("half = 0.5\n")
    digests, _ = sources.of_modules(["bn_experiments.mine_norm"], own=["bn_experiments.norms"])
    assert {"bn_experiments.mine_norm", "bn_experiments.mine_part", "bn_experiments.norms.rms"} <= set(digests)
    assert "bn_experiments" not in digests


def test_a_process_keeps_the_digest_of_the_code_that_it_imported(package):
    before = code("mine_norms.norm")
    edit(package / "beside_norms.py", "x = 1\n")
    assert sources.of_modules(["mine_norms.norm"], own=())[0] == before
    assert before["beside_norms"] != code("mine_norms.norm")["beside_norms"]


def test_a_module_in_an_archive_is_read_there(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "norms.zip", "w") as archive:
        archive.writestr("zipped_norm.py", "x = 1\n")
    monkeypatch.syspath_prepend(tmp_path / "norms.zip")
    assert set(code("zipped_norm")) == {"zipped_norm"}
