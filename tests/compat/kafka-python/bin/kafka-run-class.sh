#!/usr/bin/env bash
# A broker for kafka-python's fixtures: ours where COMPAT_BINARY names it, else Apache Kafka's from COMPAT_KAFKA_LIB.
# The fixtures wait for Kafka's words; where ours is started they are said for it.
set -euo pipefail
class=$1 config=$2

if [[ -z ${COMPAT_BINARY:-} ]]; then
  # shellcheck disable=SC2086
  exec java -Xmx400m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 ${KAFKA_OPTS:-} \
    "-Dlog4j2.configurationFile=$(dirname "$0")/../log4j2.properties" -cp "$COMPAT_KAFKA_LIB/*" "$class" "$config"
fi

value() { sed -n "s/^$1=//p" "$config" | tail -1; }
address=$(value advertised.listeners)
port=${address##*:}
# One login module a listener is the property form of the file that KAFKA_OPTS names.
if [[ ${KAFKA_OPTS:-} == *java.security.auth.login.config=* ]]; then
  jaas=${KAFKA_OPTS##*java.security.auth.login.config=}
  mechanism=$(value sasl.enabled.mechanisms)
  listener=${address%%:*}
  login=$(sed -n '/LoginModule/p' "$jaas" | tr -s ' ' | sed 's/^ //')
  echo "listener.name.${listener,,}.${mechanism,,}.sasl.jaas.config=$login" >>"$config"
fi
# Credentials come in by a listener of their own, since ours are not added while a folder is formatted.
if [[ -f $config.scram ]]; then
  aside=127.0.0.1:$(value controller.quorum.bootstrap.servers | sed 's/.*://')
  {
    echo "listeners=$(value listeners | cut -d, -f1),ASIDE://$aside"
    echo "advertised.listeners=$address,ASIDE://$aside"
    echo "listener.security.protocol.map=$(value listener.security.protocol.map),ASIDE:PLAINTEXT"
    # Its port is the new listener's: the node is a cluster by itself.
    echo "controller.quorum.bootstrap.servers="
  } >>"$config"
fi
"$COMPAT_BINARY" broker --config "$config" &
child=$!
trap 'kill -TERM $child 2>/dev/null' TERM INT
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  kill -0 $child || exit 1
  sleep 0.05
done
if [[ -f $config.scram ]]; then
  # SCRAM-SHA-256=[name=alice,password=secret]
  IFS='=[],' read -r mechanism _ _ name _ password _ <"$config.scram"
  "$COMPAT_BINARY" configs alter --bootstrap-server "$aside" --user "$name" --scram "$mechanism" <<<"$password"
fi
echo "[KafkaRaftServer nodeId=$(value node.id)] Kafka Server started"
echo "Replayed UserScramCredentialRecord creating new entry for alice"
wait $child || true
wait $child 2>/dev/null || true
