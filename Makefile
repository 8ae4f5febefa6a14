# Classy: `make demo` shows it, `make test` tests it. Everything is installed into .venv; nothing else is touched.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt
PACKAGE := pyproject.toml constraints.txt
# The Python and the machine that the functions' images have; Fn's own images have CPython 3.12.
BUNDLE_PYTHON ?= 3.12
BUNDLE_ARCH ?= x86_64
BUNDLE_FOR = --python $(BUNDLE_PYTHON) --arch $(BUNDLE_ARCH)
# AWS Lambda's runtime: this Python's version where AWS has it, for only that version can compile the packages.
PACKAGE_PYTHON ?= $(shell $(PYTHON) -c 'import sys; v = sys.version_info; print(f"3.{min(v.minor, 14)}" if v >= (3, 12) else "3.12")')
PACKAGE_ARCH ?= x86_64
STAGE ?= dev
SERVERLESS := node_modules/.bin/serverless

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo stop test test-slow check fuzz bench bench-wire bench-serve bench-pictures bench-thumbnails bench-records bench-cold cost bundle bundle-lock package package-image deploy undeploy test-fn-image test-fn-server test-page page-images test-aws clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Classy needs Python 3.11 or newer; call it like this: make PYTHON=python3.12 demo" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' || \
	  { echo "this Python has no venv module; on Debian: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/local.done: $(PACKAGE) | $(BIN)/python
	@echo "Installing what the local cloud needs (a minute or two at the first time) …"
	$(PIP) --editable '.[local]'
	@touch $@

$(VENV)/dev.done: $(PACKAGE) | $(BIN)/python
	@echo "Installing what the tests need (a minute or two at the first time) …"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/local.done $(VENV)/bundle.done

$(VENV)/browser.done: $(VENV)/dev.done
	@echo "Installing what drives a browser …"
	$(PIP) --editable '.[browser]'
	@touch $@

$(VENV)/bundle.done: constraints.txt | $(BIN)/python
	@echo "Installing what makes the bundles …"
	$(PIP) packaging setuptools
	@touch $@

demo: $(VENV)/local.done ## classify a real photo three ways on a local cloud (it stays up)
	@$(BIN)/classy demo

stop: ## stop the local cloud
	@if [ -x $(BIN)/classy ]; then $(BIN)/classy down; fi

test: $(VENV)/dev.done ## run the tests
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-slow: $(VENV)/dev.done ## run the tests that take minutes
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

check: $(VENV)/dev.done ## lint and type-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

fuzz: $(VENV)/dev.done ## fuzz the codec, guided by coverage (FUZZ_SECONDS=60)
	$(PIP) 'atheris==3.0.0'
	$(BIN)/python fuzz/fuzz_codec.py -max_total_time=$(or $(FUZZ_SECONDS),60)

bundle: $(VENV)/bundle.done ## make what the functions' images are built from; print and check its sizes
	$(BIN)/python -m bundling $(BUNDLE_FOR)

bundle-lock: $(VENV)/bundle.done
	$(BIN)/python -m bundling --lock $(BUNDLE_FOR)

bundle-%: $(VENV)/bundle.done
	$(BIN)/python -m bundling $(BUNDLE_FOR) $*

package: $(VENV)/bundle.done ## make the zips for AWS Lambda; print and check their sizes
	$(BIN)/python -m bundling.packages --python $(PACKAGE_PYTHON) --arch $(PACKAGE_ARCH) \
	  $(if $(COMPILER),--compiler $(COMPILER))

package-image: $(VENV)/bundle.done ## make what deploy/aws/Dockerfile builds container images for Lambda from
	$(BIN)/python -m bundling.packages --image --python $(PACKAGE_PYTHON) --arch $(PACKAGE_ARCH)

$(SERVERLESS): package.json package-lock.json
	npm ci --no-audit --no-fund
	@touch $@

deploy: package $(SERVERLESS) $(VENV)/local.done ## deploy to AWS and publish the default model there (STAGE=dev)
	$(SERVERLESS) deploy --stage $(STAGE) $(DEPLOY_ARGS)
	$(BIN)/classy model default
	$(BIN)/python deploy/aws/stack.py publish .classy/default-model --stage $(STAGE)

undeploy: $(SERVERLESS) $(VENV)/local.done ## remove from AWS what `make deploy` made (STAGE=dev)
	$(BIN)/python deploy/aws/stack.py empty --stage $(STAGE)
	$(SERVERLESS) remove --stage $(STAGE) $(DEPLOY_ARGS)

test-fn-image: $(VENV)/dev.done ## build the images and run them as Fn does (as root; installs docker.io and debootstrap)
	$(BIN)/python -m pytest tests/fn_image/check_fn_image.py tests/fn_image/check_lambda_image.py

test-page: $(VENV)/browser.done ## drive the page in a real browser (as root it installs Debian's chromium)
	$(BIN)/python -m pytest tests/browser/check_*.py $(PYTEST_ARGS)

page-images: $(VENV)/browser.done ## take the page's pictures in docs/images again
	PYTHONPATH=tests $(BIN)/python tests/browser/take_images.py --into docs/images

test-fn-server: $(VENV)/dev.done ## deploy to a real Fn server (FN_API_URL, CLASSY_FN_BIN) and invoke there
	$(BIN)/python -m pytest tests/fn_server/check_fn_server.py

test-aws: $(VENV)/dev.done ## deploy serverless.yml to a local AWS and use it there (as root, installs bubblewrap)
	$(BIN)/python -m pytest tests/aws/check_*.py $(PYTEST_ARGS)

bench: bench-wire bench-serve bench-pictures bench-thumbnails bench-records bench-cold ## run every benchmark

bench-wire: $(VENV)/dev.done ## the wire format beside its peers
	$(BIN)/python bench/wire.py

bench-serve: $(VENV)/dev.done ## the model server beside its peers
	$(BIN)/python bench/serve.py

bench-records: $(VENV)/dev.done ## what people look for among a million records (RECORDS=1000000)
	$(BIN)/python bench/records.py --records $(or $(RECORDS),1000000)

bench-pictures: $(VENV)/dev.done ## picture decoding beside plain Pillow
	$(BIN)/python bench/pictures.py

bench-thumbnails: $(VENV)/dev.done ## what thumbnails add to the Preprocessor's work
	$(BIN)/python bench/thumbnails.py

bench-cold: $(VENV)/dev.done ## whole cold starts of the classifier beside the usual way
	$(BIN)/python bench/cold.py

cost: $(VENV)/dev.done ## how many pictures a dollar classifies on Lambda, from times measured here
	$(BIN)/python bench/cost.py $(COST_ARGS)

clean: stop ## remove everything that was made, the virtual environment too
	rm -rf $(VENV) .classy .serverless node_modules build dist bundle functions/*/bundle .pytest_cache .mypy_cache .ruff_cache .hypothesis
