use aqueduct_protocol::ids::Uuid;
use proptest::prelude::*;

use super::*;

fn offset(value: Option<Committed>) -> Record {
    Record::Offset { group: "g".into(), topic: "t".into(), partition: 7, value }
}

fn committed() -> Committed {
    Committed {
        offset: 5,
        leader_epoch: 3,
        metadata: "hé".into(),
        commit_ms: 1_700_000_000_000,
        expire_ms: None,
        topic_id: Uuid::ZERO,
    }
}

fn round_trip(record: &Record) -> Option<Record> {
    let (key, value) = (record.key().unwrap(), record.value().unwrap());
    Record::decode(key, value).unwrap()
}

#[test]
fn offsets_are_written_as_kafka_writes_them() {
    let record = offset(Some(committed()));
    assert_eq!(&record.key().unwrap()[..], [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 7]);
    let mut expected = vec![0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 3, 4, b'h', 0xc3, 0xa9];
    expected.extend(1_700_000_000_000i64.to_be_bytes());
    expected.push(0);
    assert_eq!(record.value().unwrap().unwrap(), expected);
    assert_eq!(offset(None).value().unwrap(), None);
}

#[test]
fn a_topic_id_is_a_tagged_field_and_an_end_needs_version_1() {
    let with_id = offset(Some(Committed { topic_id: Uuid([9; 16]), ..committed() }));
    let value = with_id.value().unwrap().unwrap();
    assert_eq!(value[value.len() - 19..value.len() - 16], [1, 0, 16]);
    assert_eq!(round_trip(&with_id), Some(with_id));

    let with_end = offset(Some(Committed { expire_ms: Some(99), leader_epoch: -1, ..committed() }));
    assert_eq!(with_end.value().unwrap().unwrap()[..2], [0, 1]);
    assert_eq!(round_trip(&with_end), Some(with_end));
}

#[test]
fn every_version_of_an_offset_is_read() {
    let at =
        |epoch: i32| Committed { leader_epoch: epoch, metadata: "m".into(), commit_ms: 2, ..committed() };
    let time = 2i64.to_be_bytes();
    let old = [&5i64.to_be_bytes()[..], &[0, 1, b'm'], &time].concat();
    let v3 = [&5i64.to_be_bytes()[..], &3i32.to_be_bytes(), &[0, 1, b'm'], &time].concat();
    let v4 = [&5i64.to_be_bytes()[..], &3i32.to_be_bytes(), &[2, b'm'], &time, &[1, 5, 1, 0]].concat();
    let v1 = [&old[..], &(-1i64).to_be_bytes()].concat();
    let key = offset(None).key().unwrap();
    for (version, body, epoch) in [(0u8, &old, -1), (1, &v1, -1), (2, &old, -1), (3, &v3, 3), (4, &v4, 3)] {
        let value = [&[0, version][..], body].concat();
        let value = Bytes::from(value);
        let read = Record::decode(key.clone(), Some(value.clone()));
        assert_eq!(read, Ok(Some(offset(Some(at(epoch))))), "{version}");
        for cut in 0..value.len() {
            let read = Record::decode(key.clone(), Some(value.slice(..cut)));
            assert!(read.is_err(), "{version} cut at {cut}");
        }
    }
    let unknown = Record::decode(key, Some(Bytes::from_static(&[0, 5])));
    assert!(matches!(unknown, Err(DecodeError::UnsupportedVersion { version: 5, .. })), "{unknown:?}");
}

/// Records that Apache Kafka 4.3.1 wrote.
const KAFKAS: &[(&str, &str)] = &[
    (
        "0001000663672d74776f0002637400000000",
        "0004000000000000000500000002026d000001a1fd3bbf5401001028a372379b63478cbc9fef64d896616a",
    ),
    (
        "0001000963672d73696d706c650002637400000001",
        "0004000000000000003cffffffff01000001a1fd3bba4701001028a372379b63478cbc9fef64d896616a",
    ),
    ("0002000663672d74776f", "0003000000000000ffffffff000001a1fd3bbbba00000000"),
    (
        "0002000663672d74776f",
        concat!(
            "00030008636f6e73756d657200000002000572616e67650027636c2d37356462353535392d333530612d346233622d396539372d",
            "376239373465353231636639000001a1fd3bbcf1000000020027636c2d61633164373535362d316664382d346133342d39636365",
            "2d656235633161356332393266ffff00026332000a2f3132372e302e302e3100000fa0000017700000000e000000000001000263",
            "74ffffffff00000001460027636c2d37356462353535392d333530612d346233622d396539372d376239373465353231636639ff",
            "ff00026331000a2f3132372e302e302e3100000fa0000017700000000e00000000000100026374ffffffff00000000",
        ),
    ),
];

