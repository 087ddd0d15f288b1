# Two commands: `make transfer` shows the point, `make test` checks everything. Each sets itself up in .venv once.

PYTHON ?= python3
BIN := .venv/bin
# What is imported is compiled when it is: a small part of what is installed.
INSTALL := $(BIN)/python -m pip install --quiet --no-compile
THREADS := $(shell nproc)
OUTPUT ?= runs/digits-$(shell date +%Y%m%d-%H%M%S)

.PHONY: transfer test test-slow lint docs

transfer: .venv/installed
	$(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
		--num_cpu_threads_per_process $(THREADS) recipes/transfer.py digits --output $(OUTPUT)

test: .venv/installed-for-tests lint
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(THREADS) --dist loadfile -m "not slow"

test-slow: .venv/installed-for-tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(THREADS) --dist loadfile -m slow

lint: .venv/installed-for-tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/ty check --no-progress

# The site, in build/site.
docs: .venv/installed-for-tests
	$(BIN)/mkdocs build --quiet

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/installed-for-tests: .venv/installed
	$(INSTALL) --editable '.[test]'
	$(INSTALL) --upgrade --no-deps --target .venv/huggingface_hub_1 \
		'huggingface_hub<2' httpx httpcore certifi
	$(INSTALL) --upgrade --no-deps --target .venv/timm_oldest \
		"$$(sed -n 's/.*"timm>=\(.*\)".*/timm==\1/p' pyproject.toml)"
	@# For a test in a browser, which is skipped without it.
	-npm install --silent --no-audit --no-fund --prefix .venv/onnxruntime-web onnxruntime-web@1
	touch $@
