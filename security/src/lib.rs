//! Key stores, TLS and SASL as Kafka configures them, shared by brokers and clients. Nothing here does network I/O:
//! exchanges are plain state machines that take one message and give the next.
//!
//! - [`store`]: certificates and keys out of PEM, JKS and PKCS#12.
//! - [`tls`]: `ssl.*` settings to rustls configurations.
//! - [`dn`], [`mapping`]: names of certificates, and `ssl.principal.mapping.rules`.
//! - [`jaas`], [`plain`], [`scram`], [`oauth`], [`jwt`]: SASL.
//!
//! Secrets are never part of an error or of a `Debug` text.

mod der;
pub mod dn;
mod error;
pub mod jaas;
pub mod jwt;
pub mod mapping;
pub mod oauth;
pub mod plain;
mod protocol;
pub mod scram;
mod secret;
pub mod store;
pub mod tls;

pub use error::Error;
pub use protocol::SecurityProtocol;
pub use secret::Secret;
