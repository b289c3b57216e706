# make test    what CI runs: all checks and tests, on a local AWS of its own
# make demo    the story in two minutes, on a local AWS: audit, lifecycle, a refusal,
#              two rotations, a second audit
# make cloud   a local AWS that stays, with the environment to export; LISTEN=172.17.0.1
#              lets containers on Linux reach it, at Docker's bridge
# make invoke F=list E=functions/list/event.json
#              one function, in that local AWS or in one of its own
# make build   the functions' binaries, for ARCH (arm64, or x86_64)
# make deploy  build and deploy to the account you are signed in to
# make bench   the figures that README quotes
# make defects takes each guard of docs/promises.md out and wants its test to fail
#
# Plain make runs test. It needs Go, and Python 3.10 or newer with venv; build and
# deploy need the SAM CLI.

ARCH ?= arm64
GOARCH = $(patsubst x86_64,amd64,$(ARCH))
# Lambda runs Linux. The local cloud sets its own system: there the functions run
# as processes of this machine.
BUILD_OS ?= linux
# gofmt would walk .localcloud too, and what Python packages bring there.
SOURCES = functions localcloud pkg statemachines

.PHONY: test demo cloud invoke build deploy bench defects

test:
	@unformatted=$$(gofmt -l $(SOURCES)); test -z "$$unformatted" || { echo "run gofmt -w on: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go run ./localcloud test

demo bench:
	go run ./localcloud $@

cloud:
	go run ./localcloud up $(LISTEN)

defects:
	go test ./pkg/iamkeys -run 'TestDefects$$' -defects -count=1 -timeout 60m

invoke:
	go run ./localcloud invoke $(F) $(E)

build:
	ARCH=$(ARCH) sam build

deploy: build
	sam deploy --parameter-overrides Architecture=$(ARCH)

# sam build calls this for each function, and passes nothing but ARTIFACTS_DIR.
# The same source gives the same bytes, whoever builds: no cgo, no paths, no
# commit stamped in.
build-%Function:
	CGO_ENABLED=0 GOOS=$(BUILD_OS) GOARCH=$(GOARCH) go build \
		-tags lambda.norpc -trimpath -buildvcs=false -ldflags '-s -w' \
		-o '$(ARTIFACTS_DIR)/bootstrap' ./functions/$(shell echo '$*' | tr A-Z a-z)
