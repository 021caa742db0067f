//! The tools around groups.

use anyhow::Result;
use aqueduct_tests::on_both;
use aqueduct_tests::server::Server;

use crate::{consume, create_topic, numbered, on, produce, refused, rows};

const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

/// Committed offset and lag of the group on partition 0 of its topic.
fn committed(server: &Server, group: &str) -> Result<(String, String)> {
    let printed = on(server, GROUPS, &["--describe", "--group", group])?;
    let rows = rows(&printed);
    let row = rows.iter().find(|row| row[0] == group && row[2] == "0");
    let row = row.ok_or_else(|| anyhow::anyhow!("no row for {group}: {printed}"))?;
    Ok((row[3].to_owned(), row[5].to_owned()))
}

on_both!(groups_are_listed_described_reset_and_deleted,);

/// List, describe, reset, export of offsets, delete of offsets and of the group; and the errors on the way.
fn groups_are_listed_described_reset_and_deleted(server: &Server) -> Result<()> {
    create_topic(server, "java.groups", 1)?;
    produce(server, "java.groups", &numbered("g", 10).join("\n"), &[])?;
    let reader = ["--group", "java-groups", "--command-property", "auto.offset.reset=earliest"];
    consume(server, "java.groups", 7, &reader)?;

    let listed = on(server, GROUPS, &["--list", "--state"])?;
    assert!(
        rows(&listed)
            .iter()
            .any(|row| row[..] == ["java-groups", "Classic", "Empty"] || row[..] == ["java-groups", "Empty"]),
        "{listed}"
    );
    let listed = on(server, "org.apache.kafka.tools.GroupsCommand", &["--list"])?;
    assert!(rows(&listed).iter().any(|row| row[..] == ["java-groups", "Classic", "consumer"]), "{listed}");
    assert_eq!(committed(server, "java-groups")?, ("7".to_owned(), "3".to_owned()));
    let state = on(server, GROUPS, &["--describe", "--state", "--group", "java-groups"])?;
    assert!(rows(&state)[0].contains(&"Empty"), "{state}");

    let reset = ["--group", "java-groups", "--topic", "java.groups", "--reset-offsets", "--execute"];
    on(server, GROUPS, &[&reset[..], &["--shift-by", "-5"]].concat())?;
    assert_eq!(committed(server, "java-groups")?, ("2".to_owned(), "8".to_owned()));
    on(server, GROUPS, &[&reset[..], &["--to-earliest"]].concat())?;
    assert_eq!(consume(server, "java.groups", 10, &reader)?, numbered("g", 10));

    let printed =
        on(server, GROUPS, &["--delete-offsets", "--group", "java-groups", "--topic", "java.groups"])?;
    assert!(printed.contains("Successful"), "{printed}");
    // Without members and offsets the group may be gone by itself.
    let _ = on(server, GROUPS, &["--delete", "--group", "java-groups"]);
    let listed = on(server, GROUPS, &["--list"])?;
    assert!(!listed.contains("java-groups"), "{listed}");
    let printed = refused(server, GROUPS, &["--describe", "--group", "java-groups"])?;
    assert!(printed.contains("does not exist") || printed.contains("GroupIdNotFoundException"), "{printed}");
    Ok(())
}
