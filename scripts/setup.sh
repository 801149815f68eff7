#!/usr/bin/env bash
# Make .venv from requirements.lock: `scripts/setup.sh PYTHON TORCH_VERSION`, normally through `make setup`.
# Finished steps are not repeated; a step that was killed half-way may have left half a package, so it starts afresh.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1 torch_version=$2
venv=.venv
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

die() { echo "setup: $*" >&2; exit 1; }
say() { echo "setup: $*"; }
fingerprint() { cksum requirements.lock pyproject.toml scripts/setup.sh && echo "torch $torch_version in $PWD"; }

# Run one step unless its stamp stands; $venv/.installing exists only while pip is at work.
step() {
    local stamp=$venv/.done-$1 message=$2 status=0
    shift 2
    [ -e "$stamp" ] && return
    say "$message"
    touch "$venv/.installing"
    "$venv/bin/python" -m pip install -qq --progress-bar off "$@" || status=$?
    rm -f "$venv/.installing"
    [ "$status" -eq 0 ] || die "pip failed (see above); run 'make setup' again to go on from here"
    touch "$stamp"
}

is_complete() { [ "$(fingerprint)" = "$(cat $venv/.complete 2>/dev/null)" ]; }
is_complete && exit

command -v "$python" >/dev/null || die "'$python' not found; name a Python 3.11 or newer: make setup PYTHON=python3.11"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    die "Python 3.11 or newer is needed, '$python' is $("$python" -V 2>&1); name another one: make setup PYTHON=python3.11"

# One setup at a time: a second one waits here, then finds the work done.
if command -v flock >/dev/null; then
    exec 9>.setup.lock
    flock 9
    is_complete && exit
fi

# A virtual environment cannot be moved: one that another folder's checkout made would import that one's code.
if [ -e $venv/.installing ] || [ "$(cat $venv/.home 2>/dev/null)" != "$PWD" ] || ! $venv/bin/python -m pip -V >/dev/null 2>&1; then
    say "creating $venv with $("$python" -V 2>&1); the whole setup takes about 2 minutes, longer on a slow connection"
    "$python" -m venv --clear $venv
    echo "$PWD" >$venv/.home
fi
# Other inputs than in the last attempt: no finished step stands.
if [ "$(fingerprint)" != "$(cat $venv/.attempt 2>/dev/null)" ]; then
    rm -f $venv/.complete $venv/.done-*
    fingerprint >$venv/.attempt
fi

packages=$(grep -c '^[A-Za-z0-9].*==' requirements.lock)
step torch "installing torch $torch_version (about half a minute; CUDA builds are larger and take longer)" "torch==$torch_version"
step locked "installing $packages locked packages (about a minute)" --require-hashes --no-deps -r requirements.lock
step cwpo "installing cwpo itself (editable)" --no-deps --no-build-isolation --editable .
fingerprint >$venv/.complete
say "done"
