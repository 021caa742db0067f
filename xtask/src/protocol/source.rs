//! Kafka's schemas, taken out of its jars.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value};

use super::model::{Field, Kind, Message, Shared, Type, Versions};

/// Keys of the APIs that we serve or call.
const KEYS: &[(i16, i16)] =
    &[(0, 3), (8, 37), (42, 51), (55, 55), (57, 57), (60, 61), (64, 66), (68, 69), (74, 75)];

/// What else we read or write: headers, and what lies inside other messages or in internal topics.
const DATA: &[&str] = &[
    "RequestHeader",
    "ResponseHeader",
    "ConsumerProtocolSubscription",
    "ConsumerProtocolAssignment",
    "OffsetCommitKey",
    "OffsetCommitValue",
    "GroupMetadataKey",
    "GroupMetadataValue",
    "ConsumerGroupMetadataKey",
    "ConsumerGroupMetadataValue",
    "ConsumerGroupMemberMetadataKey",
    "ConsumerGroupMemberMetadataValue",
    "ConsumerGroupPartitionMetadataKey",
    "ConsumerGroupPartitionMetadataValue",
    "ConsumerGroupTargetAssignmentMetadataKey",
    "ConsumerGroupTargetAssignmentMetadataValue",
    "ConsumerGroupTargetAssignmentMemberKey",
    "ConsumerGroupTargetAssignmentMemberValue",
    "ConsumerGroupCurrentMemberAssignmentKey",
    "ConsumerGroupCurrentMemberAssignmentValue",
    "ConsumerGroupRegularExpressionKey",
    "ConsumerGroupRegularExpressionValue",
    "TransactionLogKey",
    "TransactionLogValue",
];

/// The artifacts of Kafka that hold them.
pub const ARTIFACTS: [&str; 3] =
    ["kafka-clients", "kafka-group-coordinator", "kafka-transaction-coordinator"];

/// What the Java classes of messages log through.
const SLF4J: &str = "org.slf4j:slf4j-api:1.7.36";

/// The messages that we want, and the release that they are of.
pub struct Source {
    pub release: String,
    pub messages: Vec<Message>,
}

/// Brings the jars of a release of Kafka, or of the newest for `None`, from Maven Central into `dir`, which holds nothing
/// else then: the schemas and their Java classes, and the one library that the classes cannot be loaded without. The
/// jar of the clients comes first.
pub fn bring_jars(dir: &Path, release: Option<&str>) -> Result<Vec<PathBuf>> {
    if dir.exists() {
        fs::remove_dir_all(dir)?;
    }
    let [clients, others @ ..] = ARTIFACTS;
    copy_jar(dir, &format!("org.apache.kafka:{clients}:{}", release.unwrap_or("RELEASE")))?;
    let clients = fs::read_dir(dir)?.next().context("mvn copied nothing")??.path();
    let release = release_of(&clients)?;
    let mut jars = vec![clients];
    for artifact in others {
        copy_jar(dir, &format!("org.apache.kafka:{artifact}:{release}"))?;
        jars.push(dir.join(format!("{artifact}-{release}.jar")));
    }
    copy_jar(dir, SLF4J)?;
    Ok(jars)
}

fn copy_jar(dir: &Path, artifact: &str) -> Result<()> {
    let status = Command::new("mvn")
        .args(["-q", "-B", "dependency:copy"])
        .arg(format!("-Dartifact={artifact}"))
        .arg(format!("-DoutputDirectory={}", dir.display()))
        .status()
        .context("cannot start mvn; install Maven or name the jars with --jar")?;
    ensure!(status.success(), "mvn could not copy {artifact}; is Maven Central within reach?");
    Ok(())
}

/// The version in a name like `kafka-clients-4.4.0.jar`.
fn release_of(jar: &Path) -> Result<String> {
    let stem = jar.file_stem().context("a jar has a name")?.to_string_lossy();
    let at =
        stem.find(|c: char| c.is_ascii_digit()).with_context(|| format!("no version in the name {stem}"))?;
    Ok(stem[at..].to_owned())
}

/// Reads every wanted message out of `jars`, the first of which tells the release.
pub fn read_jars(jars: &[PathBuf]) -> Result<Source> {
    let release = release_of(jars.first().context("no jar")?)?;
    let mut messages = Vec::new();
    for jar in jars {
        let dir = tempdir(jar)?;
        let status = Command::new("unzip")
            .args(["-q", "-o"])
            .arg(jar)
            .args(["common/message/*.json", "-d"])
            .arg(&dir)
            .status()
            .context("cannot start unzip; install it")?;
        ensure!(status.success(), "unzip could not read {}", jar.display());
        for entry in fs::read_dir(dir.join("common/message"))? {
            let path = entry?.path();
            let json = serde_json::from_str(&without_comments(&fs::read_to_string(&path)?))
                .with_context(|| path.display().to_string())?;
            messages.extend(message(&json).with_context(|| path.display().to_string())?);
        }
        fs::remove_dir_all(&dir)?;
    }
    let missing = DATA.iter().find(|d| !messages.iter().any(|m| m.name == **d));
    ensure!(missing.is_none(), "no schema {} in {jars:?}", missing.unwrap_or(&""));
    Ok(Source { release, messages })
}

