# Friendly names over CMake. `make help` lists them.
JOBS ?= $(shell nproc)
MAKEFLAGS += --no-print-directory
BUILD = cmake -S . -B build/$(1) -DPRESET=$(1) >build/$(1).log 2>&1 || { cat build/$(1).log; exit 1; }; \
        cmake --build build/$(1) -j $(JOBS) --target $(2)
TEST = OMP_NUM_THREADS=1

all: | build                    ## the binary, at ./deepseek
	@$(call BUILD,release,deepseek)
	@ln -sf build/release/deepseek deepseek
build:
	@mkdir -p build
deps:                           ## install what is missing (DEPS=print only shows the command)
	@tests/tools/deps.sh
demo: deps all                  ## two minutes: train a tiny DeepSeek-V3 on the stories, samples before and after
	@tests/tools/demo.sh
demo-rl: deps all               ## a minute or two: a tiny model learns to reason by GRPO, answers before and after
	@tests/tools/demo_rl.sh
test: deps | build              ## all test suites: float, double, CUDA (emulated without a GPU)
	@$(call BUILD,release,all)
	@$(call BUILD,gradcheck,tests)
	@tests/tools/test.sh
gradcheck: | build              ## the suite in double: gradients of every op and layer
	@$(call BUILD,gradcheck,tests)
	$(TEST) build/gradcheck/tests
debug: | build                  ## -O0 -g, for notebooks/DEBUGGING.md
	@$(call BUILD,debug,deepseek)
asan: | build                   ## the suite under AddressSanitizer and UBSan, kernels included
	@$(call BUILD,asan,tests)
	$(TEST) build/asan/tests
nvcc: | build                   ## nvcc compiles and links the program and its tests for a GPU; needs none
	@tests/tools/nvcc.sh
gpu-carry: | build              ## build/gpu-carry: the libraries that a machine with a GPU may lack
	@tests/tools/gpu_carry.sh
gpu-check: | build              ## on such a machine: all that only a GPU shows, in build/gpu-report.txt
	@tests/tools/gpu_check.sh
mutants: | build                ## every planted bug is caught (NAME=... tries that one alone)
	@tests/tools/mutants.py $(NAME)
break:                          ## a binary with a planted bug: NAME=..., or BLIND=1 SEED=n for one that is not named
	@tests/tools/mutants.py $(if $(BLIND),--blind "$(SEED)",--break "$(NAME)")
reveal:                         ## which bug `make break BLIND=1 SEED=n` has planted: SEED=n
	@tests/tools/mutants.py --reveal "$(SEED)"
lint: | build                   ## the conventions of CONTRIBUTING.md that a machine can check
	@tests/tools/lint.py
format: | build                 ## one formatting for all sources (clang-format, from PyPI into build/venv-format)
	@tests/tools/format.sh
lines:                          ## lines per floor, lengths of files and functions
	@tests/tools/lines.py
map: all                        ## notebooks/MAP.md: where is which equation
	@./deepseek map --out notebooks/MAP.md
scoreboard: all                 ## notebooks/SCOREBOARD.md: the papers' claims, and what the labs say of them
	@./deepseek lab --scoreboard --out notebooks/SCOREBOARD.md
pages: all                      ## the files, targets and commands that README and notebooks name are there
	@tests/tools/pages.py deepseek
tour: debug                     ## notebooks/DEBUGGING.md, tried in gdb (UPDATE=1 writes it anew)
	@tests/debugger/tour.py build/debug/deepseek $(if $(UPDATE),--update)
oracle: all                     ## against PyTorch and transformers (installs them into build/venv)
	@tests/tools/oracle.sh
nightly: all                    ## what is too slow for ci: the tokenizer on 200,000 strings, fuzzing
	@ORACLE_STRINGS=200000 tests/tools/oracle.sh tokenizer
	@tests/tools/fuzz.sh
race: all                       ## tokens per second beside transformers, in one run
	@tests/tools/oracle.sh race
signature: all                  ## does this change numbers? twenty losses against the commit before, bit by bit
	@tests/tools/signature.sh
fuzz: | build                   ## libFuzzer on the readers, FUZZ_SECONDS each
	@tests/tools/fuzz.sh
bench: all                      ## this machine's peaks, tokens per second, time per op
	./deepseek bench
ci: nvcc gradcheck asan lint lines map pages tour mutants oracle   ## everything but `make test`
	@GPU_CHECK_DEVICE=emulated tests/tools/gpu_check.sh
	@tests/tools/ci_rest.sh
clean:                          ## remove what was built
	rm -rf build deepseek
help:                           ## this list
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12
.PHONY: all deps demo demo-rl test gradcheck debug asan nvcc gpu-carry gpu-check mutants break reveal lint format lines map scoreboard pages tour oracle nightly race signature fuzz bench ci clean help