fn unhex(text: &str) -> Bytes {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn kafkas_records_are_read_and_written_again_byte_by_byte() {
    for (key, value) in KAFKAS {
        let (key, value) = (unhex(key), unhex(value));
        let record = Record::decode(key.clone(), Some(value.clone())).unwrap().unwrap();
        assert_eq!((record.key().unwrap(), record.value().unwrap()), (key, Some(value)), "{record:?}");
    }
    let (key, value) = KAFKAS[3];
    let read = Record::decode(unhex(key), Some(unhex(value)));
    let Ok(Some(Record::Group { group, value: Some(value) })) = read else { panic!("{read:?}") };
    assert_eq!(
        (group.as_str(), &*value.protocol_type, value.generation),
        ("cg-two", "consumer", Generation(2))
    );
    assert_eq!(value.protocol.as_deref(), Some("range"));
    let member = &value.members[0];
    assert_eq!((&*member.client_id, &*member.client_host), ("c2", "/127.0.0.1"));
    assert_eq!((member.rebalance_timeout_ms, member.session_timeout_ms), (4_000, 6_000));
    assert_eq!(member.assignment, "F");
}

#[test]
fn types_of_other_groups_are_passed_over() {
    let key = Bytes::from_static(&[0, 11, 0, 1, b'g']);
    assert_eq!(Record::decode(key, Some(Bytes::from_static(&[0, 0]))), Ok(None));
    assert!(Record::decode(Bytes::from_static(&[0]), None).is_err());
}

#[test]
fn a_text_beyond_the_format_is_refused() {
    let record = Record::Group { group: "g".repeat(40_000).into(), value: None };
    assert!(matches!(record.key(), Err(EncodeError::TooLong { length: 40_000, .. })));
}

prop_compose! {
    fn member()(id in ".{0,8}", instance in prop::option::of(".{1,8}"), host in ".{0,8}", times in any::<(i32, i32)>(),
                subscription in prop::collection::vec(any::<u8>(), 0..9), assignment in prop::collection::vec(any::<u8>(), 0..9))
        -> MemberValue {
        MemberValue {
            id: id.into(),
            instance_id: instance.map(Into::into),
            client_id: "client".into(),
            client_host: host.into(),
            rebalance_timeout_ms: times.0,
            session_timeout_ms: times.1,
            subscription: subscription.into(),
            assignment: assignment.into(),
        }
    }
}

proptest! {
    #[test]
    fn groups_round_trip_and_no_cut_is_taken_for_a_whole(
        kind in ".{0,8}", generation in any::<i32>(), protocol in prop::option::of(".{0,8}"),
        leader in prop::option::of(".{0,8}"), since in any::<i64>(), members in prop::collection::vec(member(), 0..4),
    ) {
        let record = Record::Group {
            group: "g".into(),
            value: Some(GroupValue {
                protocol_type: kind.into(),
                generation: Generation(generation),
                protocol: protocol.map(Into::into),
                leader: leader.map(Into::into),
                state_since_ms: since,
                members,
            }),
        };
        prop_assert_eq!(round_trip(&record), Some(record.clone()));
        let (key, value) = (record.key().unwrap(), record.value().unwrap().unwrap());
        for cut in 0..value.len() {
            prop_assert!(Record::decode(key.clone(), Some(value.slice(..cut))).is_err());
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(key in prop::collection::vec(any::<u8>(), 0..20), kind in 0u8..3,
                                      value in prop::collection::vec(any::<u8>(), 0..60), version in 0u8..5) {
        let key = Bytes::from([&[0, kind][..], &key].concat());
        let value = Bytes::from([&[0, version][..], &value].concat());
        let _ = Record::decode(key, Some(value.clone()));
        let _ = Record::decode(value, None);
    }
}
