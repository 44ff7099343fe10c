# Every target calls a script, so that people, the README and CI run the same commands.
.PHONY: help install serve train test proof format baselines goals bench bench-full bench-peers faults fuzz clean \
	image image-gpu image-trainer image-test release lock

help:
	@echo "make serve   install, train what models/ lacks, serve it on http://127.0.0.1:8080"
	@echo "make train   the same without serving"
	@echo "make test    every gate: format, lint, types, import contracts, tests, wheel"
	@echo "make proof   the longer proofs that CI also runs"
	@echo "make faults  do harm to real servers and print what it did (about an hour)"
	@echo "make goals   train every recipe with three seeds and report the accuracy (about 20 minutes)"
	@echo "make bench   measure the speed on synthetic models (minutes); bench-full, bench-peers: more"
	@echo "make fuzz    fuzz the decoders by coverage; needs atheris"
	@echo "make format  put the code into the one format"
	@echo "make image   build the server's image (also image-gpu, image-trainer); image-test runs it"
	@echo "make lock    write requirements/*.txt anew"
	@echo "make release wheel, sdist, bills of materials and the audit, in dist/"

install:
	@scripts/install

train: install
	@scripts/train

serve: train
	@scripts/serve

test: install
	@scripts/check
	@scripts/test
	@scripts/test-wheel

proof: install
	@scripts/proof

faults: install
	@scripts/faults

goals: install
	@scripts/goals

image:
	@scripts/image cpu

image-gpu:
	@scripts/image gpu

image-trainer:
	@scripts/image trainer

image-test: install
	@scripts/image-test

lock:
	@scripts/lock

release: install
	@scripts/release

bench: install
	@scripts/bench --plan quick

bench-full: train
	@scripts/bench --plan full
	@scripts/bench --servers onnxport-one-core --models resnet18 --encodings binary --factors 1.2,2

bench-peers: install
	@scripts/bench --plan peers

fuzz: install
	@scripts/fuzz

format: install
	@.venv/bin/ruff format service training tests scripts benchmarks
	@.venv/bin/ruff check --fix service training tests scripts benchmarks

clean:
	rm -rf .venv .venvs .benchmarks models runs dist build .mypy_cache .ruff_cache .coverage*
