//! `aqueduct acls`.

use std::collections::BTreeSet;

use anyhow::Result;
use aqueduct_client::{AclBinding, AclBindingFilter, AclNames};
use bytestring::ByteString;

use super::connect::Cluster;
use super::output::{Failures, Table};
use crate::options::BadConfig;

const ANY: i8 = 1;
const LITERAL: i8 = 3;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    cluster: Cluster,
    /// Print JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Show ACLs; all of them where nothing is named.
    List(Rule),
    /// Add ACLs.
    #[command(visible_alias = "create")]
    Add(Rule),
    /// Remove ACLs; what is not named matches any.
    #[command(visible_alias = "delete")]
    Remove {
        #[command(flatten)]
        rule: Rule,
        /// Do it; without it what would be removed is only shown.
        #[arg(long, visible_alias = "force")]
        yes: bool,
    },
}

#[derive(clap::Args)]
struct Rule {
    /// A topic, or * for all; may be repeated.
    #[arg(long)]
    topic: Vec<String>,
    #[arg(long)]
    group: Vec<String>,
    #[arg(long)]
    transactional_id: Vec<String>,
    /// The cluster itself.
    #[arg(long)]
    cluster: bool,
    /// A user whose delegation tokens are meant.
    #[arg(long)]
    user_principal: Vec<String>,
    /// literal or prefixed; in list and remove also any or match.
    #[arg(long, default_value = "literal", visible_alias = "pattern")]
    resource_pattern_type: String,
    /// Who is allowed, User:NAME or User:*; may be repeated.
    #[arg(long)]
    allow_principal: Vec<String>,
    /// Who is denied.
    #[arg(long)]
    deny_principal: Vec<String>,
    /// Whose ACLs are shown or removed.
    #[arg(long)]
    principal: Vec<String>,
    /// From where; * is anywhere.
    #[arg(long)]
    allow_host: Vec<String>,
    #[arg(long)]
    deny_host: Vec<String>,
    /// read, write, create, delete, alter, describe, all, ...; may be repeated.
    #[arg(long)]
    operation: Vec<String>,
    /// All that a producer to --topic needs.
    #[arg(long)]
    producer: bool,
    /// With --producer: an idempotent one, for clusters before 2.8.
    #[arg(long)]
    idempotent: bool,
    /// All that a consumer of --topic in --group needs.
    #[arg(long)]
    consumer: bool,
}

/// Resource type and name.
type Resource = (i8, ByteString);

impl Rule {
    fn resources(&self) -> Vec<Resource> {
        let mut found: Vec<Resource> = Vec::new();
        for (kind, names) in
            [(2, &self.topic), (3, &self.group), (5, &self.transactional_id), (7, &self.user_principal)]
        {
            found.extend(names.iter().map(|name| (kind, name.as_str().into())));
        }
        if self.cluster {
            found.push((4, "kafka-cluster".into()));
        }
        found
    }

    fn pattern(&self) -> Result<i8> {
        code(AclNames::PATTERN, "--resource-pattern-type", &self.resource_pattern_type)
    }

    fn operations(&self) -> Result<Vec<i8>> {
        self.operation.iter().map(|name| code(AclNames::OPERATION, "--operation", name)).collect()
    }

    /// Who is allowed or denied, from where.
    fn subjects(&self) -> Vec<(i8, &String, String)> {
        let mut found = Vec::new();
        for (permission, principals, hosts) in
            [(ALLOW, &self.allow_principal, &self.allow_host), (DENY, &self.deny_principal, &self.deny_host)]
        {
            for principal in principals {
                match hosts.is_empty() {
                    true => found.push((permission, principal, "*".to_owned())),
                    false => found.extend(hosts.iter().map(|host| (permission, principal, host.clone()))),
                }
            }
        }
        found
    }

    /// The resources with the operations that are wanted on each.
    fn wanted(&self) -> Result<BTreeSet<(Resource, i8)>> {
        let mut wanted = BTreeSet::new();
        let operations = self.operations()?;
        let roles = self.producer || self.consumer;
        for resource in self.resources() {
            let by_role: &[i8] = match (resource.0, self.producer, self.consumer) {
                (2, true, true) => &[3, 4, 5, 8],
                (2, true, false) => &[4, 5, 8],
                (2, false, true) => &[3, 8],
                (3, _, true) => &[3],
                (5, true, _) => &[4, 8],
                _ => &[],
            };
            let own: &[i8] = if roles { by_role } else { &operations };
            // Without an operation Kafka's tool means all of them.
            let own = if own.is_empty() && !roles { &[2] } else { own };
            wanted.extend(own.iter().map(|operation| (resource.clone(), *operation)));
        }
        if self.producer && self.idempotent {
            wanted.insert(((4, "kafka-cluster".into()), 12));
        }
        Ok(wanted)
    }

