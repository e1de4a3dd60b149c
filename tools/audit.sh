#!/usr/bin/env bash
# Gives Slither and Halmos an environment each under build/, since they pin versions that the project does not use. Safe to run again.
# Usage: bash tools/audit.sh slither|halmos
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON="${PYTHON:-$(command -v python3.11 || command -v python3)}"
case "${1:-}" in
  slither) package=slither-analyzer==0.11.6 ;;
  halmos) package=halmos==0.3.3 ;;
  *)
    echo "Usage: bash tools/audit.sh slither|halmos" >&2
    exit 2
    ;;
esac
home="build/$1"
[ "$(cat "$home/.ready" 2> /dev/null)" = "$package" ] && exit 0
echo "Installing $package under $home …"
rm -rf "$home"
"$PYTHON" -m venv "$home"
"$home/bin/pip" install --quiet --disable-pip-version-check "$package"
echo "$package" > "$home/.ready"
