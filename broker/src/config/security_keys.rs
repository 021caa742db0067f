//! Keys of TLS, SASL and the admission of connections. Which of them may change at run time is in `dynamic`.

use super::definition::{Check, Key, Kind, Scope};
use Check::{Any, AtLeast, OneOf};
use Kind::{Int, List, Long, Password, String as Text};

const fn key(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    check: Check,
    doc: &'static str,
) -> Key {
    Key { name, kind, default, check, scope: Scope::ReadOnly, doc }
}

#[rustfmt::skip]
pub(super) const KEYS: &[Key] = &[
    key("connection.failed.authentication.delay.ms", Int, Some("100"), AtLeast(0), "Time between a failed authentication and the answer that tells it."),
    key("connections.max.reauth.ms", Long, Some("0"), Any, "Longest session of SASL before the client must authenticate again; 0 means no limit. By mechanism: listener.name.LISTENER.MECHANISM.connections.max.reauth.ms."),
    key("max.connection.creation.rate", Int, Some("2147483647"), AtLeast(0), "Connections that may come each second; later ones wait. Also for one listener."),
    key("max.connections.per.ip.overrides", Text, Some(""), Any, "Addresses with another limit than max.connections.per.ip, HOST:LIMIT with commas between them."),
    key("sasl.enabled.mechanisms", List, Some("GSSAPI"), Any, "Mechanisms that a SASL listener offers: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER. GSSAPI, the default, is not supported."),
    key("sasl.jaas.config", Password, None, Any, "Login module and its options, for one listener and mechanism: listener.name.LISTENER.MECHANISM.sasl.jaas.config."),
    key("sasl.mechanism.controller.protocol", Text, Some("GSSAPI"), Any, "Mechanism of this node's connections to controllers. GSSAPI, the default, is not supported."),
    key("sasl.mechanism.inter.broker.protocol", Text, Some("GSSAPI"), Any, "Mechanism of this node's connections to other brokers. GSSAPI, the default, is not supported."),
    key("sasl.oauthbearer.clock.skew.seconds", Int, Some("30"), Any, "How far the clocks of issuer and broker may be apart, in seconds."),
    key("sasl.oauthbearer.expected.audience", List, Some(""), Any, "Audiences of which a token must name one. Empty means any."),
    key("sasl.oauthbearer.expected.issuer", Text, None, Any, "Issuer that a token must name. Unset means any."),
    key("sasl.oauthbearer.jwks.endpoint.refresh.ms", Long, Some("3600000"), Any, "Time between two readings of the issuer's keys."),
    key("sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Long, Some("100"), Any, "Least time between two readings for a key that was not there; at least 5 s."),
    key("sasl.oauthbearer.jwks.endpoint.url", Text, None, Any, "Where the issuer's keys are: https://... or file:///..."),
    key("sasl.oauthbearer.scope.claim.name", Text, Some("scope"), Any, "Claim that holds a token's scopes."),
    key("sasl.oauthbearer.sub.claim.name", Text, Some("sub"), Any, "Claim that holds whom a token stands for."),
    key("sasl.server.max.receive.size", Int, Some("524288"), AtLeast(1), "Largest request before authentication, in bytes."),
    key("security.inter.broker.protocol", Text, Some("PLAINTEXT"), Any, "Security protocol of the listener that brokers use among themselves. Excludes inter.broker.listener.name."),
    key("ssl.cipher.suites", List, Some(""), Any, "Cipher suites, as Java names them. Empty means all that are supported."),
    key("ssl.client.auth", Text, Some("none"), OneOf(&["required", "requested", "none"]), "Whether clients show a certificate: none, requested or required."),
    key("ssl.enabled.protocols", List, Some("TLSv1.2,TLSv1.3"), Any, "Versions of TLS: TLSv1.2, TLSv1.3."),
    key("ssl.key.password", Password, None, Any, "Password of the private key."),
    key("ssl.keystore.certificate.chain", Password, None, Any, "Certificates in PEM, the broker's own first."),
    key("ssl.keystore.key", Password, None, Any, "Private key in PEM."),
    key("ssl.keystore.location", Text, None, Any, "File of the private key and its certificates; read anew when it changes."),
    key("ssl.keystore.password", Password, None, Any, "Password of the key store."),
    key("ssl.keystore.type", Text, Some("JKS"), Any, "Form of the key store: JKS, PKCS12 or PEM. JKS and PKCS12 stand for either."),
    key("ssl.principal.mapping.rules", Text, Some("DEFAULT"), Any, "From a certificate's name to a user's: DEFAULT, RULE:pattern/replacement/[LU]."),
    key("ssl.truststore.certificates", Password, None, Any, "Certificates to trust, in PEM."),
    key("ssl.truststore.location", Text, None, Any, "File of the certificates to trust; read anew when it changes."),
    key("ssl.truststore.password", Password, None, Any, "Password of the trust store."),
    key("ssl.truststore.type", Text, Some("JKS"), Any, "Form of the trust store: JKS, PKCS12 or PEM. JKS and PKCS12 stand for either."),
];
