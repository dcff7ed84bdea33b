#!/usr/bin/env bash
# Installs what building and testing reprise needs on Debian 12.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: tools/setup.sh [--check] [--with-interop] [--with-cuda] [--with-torch]
       tools/setup.sh --help

Installs the Debian packages that building, testing and working on reprise
needs: Bazel, compilers, TensorPipe, Abseil and a few more libraries. Every one
of them comes from Debian 12 itself; only --with-cuda and --with-torch take
something from PyPI. Run it as root, or as a user of sudo; run it again at any
time, it installs only what is missing.

  --check         install nothing: list what is missing, exit 1 if anything is
  --with-interop  also PyTorch (python3-torch and libtorch-dev, large), for the
                  tests against its own TCPStore and its own agent, which are
                  skipped without it
  --with-cuda     also CUDA's header, from NVIDIA's package on PyPI, unless the
                  CUDA toolkit is installed; GPUs work only in what is built
                  with one of the two
  --with-torch    also the newest PyTorch, from PyPI, in a virtual environment
                  of its own, .cache/torch, for tools/interop_newest_torch.sh;
                  what is there is replaced if there is a newer one. From PyPI
                  it brings CUDA's libraries along, 3 GB to download and 5 GB on
                  the disk; with PIP_INDEX_URL set to
                  https://download.pytorch.org/whl/cpu it is a tenth of that
  --help          this text
USAGE
}

say() { printf 'setup: %s\n' "$*"; }
die() {
  printf 'setup: error: %s\n' "$*" >&2
  exit 1
}

# The build itself.
readonly BUILD_PACKAGES=(
  bazel-bootstrap bazel-platforms bazel-rules-cc bazel-skylib
  binutils ca-certificates g++ git python3
)
# The libraries; tools/bazel/deps.bzl gives them their Bazel labels.
readonly LIBRARY_PACKAGES=(
  libabsl-dev libbenchmark-dev libboost-context-dev libcli11-dev
  libcurl4-openssl-dev libdlpack-dev libgmock-dev libgoogle-glog-dev
  libgtest-dev libhiredis-dev libmd-dev libtensorpipe-dev libuv1-dev
  nlohmann-json3-dev prometheus-cpp-dev
)
# For the tests of the Redis store: redis-tools has the server's program, and
# unlike redis-server it starts no service. For those of etcd: etcd-server,
# which also starts etcd as a service where systemd runs; the tests start their
# own. For those of networks: iproute2.
readonly TEST_PACKAGES=(etcd-server gdb iproute2 redis-tools)
readonly INTEROP_PACKAGES=(libtorch-dev python3-torch)
readonly CUDA_PACKAGES=(python3-pip)
# --config=clang and --config=fuzz, readable sanitizer reports, tools/format.sh
# and tools/tidy.sh.
readonly CLANG_PACKAGES=(
  clang-14 clang-format-14 clang-tidy-14 libclang-rt-14-dev llvm-14
)
# CUDA's header, and where tools/bazel/cuda_headers.bzl looks for it. The sum is
# that of cuda.h, the same on every processor.
readonly CUDA_WHEEL=nvidia-cuda-runtime-cu12==12.9.79
readonly CUDA_HEADER=nvidia/cuda_runtime/include/cuda.h
readonly CUDA_SHA256=\
fda3285d055a9f05e40cd76352f9f073d0ab45d42fb5bb0db4bb33b0df506d28
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly CUDA_INCLUDE=$top/.cache/cuda/include
# The newest PyTorch. Debian's pip installs into it, so that it needs none.
readonly TORCH_PACKAGES=(python3-pip)
readonly TORCH_PYTHON=$top/.cache/torch/bin/python3

check_only=false
with_interop=false
with_cuda=false
with_torch=false
for argument in "$@"; do
  case "$argument" in
    --check) check_only=true ;;
    --with-interop) with_interop=true ;;
    --with-cuda) with_cuda=true ;;
    --with-torch) with_torch=true ;;
    -h | --help)
      usage
      exit 0
      ;;
    *)
      usage >&2
      die "unknown argument: $argument"
      ;;
  esac
done

system=$(. /etc/os-release 2>/dev/null && echo "${ID:-?} ${VERSION_ID:-?}") ||
  system="a system without /etc/os-release"
[[ $system == "debian 12" ]] || die "this is $system, and only Debian 12" \
  "(bookworm) has the packages that reprise is built from; use such a" \
  "machine or a debian:12 container"

