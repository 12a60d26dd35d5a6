# shard.c: `make help` lists the targets.

# ---- variants: each has a build folder of its own -----------------------------------------------
REAL ?= float
SAN  ?=
CUDA ?=
MPICC ?= mpicc
export PATH := $(PATH):/usr/lib64/mpich/bin # where Fedora keeps it
BUILD := build$(if $(filter double,$(REAL)),-double)$(if $(CUDA),-$(if $(filter emulated,$(CUDA)),emulated,cuda))$(if $(SAN),-$(if $(filter address,$(SAN)),asan,$(SAN)))$(if \
           $(filter-out mpicc,$(MPICC)),-$(patsubst mpicc.%,%,$(notdir $(MPICC))))
# where the libraries are, for systems that keep them outside the compiler's paths and have pkg-config
located = $(foreach p,openblas libpcre2-8 jansson libxxhash,$(shell pkg-config $(1) $(p) 2>/dev/null))
LIBRARY_FLAGS := $(call located,--cflags)
LIBRARY_PATHS := $(call located,--libs-only-L)

# OpenBLAS, which our own products are held against. Without it they are all that a program has.
OPENBLAS      := $(shell echo | $(CC) $(LIBRARY_FLAGS) $(CFLAGS) -x c -include cblas.h -E - >/dev/null 2>&1 && echo yes)
OPENBLAS_LIBS := $(LIBRARY_PATHS) $(if $(OPENBLAS),-lopenblas)

