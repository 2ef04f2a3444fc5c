#!/usr/bin/env bash
# A real Slurm of one node on this machine, for tests: scripts/local_slurm.sh start|stop|status
# Needs root and Debian (or a child of it); installs slurm-wlm and munge where they are missing.
# Writes below /etc/slurm, /run and /var only. `start` twice is `start` once.
set -euo pipefail

CONF=/etc/slurm/slurm.conf
MARK="# written by scripts/local_slurm.sh"
STATE=/var/lib/slurm
LOGS=/var/log/slurm
WAIT_SECONDS=30

say() { printf '%s\n' "$*"; }
fail() { printf 'local_slurm: %s\n' "$*" >&2; exit 1; }

require_root_and_debian() {
    [ "$(id -u)" = 0 ] || fail "starting Slurm's daemons needs root: run it as root, or use a cluster's sbatch"
    [ -r /etc/debian_version ] || fail "only Debian and its children are known here (no /etc/debian_version)"
    if [ -e "$CONF" ] && ! grep -qF "$MARK" "$CONF"; then
        fail "$CONF is not of this script: this machine belongs to a cluster, whose sbatch can be used"
    fi
}

install_packages() {
    local missing=()
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v sbatch >/dev/null ||
        missing+=(slurm-wlm)
    command -v munged >/dev/null || missing+=(munge)
    [ ${#missing[@]} -gt 0 ] || return 0
    local log=/var/log/local_slurm_install.log
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
        apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        fail "apt-get could not install ${missing[*]}: $(grep -m1 '^E:' "$log" || tail -n 1 "$log") (all of it: $log)"
    fi
}

write_configuration() {
    local node memory
    node=$(hostname -s)
    memory=$(awk '/^MemTotal:/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)
    mkdir -p /etc/slurm "$LOGS" "$STATE/slurmctld" "$STATE/slurmd" /run/slurm
    cat >"$CONF" <<END
$MARK; start writes it anew
ClusterName=local
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=cred_expire=10
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=$STATE/slurmd
SlurmctldPidFile=/run/slurm/slurmctld.pid
SlurmdPidFile=/run/slurm/slurmd.pid
SlurmctldLogFile=$LOGS/slurmctld.log
SlurmdLogFile=$LOGS/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobRequeue=1
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=5
NodeName=$node NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$memory State=UNKNOWN
PartitionName=local Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
}

runs() { pgrep -x "$1" >/dev/null; }

start_munge() {
    munge --no-input >/dev/null 2>&1 && return 0
    [ -s /etc/munge/munge.key ] || mungekey --create 2>/dev/null || fail "no /etc/munge/munge.key, and mungekey cannot make one"
    mkdir -p /run/munge && chown munge: /run/munge
    runuser -u munge -- /usr/sbin/munged || fail "munged does not start: see /var/log/munge/munged.log"
}

node_is_ready() { sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed|allocated|completing)'; }

start() {
    require_root_and_debian
    install_packages
    if runs slurmctld && runs slurmd && node_is_ready; then
        status
        return
    fi
    write_configuration
    start_munge
    runs slurmctld || slurmctld || fail "slurmctld does not start: see $LOGS/slurmctld.log"
    runs slurmd || slurmd || fail "slurmd does not start: see $LOGS/slurmd.log"
    local waited=0
    until node_is_ready; do
        # a node that a crash left down stays so until it is told
        scontrol update NodeName="$(hostname -s)" State=RESUME 2>/dev/null || true
        [ $((waited += 1)) -le "$WAIT_SECONDS" ] || fail "the node is not ready after $WAIT_SECONDS s: $(sinfo --list-reasons 2>&1 | tail -n 1); see $LOGS"
        sleep 1
    done
    status
}

stop() {
    require_root_and_debian
    local daemon
    if runs slurmctld; then scancel --me 2>/dev/null || true; fi
    for daemon in slurmd slurmctld; do
        [ -s "/run/slurm/$daemon.pid" ] && kill "$(cat "/run/slurm/$daemon.pid")" 2>/dev/null || true
    done
    local waited=0
    while { runs slurmd || runs slurmctld; } && [ $((waited += 1)) -le "$WAIT_SECONDS" ]; do sleep 1; done
    if runs slurmd || runs slurmctld; then fail "slurmd or slurmctld still runs: see $LOGS"; fi
    say "stopped (munged is left as it is)"
}

status() {
    command -v sinfo >/dev/null || fail "Slurm is not installed: scripts/local_slurm.sh start"
    if ! node_is_ready; then
        fail "no node is ready: $(sinfo --noheader 2>&1 | tail -n 1); scripts/local_slurm.sh start"
    fi
    sinfo
}

case "${1:-}" in
    start) start ;;
    stop) stop ;;
    status) status ;;
    *) sed -n '2,4s/^# //p' "$0"; exit 2 ;;
esac
