#!/usr/bin/env bash
# Formats the folder of a broker for kafka-python's fixtures. Ours formats an empty folder when it starts.
set -euo pipefail
if [[ -n ${COMPAT_BINARY:-} ]]; then
  exit 0
fi
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$COMPAT_KAFKA_LIB/*" kafka.tools.StorageTool "$@"
