# make test    all checks and tests, on a local AWS of its own
# make race    the audit's tests with the race detector, which needs a C compiler
# make check   the fast half of it: what needs no local AWS
# make update  renews all goldens and the generated pages of docs
# make demo    the story in two minutes, on a local AWS: audit, lifecycle, a refusal,
#              two rotations, a second audit, two retirements, a key found in public, an
#              organization
# make cloud   a local AWS that stays, with the environment to export; LISTEN=172.17.0.1
#              lets containers on Linux reach it, at Docker's bridge
# make invoke F=list E=functions/list/event.json
#              one function, in that local AWS or in one of its own
# make build   the functions' binaries, for ARCH (arm64, or x86_64)
# make deploy  build and deploy to the account you are signed in to
# make bench   the figures of docs/figures.md
# make verify  builds every function here and in a hostile environment, and compares
# make scan    what security teams' scanners say; what is left is explained in the template
# make release dist/: the template with binaries for both architectures, SBOM, checksums
# make defects takes each guard of docs/promises.md out and wants its test to fail
#
# Plain make runs test. It needs Go, and Python 3.10 or newer with venv; build and
# deploy need the SAM CLI.

ARCH ?= arm64
GOARCH = $(patsubst x86_64,amd64,$(ARCH))
# Lambda runs Linux. The local cloud sets its own system: there the functions run
# as processes of this machine.
BUILD_OS ?= linux
# What everything is compiled with, so that what one compiled (checks, localcloud) is in
# Go's cache for the others: sam build's go build of each function, all at once.
TOOLCHAIN ?= $(shell sed -n 's/^toolchain //p' go.mod)
USABLE = $(shell GOTOOLCHAIN=$(TOOLCHAIN) go version >/dev/null 2>&1 && echo $(TOOLCHAIN) || echo local)
FLAGS = CGO_ENABLED=0 GOFLAGS='-tags=lambda.norpc -trimpath -buildvcs=false'
SHARED = GOTOOLCHAIN=$(USABLE) $(FLAGS)
# gofmt would walk .localcloud too, and what Python packages bring there.
SOURCES = functions localcloud pkg statemachines

.PHONY: test tests race check lint update verify scan release demo cloud invoke ready installed compiled build deploy bench defects

test: ready
	@$(MAKE) --no-print-directory -j2 lint tests
tests:
	@$(SHARED) .localcloud/bin/localcloud test

# The one package whose code runs side by side, but for the proofs that run the same a
# thousand times. The race detector needs a C compiler.
race:
	$(SHARED) CGO_ENABLED=1 go test -race -skip='Proof|AddsUp|Overlaps|Faults|Sizes?$$' ./pkg/iamkeys/audit

check: lint
	$(SHARED) go test $$(go list ./... | grep -v /localcloud)

# make test waits for the local AWS most, so this gives way to it.
lint:
	@unformatted=$$(gofmt -l $(SOURCES)); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	$(SHARED) nice go vet ./...
	$(SHARED) nice go tool staticcheck ./...

# The packages whose tests have the flag; docs/promises.md last, which quotes the others.
update:
	go generate ./pkg/render
	$(SHARED) go test $$(grep -rl 'flag.Bool("update"' --include=*_test.go $(SOURCES) | xargs -n1 dirname | sort -u | sed 's|^|./|' | grep -v 'pkg/iamkeys$$') -update
	$(SHARED) go test ./pkg/iamkeys -run 'TestDefects$$' -update

demo bench: ready
	@.localcloud/bin/localcloud $@

cloud: ready
	@.localcloud/bin/localcloud up $(LISTEN)

defects:
	$(SHARED) go test ./pkg/iamkeys -run 'TestDefects$$' -defects -count=1 -timeout 60m

invoke: ready
	@.localcloud/bin/localcloud invoke $(F) $(E)

# Both at once: the first time on a machine each takes half a minute.
ready:
	@$(MAKE) --no-print-directory -j2 installed compiled
installed:
	@python3 localcloud/setup.py
compiled:
	@$(SHARED) go build ./localcloud $(addprefix ./,$(dir $(wildcard functions/*/main.go)))
	@$(SHARED) go build -o .localcloud/bin/localcloud ./localcloud

verify scan release:
	.ci/$@

build:
	ARCH=$(ARCH) sam build

deploy: build
	sam deploy --parameter-overrides Architecture=$(ARCH)

# The same source gives the same bytes, whoever builds: the toolchain that go.mod names,
# no cgo, no paths, no commit stamped in, and nothing of what else the environment or
# the user's go env file would say. Where modules come from is left as it is.
RECIPE = GOENV=off GOWORK=off GOEXPERIMENT= GOFIPS140=off GOAMD64=v1 GOARM64=v8.0 $(FLAGS)
SOURCE = for v in GOPROXY GOSUMDB GOPRIVATE GONOPROXY GONOSUMDB GOINSECURE GOVCS GOAUTH GOPATH GOMODCACHE GOCACHE; do export "$$v=$$(go env $$v)"; done

# sam build calls this for each function, and passes nothing but ARTIFACTS_DIR. Under a
# umask such as 077 bootstrap could not be started by Lambda, so its mode is set.
build-%Function:
	@$(SOURCE); toolchain=$(TOOLCHAIN); \
	GOTOOLCHAIN=$$toolchain go version >/dev/null 2>&1 || { echo "warning: $$toolchain cannot be had; $$(GOTOOLCHAIN=local go version) gives other bytes" >&2; toolchain=local; }; \
	$(RECIPE) GOTOOLCHAIN=$$toolchain GOOS=$(BUILD_OS) GOARCH=$(GOARCH) go build -ldflags '-s -w' -o '$(ARTIFACTS_DIR)/bootstrap' ./functions/$(shell echo '$*' | tr A-Z a-z)
	@chmod 755 '$(ARTIFACTS_DIR)/bootstrap'

# These functions into OUT, one folder each.
build-plain: $(FUNCTIONS:%=plain-%)
plain-%:
	@mkdir -p '$(OUT)/$*'
	@$(MAKE) --no-print-directory -s build-$*Function ARTIFACTS_DIR='$(OUT)/$*'
