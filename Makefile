# make test is the whole proof, and all that CI runs. On a Debian machine, as
# root, it installs the peers that the tests talk to.

SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := test

# The peers: what nobody here wrote.
PACKAGES := freeradius freeradius-utils eapoltest radsecproxy oathtool pskctool openssl slapd chromium fonts-noto-cjk \
	libpam-radius-auth pamtester ocserv openconnect iproute2 \
	charon-systemd strongswan-swanctl libcharon-extra-plugins libcharon-extauth-plugins libstrongswan-extra-plugins \
	apache2 libapache2-mod-auth-openidc
export CI

# The race detector needs a C compiler.
RACE := $(if $(shell command -v gcc),-race)

.PHONY: run test peers check bench fmt clean

run: ## run the gateway as shipped
	go run ./cmd/otpgate serve

test: peers ## everything: vet, then all tests
	go vet ./...
	go test $(RACE) -timeout 10m ./...

# Some of them are servers, which Debian would start: policy-rc.d says no.
peers:
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		missing=$$(for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
		if [ -n "$$missing" ]; then \
			if [ ! -e /usr/sbin/policy-rc.d ]; then \
				trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
				install -m 755 <(printf '#!/bin/sh\nexit 101\n') /usr/sbin/policy-rc.d; \
			fi; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $$missing >/dev/null; \
		fi; \
	fi

check: ## the linters, at their pinned version
	go tool -modfile=.ci/tools/go.mod golangci-lint run

bench: ## every benchmark, summed up
	go test -run '^$$' -bench . -benchmem ./... | tee /dev/stderr | go tool -modfile=.ci/tools/go.mod benchstat -

fmt:
	go tool -modfile=.ci/tools/go.mod golangci-lint fmt

clean:
	go clean -testcache
