"""A cell in this process: what another process sees of it from the first moment on."""

from bn_experiments import run
from bn_experiments.records import results
from bn_experiments.sweeps.train_cell import runs_to_train, train_cell


def test_a_run_is_on_record_before_anything_of_it_is_made(compose_cell, monkeypatch):
    cell = compose_cell("replicas=3", "seed=5")
    seen = []

    def runs(own):
        seen.append(results.read_run(own.folder))
        (other,) = runs_to_train(cell)  # as another command would ask at this moment
        assert other.folder == cell.folder, "no second run of the same seeds"

    monkeypatch.setattr(run, "run", runs)
    train_cell(cell)
    (record,) = seen
    assert (record.status, record.seeds) == ("started", [5, 6, 7])
