#!/usr/bin/env bash
# Finds a Chromium for the browser tests, or installs one: Debian's package where we may, Playwright's build otherwise.
set -euo pipefail
for name in "${OPENLEDGER_CHROMIUM:-}" chromium chromium-browser google-chrome; do
  [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 && exit 0
done
if command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ]; then
  echo "Installing Chromium for the browser tests …"
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null
else
  .venv/bin/python -m playwright install chromium
fi
