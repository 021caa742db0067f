//! SaslHandshake (KIP-43, KIP-368), versions 0 and 1. Connections of SASL listeners take it before anything else, and to
//! renew a session; whatever comes here has no place in the exchange.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};

use super::Context;

pub(crate) async fn handle(_: Context, _: SaslHandshakeRequest) -> SaslHandshakeResponse {
    SaslHandshakeResponse { error_code: ErrorCode::IllegalSaslState.code(), mechanisms: Vec::new() }
}
