//! What a source asks of exactly-once delivery, and whether worker and connector can give it; the texts are the reference's.

use aqueduct_connect_api::config::ConfigValueInfo;
use aqueduct_connect_api::{ConfigMap, Connector, ExactlyOnceSupport};

use super::error_at;
use crate::config::WorkerConfig;

const SUPPORT: &str = "exactly.once.support";
const BOUNDARY: &str = "transaction.boundary";

const NOT_ENABLED: &str = "This worker does not have exactly-once source support enabled.";
const UNKNOWN: &str = "The connector does not implement the API required for preflight validation of exactly-once source support. \
                       Please consult the documentation for the connector to determine whether it supports exactly-once \
                       semantics, and then consider reconfiguring the connector to use the value \"REQUESTED\" for this property \
                       (which will disable this preflight check and allow the connector to be created).";
const UNSUPPORTED: &str =
    "The connector does not support exactly-once semantics with the provided configuration.";
const NO_BOUNDARIES: &str = "The connector does not support connector-defined transaction boundaries with the given configuration. \
                             Please reconfigure it to use a different transaction boundary definition.";

/// Adds the errors of a source's settings about exactly-once delivery.
pub(super) fn check(
    worker: &WorkerConfig,
    connector: &dyn Connector,
    config: &ConfigMap,
    infos: &mut [ConfigValueInfo],
) {
    // A setting that is wrong in itself has its error.
    let says = |infos: &[ConfigValueInfo], key: &str, value: &str| {
        let sound = infos.iter().any(|info| info.key.name == key && info.errors.is_empty());
        sound && config.get(key).is_some_and(|given| given.trim().eq_ignore_ascii_case(value))
    };
    if says(infos, SUPPORT, "required") {
        if !worker.exactly_once_enabled() {
            error_at(infos, SUPPORT, NOT_ENABLED);
        }
        match connector.exactly_once_support(config) {
            ExactlyOnceSupport::Supported => {}
            ExactlyOnceSupport::Unsupported => error_at(infos, SUPPORT, UNSUPPORTED),
            ExactlyOnceSupport::Unknown => error_at(infos, SUPPORT, UNKNOWN),
        }
    }
    if says(infos, BOUNDARY, "connector") && !connector.defines_transaction_boundaries(config) {
        error_at(infos, BOUNDARY, NO_BOUNDARIES);
    }
}
