# The names people type. Each target does its own set-up and is safe to repeat.
#
#   make up          set up what is missing, build, start the whole cloud, run the tour (PROFILE=release: for use)
#   make test        everything: unit, simulation, real clients, real VMs and containers
#   make lint        formatting, clippy, licences, shell scripts
#   make fuzz        mutated inputs for every reader of strangers' bytes, FUZZ_SECONDS=20 each; GUIDED=1 by coverage
#   make bench       figures, with a baseline of the same run
#   make acceptance  tempest's SCS-0128 tests against a cloud that it starts
#   make docs        the API documentation of the crates
#   make down        stop the cloud and remove every trace of it
#   make clean       remove what was built

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export BRAID_IMAGES ?= /var/cache/braid/images
export BRAID_VENV ?= $(HOME)/.cache/braid/venv
BRAID_DIR ?= /var/lib/braid
# The same build as the tests have, which takes a quarter of the time; PROFILE=release: the quick one for use.
PROFILE ?= dev
BUILT := $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
PATH := $(HOME)/.cargo/bin:$(PATH)
export PATH

help:
	@sed -n '2,13s/^# \{0,1\}//p' Makefile

.PHONY: help up test lint fuzz bench acceptance docs down clean setup images

setup:
	@scripts/long "installing what is missing" 2 scripts/setup

images: setup
	@scripts/long "making the small test images" 1 images/build

up: setup images
	@scripts/long "building Braid ($(PROFILE))" $(if $(filter dev,$(PROFILE)),4,13) cargo build --profile $(PROFILE) --bin braid
	@BRAID=$(BUILT)/braid scripts/tour --dir $(BRAID_DIR)
	@echo
	@echo "The cloud is up. Log in with:"
	@echo "  export PATH=$(BUILT):$(BRAID_VENV)/bin:\$$PATH"
	@echo "  eval \"\$$(braid env --dir $(BRAID_DIR))\""
	@echo "  openstack server list; kubectl get pods"

test: setup images
	@scripts/test

lint:
	@scripts/setup --lint
	@scripts/lint

fuzz: setup
	@if [ -n "$(GUIDED)" ]; then scripts/fuzz-guided; \
	else FUZZ_SECONDS=$${FUZZ_SECONDS:-20} cargo test --workspace --test hostile -- --nocapture; fi

bench: setup images
	@cargo build --release --bin braid --bin load
	@cargo build --release -p driver-cri --example bare
	@scripts/bench
	@scripts/bench-hostile

acceptance: setup images
	@scripts/setup --acceptance
	@cargo build --bin braid
	@scripts/acceptance

docs:
	@cargo doc --workspace --no-deps

# By the very program that runs, which may be of another profile or not be there any more, or by any that was built.
down:
	@running=/proc/$$(cat $(BRAID_DIR)/braid.pid 2>/dev/null)/exe; \
	case $$(readlink "$$running") in */braid | */"braid (deleted)") ;; *) running= ;; esac; \
	for braid in $$running $(BUILT)/braid $(CARGO_TARGET_DIR)/{debug,release}/braid; do \
	    if [ -x $$braid ]; then exec $$braid down --dir $(BRAID_DIR) --purge; fi; \
	done; [ -e $(BRAID_DIR) ] || { echo "there is nothing in $(BRAID_DIR)"; exit 0; }; \
	echo "no braid is built that could remove what is in $(BRAID_DIR): cargo build --bin braid, and again" >&2; exit 1

clean:
	@cargo clean
