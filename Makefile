# make demo   environment, demo data, folds, training, out-of-fold scores, submission
# make test   environment, lint, types, tests
# make bench  environment, every benchmark, benchmarks/RESULTS.md: minutes on a quiet machine
# make bench-gpu  environment, what a CUDA GPU does, in benchmarks/RESULTS.md
# make matrix environment, every architecture with encoders of every kind
# make fuzz   a million odd inputs of each kind: long
# make soak   memory and open files over 100,000 test images: minutes
# make lock   requirements.lock: the versions of .venv, with the hashes of their files
# make audit  known holes in these versions
# make lowest an environment of the lower bounds of requirements*.txt, and the tests there but slow ones
# make kills  every stage stopped twenty times in each way and called again: long
PYTHON ?= python3
BIN := .venv/bin
LOWEST := .venv-lowest
TESTS ?= tests
# What writes small files by the million writes them to memory, where there is such a place.
MEMORY := $(if $(wildcard /dev/shm/.),TMPDIR=/dev/shm)

.PHONY: demo test bench bench-gpu matrix fuzz soak lock audit lowest kills clean

.venv/ready: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-dev.txt
	touch $@

demo: .venv/ready
	$(BIN)/python src/demo_data.py
	$(BIN)/python src/folds.py @recipes/demo.args
	$(BIN)/python src/Lightning_trainer.py @recipes/demo.args
	$(BIN)/python src/Lightning_tester.py @recipes/demo.args
	$(BIN)/python src/ensemble.py @recipes/demo.args

test: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

bench: .venv/ready
	$(BIN)/python benchmarks/run.py

bench-gpu: .venv/ready
	$(BIN)/python benchmarks/run.py gpu

matrix: .venv/ready
	$(BIN)/python benchmarks/networks_matrix.py

fuzz: .venv/ready
	for block in $$(seq 20); do $(MEMORY) FUZZ_INPUTS=50000 \
	$(BIN)/python -m pytest -x --hypothesis-seed=$$block tests/test_fuzz_*.py || exit; done

soak: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py

.venv/tools: .venv/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check uv pip-audit
	touch $@

# What was tested, without the mark of another index (+cpu): the hashes are PyPI's.
lock: .venv/ready .venv/tools
	$(BIN)/python -m pip freeze > .venv/frozen.txt
	sed 's/+.*//' .venv/frozen.txt > .venv/tested.txt
	$(BIN)/uv pip compile -q --no-config --universal --python-version 3.11 --generate-hashes \
	--no-annotate --custom-compile-command "make lock" -c .venv/tested.txt requirements.txt \
	-o requirements.lock

audit: .venv/tools
	$(BIN)/pip-audit --disable-pip --require-hashes -r requirements.lock

$(LOWEST)/ready: .venv/tools requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(LOWEST)
	$(BIN)/uv pip compile -q --no-config --resolution lowest-direct -p $(LOWEST) \
	requirements-dev.txt -o $(LOWEST)/requirements.txt
	$(BIN)/uv pip install -q --no-config -p $(LOWEST) -r $(LOWEST)/requirements.txt
	touch $@

lowest: $(LOWEST)/ready
	$(LOWEST)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(TESTS)

kills: .venv/ready
	$(MEMORY) OMP_NUM_THREADS=1 $(BIN)/python tests/kills.py

clean:
	rm -rf .venv $(LOWEST) output/demo lightning_logs/demo
