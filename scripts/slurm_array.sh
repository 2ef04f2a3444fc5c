#!/usr/bin/env bash
# Submits a sweep as one Slurm job array, one task per point, prints the job's id and returns.
#
#   scripts/slurm_array.sh [--parallel N] [sbatch options] -- lth-run -m key=a,b ... | lth-run +sweep=...
#   scripts/slurm_array.sh --partition gpu --gpus 1 --cpus-per-task 4 --mem 16G --time 4:00:00 \
#       --parallel 8 -- lth-run -m +experiment=resnet20_imp pruner.sparsity=0.5,0.9 seed=0,1
#
# --parallel N   at most N tasks at a time; every other option is sbatch's own and wins over ours
# --ranks N      each point is one training on N ranks of each of --nodes machines, by torchrun
# --dry-run      print the commands of the tasks and submit nothing
#
# The commands and the tasks' output (N.log) lie in the sweep's folder, outputs/sweeps/<time>/.
# A task that reaches its time limit, is preempted or loses its node is queued again and continues
# from its last checkpoint. The exit status of a task is that of its command.
set -euo pipefail

WARNING_SECONDS=60   # before the time limit: one checkpoint must fit in
MOST_RESTARTS=100    # a task that gets nowhere does not eat the account

fail() { printf 'slurm_array: %s\n' "$*" >&2; exit 2; }

# In the job: line SLURM_ARRAY_TASK_ID of the list. The job's end (scancel, preemption, requeue)
# reaches the command directly as SIGTERM, and Slurm decides on what follows; passing it on would
# make it a second one, which ends lth-run without a checkpoint. The warning before the time limit
# (USR1) comes to this shell alone, which passes it on and queues the task again.
run_task() {
    local line child status woken= expiring= ranks=$2
    line=$(sed -n "${SLURM_ARRAY_TASK_ID}p" "$1")
    [ -n "$line" ] || fail "$1 has no line $SLURM_ARRAY_TASK_ID"
    # the threads that were asked for, not all of the node's
    export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-${OMP_NUM_THREADS:-1}}"
    export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # srun no longer takes it over itself
    printf '[%s] task %s on %s, start %s: %s\n' "$(date +%FT%T)" "$SLURM_ARRAY_TASK_ID" \
        "$(hostname)" "$((${SLURM_RESTART_COUNT:-0} + 1))" "$line"
    if [ -n "$ranks" ]; then
        line=$(on_ranks "$ranks" "$line")
        export OMP_NUM_THREADS="$((OMP_NUM_THREADS > ranks ? OMP_NUM_THREADS / ranks : 1))"
    fi
    trap 'woken=1' TERM CONT
    trap 'woken=1 expiring=1; pass_on "$ranks" "$child"' USR1
    bash -c "exec $line" &
    child=$!
    while :; do
        woken= status=0
        wait "$child" || status=$?
        [ -n "$woken" ] || break
    done
    # torchrun says 1 whatever its ranks say
    if [ -n "$expiring" ] && { [ "$status" = 130 ] || [ "$status" = 143 ] ||
        { [ -n "$ranks" ] && [ "$status" != 0 ]; }; }; then
        queue_again
    fi
    printf '[%s] task %s ends with status %s\n' "$(date +%FT%T)" "$SLURM_ARRAY_TASK_ID" "$status"
    exit "$status"
}

# srun would end its tasks at once on a SIGTERM, so that Slurm is to send it to them.
pass_on() {
    if [ -n "$1" ]; then scancel --signal=TERM "$SLURM_JOB_ID"; else kill -TERM "$2"; fi 2>/dev/null || true
}

# The same words, by a torchrun on every machine of the job; its ranks meet at a port that the job's
# number gives, so that jobs on one machine do not meet.
on_ranks() {
    local first words
    eval "words=($2)"
    first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    printf '%s' "srun --ntasks-per-node=1 --ntasks=$SLURM_JOB_NUM_NODES"
    printf ' %q' "${words[0]%/*}/torchrun" --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$1" \
        --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
        --rdzv-endpoint="$first:$((20000 + SLURM_JOB_ID % 20000))" -m lth_runner "${words[@]:1}"
}

