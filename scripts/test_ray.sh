#!/usr/bin/env bash
# Test plugins/yolo-ray with a real Ray of two workers, in an environment of its own: the lock and .venv stay as they are.
# Arguments go to pytest. YOLO_RAY_ENVIRONMENT names the folder of the environment, which is kept for the next time.
set -euo pipefail
cd "$(dirname "$0")/.."

environment="${YOLO_RAY_ENVIRONMENT:-.venv-ray}"
versions="$(mktemp)"
trap 'rm -f "$versions"' EXIT
unset VIRTUAL_ENV

# Ray is not in the lock. Everything else comes in the versions of the lock.
uv export --quiet --frozen --no-hashes --no-header --no-annotate --no-emit-workspace >"$versions"
uv venv --quiet --allow-existing --python 3.11 "$environment"
members=()
for member in packages/yolo-{core,cli,data,train} plugins/yolo-ray; do members+=(--editable "$member"); done
uv pip install --quiet --python "$environment" --constraints "$versions" "${members[@]}" pytest

"$environment/bin/python" -m pytest plugins/yolo-ray/tests "$@"
