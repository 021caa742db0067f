//! Elasticsearch sink connector.