queue_again() {
    local job="${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
    if [ "${SLURM_RESTART_COUNT:-0}" -ge "$MOST_RESTARTS" ]; then
        echo "slurm_array: task $job was queued again $MOST_RESTARTS times already: not once more" >&2
    elif ! scontrol requeue "$job"; then
        echo "slurm_array: $job could not be queued again: submit the sweep again, it continues" >&2
    fi
}

# A python that has lth_runner: the one beside lth-run, the checkout's, the shell's.
find_python() {
    local candidate here=$1 program
    program=$(command -v lth-run || true)
    for candidate in "${PYTHON:-}" "${program%/*}/python" "${here%/*}/.venv/bin/python" python3; do
        if [ -n "$candidate" ] && "$candidate" -c 'import lth_runner, hydra' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    fail "no python has lth_runner: activate its environment, or set PYTHON=/path/to/python"
}

submit() {
    local options=() parallel= ranks= dry= here python list count words job
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        case "$1" in
            -h | --help) usage; exit 0 ;;
            --parallel) parallel="%${2:-}"; shift; [ $# -gt 0 ] || fail "--parallel needs a number" ;;
            --parallel=*) parallel="%${1#*=}" ;;
            --ranks) ranks="${2:-}"; shift; [ $# -gt 0 ] || fail "--ranks needs a number" ;;
            --ranks=*) ranks="${1#*=}" ;;
            --dry-run) dry=1 ;;
            -a | --array | --array=*) fail "the sweep makes the array: limit it with --parallel N" ;;
            *) options+=("$1") ;;
        esac
        shift
    done
    [ "${1:-}" = -- ] && [ $# -gt 1 ] || { usage >&2; exit 2; }
    shift
    [ -z "$parallel" ] || [[ "$parallel" =~ ^%[1-9][0-9]*$ ]] || fail "--parallel ${parallel#%}: give a number above 0"
    [ -z "$ranks" ] || [[ "$ranks" =~ ^[1-9][0-9]*$ ]] || fail "--ranks $ranks: give a number above 0"
    here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    python=$(find_python "$here")
    words=("$@")
    if [ -n "$ranks" ] && [[ " ${words[*]} " != *" train.engine="* ]]; then
        words+=(train.engine=distributed)
    fi
    # the task's shell may have another PATH
    if [ "${words[0]}" = lth-run ] && [ -x "${python%/*}/lth-run" ]; then words[0]="${python%/*}/lth-run"; fi
    if [ -n "$dry" ]; then exec "$python" "$here/expand_sweep.py" -- "${words[@]}"; fi
    command -v sbatch >/dev/null || fail "there is no sbatch here: run this on a login node of a cluster (--dry-run shows the commands)"
    list=$("$python" "$here/expand_sweep.py" --save -- "${words[@]}") || exit 2  # it has said why
    list=$(realpath "$list")
    count=$(wc -l <"$list")
    job=$(sbatch --parsable --job-name=lth --requeue --open-mode=append \
        --signal="B:USR1@$WARNING_SECONDS" --output="${list%/*}/%a.log" \
        "${options[@]}" --array="1-$count$parallel" "$here/slurm_array.sh" --task "$list" "$ranks") ||
        fail "sbatch refused; the commands are kept in $list (more than $(scontrol show config 2>/dev/null | awk '/^MaxArraySize/ {print $3 - 1}') tasks never fit in one array)"
    printf '%s\n' "$count tasks, output in ${list%/*}/N.log" >&2
    printf '%s\n' "${job%%;*}"
}

usage() { sed -n '2,14s/^# \{0,1\}//p' "$0"; }

if [ "${1:-}" = --task ] && [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    run_task "$2" "${3:-}"
else
    submit "$@"
fi
