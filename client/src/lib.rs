//! An asynchronous Kafka client: connections, metadata, raw-batch produce and fetch, groups, admin.
