//! Client quotas: limits of users, client ids and addresses.

use std::collections::BTreeMap;

use aqueduct_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use aqueduct_protocol::messages::describe_client_quotas_request::ComponentData;
use aqueduct_protocol::messages::{AlterClientQuotasRequest, DescribeClientQuotasRequest};
use bytestring::ByteString;

use super::Admin;
use crate::error::{Error, Result};

const DESCRIBE: &str = "DescribeClientQuotas";
const ALTER: &str = "AlterClientQuotas";

/// Whom a quota is for: by type (`user`, `client-id`, `ip`) a name, or `None` for the default.
pub type QuotaEntity = BTreeMap<ByteString, Option<ByteString>>;

/// Which part of an entity is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaMatch {
    Named(ByteString),
    Default,
    Any,
}

impl Admin {
    /// The quotas of the entities that match all of `components`; with `strict`, of those that have no other parts.
    pub async fn describe_client_quotas(
        &self,
        components: &[(ByteString, QuotaMatch)],
        strict: bool,
    ) -> Result<Vec<(QuotaEntity, BTreeMap<ByteString, f64>)>> {
        let component = |(entity_type, wanted): &(ByteString, QuotaMatch)| {
            let (match_type, r#match) = match wanted {
                QuotaMatch::Named(name) => (0, Some(name.clone())),
                QuotaMatch::Default => (1, None),
                QuotaMatch::Any => (2, None),
            };
            ComponentData { entity_type: entity_type.clone(), match_type, r#match }
        };
        let mut retry = self.retry(DESCRIBE);
        loop {
            let request = |_| DescribeClientQuotasRequest {
                components: components.iter().map(component).collect(),
                strict,
            };
            let asked = self.client.call_any(i16::MAX, request).await.and_then(|(broker, answer)| {
                let message = answer.error_message.as_deref();
                Error::check(
                    &broker.address(),
                    DESCRIBE,
                    || "quotas".to_owned(),
                    answer.error_code,
                    message,
                )?;
                Ok(answer)
            });
            match asked {
                Ok(answer) => {
                    let entries = answer.entries.unwrap_or_default().into_iter().map(|entry| {
                        let entity =
                            entry.entity.into_iter().map(|part| (part.entity_type, part.entity_name));
                        let values = entry.values.into_iter().map(|value| (value.key, value.value));
                        (entity.collect(), values.collect())
                    });
                    return Ok(entries.collect());
                }
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }

    /// Sets quotas of an entity, or removes those with `None`.
    pub async fn alter_client_quotas(
        &self,
        entity: &QuotaEntity,
        ops: &[(ByteString, Option<f64>)],
    ) -> Result<()> {
        let part = |(entity_type, entity_name): (&ByteString, &Option<ByteString>)| EntityData {
            entity_type: entity_type.clone(),
            entity_name: entity_name.clone(),
        };
        let op = |(key, value): &(ByteString, Option<f64>)| OpData {
            key: key.clone(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
        };
        let mut retry = self.retry(ALTER);
        loop {
            let request = |_| AlterClientQuotasRequest {
                entries: vec![EntryData {
                    entity: entity.iter().map(part).collect(),
                    ops: ops.iter().map(op).collect(),
                }],
                validate_only: false,
            };
            let done = self.client.call_any(i16::MAX, request).await.and_then(|(broker, mut answer)| {
                let address = broker.address();
                let entry = answer.entries.pop();
                let entry = entry.ok_or_else(|| Error::left_out(&address, ALTER, &"the entity"))?;
                let message = entry.error_message.as_deref();
                Error::check(&address, ALTER, || format!("{entity:?}"), entry.error_code, message)
            });
            match done {
                Ok(()) => return Ok(()),
                Err(error) => self.again(&mut retry, error).await?,
            }
        }
    }
}
