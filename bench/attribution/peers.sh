#!/usr/bin/env bash
# The peers' own virtual environment, in the folder that is given; a second call finds it ready.
set -euo pipefail
folder="$1"
[ -e "$folder/.ready" ] && exit 0
"${PYTHON:-python3.11}" -m venv "$folder"
pip="$folder/bin/python -m pip --quiet"
$pip install torch==2.13.0
$pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2 numpy==2.4.6 \
    kronfluence==1.0.1 bergson==2.5.1 traker==0.3.2 rank-bm25==0.2.2 dattri==0.3.0 infini-gram==2.6.0
# Pulled in by the above and not needed; on a CPU build of torch they keep transformers from importing.
$pip uninstall --yes torchvision torchaudio
touch "$folder/.ready"
