# `make demo` shows walkeep at work, `make test` tests it; both install the programs that they need.
PREFIX ?= /usr/local
GO ?= go
# -tags forceposix: options begin with a dash on Windows, too. Without cgo nothing depends on the host's C library.
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -tags forceposix -ldflags '-s -w'
COMMANDS = ./archive-cmd ./restore-cmd ./supervisor

all: build

build:
	$(BUILD) -o bin/ $(COMMANDS)

test:
	scripts/install-test-tools
	scripts/test ./...

test-short:
	scripts/install-test-tools
	scripts/test -short ./...

race:
	scripts/install-test-tools
	scripts/test -race ./...

integration:
	scripts/install-test-tools
	scripts/test -run 'Recovery|Major' ./restore-cmd ./supervisor ./common/pgtest

# The tests that can run on Windows, under wine, as root. What does not run there is in testdata/windows-exceptions.
test-windows:
	scripts/test-windows

# The object stores alone, on MinIO too, with a thousand races; and a distributed store that loses processes, as root.
test-stores:
	scripts/install-test-tools
	scripts/fetch-minio
	WALKEEP_RACES=1000 WALKEEP_MINIO=1 scripts/test -count=1 ./common/storage/s3/...
	WALKEEP_MINIO=1 scripts/test -count=1 -run TestDistributedStore ./supervisor

# The page in a real browser; WALKEEP_SCREENSHOTS=DIR keeps what it shows. The alert rules judged by promtool.
test-page:
	scripts/install-page-tools
	WALKEEP_CHROMIUM=1 WALKEEP_PROMTOOL=1 $(GO) test -count=1 ./supervisor/page ./supervisor/metrics

fuzz:
	scripts/fuzz

bench:
	scripts/fetch-postgres 15
	$(GO) run ./scripts/bench

# BASE is the commit that this checkout is compared with.
compare:
	scripts/compare $(BASE)

demo:
	scripts/demo

lint:
	scripts/lint

# dist makes archives for all systems, packages, SHA256SUMS and lists of parts in dist/. test-dist, as root, holds that two
# builds are the same, and installs, upgrades and purges the Debian package on this machine.
dist:
	$(GO) run -C scripts/dist . -root ../.. -out ../../dist

test-dist:
	scripts/test-dist

install: build
	install -d $(DESTDIR)$(PREFIX)/lib/walkeep $(DESTDIR)$(PREFIX)/bin
	install -m 755 bin/archive-cmd bin/restore-cmd bin/supervisor $(DESTDIR)$(PREFIX)/lib/walkeep/
	ln -sf ../lib/walkeep/supervisor $(DESTDIR)$(PREFIX)/bin/walkeep

.PHONY: all build test test-short race integration test-windows test-stores test-page fuzz bench compare demo lint dist test-dist install
