# Everything a fresh machine with Rust (cargo) and Python 3 needs.
#
#   make test      all checks and all tests; the first run installs the tools and takes about half an hour
#   make simulate  11,000 seeded worlds of 30 days drive the watchdog; SEEDS=… for more or fewer
#   make proof     everything that proves what is promised, at length, and one table; PARTS=… for some of it
#   make mutants   breaks the pure core in thousands of small ways and names those that no test notices
#   make explore   the tests ten times over, with new cases for the property tests each time
#   make fuzz      hostile input, a minute for each of its readers; FUZZ_SECONDS=… for longer
#   make deny      licences, sources and TLS stack of all crates that the watchdog is built from
#   make demo      the main job on the embedded default: no AWS, no network
#   make bench     what starts, passes, lines, years and a thousand schedulers cost, beside what else there is
#   make deploy    build for AWS and deploy, with questions; DEPLOY_ARCH=x86_64 instead of arm64

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
TOOLS := $(CURDIR)/.tools
SAM_ENV := $(TOOLS)/sam
EMULATOR_ENV := $(TOOLS)/ministack
EXAMPLES_ENV := $(TOOLS)/examples
CHECKOV_ENV := $(TOOLS)/checkov
PEER_ENV := $(TOOLS)/peer
ENVIRONMENTS := $(SAM_ENV) $(EMULATOR_ENV) $(EXAMPLES_ENV) $(CHECKOV_ENV)
SAM := $(SAM_ENV)/bin/sam
CARGO_TOOLS := $(TOOLS)/cargo
CARGO_FUZZ := $(CARGO_TOOLS)/installed/cargo-fuzz@0.13.2
CARGO_DENY := $(CARGO_TOOLS)/installed/cargo-deny@0.20.2
CARGO_MUTANTS := $(CARGO_TOOLS)/installed/cargo-mutants@27.1.0

# The tests run the function on this machine, so it is built for this machine's processor.
ARCH ?= $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
DEPLOY_ARCH ?= arm64
PROPTEST_RNG_SEED ?= 20261125
# As `sam build` asks for it, which would build everything again otherwise.
CARGO_LAMBDA_ARCH := $(if $(filter arm64,$(ARCH)),--arm64,--x86-64)

export PATH := $(SAM_ENV)/bin:$(CARGO_TOOLS)/bin:$(PATH)
export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

.PHONY: tools
tools: $(ENVIRONMENTS:%=%/.installed) browser

# Chromium shows the page that `watchdog replay --format html` writes; another browser that is made
# of it will do.
CHROMIUM = $(firstword $(foreach name,chromium chromium-browser google-chrome,$(shell command -v $(name))))

.PHONY: browser
browser:
	@if [ -z "$(CHROMIUM)" ]; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update --quiet --quiet; \
			DEBIAN_FRONTEND=noninteractive apt-get install --quiet --quiet --yes --no-install-recommends chromium; \
		else \
			echo "The tests need Chromium: install the package chromium (or Google Chrome), and see to it that it is on the PATH." >&2; \
			exit 1; \
		fi; \
	fi

# Environments apart: aws-sam-cli, ministack and checkov want different versions of botocore.
$(SAM_ENV)/.installed: tools/requirements-sam.txt
$(EMULATOR_ENV)/.installed: tools/requirements-ministack.txt
$(EXAMPLES_ENV)/.installed: tools/requirements-examples.txt
$(CHECKOV_ENV)/.installed: tools/requirements-checkov.txt
$(PEER_ENV)/.installed: tools/requirements-peer.txt
$(ENVIRONMENTS:%=%/.installed) $(PEER_ENV)/.installed:
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/pip install --quiet --requirement $<
	touch $@

# Tools from crates.io, each built once, by name and version.
$(CARGO_TOOLS)/installed/%:
	cargo install --quiet --locked --root $(CARGO_TOOLS) $*
	mkdir -p $(@D)
	touch $@

