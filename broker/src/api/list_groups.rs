//! ListGroups (KIP-518, KIP-848), versions 0 to 5: the groups that this broker coordinates, by state and by type.

use aqueduct_protocol::ErrorCode;
use aqueduct_protocol::messages::list_groups_response::ListedGroup as ResponseGroup;
use aqueduct_protocol::messages::{ListGroupsRequest, ListGroupsResponse};
use bytestring::ByteString;

use super::Context;
use super::shared::own;
use crate::coordinator::ListedGroup;
use crate::security::{Operation, ResourceType};

pub(crate) async fn handle(context: Context, request: ListGroupsRequest) -> ListGroupsResponse {
    let sees_all = context.would_allow_cluster(Operation::Describe);
    let is_visible = |group: &ListedGroup| {
        sees_all || context.would_allow(Operation::Describe, ResourceType::Group, group.id.as_str())
    };
    let mut groups = Vec::new();
    for shard in context.node.groups.shards() {
        match shard.look(|groups| groups.list().collect::<Vec<_>>()).await {
            Ok(listed) => {
                let shown = |group: &ListedGroup| wanted(&request, group) && is_visible(group);
                groups.extend(listed.into_iter().filter(shown).map(list));
            }
            // The partition has moved away.
            Err(ErrorCode::NotCoordinator) => {}
            Err(code) => return ListGroupsResponse { error_code: code.code(), ..Default::default() },
        }
    }
    ListGroupsResponse { groups, ..Default::default() }
}

fn wanted(request: &ListGroupsRequest, group: &ListedGroup) -> bool {
    let any = |filter: &[ByteString], value: &str| {
        filter.is_empty() || filter.iter().any(|one| one.eq_ignore_ascii_case(value))
    };
    any(&request.states_filter, group.state) && any(&request.types_filter, group.kind.name())
}

fn list(group: ListedGroup) -> ResponseGroup {
    ResponseGroup {
        group_id: own(group.id.as_str()),
        protocol_type: own(&group.protocol_type),
        group_state: group.state.into(),
        group_type: group.kind.name().into(),
    }
}

#[cfg(test)]
mod tests {
    use aqueduct_protocol::Encode;
    use bytes::BytesMut;

    use super::*;
    use crate::coordinator::GroupKind;

    #[test]
    fn filters_are_alternatives_within_and_conditions_between() {
        let group = ListedGroup {
            id: "g".into(),
            protocol_type: "consumer".into(),
            state: "Stable",
            kind: GroupKind::Classic,
        };
        let table: [(&[&str], &[&str], bool); 6] = [
            (&[], &[], true),
            (&["Stable"], &[], true),
            (&["Empty", "stable"], &["Classic"], true),
            (&["Empty"], &[], false),
            (&[], &["consumer"], false),
            (&["Stable"], &["nonsense"], false),
        ];
        for (states, types, expected) in table {
            let texts =
                |filter: &[&'static str]| filter.iter().map(|one| ByteString::from_static(one)).collect();
            let request = ListGroupsRequest { states_filter: texts(states), types_filter: texts(types) };
            assert_eq!(wanted(&request, &group), expected, "{states:?} {types:?}");
        }
        for version in 0..=5 {
            let response = ListGroupsResponse { groups: vec![list(group.clone())], ..Default::default() };
            response.encode(&mut BytesMut::new(), version).unwrap();
        }
    }
}
