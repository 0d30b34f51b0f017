#!/usr/bin/env bash
# The rehearsal on a GPU machine that reaches no registry, but has PyTorch, Transformers, Accelerate and PEFT. What else
# it wants is a few megabytes; what vLLM is wanted for is left out.
#   benchmarks/gpu/carried.sh pack FOLDER 3.12                  where there is a registry: for the Python over there
#   benchmarks/gpu/carried.sh run FOLDER learner memory         over there, with this repository and the folder
set -euo pipefail
cd "$(dirname "$0")/../.."
wanted="annotated-types datasets dill liger-kernel multiprocess pydantic pydantic-core trl typing-inspection"
what=$1 folder=$2
shift 2
case $what in
pack)
    mapfile -t pins < <(grep -E "^(${wanted// /|})==" requirements/gpu.txt | sed 's/ ;.*//')
    python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$1" --dest "$folder" \
        --platform manylinux_2_17_x86_64 --platform manylinux2014_x86_64 "${pins[@]}"
    du -sh "$folder"
    ;;
run)
    test -d "$folder/site" ||
        python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$folder/site" "$folder"/*.whl
    PYTHONPATH="$folder/site" python3 benchmarks/rehearsal.py "$@"
    ;;
esac
