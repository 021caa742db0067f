//! A Kafka-compatible broker node.
