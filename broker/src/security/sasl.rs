//! SASL on the server's side: what a listener offers, and the exchanges as plain state machines.

mod exchange;
mod jwks;
mod lifetime;
mod oauth;
mod setup;

pub(crate) use exchange::{Exchange, Lookup, Step};
pub(crate) use lifetime::{Lifetime, Verdict};
pub(crate) use setup::SaslSetup;
