//! Launchers of the real servers that tests and benchmarks run against. Each finds what `cargo xtask setup` installed
//! and fails, saying so, where it is missing.

pub mod aqueduct;
pub mod cluster;
pub mod connect;
pub mod console;
pub mod elasticsearch;
pub mod install;
pub mod java;
pub mod jvm_connect;
pub mod kafka;
pub mod mariadb;
pub mod namespace;
pub mod openapi;
pub mod pki;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod random;
pub mod rolling;
pub mod scenario;
pub mod server;
pub mod settle;
pub mod streams;
pub mod suites;
pub mod switch;
pub mod tools;
