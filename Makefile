# SPDX-License-Identifier: BSD-3-Clause
#
# For people; meson.build is the truth. `make help` tells what there is.

BUILD ?= build
BUILDTYPE ?= debugoptimized
MESON_FLAGS ?=
JOBS ?= $(shell nproc)
# Where the variants of a build go: beside the plain one.
VARIANT = $(BUILD)$(if $(1),-$(1))

.PHONY: all
all: $(BUILD)/build.ninja
	@ninja -j$(JOBS) -C $(BUILD)

$(BUILD)/build.ninja:
	@scripts/install-deps build
	meson setup $(BUILD) --buildtype=$(BUILDTYPE) $(MESON_FLAGS)

.PHONY: asan ubsan tsan werror clang
asan: MESON_FLAGS += -Db_sanitize=address,undefined
ubsan: MESON_FLAGS += -Db_sanitize=undefined
tsan: MESON_FLAGS += -Db_sanitize=thread
asan ubsan tsan:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-$@ MESON_FLAGS='$(MESON_FLAGS)' all

werror:
	@$(MAKE) --no-print-directory BUILD=$(BUILD)-$@ MESON_FLAGS='$(MESON_FLAGS) --werror' all

clang:
	@CC=clang $(MAKE) --no-print-directory BUILD=$(BUILD)-$@ MESON_FLAGS='$(MESON_FLAGS) --werror' all

.PHONY: fuzz
fuzz:
	@scripts/install-deps test
	@test -e $(BUILD)-fuzz/build.ninja || CC=clang meson setup $(BUILD)-fuzz $(MESON_FLAGS) \
		-Dfuzz=true -Db_sanitize=address,undefined -Db_lundef=false
	@ninja -j$(JOBS) -C $(BUILD)-fuzz
	@echo "targets: $(BUILD)-fuzz/tests/fuzz/fuzz_*"

.PHONY: test
test:
	@scripts/install-deps build test demo
	@BUILD=$(BUILD) tests/run

.PHONY: demo
demo:
	@scripts/install-deps build demo
	@$(MAKE) --no-print-directory all
	@LASTHOP_BUILD=$(abspath $(BUILD)) demo/run

.PHONY: bench
bench:
	@scripts/install-deps build demo bench
	@$(MAKE) --no-print-directory all
	@LASTHOP_BUILD=$(abspath $(BUILD)) bench/run

.PHONY: lint
lint: $(BUILD)/build.ninja
	@BUILD=$(BUILD) scripts/lint

.PHONY: format
format:
	@git ls-files -z '*.c' '*.h' | xargs -0 clang-format -i

.PHONY: install
install: all
	meson install -C $(BUILD)

.PHONY: clean
clean:
	rm -rf $(BUILD) $(BUILD)-asan $(BUILD)-ubsan $(BUILD)-tsan $(BUILD)-werror $(BUILD)-clang \
		$(BUILD)-fuzz

.PHONY: help
help:
	@echo "make            build into BUILD ($(BUILD)), installing what that needs"
	@echo "make demo       two Linux VMs talk through the switch"
	@echo "make test       every test; FUZZ_SECONDS=$${FUZZ_SECONDS:-60} for each fuzz target"
	@echo "make bench      benchmarks, with the peers' figures beside ours"
	@echo "make asan       build with AddressSanitizer and UBSan into $(BUILD)-asan"
	@echo "make ubsan      ... with UBSan alone into $(BUILD)-ubsan"
	@echo "make tsan       ... with ThreadSanitizer into $(BUILD)-tsan"
	@echo "make werror     ... with gcc, warnings are errors, into $(BUILD)-werror"
	@echo "make clang      ... with clang, warnings are errors, into $(BUILD)-clang"
	@echo "make fuzz       build the fuzz targets with libFuzzer into $(BUILD)-fuzz"
	@echo "make lint       clang-tidy, cppcheck, clang-format, SPDX lines, file lengths"
	@echo "make format     apply clang-format to every source file"
	@echo "make install    install under PREFIX (meson setup --prefix), DESTDIR is honoured"
	@echo "make clean      remove the build directories"
	@echo "Settings: BUILD=dir JOBS=n BUILDTYPE=debugoptimized MESON_FLAGS='...' CC=gcc|clang"
