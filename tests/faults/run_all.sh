#!/usr/bin/env bash
# Tries what can go wrong (kill -9, full disks, damaged files, bad input, ...) and prints one table:
# bash tests/faults/run_all.sh [--short] [--only=TEXT] [--seed=N] [--jobs=N] [--list]
#
# ALBERT_TF=1 in front of it tries it on TensorFlow 1.15.
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.."
ALBERT_EXTRAS="test ${ALBERT_EXTRAS:-}"
. ./env.sh
exec "$PYTHON" tests/faults/run_all.py "$@"
