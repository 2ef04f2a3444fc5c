#!/usr/bin/env bash
# Gathers all wheels that lth-runner needs, for a machine without internet.
#
#   scripts/wheelhouse.sh DIR [--extras cluster,dev] [--python 3.12] [--platform manylinux_2_28_x86_64]
#
# --extras LIST      the project's optional parts to take along (default: cluster; "" for none)
# --python VERSION   of the other machine, 3.10 to 3.13 (default: of the python used here)
# --platform TAG     of the other machine (default: this one's); repeat it for several tags
# --index URL        where to take torch and torchvision from: for builds without CUDA, say
#
# Runs where there is internet, then: copy DIR over, and run the command that this prints.
# Data sets: scripts/fetch_data.py. PYTHON=/path/to/python chooses the python that does the work.
set -euo pipefail

fail() { printf 'wheelhouse: %s\n' "$*" >&2; exit 2; }
usage() { sed -n '2,13s/^# \{0,1\}//p' "$0"; }

# pip takes the tags that it is given and no older ones, which the other machine takes as well
with_older() {
    local tag=$1 minor machine
    if [[ "$tag" =~ ^manylinux_2_([0-9]+)_(.+)$ ]]; then
        machine=${BASH_REMATCH[2]}
        for ((minor = BASH_REMATCH[1]; minor >= 5; minor--)); do printf -- '--platform manylinux_2_%d_%s ' "$minor" "$machine"; done
        printf -- '--platform %s ' "manylinux2014_$machine" "manylinux2010_$machine" "manylinux1_$machine" "linux_$machine"
    else
        printf -- '--platform %s ' "$tag"
    fi
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
dir= version= extras=cluster index=
platforms=()
while [ $# -gt 0 ]; do
    case "$1" in
        -h | --help) usage; exit 0 ;;
        --extras | --python | --platform | --index) [ $# -gt 1 ] || fail "$1 needs a value" ;;&
        --extras) extras=$2; shift ;;
        --python) version=$2; shift ;;
        --platform) platforms+=("$2"); shift ;;
        --index) index=$2; shift ;;
        -*) fail "there is no option $1 (--help shows them)" ;;
        *) [ -z "$dir" ] || fail "one DIR, not also $1"; dir=$1 ;;
    esac
    shift
done
[ -n "$dir" ] || { usage >&2; exit 2; }
[[ -z "$version" || "$version" =~ ^3\.1[0-3]$ ]] || fail "--python $version: 3.10 to 3.13 are supported"

python=${PYTHON:-$root/.venv/bin/python}
[ -x "$python" ] || python=$(command -v python3) || fail "there is no python3 here: set PYTHON"
"$python" -m pip --version >/dev/null 2>&1 || fail "$python has no pip: set PYTHON to one that has"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# the project itself is pure Python: one wheel for all
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$dir" "$root"
wheels=("$dir"/lth_runner-*.whl)
target=()
if [ -n "$version" ] || [ ${#platforms[@]} -gt 0 ]; then
    [ ${#platforms[@]} -gt 0 ] || platforms=("manylinux_2_28_$(uname -m)")
    target=(--only-binary=:all: ${version:+--python-version "$version"})
    for tag in "${platforms[@]}"; do target+=($(with_older "$tag")); done
    here=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    [ "${version:-$here}" = "$here" ] || printf '%s\n' "wheelhouse: what packages need only under python $version, pip cannot see from $here: PYTHON=python$version is safer where there is one" >&2
fi
# Hydra needs a package that exists as source alone: its wheel, pure Python too, is made here
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$dir" 'antlr4-python3-runtime==4.9.*'
if [ -n "$index" ]; then  # both from one place, or they do not fit together
    "$python" -m pip download --quiet --dest "$dir" --find-links "$dir" "${target[@]}" --index-url "$index" torch torchvision
fi
"$python" -m pip download --quiet --dest "$dir" --find-links "$dir" "${target[@]}" \
    "${wheels[-1]}${extras:+[$extras]}"

printf '%s\n' "$(find "$dir" -maxdepth 1 -name '*.whl' | wc -l) wheels, $(du -sh "$dir" | cut -f1), in $dir. Copy it over; there:"
printf '  python%s -m venv .venv\n' "${version:-3}"
printf '  .venv/bin/pip install --no-index --find-links %q %q\n' "$(basename "$dir")" "lth-runner${extras:+[$extras]}"