# MPI, of which MPICC is the compiler (MPICC=mpicc.openmpi chooses another one). Without it, chapters 01 to 03 are built.
comma     := ,
MPI_SHOW  := $(shell $(MPICC) -show 2>/dev/null)
MPI_FLAGS := $(filter -I% -D% -pthread,$(MPI_SHOW))
MPI_LIBS  := $(filter -L% -l% -Wl$(comma)% -pthread,$(MPI_SHOW))
MPI_FILES := $(shell grep -l '<mpi.h>' common/*/*.c tests/bench/*.c 2>/dev/null)

# CUDA=1: kernels of a GPU, compiled by the toolkit's nvcc for the GPU that is there, or for each of CUDA_ARCH ("80 90 100").
# CUDA=emulated: the same kernels compiled by $(CXX) for this CPU (common/cuda/emulator); nothing of NVIDIA's is needed.
# Threads of a GPU become fibers, and the compiler's thread sanitizer tells the emulator of each access: its library is not
# linked. A vectoriser would merge accesses of one thread.
WATCHED := -O1 -fno-tree-vectorize -Wno-unused-function -fsanitize=thread $(if $(findstring clang,$(CXX)),-mllvm -tsan-instrument-func-entry-exit=0,\
             --param tsan-instrument-func-entry-exit=0)
CUDA_HOME  ?= $(or $(patsubst %/bin/nvcc,%,$(realpath $(shell command -v nvcc))),/usr/local/cuda)
NVCC       ?= $(CUDA_HOME)/bin/nvcc
CUDA_ARCH  ?= $(or $(subst .,,$(shell nvidia-smi --query-gpu=compute_cap --format=csv$(comma)noheader 2>/dev/null | sort -u)),90)
ifneq ($(filter-out emulated,$(CUDA)),)
ifneq ($(CUDA),1)
$(error CUDA=$(CUDA) is not known: CUDA=1 builds for a GPU, CUDA=emulated runs its kernels on this CPU)
endif
ifeq ($(wildcard $(NVCC)),)
$(error CUDA=1 needs the CUDA Toolkit, and there is no $(NVCC): install it, or say where it is with CUDA_HOME=; CUDA=emulated needs none)
endif
endif
CUDA_FLAGS := $(if $(CUDA),$(if $(filter emulated,$(CUDA)),-Icommon/cuda/emulator,-isystem $(CUDA_HOME)/include))
# NCCL comes with the toolkit or by itself; without it, calls on a GPU's memory go through the host's
NCCL       := $(if $(filter emulated,$(CUDA)),emulated,$(if $(CUDA),$(firstword $(wildcard $(CUDA_HOME)/include/nccl.h /usr/include/nccl.h /usr/local/include/nccl.h))))
CUDA_LIBS  := $(if $(CUDA),$(if $(filter emulated,$(CUDA)),,-L$(CUDA_HOME)/lib64 -Wl$(comma)-rpath$(comma)$(CUDA_HOME)/lib64 \
                -lcublasLt -lcudart $(if $(NCCL),-lnccl)) -lstdc++)
CUDA_FILES := $(if $(CUDA),$(filter-out common/cuda/absent.c,$(wildcard common/cuda/*.c common/cuda/*.cu)) \
                $(if $(filter emulated,$(CUDA)),$(wildcard common/cuda/emulator/*.cc)),common/cuda/absent.c)

# -march=native: the programs are built where they run; MARCH= builds for any machine of its kind. BASELINE is the oldest of
# that kind: what looks at the CPU is built for it.
# No -ffast-math: a loop that may be reassociated says so itself (omp simd reduction).
MARCH    ?= -march=native
BASELINE := $(if $(findstring x86_64,$(shell $(CC) -dumpmachine)),-march=x86-64,$(if $(findstring aarch64,$(shell \
              $(CC) -dumpmachine)),-march=armv8-a))
OPTIMIZE ?= -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast
WARNINGS := -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wwrite-strings \
            $(if $(findstring clang,$(CC)),-Wno-pass-failed) # a max that clang does not vectorise
CFLAGS   ?= -g
ALL_CFLAGS := -std=c17 $(OPTIMIZE) $(MARCH) $(WARNINGS) -fopenmp -I. $(LIBRARY_FLAGS) $(if $(OPENBLAS),,-Icommon/cpu/absent) $(CUDA_FLAGS) -MMD -MP \
              $(if $(filter double,$(REAL)),-DREAL_DOUBLE) \
              $(if $(SAN),-fsanitize=$(SAN) -fsanitize=undefined -fno-sanitize-recover=all -fno-omit-frame-pointer) \
              $(CFLAGS)
CXX_FLAGS := -std=c++17 $(MARCH) -Wall -Wextra -Wshadow -I. $(if $(OPENBLAS),,-Icommon/cpu/absent) $(CUDA_FLAGS) -MMD -MP $(if $(filter double,$(REAL)),-DREAL_DOUBLE) -g $(CXXFLAGS)
ALL_LIBS := $(OPENBLAS_LIBS) $(CUDA_LIBS) -lpcre2-8 -ljansson -lxxhash -lm $(LDLIBS)
COMMIT   := $(shell git rev-parse --short HEAD 2>/dev/null)

# ---- what is built --------------------------------------------------------------------------------
# What speaks MPI: chapters from 04 on, tests that say `TEST np:`, programs that tests and benchmarks start.
RANKED_BENCHES := collectives messages devices
ALONE    := 01_% 02_% 03_%
RANKED   := $(shell grep -l 'TEST np:' tests/*.c) $(wildcard tests/programs/*.c) $(RANKED_BENCHES:%=tests/bench/%.c)
mpi_only  = $(if $(MPI_SHOW),$(1)) # empty where there is no MPI
LIBRARY  := $(filter-out common/tools/% common/cuda/% common/comm/nccl_$(if $(NCCL),absent,calls).c $(if $(MPI_SHOW),,$(MPI_FILES)),$(wildcard common/*/*.c datasets/*.c)) $(CUDA_FILES)
CHAPTERS := $(notdir $(patsubst %/main.c,%,$(wildcard chapters/*/main.c)))
TOOLS    := $(notdir $(basename $(wildcard common/tools/*.c datasets/tools/*.c)))
# without CUDA, tests of its kernels have nothing to test
TESTS    := $(notdir $(basename $(filter-out $(RANKED) $(if $(CUDA),,tests/test_cuda_%),$(wildcard tests/test_*.c)) \
              $(call mpi_only,$(filter-out tests/bench/%,$(RANKED)))))
PROGRAMS := $(filter $(ALONE:%=$(BUILD)/%),$(CHAPTERS:%=$(BUILD)/%)) \
            $(call mpi_only,$(filter-out $(ALONE:%=$(BUILD)/%),$(CHAPTERS:%=$(BUILD)/%))) $(TOOLS:%=$(BUILD)/%)

objects = $(patsubst %.cc,$(BUILD)/obj/%.o,$(patsubst %.cu,$(BUILD)/obj/%.o,$(patsubst %.c,$(BUILD)/obj/%.o,$(1))))
# $(call quiet,CC,file): what stands before a long command; a line a file then, the command itself with V=1, nothing with -s
silent := $(findstring s,$(filter-out -%,$(firstword $(MAKEFLAGS))))
quiet   = $(if $(V),,@$(if $(silent),,echo '$(1) $(2)'; ))

.DEFAULT_GOAL := all
.PHONY: all run test test-all check-gpu planted valgrind arm64 bench notebooks data plot lint format clean help deps tests-built FORCE
.SECONDARY:

all: $(PROGRAMS) $(call mpi_only,$(BUILD)/mpiexec) ## build every program into build/

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(ALL_CFLAGS) -c $< -o $@

ifeq ($(CUDA),emulated)
$(BUILD)/obj/%.o: %.cu
	@mkdir -p $(@D)
	$(call quiet,CXX,$<)$(CXX) -x c++ $(CXX_FLAGS) $(WATCHED) -c $< -o $@
$(BUILD)/obj/%.o: %.cc
	@mkdir -p $(@D)
	$(call quiet,CXX,$<)$(CXX) $(CXX_FLAGS) -O2 -fopenmp -c $< -o $@
else
$(BUILD)/obj/%.o: %.cu
	@mkdir -p $(@D)
	$(call quiet,NVCC,$<)$(NVCC) -std=c++17 -O3 $(foreach a,$(CUDA_ARCH),-gencode arch=compute_$a$(comma)code=sm_$a) -Xcompiler -Wall -I. \
	    $(if $(filter double,$(REAL)),-DREAL_DOUBLE) $(NVCCFLAGS) -MMD -MP -c $< -o $@
endif

$(BUILD)/libshard.a: $(call objects,$(LIBRARY))
	@rm -f $@
	$(call quiet,AR,$@)$(AR) rcs $@ $^

$(BUILD)/obj/common/base/cpu_check.o: ALL_CFLAGS += $(BASELINE)
# another MPI, which may have become the machine's, needs other objects, and starts ranks in its own way
$(MPI_FILES:%.c=$(BUILD)/obj/%.o): ALL_CFLAGS += $(MPI_FLAGS)
$(MPI_FILES:%.c=$(BUILD)/obj/%.o): $(BUILD)/mpi
$(BUILD)/mpi: FORCE
	@mkdir -p $(@D)
	@echo '$(MPICC): $(MPI_SHOW)' | cmp -s - $@ || echo '$(MPICC): $(MPI_SHOW)' > $@
$(BUILD)/mpiexec: $(BUILD)/mpi common/tools/mpiexec_of # without one, all but the start of ranks works
	@common/tools/mpiexec_of '$(MPICC)' > $@ && chmod +x $@ || rm -f $@

$(BUILD)/obj/common/comm/launcher.o: ALL_CFLAGS += -DMPIEXEC='"$(BUILD)/mpiexec"'

# only the report speaks of the commit: it is compiled anew when that changes
$(BUILD)/obj/common/run/report.o: ALL_CFLAGS += -DCOMMIT='"$(COMMIT)"'
$(BUILD)/obj/common/run/report.o: $(BUILD)/commit
$(BUILD)/commit: FORCE
	@mkdir -p $(@D)
	@echo '$(COMMIT)' | cmp -s - $@ || echo '$(COMMIT)' > $@

# a chapter is its main.c, its lesson code, and the lesson code of lower chapters
define chapter_rule
$(BUILD)/$(1): $(call objects,$(wildcard chapters/$(1)/*.c)) \
    $(call objects,$(foreach c,$(CHAPTERS),$(if $(filter $(c),$(firstword $(sort $(c) $(1)))),$(if $(filter-out $(1),$(c)),$(filter-out %/main.c,$(wildcard chapters/$(c)/*.c)))))) \
    $(BUILD)/libshard.a
	$$(call quiet,LD,$$@)$$(CC) $$(ALL_CFLAGS) $$^ $(if $(filter-out $(ALONE),$(1)),$$(MPI_LIBS)) $$(ALL_LIBS) -o $$@
endef
$(foreach c,$(CHAPTERS),$(eval $(call chapter_rule,$(c))))

# what tests may call: the lesson code of every chapter
$(BUILD)/liblessons.a: $(call objects,$(filter-out %/main.c,$(wildcard chapters/*/*.c)))
	@rm -f $@
	$(call quiet,AR,$@)$(AR) rcs $@ $^

