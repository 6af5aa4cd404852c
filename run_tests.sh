#!/usr/bin/env bash
# Runs the tests, making the environment on first use: bash run_tests.sh [pytest arguments]
#
# ALBERT_TF=1 bash run_tests.sh runs them on TensorFlow 1.15. Paths in the arguments are relative
# to the project's folder, for example: bash run_tests.sh tests/test_env.py -k uv
set -euo pipefail

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"
ALBERT_EXTRAS="test ${ALBERT_EXTRAS:-}"
. ./env.sh
exec "$PYTHON" -m pytest "$@"
