# make demo   environment, demo data, folds, training, out-of-fold scores, submission
# make test   environment, lint, types, tests
# make bench  environment, every benchmark, benchmarks/RESULTS.md: minutes on a quiet machine
# make bench-gpu  environment, what a CUDA GPU does, in benchmarks/RESULTS.md
# make matrix environment, every architecture with encoders of every kind
# make fuzz   a million odd inputs of each kind: long
# make soak   memory and open files over 100,000 test images: minutes
# make kills  every stage stopped twenty times in each way and called again: long
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test bench bench-gpu matrix fuzz soak kills clean

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
	for block in $$(seq 20); do FUZZ_INPUTS=50000 \
	$(BIN)/python -m pytest -x --hypothesis-seed=$$block tests/test_fuzz_*.py || exit; done

soak: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/soak.py

kills: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python tests/kills.py

clean:
	rm -rf .venv output/demo lightning_logs/demo
