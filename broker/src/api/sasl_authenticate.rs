//! SaslAuthenticate (KIP-152, KIP-368), versions 0 to 2. The exchange itself is the connection's; whatever comes here
//! comes after it.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};

use super::Context;

pub(crate) async fn handle(_: Context, _: SaslAuthenticateRequest) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        error_message: Some("SaslAuthenticate request received after successful authentication".into()),
        ..Default::default()
    }
}
