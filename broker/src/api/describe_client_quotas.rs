//! DescribeClientQuotas (KIP-546), versions 0 to 1: the quotas that are set on entities, found by their parts.

use aqueduct_protocol::error_code::ErrorCode;
use aqueduct_protocol::messages::describe_client_quotas_request::ComponentData;
use aqueduct_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use aqueduct_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};

use super::Context;
use crate::metadata::Rejection;
use crate::quotas::{Entity, Name, QuotaKey, QuotaSet, QuotaValue};
use crate::security::Operation;

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

pub(crate) async fn handle(
    context: Context,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let found = if context.allows_cluster(Operation::DescribeConfigs) {
        let quotas = context.node.metadata.image().quotas.clone();
        Filter::read(&request).map(|filter| filter.find(&quotas))
    } else {
        let code = ErrorCode::ClusterAuthorizationFailed;
        Err(Rejection::new(code, code.message()))
    };
    match found {
        Ok(entries) => DescribeClientQuotasResponse { entries: Some(entries), ..Default::default() },
        Err(rejection) => DescribeClientQuotasResponse {
            error_code: rejection.code.code(),
            error_message: Some(rejection.message.into()),
            entries: None,
            ..Default::default()
        },
    }
}

/// What an entity must have.
#[derive(Debug, Default)]
struct Filter {
    /// Parts of these very names.
    exact: Entity,
    /// Types that must be there under any name.
    specified: Vec<&'static str>,
    /// Whether there may be nothing else.
    strict: bool,
}

impl Filter {
    fn read(request: &DescribeClientQuotasRequest) -> Result<Self, Rejection> {
        let invalid = |why: String| Err(Rejection::new(ErrorCode::InvalidRequest, why));
        let mut filter = Self { strict: request.strict, ..Self::default() };
        for ComponentData { entity_type, match_type, r#match: name } in &request.components {
            if entity_type.is_empty() {
                return invalid("Invalid empty entity type.".into());
            }
            let Some(kind) = crate::quotas::KINDS.into_iter().find(|kind| *kind == &**entity_type) else {
                return Err(Rejection::new(
                    ErrorCode::UnsupportedVersion,
                    format!("Unsupported entity type {entity_type}"),
                ));
            };
            let part = filter.exact.part_mut(kind).expect("a kind that there is");
            if part.is_some() || filter.specified.contains(&kind) {
                return invalid(format!(
                    "Entity type {entity_type} cannot appear more than once in the filter."
                ));
            }
            match (*match_type, name) {
                (EXACT, Some(name)) => *part = Some(Name::Named(name.clone())),
                (EXACT, None) => {
                    return invalid(
                        "Request specified MATCH_TYPE_EXACT, but set match string to null.".into(),
                    );
                }
                (DEFAULT, None) => *part = Some(Name::Default),
                (SPECIFIED, None) => filter.specified.push(kind),
                (DEFAULT, Some(_)) => {
                    return invalid(
                        "Request specified MATCH_TYPE_DEFAULT, but also specified a match string.".into(),
                    );
                }
                (SPECIFIED, Some(_)) => {
                    return invalid(
                        "Request specified MATCH_TYPE_SPECIFIED, but also specified a match string.".into(),
                    );
                }
                (other, _) => return invalid(format!("Unknown match type {other}")),
            }
        }
        let names =
            |kind| filter.specified.contains(&kind) || filter.exact.parts().any(|(part, _)| part == kind);
        if names("ip") && (names("user") || names("client-id")) {
            return invalid(
                "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component."
                    .into(),
            );
        }
        Ok(filter)
    }

    fn matches(&self, entity: &Entity) -> bool {
        let size = self.exact.parts().count() + self.specified.len();
        (!self.strict || entity.parts().count() == size)
            && self.exact.parts().all(|wanted| entity.parts().any(|part| part == wanted))
            && self.specified.iter().all(|kind| entity.parts().any(|(part, _)| part == *kind))
    }

    fn find(&self, quotas: &QuotaSet) -> Vec<EntryData> {
        quotas.iter().filter(|(entity, _)| self.matches(entity)).map(entry).collect()
    }
}

fn entry((entity, values): (&Entity, &std::collections::BTreeMap<QuotaKey, QuotaValue>)) -> EntryData {
    EntryData {
        entity: entity
            .parts()
            .map(|(kind, name)| EntityData { entity_type: kind.into(), entity_name: name.cloned() })
            .collect(),
        values: values
            .iter()
            .map(|(key, value)| ValueData { key: key.name().into(), value: value.0 })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn component(kind: &'static str, match_type: i8, name: Option<&'static str>) -> ComponentData {
        ComponentData { entity_type: kind.into(), match_type, r#match: name.map(Into::into) }
    }

    fn found(components: Vec<ComponentData>, strict: bool) -> Result<usize, String> {
        let mut quotas = QuotaSet::default();
        let named = |name: &'static str| Some(Name::Named(name.into()));
        let values = BTreeMap::from([(QuotaKey::ProducerByteRate, QuotaValue(1.0))]);
        for entity in [
            Entity { user: named("u"), ..Entity::default() },
            Entity { user: Some(Name::Default), ..Entity::default() },
            Entity { user: named("u"), client_id: named("c"), ip: None },
            Entity { client_id: named("c"), ..Entity::default() },
        ] {
            quotas.set(&entity, &values);
        }
        let request = DescribeClientQuotasRequest { components, strict };
        Filter::read(&request).map(|filter| filter.find(&quotas).len()).map_err(|rejection| rejection.message)
    }

    #[test]
    fn parts_are_matched_by_name_default_or_presence() {
        assert_eq!(found(vec![], false), Ok(4));
        assert_eq!(found(vec![], true), Ok(0));
        assert_eq!(found(vec![component("user", EXACT, Some("u"))], false), Ok(2));
        assert_eq!(found(vec![component("user", EXACT, Some("u"))], true), Ok(1));
        assert_eq!(found(vec![component("user", DEFAULT, None)], false), Ok(1));
        assert_eq!(found(vec![component("user", SPECIFIED, None)], false), Ok(3));
        let both = vec![component("user", SPECIFIED, None), component("client-id", EXACT, Some("c"))];
        assert_eq!(found(both, true), Ok(1));
    }

    #[test]
    fn filters_that_make_no_sense_are_refused() {
        let refused = |components| found(components, false).unwrap_err();
        assert!(refused(vec![component("", EXACT, None)]).contains("empty"));
        assert!(refused(vec![component("host", EXACT, None)]).contains("Unsupported"));
        assert!(refused(vec![component("user", EXACT, None)]).contains("EXACT"));
        assert!(refused(vec![component("user", DEFAULT, Some("u"))]).contains("DEFAULT"));
        assert!(refused(vec![component("user", SPECIFIED, Some("u"))]).contains("SPECIFIED"));
        assert!(refused(vec![component("user", 3, None)]).contains("match type 3"));
        let twice = vec![component("user", DEFAULT, None), component("user", SPECIFIED, None)];
        assert!(refused(twice).contains("more than once"));
        let mixed = vec![component("user", DEFAULT, None), component("ip", SPECIFIED, None)];
        assert!(refused(mixed).contains("combination"));
    }
}
