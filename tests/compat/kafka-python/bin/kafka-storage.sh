#!/usr/bin/env bash
# Formats the folder of a broker for kafka-python's fixtures. Ours formats an empty folder when it starts; credentials to
# add are kept for kafka-run-class.sh.
set -euo pipefail
if [[ -n ${COMPAT_BINARY:-} ]]; then
  while (($#)); do
    case $1 in
      -c) config=$2 ;;
      --add-scram) scram=$2 ;;
    esac
    shift
  done
  [[ -z ${scram:-} ]] || echo "$scram" >"$config.scram"
  exit 0
fi
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$COMPAT_KAFKA_LIB/*" kafka.tools.StorageTool "$@"
