#!/usr/bin/env bash
# The first minutes on a GPU: what no processor can show of the CUDA path, and nothing else.
#
#     scripts/first_gpu.sh [folder]       # of the runs, gpu_first by default; after `make install`
#
# Goes on behind a step that fails, and ends with how many did. Never run on a GPU so far.
set -uo pipefail
cd "$(dirname "$0")/.."
bin=${BIN:-.venv/bin} out=${1:-gpu_first} failed=0
unset CUBLAS_WORKSPACE_CONFIG # lth-run sets it itself, before torch looks
mkdir -p "$out"

step() {
    local name=$1
    shift
    echo "== $name: $*"
    local begun=$SECONDS
    if timeout "${LIMIT:-120}" "$@" >"$out/$name.log" 2>&1; then
        echo "   done in $((SECONDS - begun)) s"
    else
        echo "   FAILED with status $?, see $out/$name.log:"
        tail -n 5 "$out/$name.log" | sed 's/^/   /'
        failed=$((failed + 1))
    fi
}

run() { # name, words
    local name=$1
    shift
    step "$name" "$bin/lth-run" paths.outputs="$out/outputs" device=cuda record=local name="$name" "$@"
}

resnet=(+experiment=resnet20_imp dataset=synthetic "dataset.shape=[3,32,32]" dataset.num_train=2048
    pruner.rounds=1 pruner.sparsity=null rewind.step=0it)

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader
"$bin/python" -c 'import torch; print("torch", torch.__version__, "CUDA", torch.version.cuda)'
run deterministic_perceptron train.deterministic=true train.shrink_to=20it
step gpu_tests "$bin/python" -m pytest -q -m gpu
run resnet20_full_probes "${resnet[@]}" train.shrink_to=6it replicates=1 control=none probe=full
run resnet20_eight_lanes "${resnet[@]}" train.shrink_to=400it replicates=8 control=none probe=none
run resnet20_one_by_one "${resnet[@]}" train.shrink_to=50it replicates=2 control=none probe=none \
    train.engine=sequential
run perceptron_packed train.shrink_to=200it replicates=8 control=none probe=none
echo "$failed steps failed; then: make bench ARGS=gpu"
exit "$((failed > 0))"
