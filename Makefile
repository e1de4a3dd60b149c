# Everything starts here. `make demo` and `make test` do all their own set-up; Python 3.11 is all that a person needs first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Set-up leaves most modules uncompiled: what one process compiles, the next ones find.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: checks contracts-checks gas-snapshot help setup demo up test tests test-network test-bridge test-cluster chain-kills fuzz-adapters fuzz-api test-kernels lint format artifacts artifacts-check contracts-test contracts-coverage contracts-slither contracts-halmos contracts-differential bench bench-gas bench-modelfactory bench-openlora load vllm-check bench-attacks bench-contradictions bench-counterfactual bench-attribution bench-attribution-scale bench-attribution-drift clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: $(READY) ## Set up the virtual environment and the chain tools

$(READY): pyproject.toml constraints.txt contracts/package-lock.json tools/setup.sh
	PYTHON="$(PYTHON)" VENV="$(VENV)" bash tools/setup.sh
	@touch $@

demo: $(READY) ## Run the main job offline, end to end, and leave build/demo.json
	@mkdir -p build
	$(BIN)/openledger demo --json build/demo.json

up: $(READY) ## Run the network as a service that stays: page and API on http://127.0.0.1:8600
	$(BIN)/openledger up

test: $(READY) ## Run every check and the tests of every room
	$(MAKE) --jobs=3 tests checks

tests: $(READY) ## The tests of every room that need neither the main job nor a second network; a thread for each worker
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not network and not bridge and not cluster"

checks: # Beside the tests, which wait for their networks often enough; each check's output comes in one piece.
	$(MAKE) --output-sync=target lint contracts-checks

test-network: $(READY) ## Run the main job, then the tests that use its network: openai client, browser, power cut
	bash tools/browser.sh
	$(BIN)/python -m pytest -m network

test-bridge: $(READY) ## Carry OPEN from an L1 to an L2 and back through the OP Stack's own messengers
	$(BIN)/python -m pytest -m bridge tests/chain/test_bridge.py

test-cluster: $(READY) ## On a Ray cluster of two processes of this machine: build an influence index, serve adapters
	$(BIN)/python -m pytest -m cluster tests/attribution/test_cluster.py
	$(BIN)/python -m pytest -m cluster tests/openlora/test_ray_serve.py

chain-kills: $(READY) ## Kill the embedded chain 220 times under load and check that it lost nothing; a quarter of an hour
	$(BIN)/python -m bench.chain_kills

fuzz-adapters: $(READY) ## Try twice 20,000 hostile adapters on the engine; half an hour of one core
	OMP_NUM_THREADS=1 OPENLEDGER_FUZZ=20000 $(BIN)/python -m pytest -q -s --timeout 0 tests/openlora/test_adapter_fuzz.py

fuzz-api: $(READY) ## Send 2,000 generated requests to every operation of the API of `openledger serve`
	OMP_NUM_THREADS=1 OPENLEDGER_FUZZ=2000 $(BIN)/python -m pytest -q --timeout 0 tests/studio/test_fuzz.py

test-kernels: $(READY) ## The decoder for GPUs and its Triton kernels, in Triton's interpreter
	$(BIN)/pip install --quiet --no-deps --upgrade --target build/triton triton==3.7.1
	TRITON_INTERPRET=1 OMP_NUM_THREADS=1 PYTHONPATH=build/triton $(BIN)/python -m pytest tests/openlora/test_device.py

lint: $(READY) ## Style, types and floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(READY) ## Format the Python sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

artifacts: $(READY) ## Rebuild the contract artifacts that ship in the package
	$(BIN)/python -m openledger.chain.build

artifacts-check: $(READY) ## Rebuild the contract artifacts and compare them with those that ship
	$(BIN)/python -m openledger.chain.build --check

gas-snapshot: $(READY) ## Write down what the contracts' tests cost in gas; contracts-test compares
	$(BIN)/python -m openledger.chain.build --gas

contracts-test: $(READY) ## Unit, fuzz and invariant tests of the contracts, and what they cost in gas
	$(BIN)/python -m openledger.chain.build --test

contracts-checks: # One after the other: the first compiles the contracts with their tests, the second finds them compiled
	$(MAKE) contracts-test
	$(MAKE) artifacts-check

contracts-coverage: $(READY) ## Line and branch coverage of the contracts by their tests; fails under 95%; some minutes
	$(BIN)/python -m openledger.chain.build --coverage

contracts-slither: $(READY) ## Slither on the contracts; fails on a finding that contracts/slither.toml does not explain
	bash tools/audit.sh slither
	$(BIN)/python tools/contracts_slither.py

contracts-halmos: $(READY) ## Prove the contracts' accounting for all inputs with Halmos; some minutes
	bash tools/audit.sh halmos
	$(BIN)/python tools/contracts_halmos.py

contracts-differential: $(READY) ## The contracts against a plain model of the protocol, 200 long random runs
	OPENLEDGER_DIFFERENTIAL=200 $(BIN)/python -m pytest tests/differential

bench: bench-gas bench-modelfactory bench-attacks bench-contradictions bench-counterfactual bench-attribution-scale bench-attribution bench-openlora ## Run every benchmark, hours; results go to bench/results

bench-gas: $(READY) ## Gas per inference, beside the peer designs
	$(BIN)/python -m bench.gas

bench-modelfactory: $(READY) ## How fast fine-tuning remembers, beside AdamW; a quarter of an hour
	$(BIN)/python -m bench.modelfactory

bench-openlora: $(READY) ## Serving many adapters, beside peft and vLLM; half an hour and more
	bash bench/openlora/setup.sh
	$(BIN)/python -m bench.openlora

load: $(READY) ## 200 streams at once on `openledger serve`: correct, fair, bounded in memory
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.openlora.load

bench-attacks: $(READY) ## Attacks on attribution by real retraining over six seeds, beside other rules; half an hour of one core
	@mkdir -p build
	$(BIN)/openledger attribution attack --output bench/results/attacks.json

bench-counterfactual: $(READY) ## Estimated counterfactuals beside real retraining; after bench-attacks, three minutes
	$(BIN)/python -m bench.attribution.counterfactual

bench-contradictions: $(READY) ## False facts found by contradicting trusted records; half a minute
	$(BIN)/python -m bench.attribution.contradictions

bench-attribution: $(READY) ## Attribution methods beside each other, against real retraining; two hours of one core the first time
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.attribution

bench-attribution-scale: $(READY) ## Scoring up to ten million records, and a query beside generating its answer; of a node's model with MODEL=HOME/work/model-1
	$(BIN)/python -m bench.attribution.scale $(if $(MODEL),--model $(MODEL))

bench-attribution-drift: $(READY) ## Shares under other instruction sets, for a model that a node has unpacked: MODEL=HOME/work/model-1
	OMP_NUM_THREADS=1 $(BIN)/python -m bench.attribution.drift --model $(MODEL)

vllm-check: $(READY) ## The vLLM backend over two real replicas, in an environment of its own
	bash bench/openlora/setup.sh
	$(BIN)/python -m bench.openlora.vllm_check
	$(BIN)/python -m bench.openlora.vllm_serve_check

clean: ## Remove what set-up and builds made
	rm -rf $(VENV) build contracts/node_modules contracts/out contracts/cache
