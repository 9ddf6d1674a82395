# What CI runs is .ci/run; `make check` is the same without installing anything.

FUZZTIME ?= 20s

.PHONY: check man generate lint test test-long bench microbench scenarios fuzz

check: lint test

# The BPF objects of internal/mptcp, from C. It takes clang and llvm-strip; SHA256SUMS
# there names the version that made the committed ones.
generate:
	go generate ./...

# Manual pages, from the help of the commands.
MANDIR ?= man
man:
	go run ./internal/cli/man $(MANDIR)

lint:
	@files=$$(gofmt -l .); test -z "$$files" || { echo "not formatted (gofmt -w): $$files"; exit 1; }
	go vet ./...
	go tool staticcheck ./...

# Networks of tests share the machine: one package after another. Go test keeps silent
# about skipped tests; summary lists them.
test:
	go test -json -p 1 ./... | go run ./tests/summary

# With the tests that wait for long.
test-long:
	SYNBOND_LONG=1 go test -json -p 1 -timeout 40m ./... | go run ./tests/summary

# Forwarding, HAProxy and synbond in one run; some ten minutes, as root.
bench:
	go run ./tests/bench --report docs/performance.md

microbench:
	go test -p 1 -run '^$$' -bench . -benchmem ./...

# Every scenario of the lab, with its charts: some minutes.
scenarios:
	@set -e; d=$$(mktemp -d); trap 'rm -r $$d' EXIT; go build -o $$d/synbond .; failed=0; \
	for s in $$($$d/synbond lab --list | cut -d ' ' -f 1); do $$d/synbond lab --scenario $$s || failed=1; done; \
	exit $$failed

# Every fuzz target of every package, one after another.
fuzz:
	@set -e; for p in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p; \
		done; \
	done
