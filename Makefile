# Two commands: `make reproduce` and `make test`. Both set up .venv first (that alone: `make setup`).
#
#   make reproduce                          the smoke experiment, from speech to tables, in minutes on two cores
#   make reproduce EXPERIMENT=smoke_real    another file of config/
#   make reproduce ONLY=table1,figure2      what these tables and figures need; SYSTEMS=f6,a12 for systems
#   make reproduce ONLY=sisters             a part that the experiment names: the grids of the sister papers; ONLY=all
#   make reproduce SEEDS=0                  seed 0 of all of it, before others; tables show the seeds that are there
#   make reproduce SYSTEMS=f6 FRESH=1       train f6 anew, whatever is there; FRESH=sources: what lacks its weights
#   make reproduce CORES=8                  more jobs at once
#   make snakemake-report                   Snakemake's own report of that run, beside ours
#   make bench                              speed of ours beside others', in 20 minutes; DEVICE=cuda; ONLY=paths_tree,packed;
#                                           docs/performance.md gets the table
#   make mutants                            how many wrong lines the tests notice: an hour; docs/reliability.md gets the table

EXPERIMENT ?= smoke
CORES ?= all
# A part of the experiment, names with commas between them; what is in no part where both are empty.
ONLY ?=
SYSTEMS ?=
# Seeds of that, with commas between them; all where it is empty.
SEEDS ?=
# What is trained although it is there: 1, what is asked for; sources, what is to be gone on from and has no weights.
FRESH ?=
WORKERS ?= 2
# Where `make bench` measures: cpu or cuda.
DEVICE ?= cpu
PYTHON ?= $(shell command -v python3.11 >/dev/null 2>&1 && python3.11 --version >/dev/null 2>&1 && echo python3.11 || \
	(command -v python3.12 >/dev/null 2>&1 && python3.12 --version >/dev/null 2>&1 && echo python3.12) || echo python3)
# The folder of the experiment's results; an unknown experiment is said here.
FOLDER = folder="$$(.venv/bin/python -m workflows.folder --experiment '$(EXPERIMENT)')"
SNAKEMAKE := .venv/bin/snakemake --workflow-profile none --profile workflows/profiles/default --cores $(CORES)
CONFIG = --config experiment='$(EXPERIMENT)' $(if $(ONLY),only='$(ONLY)') $(if $(SYSTEMS),systems='$(SYSTEMS)') \
	$(if $(SEEDS),seeds='$(SEEDS)') $(if $(FRESH),fresh='$(FRESH)')

.PHONY: setup reproduce snakemake-report test bench mutants lint

setup: .venv/complete

# torch by a resolving call (it brings its own CUDA packages where there are any), everything else from the lock.
.venv/complete: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] in ((3, 11), (3, 12)) else \
		f"foldbench needs Python 3.11 or 3.12; {sys.executable} is {sys.version.split()[0]} (name another: make PYTHON=...)")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check torch -c requirements.lock
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@touch $@

reproduce: setup
	@$(FOLDER) && \
		.venv/bin/python -m workflows.lock "$$folder" -- .venv/bin/python -m workflows.bring \
		--experiment '$(EXPERIMENT)' && \
		force="$$(.venv/bin/python -m workflows.why --experiment '$(EXPERIMENT)' --only '$(ONLY)' \
		--systems '$(SYSTEMS)' --seeds '$(SEEDS)' --fresh '$(FRESH)' --force)" && \
		.venv/bin/python -m workflows.lock "$$folder" -- $(SNAKEMAKE) $$force $(CONFIG) && \
		.venv/bin/python -m analysis.summary --experiment-folder "$$folder" --only '$(ONLY)' --systems '$(SYSTEMS)'

snakemake-report: setup
	@$(FOLDER) && $(SNAKEMAKE) $(CONFIG) --report "$$folder/snakemake_report.html"

test: setup
	.venv/bin/python -m pytest -n $(WORKERS) --dist loadfile

bench: setup .bench/complete
	.venv/bin/python -m benchmarks --device $(DEVICE) --only '$(ONLY)'

# What a peer needs beyond the lock, in a folder of its own: nothing else reads it. Without it that benchmark says so.
.bench/complete: Makefile
	@mkdir -p .bench
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .bench/packages \
		accelerate==1.15.0 && touch $@ || echo "note: accelerate could not be installed; one benchmark is left out"

# The tool stands in a folder of its own: nothing that is run or tested needs it.
mutants: setup .mutants/complete
	nice -n 15 .mutants/bin/python -m tests.mutants --write docs/reliability.md

.mutants/complete: Makefile
	$(PYTHON) -m venv .mutants
	.mutants/bin/python -m pip install --quiet --disable-pip-version-check cosmic-ray==8.7.0 parso==0.8.7
	@touch $@

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/snakemake --lint