wanted=("${BUILD_PACKAGES[@]}" "${LIBRARY_PACKAGES[@]}" "${CLANG_PACKAGES[@]}"
  "${TEST_PACKAGES[@]}")
if $with_interop; then
  wanted+=("${INTEROP_PACKAGES[@]}")
fi
if $with_cuda; then
  if [[ -n ${CUDA_HOME:-} ]]; then
    [[ -e $CUDA_HOME/include/cuda.h ]] ||
      die "CUDA_HOME is $CUDA_HOME, which has no include/cuda.h; unset it to" \
        "get the header from PyPI"
    with_cuda=false
  elif [[ -e /usr/local/cuda/include/cuda.h || -e $CUDA_INCLUDE/cuda.h ]]; then
    with_cuda=false
  else
    wanted+=("${CUDA_PACKAGES[@]}")
  fi
fi
if $with_torch; then
  wanted+=("${TORCH_PACKAGES[@]}")
fi
missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" \
    2>/dev/null) || status=none
  [[ $status == installed ]] || missing+=("$package")
done

# With --check it is enough that there is one; else pip decides.
if $check_only && $with_torch &&
  "$TORCH_PYTHON" -c 'import torch.distributed.rpc' 2>/dev/null; then
  with_torch=false
fi

if [[ ${#missing[@]} -eq 0 ]] && ! $with_cuda && ! $with_torch; then
  say "everything is installed"
  exit 0
fi
[[ ${#missing[@]} -eq 0 ]] || say "missing packages: ${missing[*]}"
! $with_cuda || say "missing: CUDA's header"
! $with_torch || ! $check_only || say "missing: the newest PyTorch"
if $check_only; then
  exit 1
fi

install_packages() {
  local as_root=()
  if [[ $EUID -ne 0 ]]; then
    command -v sudo >/dev/null ||
      die "installing packages takes root: run this as root, or install sudo"
    as_root=(sudo)
  fi
  apt_get() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get \
      -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" </dev/null
  }

  say "running apt-get update"
  # A broken source of somebody else's is no reason to stop: installing decides.
  apt_get -qq update || say "apt-get update failed; trying with the old lists"
  say "running apt-get install for ${#missing[@]} packages"
  apt_get install --yes --quiet --no-install-recommends "${missing[@]}" ||
    die "apt-get could not install: ${missing[*]}"
}

install_cuda_header() {
  local folder
  folder=$(mktemp -d)
  # shellcheck disable=SC2064 # the folder of now
  trap "rm -rf '$folder'" EXIT
  say "fetching $CUDA_WHEEL from PyPI"
  /usr/bin/python3 -m pip download --quiet --disable-pip-version-check \
    --no-deps --only-binary :all: --dest "$folder" "$CUDA_WHEEL" </dev/null ||
    die "pip could not download $CUDA_WHEEL"
  /usr/bin/python3 -m zipfile -e "$folder"/*.whl "$folder/wheel"
  echo "$CUDA_SHA256  $folder/wheel/$CUDA_HEADER" | sha256sum --check --quiet ||
    die "cuda.h of $CUDA_WHEEL has another checksum than this script expects"
  mkdir -p "$CUDA_INCLUDE"
  cp "$folder/wheel/$CUDA_HEADER" "$CUDA_INCLUDE/cuda.h"
}

install_torch() {
  local kept=$top/.cache/torch
  [[ -x $TORCH_PYTHON ]] || /usr/bin/python3 -m venv --without-pip "$kept" ||
    die "python3 could not make a virtual environment in $kept"
  say "fetching the newest torch, which may be 3 GB"
  # What pip has downloaded is not needed twice.
  /usr/bin/python3 -m pip --python "$TORCH_PYTHON" install --quiet --upgrade \
    --no-cache-dir --no-compile --disable-pip-version-check \
    --only-binary :all: torch </dev/null ||
    die "pip could not install torch into $kept; remove it to begin anew"
  local version
  # It warns that there is no NumPy, which nothing here needs.
  version=$("$TORCH_PYTHON" -W ignore -c \
    'import torch.distributed.rpc; print(torch.__version__)') ||
    die "the torch in $kept cannot be imported; remove $kept to begin anew"
  say "PyTorch $version is in $kept"
}

[[ ${#missing[@]} -eq 0 ]] || install_packages
! $with_cuda || install_cuda_header
! $with_torch || install_torch
say "done; next: bazel test //..."
