# `make help` lists the targets. Every one that needs the environment makes it first, in .venv.
PYTHON ?= python3
BIN := .venv/bin
IMAGES ?=
ATLAS ?= bn_gradient_explosion direction_collapse scale_invariance residual_variance exponential_lr rotational_equilibrium \
  rotational_equilibrium_adamw train_eval running_averages train_eval_trained train_eval_resnet norm_free dropout_shift \
  dropout_shift_trained pre_post_ln recurrent_gain recurrent_gain_pixels recurrent_gain_permuted
EXPERIMENT ?= udl_residual sigmoid_mlp relu_then_bn_mlp uc3m_mlp udacity_mlp uc3m_lenet recurrent recurrent_rows general_claims

.DEFAULT_GOAL := help

# Trains the experiments $(1), and writes the report with the options $(2), also where one is not done.
define trained
@failed=; for name in $(1); do $(BIN)/python train.py experiment=$$name $(SET) || failed="$$failed $$name"; done; \
$(BIN)/python -m bn_experiments.report outputs $(2); test -z "$$failed" || { echo "not done:$$failed"; exit 1; }
endef

.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements.lock  # Python compiles what it imports
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

.PHONY: setup demo grid reproduce atlas report bench test test-all lint format lock tensorboard clean help
setup: .venv/ready  ## make .venv with the locked versions (Python 3.11 or newer)

demo: setup  ## the main job: two networks with and without batch norm, ten seeds each
	$(BIN)/python train.py -m model=mlp,lenet norm=bn,none
	@echo; echo "Next: make tensorboard, make grid, or $(BIN)/python train.py --help"

grid: setup  ## three networks with every norm that has a place in them, on MNIST-1D
	$(BIN)/python train.py -m model=mlp,residual_mlp,lenet norm=bn,gn,in,ln,none,rms,wn

test: setup  ## the tests
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow"

test-all: setup  ## the tests, the slow ones too
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup  ## style and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: setup  ## repair the style
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

lock: setup  ## resolve requirements.lock anew, for every platform
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --no-emit-index-url --no-annotate --no-header --output-file requirements.lock

reproduce: setup  ## the published experiments, then the report; EXPERIMENT=name for one, SET="key=value" for all
	$(call trained,$(EXPERIMENT))

# of some experiments alone the page is another one, or the rows of the others would be lost
atlas: setup  ## what the literature claims and theory answers, then docs/atlas.md; ATLAS=name for one, in outputs/atlas.md
	$(call trained,$(ATLAS),--atlas $(if $(filter file,$(origin ATLAS)),docs,outputs)/atlas.md)

report: setup  ## outputs/report.html from the results that are there, without training
	$(BIN)/python -m bn_experiments.report outputs

bench: setup  ## the engine against other ways to do the same work, 25 minutes; IMAGES=folder for CIFAR-10 as files
	$(BIN)/python -m benchmarks $(if $(IMAGES),--images $(IMAGES))

tensorboard: setup  ## browse what was trained
	$(BIN)/tensorboard --logdir outputs

clean:  ## remove the environment and the caches; outputs and data stay
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