.PHONY: lambda
lambda: $(SAM_ENV)/.installed
	cargo lambda build --release $(CARGO_LAMBDA_ARCH) --bin scheduler-watchdog

# `sam build` packs the bootstrap alone; a watchdog.toml beside this file goes with it. For this machine's processor:
# what is deployed, `make deploy` builds.
.PHONY: package
package: lambda
	$(SAM) build --parameter-overrides Architecture=$(ARCH)
	if [ -f watchdog.toml ]; then cp watchdog.toml .aws-sam/build/WatchdogFunction/; fi

.PHONY: lint
lint: $(SAM_ENV)/.installed $(EXAMPLES_ENV)/.installed $(CHECKOV_ENV)/.installed
	for template in template.yaml examples/laravel-ecs/scheduled-task/template.yaml; do \
		AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint --template $$template; \
		$(SAM_ENV)/bin/cfn-lint --append-rules cfn_lint_serverless.rules -- $$template; \
	done
	$(EXAMPLES_ENV)/bin/shellcheck examples/laravel-ecs/entrypoint.sh
	$(CHECKOV_ENV)/bin/checkov --framework cloudformation --file template.yaml --compact --quiet --skip-download

# The tests find the tools through these variables; `cargo test` without them leaves those tests out.
# The cases of property tests are the same in every run, so that a change is judged by itself and
# not by luck; `make explore` draws others.
WITH_TOOLS = PROPTEST_RNG_SEED=$(PROPTEST_RNG_SEED) \
	E2E_ARCH=$(ARCH) \
	E2E_SAM=$(SAM) \
	E2E_TEMPLATE=$(CURDIR)/.aws-sam/build/template.yaml \
	E2E_BOOTSTRAP=$(CURDIR)/.aws-sam/build/WatchdogFunction/bootstrap \
	E2E_EMULATOR_PYTHON=$(EMULATOR_ENV)/bin/python \
	E2E_EMULATOR=$(CURDIR)/tools/emulator.py \
	E2E_RIE="$$(echo $(SAM_ENV)/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-$(ARCH))" \
	E2E_CHROMIUM=$(CHROMIUM) \
	E2E_EXAMPLES=$(EXAMPLES_ENV)/bin

.PHONY: test
test: tools lint package
	$(WITH_TOOLS) cargo test
	$(MAKE) simulate SEEDS=$(FEWER_SEEDS)

# Some of the integration tests, by parts of their names. Those that need the function take the one
# that `make package` made.
FILTER ?= e2e::
FLAGS ?=
.PHONY: e2e
e2e:
	$(WITH_TOOLS) cargo test --test it -- $(FLAGS) $(FILTER)

# What becomes of a pass whose calls go wrong; FAULTS=all for every call.
FAULTS ?=
.PHONY: faults
faults:
	E2E_FAULTS=$(FAULTS) $(WITH_TOOLS) cargo test --test it -- --nocapture e2e::faults

# The long form of what CI runs as `make test`. Each part's length can be set; see tools/proof.py.
PARTS ?=
.PHONY: proof
proof:
	$(PYTHON) tools/proof.py $(PARTS)

# Worlds of 30 days, each made from its seed, and a tenth as many of scheduled tasks. A seed that fails is made small and told as a story.
SEEDS ?= 10000
FEWER_SEEDS ?= 1000
FIRST_SEED ?= 1
.PHONY: simulate
simulate:
	cargo test --test sim -- --seeds $(SEEDS) --first $(FIRST_SEED)

