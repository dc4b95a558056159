#!/usr/bin/env bash
# Installs what the biped application needs: Genesis, torch, Stable-Baselines3, W&B, TensorBoard. Versions: constraints.txt.
#
#   ./install_genesis.sh               into the active conda or virtual environment, or else into .venv (made if missing)
#   ./install_genesis.sh --check       says what is there and what is missing, one line each; installs nothing
#
#   --cpu                CPU build of torch, GPU or not        --cuda     CUDA build of torch, GPU or not
#   --torch-index URL    take torch from this package index    --venv DIR install into DIR
#   --python EXE         make the environment with this Python (3.11 to 3.13)
#   --no-dev             without the tools for tests and checks
#
# Without --cpu or --cuda, a machine with an NVIDIA GPU gets the CUDA build and any other the CPU build.
# System libraries are only checked and named; in CI (CI=true) they are installed, by root or by sudo without a password.
# Exit codes: 0 fine, 1 the machine cannot, 2 wrong usage.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

TORCH=2.13.0
PYTORCH_CPU_INDEX=https://download.pytorch.org/whl/cpu
build=auto index='' venv='' python='' check=0 extras='[train,robot,dev]'

say() { printf '%s\n' "$*"; }
die() { printf 'install_genesis.sh: %s\n' "$2" >&2; exit "$1"; }
value() { [ $# -ge 2 ] && [ -n "$2" ] || die 2 "$1 needs a value"; printf '%s' "$2"; }

while [ $# -gt 0 ]; do
  case $1 in
    --check) check=1 ;;
    --cpu) build=cpu ;;
    --cuda) build=cuda ;;
    --no-dev) extras='[train,robot]' ;;
    --torch-index) index=$(value "$@"); shift ;;
    --venv) venv=$(value "$@"); shift ;;
    --python) python=$(value "$@"); shift ;;
    -h|--help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p;}' "$0"; exit 0 ;;
    *) die 2 "unknown option $1 (see --help)" ;;
  esac
  shift
done

supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }

find_python() { # the Python to make an environment with
  local exe
  if [ -n "$python" ]; then
    supported "$python" || die 1 "$python is not a Python 3.11, 3.12 or 3.13"
    printf '%s' "$python"; return
  fi
  for exe in python3 python3.12 python3.11 python3.13 python; do
    if command -v "$exe" >/dev/null && supported "$exe"; then printf '%s' "$exe"; return; fi
  done
  die 1 "no Python 3.11, 3.12 or 3.13 found: install one, or name it with --python EXE"
}

# Where to install: --venv, else the active environment, else .venv.
env_python() {
  if [ -n "$venv" ]; then printf '%s' "$venv/bin/python"
  elif [ -n "${VIRTUAL_ENV:-}" ]; then printf '%s' "$VIRTUAL_ENV/bin/python"
  elif [ -n "${CONDA_PREFIX:-}" ] && [ "${CONDA_DEFAULT_ENV:-base}" != base ]; then printf '%s' "$CONDA_PREFIX/bin/python"
  else printf '%s' "$here/.venv/bin/python"; fi
}

has_gpu() { command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; }

# ---- system libraries -----------------------------------------------------------------------------------------------

# Library and the Debian package that has it: Genesis imports the first two, its camera draws with the others.
LIBRARIES='libGL.so.1:libgl1 libX11.so.6:libx11-6 libEGL.so.1:libegl1 libXrender.so.1:libxrender1'

missing_packages() { # none outside of Linux: macOS draws with frameworks of its own
  local pair
  [ "$(uname -s)" = Linux ] || return 0
  for pair in $LIBRARIES; do
    "$1" -c "import ctypes; ctypes.CDLL('${pair%%:*}')" 2>/dev/null || printf '%s ' "${pair##*:}"
  done
}

system_libraries() {
  local missing as_root=''
  missing=$(missing_packages "$1"); missing=${missing% }
  [ -n "$missing" ] || return 0
  # Runners of GitHub work as a user who may become root; others, such as containers, are root and have no sudo.
  [ "$(id -u)" = 0 ] || as_root='sudo -n'
  if [ "${CI:-}" = true ] && command -v apt-get >/dev/null && $as_root true 2>/dev/null; then
    say "installing system libraries: $missing"
    # shellcheck disable=SC2086 - lists of words
    { $as_root apt-get -qq update && $as_root apt-get -qq install -y $missing libgl1-mesa-dri; } >/dev/null || die 1 "apt-get failed for: $missing"
  else
    say "system libraries are missing; Genesis needs them: sudo apt-get install $missing libgl1-mesa-dri"
  fi
}

# ---- packages -------------------------------------------------------------------------------------------------------

