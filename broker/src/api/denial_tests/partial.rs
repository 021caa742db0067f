//! Somebody who may do some of it.

use aqueduct_protocol::messages::*;

use super::cases::{delete_topic, fetch, metadata, offset_commit, offset_fetch, produce};
use super::*;
use crate::metadata::Command;
use crate::security::{Acl, Operation, PatternType, Permission, ResourceType};

/// Lets `User:some` do this to the resource, and nothing else.
async fn only(node: &Arc<Node>, grants: &[(Operation, ResourceType, &'static str)]) {
    let old: Vec<Acl> = node.metadata.image().acls.iter().map(|(_, acl)| (**acl).clone()).collect();
    for acl in old {
        let filter = crate::security::AclFilter {
            resource: Some(acl.resource),
            name: Some(acl.name),
            pattern: crate::security::PatternFilter::Exactly(acl.pattern),
            principal: None,
            host: None,
            operation: None,
            permission: None,
        };
        node.metadata.submit(vec![Command::DeleteAcls { filter }]).await;
    }
    let grant = |(operation, resource, name): &(Operation, ResourceType, &'static str)| Command::CreateAcl {
        id: crate::node::random_uuid(),
        acl: Acl {
            resource: *resource,
            pattern: PatternType::Literal,
            name: (*name).into(),
            principal: Principal::user("some"),
            host: "127.0.0.1".into(),
            operation: *operation,
            permission: Permission::Allow,
        },
    };
    let done = node.metadata.submit(grants.iter().map(grant).collect()).await;
    assert!(done.iter().all(Result::is_ok));
}

/// The codes of the answer, without "none".
async fn errors<R>(node: &Arc<Node>, request: &R) -> Vec<i16>
where
    R: Request,
    R::Response: Debug,
{
    let text = ask(node, "some", request).await.expect("an answer");
    codes(&text).into_iter().filter(|code| *code != 0).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permission_gives_what_it_says_and_no_more() {
    use Operation::*;
    use ResourceType::*;
    let dir = tempfile::tempdir().unwrap();
    let (handle, id) = world(dir.path()).await;
    let node = handle.node();
    let cluster = crate::security::CLUSTER_NAME;
    const NONE: Vec<i16> = Vec::new();

    only(node, &[(Read, Group, GROUP)]).await;
    assert_eq!(errors(node, &offset_commit(id)).await, [29]);
    assert_eq!(errors(node, &offset_fetch(Some(id))).await, [29]);
    let all = ask(node, "some", &offset_fetch(None)).await.unwrap();
    assert!(!all.contains("committed_offset: 0"), "{all}");
    let groups = ask(node, "some", &ListGroupsRequest::default()).await.unwrap();
    assert!(groups.contains(GROUP), "{groups}");
    only(node, &[(Read, Group, GROUP), (Read, Topic, TOPIC)]).await;
    assert_eq!(errors(node, &offset_commit(id)).await, NONE);
    assert_eq!(errors(node, &offset_fetch(Some(id))).await, NONE);
    assert_eq!(errors(node, &fetch(id, -1)).await, NONE);
    assert_eq!(errors(node, &produce(id, 1)).await, [29]);

    only(node, &[(Describe, Topic, TOPIC)]).await;
    assert_eq!(errors(node, &metadata(Some(TOPIC), Uuid::ZERO)).await, NONE);
    assert_eq!(errors(node, &delete_topic(Some(TOPIC), Uuid::ZERO)).await, [29]);
    assert_eq!(errors(node, &fetch(id, -1)).await, [29]);
    let init = InitProducerIdRequest {
        producer_id: -1,
        producer_epoch: -1,
        transactional_id: None,
        ..Default::default()
    };
    assert_eq!(errors(node, &init).await, [31]);

    // Writing to any topic is enough for an idempotent producer, and so is the permission of its own.
    only(node, &[(Write, Topic, TOPIC)]).await;
    assert_eq!(errors(node, &init).await, NONE);
    assert_eq!(errors(node, &produce(id, 1)).await, NONE);
    only(node, &[(IdempotentWrite, Cluster, cluster)]).await;
    assert_eq!(errors(node, &init).await, NONE);

    // A missing topic is created by who may see and create it, one by one or all.
    only(node, &[(Describe, Topic, "new")]).await;
    assert_eq!(errors(node, &metadata(Some("new"), Uuid::ZERO)).await, [29]);
    assert!(node.metadata.image().topic("new").is_none());
    only(node, &[(Describe, Topic, "new"), (Create, Topic, "new")]).await;
    assert_eq!(errors(node, &metadata(Some("new"), Uuid::ZERO)).await, NONE);
    only(node, &[(Describe, Topic, "newer"), (Create, Cluster, cluster)]).await;
    assert_eq!(errors(node, &metadata(Some("newer"), Uuid::ZERO)).await, NONE);

    // Who may create a topic, but not describe its configuration, does not learn of it.
    let topic = CreatableTopic {
        name: "blind".into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let create = CreateTopicsRequest { topics: vec![topic], timeout_ms: 1000, ..Default::default() };
    let created = answer(node, "some", &create).await.unwrap().topics.remove(0);
    assert_eq!((created.error_code, created.topic_config_error_code, created.num_partitions), (0, 29, -1));

    // A follower needs a permission on the cluster, and a consumer's is of no use to it.
    only(node, &[(Read, Topic, TOPIC)]).await;
    assert_eq!(errors(node, &fetch(id, 2)).await, [29]);
    only(node, &[(ClusterAction, Cluster, cluster)]).await;
    assert_ne!(errors(node, &fetch(id, 2)).await, [29]);
    assert_eq!(errors(node, &fetch(id, -1)).await, [29]);

    only(node, &[(Describe, Cluster, cluster), (Alter, Cluster, cluster)]).await;
    let describe = DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        endpoint_type: 1,
        ..Default::default()
    };
    let bits = answer(node, "some", &describe).await.unwrap().cluster_authorized_operations;
    assert_eq!(bits, Describe.bit() | Alter.bit());
    only(node, &[(Delete, Topic, TOPIC)]).await;
    let mut known = metadata(Some(TOPIC), Uuid::ZERO);
    known.include_topic_authorized_operations = true;
    let bits = answer(node, "some", &known).await.unwrap().topics[0].topic_authorized_operations;
    assert_eq!(bits, Describe.bit() | Delete.bit());
    let unseen = answer(node, "some", &delete_topic(None, Uuid([9; 16]))).await.unwrap();
    assert_eq!(unseen.responses[0].error_code, ErrorCode::UnknownTopicId.code());
    assert_eq!(errors(node, &delete_topic(None, id)).await, NONE);
    handle.shutdown().await;
}
