# rolehost: `make help` lists the targets. Needs make and Python 3.11 or newer with its venv module; the rest is set up by the targets.
SHELL := /bin/sh
.SHELLFLAGS := -euc
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

# The first interpreter that runs and is new enough. Recursive on purpose: looked up only when an environment is made.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)
PORT ?= 8080
DATA ?= .rolehost
ARGS ?=
# Tests wait more than they compute: more of their files at once than there are processors.
WORKERS ?= 5
LOCK_ARGS ?= --upgrade

VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' rolehost/_version.py)
WHEEL := dist/rolehost-$(VERSION)-py3-none-any.whl
# Folders too: a file that was removed makes its folder newer.
SOURCES := $(shell find rolehost legacy_bin -name __pycache__ -prune -o -print) pyproject.toml README.md LICENSE
# Nothing unlocked and nothing to compile: a source package would fetch a build backend that no lock names.
INSTALL := -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: --requirement
INSTALL_OWN := -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall

.PHONY: help run wheel sdist test check docs bench soak lock format setup system-packages clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r target text; do printf '%-22s %s\n' "$$target" "$$text"; done

run: .venv-run/.installed ## build and install the wheel, start the service (PORT=8080, DATA=.rolehost)
	@exec .venv-run/bin/rolehost up --port "$(PORT)" --data "$(DATA)"

wheel: $(WHEEL) ## build the wheel into dist/

sdist: .venv-build/.locked ## build the source package into dist/
	.venv-build/bin/python -m hatchling build --target sdist

test: system-packages check ## everything: the checks and all tests (ARGS="-k word" for some)
	.venv/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=15 --durations-min=10 $(ARGS) \
		|| { [ $$? = 1 ] && echo "Once more, alone: what failed beside others. A fault fails again." \
		&& .venv/bin/python -m pytest --last-failed --last-failed-no-failures none; }

check: .venv/.installed ## lint, format, types, import layers, exports, Dockerfile, compose.yaml
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	MYPYPATH=legacy_bin .venv/bin/mypy --config-file pyproject.toml --scripts-are-modules legacy_bin/*.py legacy_bin/thumbnail
	MYPYPATH=legacy_bin .venv/bin/mypy --config-file pyproject.toml --scripts-are-modules legacy_bin/transcode
	MYPYPATH=legacy_bin .venv/bin/mypy --config-file pyproject.toml --scripts-are-modules legacy_bin/contact_sheet
	.venv/bin/python -m pytest --quiet tests/test_layers.py tests/test_exports.py
	.venv/bin/hadolint Dockerfile
	.venv/bin/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml

docs: .venv/.installed ## the documentation as pages, in build/docs; warnings are errors
	.venv/bin/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --doctree-dir build/doctrees docs build/docs

bench: .venv/.installed .venv-bench/.locked ## thumbnails against xargs -P; on Azurite beside Celery (ARGS=azure: only that)
	.venv/bin/python -m benchmarks $(ARGS)

soak: .venv/.installed ## a service under a hail of kills, judged by its history (ARGS="--jobs 10000 --every 2")
	ROLEHOST_SCHEDULES=60000 .venv/bin/python -m pytest --quiet tests/unit/test_protocol_schedules.py -k no_schedule
	PYTHONPATH=tests .venv/bin/python -m tests.soak $(ARGS)

format: .venv/.installed ## format, and mend what ruff can mend
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

setup: .venv/.installed ## the environment of the tests, in .venv

lock: .venv-lock/.ready ## resolve requirements/*.txt again (LOCK_ARGS= keeps what is pinned)
	.venv-lock/bin/uv pip compile $(LOCK) pyproject.toml --group test --group check --group build --group docs --output-file requirements/test.txt
	.venv-lock/bin/uv pip compile $(LOCK) pyproject.toml --constraint requirements/test.txt --output-file requirements/run.txt
	.venv-lock/bin/uv pip compile $(LOCK) --group build --constraint requirements/test.txt --output-file requirements/build.txt
	.venv-lock/bin/uv pip compile $(LOCK) benchmarks/requirements.in --output-file requirements/bench.txt

# No address of an index gets into a lock: a machine takes packages from wherever its own pip is told to.
LOCK = $(LOCK_ARGS) --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate --no-config --quiet

clean: ## remove what make made; the data directory stays
	rm -rf .venv .venv-bench .venv-build .venv-run .venv-lock dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Environments. Each stamp is newer than all that its step read, so a second `make` does no work twice.

.venv/.installed: pyproject.toml rolehost/_version.py README.md LICENSE .venv/.locked
	.venv/bin/python $(INSTALL_OWN) --no-build-isolation --editable .
	@touch $@

.venv-run/.installed: $(WHEEL) .venv-run/.locked
	.venv-run/bin/python $(INSTALL_OWN) $(WHEEL)
	@touch $@

.venv/.locked: requirements/test.txt
.venv-run/.locked: requirements/run.txt
.venv-build/.locked: requirements/build.txt
.venv-bench/.locked: requirements/bench.txt
.venv/.locked .venv-run/.locked .venv-build/.locked .venv-bench/.locked:
	$(call make_venv,$(@D))
	$(@D)/bin/python $(INSTALL) $<
	@touch $@

.venv-lock/.ready:
	$(call make_venv,$(@D))
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9'
	@touch $@

$(WHEEL): $(SOURCES) .venv-build/.locked
	rm -f dist/rolehost-*.whl
	.venv-build/bin/python -m hatchling build --target wheel
	@touch $@

define make_venv
@test -n "$(PYTHON)" || { echo "rolehost needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "rolehost needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`." >&2; exit 1; }
@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) has no venv module. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
$(PYTHON) -m venv --clear $(1)
endef

# What the tests need besides Python, as command:packages (Debian's names). Without a font Chromium draws no text.
SYSTEM_PACKAGES := chromium:chromium,fonts-liberation setpriv:util-linux prlimit:util-linux node:nodejs npm:npm
# Programs of other people's that become workers in the examples.
SYSTEM_PACKAGES += ffmpeg:ffmpeg tesseract:tesseract-ocr cjpeg:libjpeg-turbo-progs pngquant:pngquant sox:sox pandoc:pandoc \
	cc:gcc,libc6-dev curl:curl
# A build server builds the image, too. Elsewhere: make test ROLEHOST_TEST_IMAGE=1
ROLEHOST_TEST_IMAGE ?= $(CI)
export ROLEHOST_TEST_IMAGE
SYSTEM_PACKAGES += $(if $(ROLEHOST_TEST_IMAGE),buildah:buildah mmdebstrap:mmdebstrap podman:podman runc:runc)

system-packages: ## what the tests need from the system: installed for root, named for others
	@missing=; for pair in $(SYSTEM_PACKAGES); do \
		command -v "$${pair%%:*}" >/dev/null || missing="$$missing,$${pair##*:}"; \
	done; \
	missing=`echo "$$missing" | tr , " "`; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "`id -u`" != 0 ] || ! command -v apt-get >/dev/null; then \
		echo "make test needs these packages of the system:$$missing (as root on Debian and Ubuntu it installs them itself)" >&2; exit 1; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq; \
	apt-get install -y -qq --no-install-recommends $$missing