# Took 14 minutes on two cores (2026-11-29), beside what it builds first; MUTANTS_SHARD=1/8 tries a part that is drawn by chance,
# MUTANTS_FILES='src/judge*' some files, MUTANTS_FLAGS=--go-on goes on with the run before, --again too, with new tests:
# see tools/mutants.py.
MUTANTS_SHARD ?= 1/1
MUTANTS_FILES ?=
MUTANTS_FLAGS ?=
.PHONY: mutants
mutants: $(CARGO_MUTANTS)
	$(PYTHON) tools/mutants.py --cargo-mutants $(CARGO_TOOLS)/bin/cargo-mutants --shard $(MUTANTS_SHARD) \
		$(foreach file,$(MUTANTS_FILES),--file '$(file)') $(MUTANTS_FLAGS)

# Property tests again and again, each time with new cases.
ROUNDS ?= 10
.PHONY: explore
explore:
	for round in $$(seq $(ROUNDS)); do cargo test --quiet; done

# Needs a C++ compiler, for libFuzzer itself. A finding fails it, and is in fuzz/artifacts.
FUZZ_SECONDS ?= 60
FUZZ_JOBS ?= 1
.PHONY: fuzz
fuzz: $(CARGO_FUZZ)
	$(PYTHON) tools/fuzz.py run --seconds $(FUZZ_SECONDS) --jobs $(FUZZ_JOBS) $(FUZZ_TARGETS)

# Not part of `lint`: to build cargo-deny takes minutes. Advisories need their database, which is
# fetched from GitHub; where that cannot be reached, the rest still counts.
.PHONY: deny
deny: $(CARGO_DENY)
	cargo deny --log-level error check licenses bans sources
	if cargo deny --log-level off fetch db; then \
		cargo deny check advisories; \
	else \
		echo "advisories not checked: their database cannot be reached" >&2; \
	fi

# The exit code 2 of `check` says that the scheduler is in a critical state, and so it is.
.PHONY: demo
demo:
	cargo run --quiet --bin watchdog -- check --config examples/demo/watchdog.toml \
		--log-file examples/demo/scheduler.log --now 2026-11-24T04:05:00Z || test $$? -eq 2

BENCHES ?= start throughput replay lines fleet size
.PHONY: bench bench-start bench-throughput bench-replay bench-lines bench-fleet bench-size
bench:
	mkdir -p target/bench
	for part in $(BENCHES); do $(MAKE) --no-print-directory bench-$$part | tee target/bench/$$part.log; done
	@printf '\n%-44s %10s %10s %7s  %s\n' measured watchdog other ratio aim
	@sed -n 's/^= //p' $(BENCHES:%=target/bench/%.log)

# The function beside an empty one and a Python one, on a machine that does nothing else.
COLD_STARTS ?= 10
bench-start: package $(EMULATOR_ENV)/.installed $(PEER_ENV)/.installed
	cd benches/peer/empty && cargo lambda build --release $(CARGO_LAMBDA_ARCH)
	$(PEER_ENV)/bin/python tools/bench.py --rounds $(COLD_STARTS) \
		--bootstrap $(CURDIR)/.aws-sam/build/WatchdogFunction/bootstrap \
		--empty $(CURDIR)/benches/peer/empty/target/lambda/empty/bootstrap \
		--emulator-python $(EMULATOR_ENV)/bin/python \
		--rie "$$(echo $(SAM_ENV)/lib/python3*/site-packages/samcli/local/rapid/aws-lambda-rie-$(ARCH))"

# ripgrep must be on the PATH.
bench-throughput:
	cargo bench --bench throughput

bench-replay:
	cargo bench --bench replay

bench-fleet:
	cargo bench --bench fleet

bench-lines:
	cargo bench --bench lines

bench-size: package
	$(PYTHON) tools/size.py --bootstrap $(CURDIR)/.aws-sam/build/WatchdogFunction/bootstrap --arch $(ARCH) --build

.PHONY: deploy
deploy:
	$(MAKE) package ARCH=$(DEPLOY_ARCH)
	$(SAM) deploy --guided --parameter-overrides Architecture=$(DEPLOY_ARCH)

.PHONY: clean
clean:
	rm -rf $(TOOLS) .aws-sam
	cargo clean