    fn bindings(&self) -> Result<Vec<AclBinding>> {
        let pattern_type = self.pattern()?;
        let wanted = self.wanted()?;
        if wanted.is_empty() {
            let why = "name a resource: --topic, --group, --transactional-id, --cluster or --user-principal";
            return Err(BadConfig(why.into()).into());
        }
        let subjects = self.subjects();
        if subjects.is_empty() {
            return Err(BadConfig(
                "name who is meant: --allow-principal or --deny-principal User:NAME".into(),
            )
            .into());
        }
        let mut bindings = Vec::new();
        for ((resource_type, resource_name), operation) in wanted {
            // The cluster has no prefixes.
            let pattern_type = if resource_type == 4 { LITERAL } else { pattern_type };
            bindings.extend(subjects.iter().map(|(permission, principal, host)| AclBinding {
                resource_type,
                resource_name: resource_name.clone(),
                pattern_type,
                principal: principal.as_str().into(),
                host: host.as_str().into(),
                operation,
                permission: *permission,
            }));
        }
        Ok(bindings)
    }

    fn filters(&self) -> Result<Vec<AclBindingFilter>> {
        let resources = self.resources();
        let pattern_type = if resources.is_empty() { ANY } else { self.pattern()? };
        let resources: Vec<(i8, Option<ByteString>)> = match resources.is_empty() {
            true => vec![(ANY, None)],
            false => resources.into_iter().map(|(kind, name)| (kind, Some(name))).collect(),
        };
        let operations = self.operations()?;
        let operations = if operations.is_empty() { vec![ANY] } else { operations };
        let mut subjects: Vec<(i8, Option<ByteString>, Option<ByteString>)> = self
            .subjects()
            .into_iter()
            .map(|(permission, principal, host)| {
                let host = (host != "*").then(|| host.into());
                (permission, Some(principal.as_str().into()), host)
            })
            .collect();
        subjects.extend(self.principal.iter().map(|principal| (ANY, Some(principal.as_str().into()), None)));
        if subjects.is_empty() {
            subjects.push((ANY, None, None));
        }
        let mut filters = Vec::new();
        for (resource_type, resource_name) in &resources {
            for operation in &operations {
                filters.extend(subjects.iter().map(|(permission, principal, host)| AclBindingFilter {
                    resource_type: *resource_type,
                    resource_name: resource_name.clone(),
                    pattern_type,
                    principal: principal.clone(),
                    host: host.clone(),
                    operation: *operation,
                    permission: *permission,
                }));
            }
        }
        Ok(filters)
    }
}

fn code(names: AclNames, option: &str, name: &str) -> Result<i8> {
    names.code(name).ok_or_else(|| {
        let all = names.names().collect::<Vec<_>>().join(", ").to_lowercase();
        BadConfig(format!("{option} {name}: must be one of {all}")).into()
    })
}

pub async fn run(args: Args) -> Result<()> {
    let admin = args.cluster.admin()?;
    match args.command {
        Command::List(rule) => {
            let mut found = BTreeSet::new();
            for filter in rule.filters()? {
                found.extend(admin.describe_acls(&filter).await?);
            }
            show(found, args.json)
        }
        Command::Add(rule) => {
            let bindings = rule.bindings()?;
            let results = admin.create_acls(&bindings).await?;
            let mut failures = Failures::default();
            let mut added = BTreeSet::new();
            for (binding, result) in bindings.into_iter().zip(results) {
                if failures.check(result).is_some() {
                    added.insert(binding);
                }
            }
            show(added, args.json)?;
            failures.finish()
        }
        Command::Remove { rule, yes } => {
            let mut gone = BTreeSet::new();
            for filter in rule.filters()? {
                gone.extend(match yes {
                    true => admin.delete_acls(&filter).await?,
                    false => admin.describe_acls(&filter).await?,
                });
            }
            show(gone, args.json)?;
            if !yes {
                eprintln!("Nothing was removed: add --yes to remove these ACLs.");
            }
            Ok(())
        }
    }
}

fn show(acls: BTreeSet<AclBinding>, json: bool) -> Result<()> {
    let mut table =
        Table::new(&["resource", "name", "pattern", "principal", "host", "operation", "permission"]);
    for acl in acls {
        table.row(vec![
            AclNames::RESOURCE.name(acl.resource_type).to_owned(),
            acl.resource_name.to_string(),
            AclNames::PATTERN.name(acl.pattern_type).to_owned(),
            acl.principal.to_string(),
            acl.host.to_string(),
            AclNames::OPERATION.name(acl.operation).to_owned(),
            AclNames::PERMISSION.name(acl.permission).to_owned(),
        ]);
    }
    table.print(json)
}
