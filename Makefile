# The two commands: `make up` runs everything on this machine, `make test` tests everything; and `make compare`.
# They install what Debian packages are missing (asking for root only then) and build what has changed.

PROGRAM := .build/release/forkloop
# The static standard library makes one binary that needs no Swift where it runs.
BUILD := swift build -c release --static-swift-stdlib --product forkloop
PACKAGES := nginx postgresql postgresql-client libpq-dev libfcgi-dev libxxhash-dev pkg-config make python3-venv
# What 'forkloop compare' has beyond that: charts, plain CGI, processors to pin to.
COMPARE_PACKAGES := libjs-chart.js fcgiwrap util-linux
TEST_PACKAGES := python3 python3-pytest python3-pytest-xdist openssl apache2-bin chromium chromium-driver python3-selenium curl wrk nghttp2-client pgbouncer strace
# Python tools that Debian does not have: see the two lists of requirements.
PYTHON := .build/python
# Arguments, as in: make up ARGS="--port 9000 --empty", make compare ARGS=--quick
ARGS ?=

# How many system tests go on at the same time: more than there are processors, since most of them wait.
TEST_PROCESSES ?= 4

.PHONY: up compare test test-long test-signals unit-test system-test build build-tests run-unit-tests run-system-tests system-test-needs assets packages compare-packages test-packages format lint clean tutorial finding

up: build assets
	@exec $(PROGRAM) up $(ARGS)

# The same in a debug build, which is the quickest to make anew: when a source changes it is built, the schema is brought up to
# date, and the responders are reloaded, which loses no request. What can't be built is told, and the program before it goes on.
DEV := .build/debug/forkloop
BUILD_DEV := swift build --product forkloop
DEV_SOURCES := Package.swift Sources
STATE = $(shell echo ' $(ARGS)' | sed -n 's/.* --state[= ]*\([^ ]*\).*/--state \1/p')
.PHONY: dev
dev: packages assets
	@touch .build/dev; $(BUILD_DEV) || exit; $(DEV) up $(ARGS) & up=$$!; \
	trap 'kill $$up 2>/dev/null; wait $$up; exit' INT TERM; \
	while sleep 0.5 && kill -0 $$up 2>/dev/null; do \
	  [ -n "$$(find $(DEV_SOURCES) -type f -newer .build/dev -print -quit)" ] || continue; \
	  touch .build/dev; \
	  if $(BUILD_DEV) && $(DEV) migrate $(STATE) && pkill -HUP -P $$up -f ' (sync|async)( |$$)'; \
	  then echo "built and reloaded"; else echo "not reloaded: the program before the change goes on"; fi; \
	done; wait $$up

compare: build compare-packages
	@exec $(PROGRAM) compare $(ARGS)

# Redoes a finding of docs/findings, as in: make finding N=1
FINDING = $(wildcard benchmarks/findings/$(N)-*)
finding:
	@[ -n "$(N)" ] && [ -n "$(FINDING)" ] || { echo "N is one of:"; ls benchmarks/findings | grep '^[0-9]'; exit 2; } >&2
	@$(MAKE) --no-print-directory build
	@exec /usr/bin/python3 $(FINDING) $(ARGS)

# Both kinds of tests at the same time, once all is built. What the unit tests say is told in the end, not in between.
test: build-tests system-test-needs
	@code=0; $(MAKE) --no-print-directory --keep-going -j2 run-unit-tests run-system-tests || code=$$?; \
	cat .build/unit-tests.log; exit $$code

unit-test: build-tests
	@$(MAKE) --no-print-directory run-unit-tests; code=$$?; cat .build/unit-tests.log; exit $$code

system-test: system-test-needs
	@$(MAKE) --no-print-directory run-system-tests

run-unit-tests:
	@{ Tests/with-postgres swift test --skip-build --quiet && Tests/Fuzz/run 100000; } >.build/unit-tests.log 2>&1

PYTEST := /usr/bin/python3 -m pytest -q --durations=10 Tests/SystemTests

# Tests of a group share what is slow to make: see the marks `xdist_group`.
run-system-tests:
	@$(PYTEST) -n $(TEST_PROCESSES) --dist loadgroup

# What takes minutes by itself, and of which `make test` has a smaller version.
test-long: build-tests system-test-needs
	FORKLOOP_LONG_TESTS=1 swift test --skip-build --quiet --filter StatisticsTests
	Tests/Fuzz/run 1000000
	$(PYTEST) -m long -n 2 --dist loadgroup

# Every pair of signals, at every phase of a request, on every kind of socket; `make test` has each pair once.
test-signals: build test-packages
	FORKLOOP_SIGNALS=all $(PYTEST)/test_signals.py -n $(TEST_PROCESSES)
	FORKLOOP_SIGNALS=all $(PYTEST)/test_signals_up.py

system-test-needs: build assets compare-packages test-packages $(PYTHON)/tests

build-tests: packages
	swift build --build-tests

build: packages
	$(BUILD)

# Swagger UI and Redoc for /docs and /redoc. Without a network all else works, and the pages say what is missing.
assets: nginx/assets/installed

nginx/assets/installed: nginx/assets.txt | $(PYTHON)/bin/pip
	@rm -rf .build/assets && mkdir -p nginx/assets .build/assets
	@$(PYTHON)/bin/pip download -q --no-deps --require-hashes -r $< -d .build/assets \
	  && nginx/unpack-assets .build/assets/*.whl nginx/assets && cp $< $@ \
	  || echo "Swagger UI could not be fetched; /docs will do without it until 'make assets' can"

$(PYTHON)/bin/pip: | packages
	@/usr/bin/python3 -m venv $(PYTHON)

$(PYTHON)/tests: Tests/SystemTests/requirements.txt | $(PYTHON)/bin/pip
	$(PYTHON)/bin/pip install -q --disable-pip-version-check -r $<
	@touch $@

# Installs only what is missing, so that a machine that has everything asks for nothing.
define install
	@missing=$$(for p in $(1); do dpkg-query -W -f '$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing:" $$missing; \
	  sudo=$$([ "$$(id -u)" = 0 ] || echo sudo); \
	  $$sudo apt-get update -q && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi
endef

packages:
	@command -v swift >/dev/null || { echo "forkloop is built by a Swift 6.3 toolchain: https://swift.org/install" >&2; exit 1; }
	$(call install,$(PACKAGES))

compare-packages:
	$(call install,$(COMPARE_PACKAGES))

test-packages:
	$(call install,$(TEST_PACKAGES))

format:
	swift format --in-place --recursive Package.swift Sources Tests

lint:
	swift format lint --strict --recursive Package.swift Sources Tests

clean:
	swift package clean

# Fits docs/tutorial.patch to the sources as they were committed last.
tutorial:
	@docs/refresh-tutorial $(ARGS)
