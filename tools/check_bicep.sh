#!/usr/bin/env bash
# Lints the Bicep templates where there are any; a machine without the Bicep CLI skips that and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ -d infra/bicep ] || exit 0
bicep=${BICEP:-bicep}
if ! command -v "$bicep" >/dev/null; then
  echo "Skipped: the Bicep templates are not linted, since there is no $bicep. Set BICEP to the path of the CLI."
  exit 0
fi
find infra/bicep -name '*.bicep' -print0 | xargs -0 -n 1 "$bicep" lint
