# make demo   environment, demo data, folds, training, out-of-fold scores, submission
# make test   environment, lint, types, tests
# make bench  environment, every benchmark, benchmarks/RESULTS.md: minutes on a quiet machine
# make matrix environment, every architecture with encoders of every kind: some ten minutes
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench matrix clean

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

matrix: .venv/ready
	$(BIN)/python benchmarks/networks_matrix.py

clean:
	rm -rf .venv output/demo lightning_logs/demo
