import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from bn_experiments.config.groups import options_of
from tests.conftest import CONF


@pytest.fixture
def loader():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def test_an_option_in_a_folder_of_its_group_has_the_folder_in_its_name(loader, tmp_path):
    for name in ("mine", "papers/deep/lstm"):
        file = tmp_path / "experiment" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    search = [f"hydra.searchpath=[file://{tmp_path}]"]
    found = options_of(loader, "experiment", config_name="config", overrides=search)
    assert found[0] == "mine"
    assert {"notebooks/udl_residual", "papers/recurrent", "papers/deep/lstm"} <= set(found)
    assert len(found) == len(set(found))


def test_a_group_without_folders_has_its_files_and_a_key_has_no_options(loader):
    assert options_of(loader, "model") == sorted(file.stem for file in (CONF / "model").glob("*.yaml"))
    assert options_of(loader, "trainer.max_epochs") == []
    assert options_of(loader, "seed") == []
