//! What the metadata of a new cluster begins with: levels of features, credentials of users.

use std::num::NonZeroU32;

use aqueduct_security::scram::{MIN_ITERATIONS, Mechanism};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;

use crate::metadata::{
    Command, MetadataImage, Record, SaltedPassword, ScramChange, UpgradeType, decide, features,
};

/// Bytes of a salt that nobody chose.
const SALT: usize = 32;

/// The records of `--feature NAME=LEVEL` and `--add-scram`.
///
/// # Errors
/// The first that cannot be, and why.
pub(super) fn records(levels: &[String], credentials: &[String]) -> Result<Vec<Record>, String> {
    let mut image = MetadataImage::default();
    let mut records = Vec::new();
    let mut take = |command: &Command| {
        let (decided, _) = decide(&image, command).map_err(|rejection| rejection.message)?;
        decided.iter().for_each(|record| image.apply(record));
        records.extend(decided);
        Ok::<_, String>(())
    };
    for text in levels {
        take(&level(text)?).map_err(|why| format!("--feature {text}: {why}"))?;
    }
    for text in credentials {
        // The argument holds a password: it is not repeated.
        credential(text)
            .and_then(|change| take(&Command::AlterScram { changes: vec![change] }))
            .map_err(|why| format!("--add-scram: {why}"))?;
    }
    Ok(records)
}

fn level(text: &str) -> Result<Command, String> {
    let (name, level) = text
        .split_once('=')
        .ok_or_else(|| format!("--feature {text}: must look like NAME=LEVEL, such as group.version=1"))?;
    let name = name.trim();
    let feature = features::find(name).ok_or_else(|| {
        let known: Vec<_> = features::FEATURES.iter().map(|feature| feature.name).collect();
        format!("Unsupported feature: {name}. Supported features are: {}", known.join(", "))
    })?;
    let level = level.trim().parse().map_err(|_| format!("--feature {text}: the level must be a number"))?;
    // A new cluster has nothing to lose.
    let kind = if level < feature.default { UpgradeType::SafeDowngrade } else { UpgradeType::Upgrade };
    Ok(Command::UpdateFeature { name: name.into(), level, kind })
}

/// Reads `MECHANISM=[name=USER,password=PASSWORD]`, with `iterations`, `salt` and `saltedpassword` (both base64) beside or in
/// place of the password.
fn credential(text: &str) -> Result<ScramChange, String> {
    const FORM: &str = "must look like SCRAM-SHA-256=[name=USER,password=PASSWORD], with iterations=NUMBER and salt=BASE64 where wanted";
    let (mechanism, rest) = text.split_once('=').ok_or(FORM)?;
    let mechanism = Mechanism::parse(mechanism.trim())
        .ok_or_else(|| format!("{}: must be SCRAM-SHA-256 or SCRAM-SHA-512", mechanism.trim()))?;
    let inner = rest.trim().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).ok_or(FORM)?;
    let (mut name, mut password, mut salted, mut salt, mut iterations) = (None, None, None, None, None);
    for (key, value) in pairs(inner).ok_or(FORM)? {
        let place = match key {
            "name" => &mut name,
            "password" => &mut password,
            "saltedpassword" => &mut salted,
            "salt" => &mut salt,
            "iterations" => &mut iterations,
            _ => return Err(format!("{key} is not known: {FORM}")),
        };
        if place.replace(value).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    let decoded =
        |what: &str, value: &str| BASE64.decode(value).map_err(|_| format!("{what} must be base64"));
    let name = name.filter(|name| !name.is_empty()).ok_or("You must supply 'name' to add-scram")?;
    let iterations: u32 = match iterations {
        Some(text) => text.parse().map_err(|_| "iterations must be a number")?,
        None => MIN_ITERATIONS,
    };
    let given = salt.map(|salt| decoded("salt", &salt)).transpose()?;
    let (salt, salted) = match (password, salted) {
        (Some(_), Some(_)) => return Err("password and saltedpassword exclude each other".into()),
        (None, None) => {
            return Err("You must supply one of 'password' or 'saltedpassword' to add-scram".into());
        }
        (None, Some(salted)) => {
            let salt = given.ok_or("You must supply 'salt' with 'saltedpassword' to add-scram")?;
            (salt, decoded("saltedpassword", &salted)?)
        }
        (Some(password), None) => {
            let salt = given.unwrap_or_else(|| rand::random::<[u8; SALT]>().to_vec());
            let rounds = NonZeroU32::new(iterations).ok_or("Too few iterations")?;
            let salted = mechanism.salted_password(&password, &salt, rounds);
            (salt, salted)
        }
    };
    Ok(ScramChange::Upsert {
        user: name.into(),
        mechanism: mechanism as i8,
        iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
        salt: salt.into(),
        salted_password: SaltedPassword(Bytes::from(salted)),
    })
}

