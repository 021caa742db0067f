#!/usr/bin/env bash
# Kafka's own tool, for either broker.
exec java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$COMPAT_KAFKA_LIB/*" org.apache.kafka.tools.TopicCommand "$@"
