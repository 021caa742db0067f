//! Users with ACLs and quotas, on our broker and on Apache Kafka: the same requests, tools and limits, the same outcomes.

mod access {
    pub mod client;
    pub mod quotas;
    pub mod script;
    pub mod tools;
}

use anyhow::Result;
use aqueduct_tests::server::{Kind, Server};

/// A broker that knows three users, of whom one may do everything, and asks its ACLs about the others.
fn start(kind: Kind, more: &[(&str, &str)]) -> Result<Server> {
    let login = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"admin\" \
                 password=\"admin-secret\" user_admin=\"admin-secret\" user_alice=\"alice-secret\" \
                 user_bob=\"bob-secret\";";
    let settings = [
        ("listener.security.protocol.map", "PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("inter.broker.listener.name", "PLAINTEXT"),
        ("sasl.enabled.mechanisms", "PLAIN"),
        ("sasl.mechanism.inter.broker.protocol", "PLAIN"),
        ("listener.name.plaintext.plain.sasl.jaas.config", login),
        ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
        // The one node of Apache Kafka talks to its controller without a name.
        ("super.users", "User:admin;User:ANONYMOUS"),
    ];
    Server::start_with(kind, &[&settings, more].concat())
}

#[test]
fn users_may_do_the_same_on_both() -> Result<()> {
    let outcomes = Kind::BOTH.map(|kind| -> Result<Vec<String>> {
        let server = start(kind, &[])?;
        script::run(&server.bootstrap())
    });
    let [ours, theirs] = outcomes;
    let (ours, theirs) = (ours?, theirs?);
    assert!(theirs.len() > 60, "{theirs:?}");
    let differ: Vec<_> = ours.iter().zip(&theirs).filter(|(ours, theirs)| ours != theirs).collect();
    assert!(differ.is_empty() && ours.len() == theirs.len(), "ours and Apache Kafka's: {differ:#?}");
    Ok(())
}

#[test]
fn the_stock_tools_set_and_list_acls_and_quotas() -> Result<()> {
    let outcomes = Kind::BOTH.map(|kind| -> Result<Vec<String>> {
        let server = start(kind, &[])?;
        tools::run(&server.bootstrap())
    });
    let [ours, theirs] = outcomes;
    assert_eq!(ours?, theirs?);
    Ok(())
}

#[test]
fn a_quota_is_kept_within_a_tenth() -> Result<()> {
    for kind in Kind::BOTH {
        // Two windows instead of eleven: the first burst is over sooner.
        let server = start(kind, &[("quota.window.num", "2")])?;
        quotas::run(kind, &server.bootstrap())?;
    }
    Ok(())
}

use access::{quotas, script, tools};