fn tempdir(jar: &Path) -> Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!(
        "aqueduct-schemas-{}-{}",
        std::process::id(),
        jar.file_stem().unwrap_or_default().to_string_lossy()
    ));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// JSON without `//` comments, which the schemas use.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut end = line.len();
        let bytes = line.as_bytes();
        for i in 0..bytes.len() {
            match bytes[i] {
                b'"' if i == 0 || bytes[i - 1] != b'\\' => in_string = !in_string,
                b'/' if !in_string && bytes.get(i + 1) == Some(&b'/') => {
                    end = i;
                    break;
                }
                _ => {}
            }
        }
        out.push_str(&line[..end]);
        out.push('\n');
    }
    out
}

fn message(json: &Value) -> Result<Option<Message>> {
    let map = json.as_object().context("an object expected")?;
    let name = text(map, "name")?;
    let key = map.get("apiKey").and_then(Value::as_i64).map(|k| k as i16);
    let kind = match text(map, "type")? {
        "request" => Kind::Request,
        "response" => Kind::Response,
        _ => Kind::Data,
    };
    let wanted = match kind {
        Kind::Data => DATA.contains(&name),
        _ => key.is_some_and(|k| KEYS.iter().any(|(from, to)| (*from..=*to).contains(&k))),
    };
    if !wanted {
        return Ok(None);
    }
    let mut shared = Vec::new();
    for s in map.get("commonStructs").and_then(Value::as_array).into_iter().flatten() {
        let s = s.as_object().context("commonStructs: an object expected")?;
        shared.push(Shared {
            name: text(s, "name")?.to_owned(),
            versions: Versions::parse(text(s, "versions")?)?,
            fields: fields(s)?,
        });
    }
    Ok(Some(Message {
        name: name.to_owned(),
        kind,
        key,
        versions: Versions::parse(text(map, "validVersions")?)?,
        flexible: Versions::parse(text(map, "flexibleVersions")?)?,
        unstable: map.get("latestVersionUnstable").and_then(Value::as_bool).unwrap_or(false),
        fields: fields(map)?,
        shared,
    }))
}

fn fields(map: &Map<String, Value>) -> Result<Vec<Field>> {
    let list = map.get("fields").and_then(Value::as_array);
    list.into_iter().flatten().map(|f| field(f.as_object().context("fields: an object expected")?)).collect()
}

fn field(map: &Map<String, Value>) -> Result<Field> {
    let name = text(map, "name")?;
    // A field that is tagged wherever it is need not say so twice.
    let versions = text(map, "versions").or_else(|_| text(map, "taggedVersions"))?;
    let versions = Versions::parse(versions)?;
    let optional = |key: &str| map.get(key).and_then(Value::as_str).map(Versions::parse).transpose();
    if let Some(tagged) = optional("taggedVersions")? {
        ensure!(tagged == versions, "{name}: tagged in some of its versions only, which we do not support");
    }
    let default = match map.get("default") {
        // A bare null says nothing; a default of null is given as text.
        None | Some(Value::Null) => None,
        Some(Value::String(s)) if s.is_empty() => None,
        Some(Value::String(s)) if s.contains(' ') => bail!("{name}: a default with a space: {s:?}"),
        Some(Value::String(s)) => Some(s.clone()),
        Some(other) => Some(other.to_string()),
    };
    let mut upper = name.to_owned();
    upper[..1].make_ascii_uppercase();
    Ok(Field {
        name: upper,
        ty: Type::parse(text(map, "type")?).with_context(|| name.to_owned())?,
        versions,
        nullable: optional("nullableVersions")?.unwrap_or(Versions::NONE),
        tag: map.get("tag").and_then(Value::as_u64).map(|t| t as u32),
        ignorable: map.get("ignorable").and_then(Value::as_bool).unwrap_or(false),
        default,
        flexible: optional("flexibleVersions")?,
        fields: fields(map)?,
    })
}

fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    map.get(key).and_then(Value::as_str).with_context(|| format!("{key} is missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_reduced_to_its_facts() {
        let text = r#"{ // a comment
            "apiKey": 0, "type": "request", "name": "ProduceRequest", "validVersions": "3-13",
            "flexibleVersions": "9+", "fields": [
            { "name": "see", "type": "[]string", "versions": "3+", "taggedVersions": "3+", "tag": 1,
              "about": "https://example.org/ \" // is text" } ] }"#;
        let json = serde_json::from_str(&without_comments(text)).expect("JSON without its comments");
        let message = message(&json).expect("well formed").expect("wanted");
        let expected = "ProduceRequest request key=0 versions=3-13 flexible=9+\n  See []string 3+ tag=1\n";
        assert_eq!(super::super::facts::print(&message), expected);
    }

    #[test]
    fn other_messages_are_left_out() {
        let json = serde_json::json!({ "apiKey": 4, "type": "request", "name": "LeaderAndIsrRequest" });
        assert_eq!(message(&json).expect("not looked at"), None);
    }
}