define program_rule
$(BUILD)/$(2)$(notdir $(basename $(1))): $(call objects,$(1)) $(3) $(BUILD)/libshard.a
	@mkdir -p $$(@D)
	$$(call quiet,LD,$$@)$$(CC) $$(ALL_CFLAGS) $$^ $(if $(filter $(RANKED),$(1)),$$(MPI_LIBS)) $$(ALL_LIBS) -o $$@
endef
$(foreach s,$(wildcard common/tools/*.c datasets/tools/*.c),$(eval $(call program_rule,$(s),,)))
$(foreach s,$(filter-out tests/test_cuda_%,$(wildcard tests/test_*.c tests/programs/*.c)),$(eval $(call program_rule,$(s),tests/,$(BUILD)/liblessons.a)))
# tests of a GPU's kernels: they need no more of the library than kernels do, and OpenBLAS alone of
# the libraries (the emulator has xxHash as well)
KERNELS := $(filter common/base/% common/tensor/% common/cpu/% common/cuda/%,$(filter-out common/tensor/hash.c,$(LIBRARY)))
$(BUILD)/libkernels.a: $(call objects,$(KERNELS))
	@rm -f $@
	$(call quiet,AR,$@)$(AR) rcs $@ $^
$(BUILD)/tests/test_cuda_%: $(BUILD)/obj/tests/test_cuda_%.o $(BUILD)/libkernels.a
	@mkdir -p $(@D)
	$(call quiet,LD,$@)$(CC) $(ALL_CFLAGS) $^ $(CUDA_LIBS) $(OPENBLAS_LIBS) $(if $(filter emulated,$(CUDA)),-lxxhash) -lm $(LDLIBS) -o $@
# small kernels, each with a mistake that the emulator must find
$(eval $(call program_rule,tests/emulator/emulator_kernels.cu,tests/,$(call objects,$(filter-out %/emulator_kernels.cu,$(wildcard tests/emulator/*.cu)))))

# what `make bench` measures with; products.c is shared by the first two
BENCHES := train kernels
SHARDED := $(BUILD)/05_% $(BUILD)/07_% $(BUILD)/08_% $(BUILD)/09_% $(BUILD)/10_%
$(foreach b,$(RANKED_BENCHES),$(eval $(call program_rule,tests/bench/$(b).c,bench/,$(BUILD)/liblessons.a)))
$(foreach b,$(BENCHES),$(eval $(call program_rule,tests/bench/$(b).c,bench/,$(call objects,tests/bench/products.c))))

tests-built: all $(TESTS:%=$(BUILD)/tests/%) $(BENCHES:%=$(BUILD)/bench/%) $(call mpi_only,$(RANKED_BENCHES:%=$(BUILD)/bench/%))

# ---- what is run ----------------------------------------------------------------------------------
# PYTHON: the one whose JAX and PyTorch `make bench` compares with
PYTHON ?= python3
# What the user says goes to the shell in the environment, as "$$TEXT": whatever stands in a name, nobody reads it as a
# command, the shell no more than make (which would obey $(..) in it, were it not for $(value)). ARGS alone is a piece of
# a command line, with quotes of its own.
SAID := TEXT VOCAB OUT TOKENIZER RUNS NP NOTEBOOKS BENCH CASES ROUNDS RESULTS PYTHON
$(foreach name,$(SAID),$(eval override $(name) := $$(value $(name))))
export $(SAID)

run: deps ## install what is missing, train a MiniGPT on one device, then on 8 as 2 x 2 x 2, draw both loss curves
	@$(MAKE) --no-print-directory -j$$(getconf _NPROCESSORS_ONLN) all
	@$(MAKE) --no-print-directory ch02
	@$(if $(MPI_SHOW),echo && $(MAKE) --no-print-directory ch10 && echo && \
	    $(BUILD)/plot_runs --log --difference runs/one-and-8-devices.png runs/02_minigpt runs/10_3d_parallel && \
	    echo "(rounding: 8 devices take micro-batches of another size, and add up what each has of a layer; see notebook 10)")

# ch01, ch02 ...: the chapter of that number, with its own defaults. Those from 04 on run as NP processes; without NP
# as many as NP_NN says. mpiexec hides the terminal from them, so they are told when there is one.
NP_04 := 4
NP_05 := 8
NP_07 := 8
NP_08 := 8
NP_09 := 8
NP_10 := 8
define chapter_run_rule
.PHONY: ch$(firstword $(subst _, ,$(1)))
ch$(firstword $(subst _, ,$(1))): $(BUILD)/$(1)$(if $(filter-out $(ALONE),$(1)), $(BUILD)/mpiexec)
	@$(if $(filter-out $(ALONE),$(1)),[ ! -t 1 ] || export CLICOLOR_FORCE=1; $(BUILD)/mpiexec -n "$$$${NP:-$$(or $$(NP_$(firstword $(subst _, ,$(1)))),1)}" )$(BUILD)/$(1) $$(ARGS)
endef
$(foreach c,$(CHAPTERS),$(eval $(call chapter_run_rule,$(c))))

notebooks: deps all ## run every cell of notebooks-md/ and write its output and pictures
	@tests/install-packages notebooks
	@set -f; python3 notebooks-md/run.py $$NOTEBOOKS

test: deps ## install what is missing, run the tests: every kind of proof
	@tests/install-packages notebooks
	@tests/run

test-all: deps ## all of it: every mesh, every variant, long fuzz runs, planted bugs, lint
	@tests/install-packages notebooks second-mpi jupyter
	@tests/run all

# no deps: nothing is installed, and what cannot run without it is skipped
check-gpu: ## on a machine with a GPU: kernels, chapters 02 and 05, same bits; make check-gpu CUDA=emulated tries it without
	@CUDA='$(CUDA)' tests/check_gpu

bench: deps $(BENCHES:%=$(BUILD)/bench/%) $(call mpi_only,$(BUILD)/bench/devices $(BUILD)/mpiexec) $(filter $(SHARDED),$(PROGRAMS)) ## how fast: make bench [BENCH="kernels step train devices sharded"] [CASES=tiny] [PYTHON=..] [RESULTS=1]
	@set -f; "$$PYTHON" tests/bench/bench.py $$BENCH --build $(BUILD) $${CASES:+--cases "$$CASES"} \
	    $${ROUNDS:+--rounds "$$ROUNDS"} $${RESULTS:+--results tests/bench/RESULTS.md}

lint: ## check layout, warnings of gcc and clang, static analysis
	@tests/lint

valgrind: deps ## run under valgrind: look for reads of memory that nobody has written
	@tests/valgrind

planted: ## plant bugs one after the other in a copy, and see the tests find each
	@tests/planted

# cross-compiled and run under an emulator; downloads a compiler, so it is no part of `make test`
arm64: deps all ## build for arm64, train and test under qemu (Debian, Ubuntu)
	@tests/arm64

deps: ## install the packages that are missing
	@tests/install-packages

data: deps ## make tokens of a text: make data TEXT=file.txt VOCAB=4096 OUT=data/file [TOKENIZER=path]
	$(if $(TEXT),,$(error make data needs a text: make data TEXT=file.txt VOCAB=4096 OUT=dir))
	@$(MAKE) --no-print-directory -s $(BUILD)/prepare_data
	@name=$${TEXT##*/}; $(BUILD)/prepare_data --text="$$TEXT" --output-dir="$${OUT:-data/$${name%.*}}" \
	    $${VOCAB:+--vocab-size="$$VOCAB"} $${TOKENIZER:+--tokenizer="$$TOKENIZER"} $(ARGS)

# RUNS is cut at blanks, but a folder may have some in its name: words are put together until they name one
plot: $(BUILD)/plot_runs ## draw the loss of several runs into OUT: make plot RUNS="runs/a runs/b"
	@set -f; name=; [ ! -e "$$RUNS" ] || name=$$RUNS RUNS=; \
	for word in $$RUNS; do \
	    name=$${name:+$$name }$$word; \
	    case $$name in -*) ;; *) [ -e "$$name" ] || continue ;; esac; \
	    set -- "$$@" "$$name"; name=; \
	done; \
	$(BUILD)/plot_runs "$${OUT:-loss.png}" "$$@" $${name:+"$$name"}

clean: ## remove everything that was built (runs/ and data/ stay)
	rm -rf build build-*

format: ## lay the code out as .clang-format says
	clang-format -i $$(git ls-files '*.c' '*.h')

help: ## this list
	@grep -hE '^[a-zA-Z0-9-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 14
	@printf 'ch01, ch02 ..\tbuild a chapter, run it, draw: make ch02 NP=4 ARGS="--max-steps 200"\n' | expand -t 14
	@echo 'variables: REAL=double, CUDA=1 (CUDA_ARCH="80 90"), CUDA=emulated, SAN=address, CC=clang, V=1 (full commands), NP=4 (processes), ARGS="..." (flags of the program)'

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)
