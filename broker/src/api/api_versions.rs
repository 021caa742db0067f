//! ApiVersions (KIP-35, KIP-511, KIP-584, KIP-1242), versions 0 to 5: what this broker serves.

use aqueduct_protocol::api::ApiKey;
use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use aqueduct_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use bytes::{BufMut, Bytes, BytesMut};

use super::{Context, served_on};
use crate::metadata::MetadataImage;
use crate::metadata::features::{FEATURES, Feature};

const MAX_VERSION: i16 = 5;

/// The whole answer to an ApiVersions request of a version that is not known here: its body cannot be read, and the
/// answer goes out in version 0 so that any client can read it and come again. `None` for every other request.
pub(crate) fn unknown_version(frame: &Bytes) -> Option<Bytes> {
    let head: &[u8; 8] = frame.get(..8)?.try_into().ok()?;
    let key = i16::from_be_bytes([head[0], head[1]]);
    let version = i16::from_be_bytes([head[2], head[3]]);
    if key != ApiKey::API_VERSIONS || (0..=MAX_VERSION).contains(&version) {
        return None;
    }
    let mut out = BytesMut::with_capacity(20);
    out.put_i32(16);
    out.put_slice(&head[4..]);
    out.put_i16(ErrorCode::UnsupportedVersion.code());
    out.put_i32(1);
    out.put_i16(ApiKey::API_VERSIONS);
    out.put_i16(0);
    out.put_i16(MAX_VERSION);
    Some(out.freeze())
}

pub(crate) async fn handle(context: Context, request: ApiVersionsRequest) -> ApiVersionsResponse {
    let image = context.node.metadata.image();
    let failed = |code: ErrorCode| ApiVersionsResponse { error_code: code.code(), ..Default::default() };
    if context.version >= 3
        && !(is_software(&request.client_software_name) && is_software(&request.client_software_version))
    {
        return failed(ErrorCode::InvalidRequest);
    }
    if context.version >= 5 {
        let other_cluster = request.cluster_id.is_some_and(|id| id != image.cluster_id);
        let other_node = request.node_id >= 0 && request.node_id != context.node.settings.node_id.0;
        if other_cluster || other_node {
            return failed(ErrorCode::RebootstrapRequired);
        }
    }
    let features = context.version >= 3;
    ApiVersionsResponse {
        api_keys: advertised(&context),
        supported_features: if features { supported(context.version) } else { Vec::new() },
        finalized_features_epoch: if features { image.version as i64 } else { -1 },
        finalized_features: if features { finalized(&image) } else { Vec::new() },
        ..Default::default()
    }
}

fn advertised(context: &Context) -> Vec<ApiVersion> {
    let version =
        |row: &super::Row| ApiVersion { api_key: row.key, min_version: row.min, max_version: row.max };
    served_on(&context.node, &context.client.listener).map(version).collect()
}

/// Versions from which a level of 0 may be named; older clients take it for damage.
const ZERO_SINCE: i16 = 4;

fn supported(version: i16) -> Vec<SupportedFeatureKey> {
    let key = |feature: &Feature| SupportedFeatureKey {
        name: feature.name.into(),
        min_version: feature.min,
        max_version: feature.max,
    };
    FEATURES.iter().filter(|feature| feature.min > 0 || version >= ZERO_SINCE).map(key).collect()
}

/// Features that are off are left out.
fn finalized(image: &MetadataImage) -> Vec<FinalizedFeatureKey> {
    let key = |feature: &Feature| {
        let level = image.level(feature);
        FinalizedFeatureKey { name: feature.name.into(), max_version_level: level, min_version_level: level }
    };
    FEATURES.iter().filter(|feature| image.level(feature) > 0).map(key).collect()
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software(text: &str) -> bool {
    let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    ends(text.bytes().next())
        && ends(text.bytes().last())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_answered_in_version_0() {
        let frame = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x09whatever");
        let reply = unknown_version(&frame).unwrap();
        assert_eq!(&reply[..], b"\0\0\0\x10\0\0\0\x09\0\x23\0\0\0\x01\0\x12\0\0\0\x05");
        assert!(unknown_version(&Bytes::from_static(b"\0\x12\0\x03\0\0\0\x09")).is_none());
        assert!(unknown_version(&Bytes::from_static(b"\0\x12\0\x63\0\0\0")).is_none());
        assert!(unknown_version(&Bytes::from_static(b"\0\x03\0\x63\0\0\0\x09")).is_none());
    }

    #[test]
    fn software_names_follow_the_pattern() {
        for good in ["a", "apache-kafka-java", "4.3.1", "x9"] {
            assert!(is_software(good), "{good}");
        }
        for bad in ["", "-a", "a-", "a b", ".", "ä"] {
            assert!(!is_software(bad), "{bad}");
        }
    }
}
