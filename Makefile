# Each word does its own set-up; the first one takes minutes, the next ones none.
# Paths are relative throughout, so that the folder may have any name.
# ARGS goes to the command: make test ARGS="-k scheduler", make test ARGS="-n 0", make bench ARGS=all.

PY := $(if $(filter Windows_NT,$(OS)),.venv/Scripts/python,.venv/bin/python)
READY := sh tools/setup.sh

# A process for each core, each with a share of the tests; one that is done takes over from the others.
PYTEST := QT_QPA_PLATFORM=offscreen $(PY) -m pytest -n auto --maxprocesses 8 --dist worksteal

.PHONY: help install run test soak lint fix demo bench wheel bundle smoke
.DEFAULT_GOAL := help

help:
	@echo "make install   set up .venv and what it needs; every other word does this too"
	@echo "make run       open the window, or run the demo where there is no display"
	@echo "make test      all tests but the long ones; ARGS='-n 0' runs them in one process"
	@echo "make soak      the long forms of some tests"
	@echo "make lint      ruff, mypy and the floors"
	@echo "make fix       format, and fix what ruff can"
	@echo "make demo      read, generate and measure once, without a window"
	@echo "make bench     list the benchmarks; ARGS=NAME or ARGS=all runs them"
	@echo "make wheel     a wheel and an sdist in dist/"
	@echo "make bundle    the program for this system, packed, in dist/; ARGS=--without-torch: with MLX instead"
	@echo "make smoke     try the bundles in dist/ in an empty folder, home and environment"

install:
	@$(READY)

run:
	@$(READY) qt
	@$(PY) -m crane_app $(ARGS)

test:
	@$(READY) qt
	@$(PYTEST) $(ARGS)

soak:
	@$(READY) qt
	@$(PYTEST) -m "soak or hypothesis" -o timeout=1800 $(ARGS)

lint:
	@$(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo

fix:
	@$(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

demo:
	@$(READY)
	@$(PY) -m crane_app demo $(ARGS)

bench:
	@$(READY)
	@$(PY) -m benchmarks $(ARGS)

wheel:
	@$(READY)
	@rm -rf build/lib
	@$(PY) -m build --no-isolation --outdir dist .

bundle:
	@$(READY) bundle
	@$(PY) packaging/bundle.py $(ARGS)

smoke:
	@$(READY) qt
	@for made in dist/crane-*-*.tar.* dist/crane-*-*.zip; do \
	    case "$$made" in *'*'* | *.sha256) continue ;; esac; \
	    echo "$$made"; $(PY) packaging/smoke.py "$$made" $(ARGS) || exit 1; \
	done
