# Every target makes .venv first if it is missing or older than what it is made from.
PYTHON ?= python3
PY := .venv/bin/python
EACH := -n auto --dist loadfile  # a process for each core; a file's tests share what they set up

.PHONY: bench smoke speed gpu check test test-slow lint docs clean

bench: .venv/made  ## the comparison on the embedded data set
	$(PY) -m bench run --preset cpu

smoke: .venv/made  ## every part in two minutes, on marks that are easy to see: it measures no method
	$(PY) -m bench run --preset smoke

speed: .venv/made  ## the suite's parts timed beside their opponents
	$(PY) -m bench speed

gpu: .venv/made  ## what only a GPU can show, in less than 10 minutes: tests, timings, a cell; the table goes into docs/speed.md
	$(PY) -m bench gpu

check: .venv/made  ## regression gates: accuracy, cost and speed against the rows committed in results.csv
	$(PY) -m bench check

test: .venv/made
	$(PY) -m pytest $(EACH)

test-slow: .venv/made
	$(PY) -m pytest $(EACH) -m slow

lint: .venv/made
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

docs: .venv/made  ## what the documents repeat, written again from where it stands once
	$(PY) -m bench.report.documents

clean:  ## what was made here, stored runs included; results.csv and data of your own stay
	rm -rf .venv runs build *.egg-info .pytest_cache .ruff_cache .mypy_cache .benchmarks data/phantom-* data/marks-*

.venv/made: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@