install_torch() { # the build of torch that this machine should have, before anything can pull in another
  local pip=$1 kind=$2
  local installed
  installed=$("${pip%/pip}/python" -c 'import torch; print("cuda" if torch.version.cuda else "cpu", torch.__version__)' 2>/dev/null || true)
  if [ "${installed#"$kind $TORCH"}" != "$installed" ] && [ -n "$installed" ]; then return; fi
  if [ -n "$index" ]; then
    say "installing torch $TORCH from $index"
    # Torch alone: its dependencies come later, from where pip always looks.
    "$pip" install -q --no-deps --index-url "$index" "torch==$TORCH" ||
      die 1 "torch $TORCH is not on $index: check the address"
  elif [ "$kind" = cuda ]; then
    say "installing torch $TORCH with CUDA (several GB)"
    "$pip" install -q -c "$here/constraints.txt" "torch==$TORCH" || die 1 "torch $TORCH could not be installed: see above"
  elif [ "$(uname -s)" = Darwin ]; then
    say "installing torch $TORCH"
    # There is one build for macOS, without a name of its own.
    "$pip" install -q --no-deps "torch==$TORCH" || die 1 "torch $TORCH could not be installed: see above (macOS: 14 or later, Apple silicon)"
  else
    say "installing torch $TORCH for the CPU"
    # First where pip is set up to look, then PyTorch's own index; a plain torch==$TORCH would bring CUDA along.
    local said
    said=$({ "$pip" install -q --no-deps "torch==$TORCH+cpu" ||
      "$pip" install -q --no-deps --index-url "$PYTORCH_CPU_INDEX" "torch==$TORCH+cpu"; } 2>&1) ||
      die 1 "no CPU build of torch $TORCH could be installed for this Python (pip: $(grep -i error <<<"$said" | tail -n 1)). Name an index with --torch-index URL, another Python with --python EXE, or take the CUDA build (several GB) with --cuda"
  fi
}

# What Genesis requires but uses for nothing that is done here: a renderer that needs CUDA, particles, remeshing of soft
# bodies, figures in notebooks. It imports them where it uses them. With the CPU build they are left out: 1.5 GB.
SPARED='gs-madrona nvidia-cuda-nvrtc-cu12 nvidia-nvjitlink-cu12 vtk pymeshlab plotly'

install_small() { # what pip would install, without what is spared and without compiled copies of sources
  local exe=$1 pip=$2 planned wanted
  planned=$("$pip" install -q --dry-run --report - -c constraints.txt -e ".$extras") || return 1
  wanted=$("$exe" -c '
import json, re, sys
spared = sys.argv[1].split()
for package in json.load(sys.stdin)["install"]:
    name = re.sub(r"[-_.]+", "-", package["metadata"]["name"]).lower()
    if name not in {"biped-walking", *spared}:
        print(name + "==" + package["metadata"]["version"])' "$SPARED" <<<"$planned") || return 1
  # shellcheck disable=SC2086 - a list of words
  "$pip" install -q --no-deps --no-compile -c constraints.txt -e . $wanted
}

fits_together() { # pip's check, but for what is spared
  local said; said=$("$1" check) || ! grep -qvE "requires (${SPARED// /|}), which is not installed" <<<"$said"
}

install_all() {
  local exe pip kind
  exe=$(env_python)
  if [ ! -x "$exe" ]; then
    local maker; maker=$(find_python)
    say "making ${exe%/bin/python} with $("$maker" --version)"
    "$maker" -m venv "${exe%/bin/python}" >/dev/null ||
      die 1 "$maker cannot make a virtual environment: on Debian and Ubuntu, sudo apt-get install python3-venv"
  fi
  supported "$exe" || die 1 "$exe is $("$exe" --version 2>&1), but 3.11, 3.12 or 3.13 is needed: remove ${exe%/bin/python} or use --venv DIR"
  pip="${exe%/python}/pip"
  [ -x "$pip" ] || die 1 "$exe has no pip: $exe -m ensurepip"
  system_libraries "$exe"
  kind=$build
  if [ "$kind" = auto ]; then if has_gpu; then kind=cuda; else kind=cpu; fi; fi
  install_torch "$pip" "$kind"
  say "installing Genesis, Stable-Baselines3, W&B, TensorBoard and what they need"
  if [ "$kind" = cpu ]; then (cd "$here" && install_small "$exe" "$pip")
  else (cd "$here" && "$pip" install -q -c constraints.txt -e ".$extras"); fi || die 1 "pip failed: see above"
  fits_together "$pip" || die 1 "the packages do not fit together: $pip check"
  say "done: $exe"
}

# ---- check ----------------------------------------------------------------------------------------------------------

run_check() {
  local exe; exe=$(env_python)
  if [ ! -x "$exe" ]; then
    say "environment    MISSING  ${exe%/bin/python}: run ./install_genesis.sh"; exit 1
  fi
  local missing; missing=$(missing_packages "$exe")
  if [ -n "$missing" ]; then say "libraries      MISSING  sudo apt-get install $missing libgl1-mesa-dri"; fi
  (cd "$here" && "$exe" -m biped check-machine) && [ -z "$missing" ]
}

if [ "$check" = 1 ]; then run_check; else install_all; fi
