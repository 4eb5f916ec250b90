#!/usr/bin/env bash
# Makes .venv hold what one lock file names: `environment.sh run`, `azurite` or `dev`, each with all of those before.
# A stamp beside it says which lock file was installed, so that an unchanged environment costs nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

kind=$1
python=${PYTHON:-python3}
venv=.venv

fail() {
  echo "$*" >&2
  exit 1
}

digest() {
  cksum <"requirements/$1.txt"
}

is_current() {
  [ -x "$venv/bin/python" ] && [ "$(cat "$venv/.stamp-$1" 2>/dev/null || true)" = "$(digest "$1")" ]
}

if is_current "$kind" || { [ "$kind" != dev ] && is_current dev; } || { [ "$kind" = run ] && is_current azurite; }; then
  exit 0
fi

command -v "$python" >/dev/null || fail "Python 3.11 or later is needed, and there is no $python. Install it, or set PYTHON."
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
  fail "Python 3.11 or later is needed; $python is $("$python" -V 2>&1). Set PYTHON=python3.12, for example."

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package="python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      echo "Installing $package"
      apt-get update -qq && apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
        fail "$package could not be installed. Install it by hand and try again."
    else
      fail "Python's venv module is not complete. Install it and try again: apt install $package"
    fi
  fi
  echo "Creating the Python environment in $venv"
  "$python" -m venv --clear "$venv"
fi

echo "Installing the packages of requirements/$kind.txt (once; this takes a minute or two)"
"$venv/bin/python" -m pip install --quiet --require-hashes --prefer-binary -r "requirements/$kind.txt" ||
  fail "The packages could not be installed. What is above says why; most often the network is away."
digest "$kind" >"$venv/.stamp-$kind"