/// The pairs of `KEY=VALUE,KEY="VALUE"`: in quotes a value may have commas. `None` where it is no such list.
fn pairs(mut text: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    loop {
        let (key, rest) = text.split_once('=')?;
        let (value, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        pairs.push((key.trim(), value.to_owned()));
        match rest.strip_prefix(',') {
            Some(rest) => text = rest,
            None => return rest.is_empty().then_some(pairs),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Vec<Record>, String> {
        records(&[], &[text.to_owned()])
    }

    #[test]
    fn credentials_are_read() {
        let found = one("SCRAM-SHA-256=[name=alice,password=alice-secret]").unwrap();
        assert!(matches!(&found[..], [Record::Scram(record)] if record.user == "alice"), "{found:?}");
        let salt = "MWx2NHBkbnc0ZndxN25vdGN4bTB5Y3k=";
        let from_password =
            one(&format!("SCRAM-SHA-512=[name=bob,password=\"a,b=c\",salt=\"{salt}\",iterations=8192]"))
                .unwrap();
        let salted = Mechanism::Sha512.salted_password(
            "a,b=c",
            &BASE64.decode(salt).unwrap(),
            NonZeroU32::new(8192).unwrap(),
        );
        let from_salted = one(&format!(
            "SCRAM-SHA-512=[name=bob,saltedpassword={},salt={salt},iterations=8192]",
            BASE64.encode(salted)
        ));
        assert_eq!(from_salted.unwrap(), from_password);
    }

    #[test]
    fn what_cannot_be_is_refused_without_the_password() {
        for (text, part) in [
            ("SCRAM-SHA-256", "must look like"),
            ("SCRAM-SHA-1=[name=a,password=hidden]", "SCRAM-SHA-1: must be"),
            ("SCRAM-SHA-256=name=a,password=hidden", "must look like"),
            ("SCRAM-SHA-256=[name=a,password=hidden,x=1]", "x is not known"),
            ("SCRAM-SHA-256=[name=a,name=b,password=hidden]", "name is there twice"),
            ("SCRAM-SHA-256=[password=hidden]", "You must supply 'name'"),
            ("SCRAM-SHA-256=[name=a]", "one of 'password' or 'saltedpassword'"),
            ("SCRAM-SHA-256=[name=a,saltedpassword=hidden]", "'salt' with 'saltedpassword'"),
            ("SCRAM-SHA-256=[name=a,password=hidden,iterations=9]", "Too few iterations"),
            ("SCRAM-SHA-256=[name=a,password=hidden,iterations=99999]", "Too many iterations"),
            ("SCRAM-SHA-256=[name=a,password=hidden,salt=?]", "salt must be base64"),
        ] {
            let error = one(text).unwrap_err();
            assert!(error.starts_with("--add-scram: ") && error.contains(part), "{text}: {error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        let twice =
            ["SCRAM-SHA-256=[name=a,password=b]".to_owned(), "SCRAM-SHA-256=[name=a,password=c]".to_owned()];
        assert_eq!(records(&[], &twice).unwrap().len(), 2, "the last one counts");
    }

    #[test]
    fn levels_are_read() {
        let level = |text: &str| records(&[text.to_owned()], &[]);
        assert_eq!(
            level("transaction.version=1").unwrap(),
            [Record::Feature { name: "transaction.version".into(), level: 1 }]
        );
        assert_eq!(level("group.version=1").unwrap(), [], "it is so without saying");
        assert!(level("group.version").unwrap_err().contains("NAME=LEVEL"));
        assert!(level("group.version=x").unwrap_err().contains("must be a number"));
        assert!(level("nope=1").unwrap_err().contains("Unsupported feature: nope. Supported features are: "));
        assert!(level("group.version=9").unwrap_err().contains("only supports versions 0-1"));
    }
}
