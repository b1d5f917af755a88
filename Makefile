# The two commands: `make up` runs everything on this machine, `make test` tests everything; and `make compare`.
# They install what Debian packages are missing (asking for root only then) and build what has changed.

PROGRAM := .build/release/forkloop
# The static standard library makes one binary that needs no Swift where it runs.
BUILD := swift build -c release --static-swift-stdlib --product forkloop
PACKAGES := nginx postgresql postgresql-client libpq-dev libfcgi-dev libxxhash-dev pkg-config make python3-venv
# What 'forkloop compare' has beyond that: charts, plain CGI, processors to pin to.
COMPARE_PACKAGES := libjs-chart.js fcgiwrap util-linux
TEST_PACKAGES := python3 python3-pytest openssl apache2-bin chromium chromium-driver python3-selenium curl wrk nghttp2-client
# Python tools that Debian does not have: see the two lists of requirements.
PYTHON := .build/python
# Arguments, as in: make up ARGS="--port 9000 --demo-data", make compare ARGS=--quick
ARGS ?=

.PHONY: up compare test unit-test system-test build assets packages compare-packages test-packages format lint clean

up: build assets
	@exec $(PROGRAM) up $(ARGS)

compare: build compare-packages
	@exec $(PROGRAM) compare $(ARGS)

test: unit-test system-test

unit-test: packages
	Tests/with-postgres swift test --quiet
	Tests/Fuzz/run

system-test: build assets compare-packages test-packages $(PYTHON)/tests
	/usr/bin/python3 -m pytest -q -p no:cacheprovider Tests/SystemTests

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
