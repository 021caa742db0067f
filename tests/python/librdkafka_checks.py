"""librdkafka through confluent-kafka: python librdkafka_checks.py BOOTSTRAP"""

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)

from checks import check, equal, main, wait

LIMIT = 60
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def create(bootstrap, topic, partitions, config=None):
    client = admin(bootstrap)
    made = client.create_topics([NewTopic(topic, partitions, 1, config=config or {})])
    made[topic].result(LIMIT)
    wait_leaders(client, topic, partitions)


def wait_leaders(client, topic, partitions):
    """A busy broker of Apache Kafka does not know at once what its controller made."""

    def led():
        found = client.list_topics(topic, LIMIT).topics[topic]
        return found.error is None and [p.leader for p in found.partitions.values() if p.error is None] == [1] * partitions

    wait(f"{partitions} leaders of {topic}", led)


def produce(bootstrap, topic, values, partition=None, **settings):
    """Sends the values and gives the delivered (partition, offset) pairs."""
    delivered = []

    def report(error, message):
        assert error is None, error
        delivered.append((message.partition(), message.offset()))

    config = {"bootstrap.servers": bootstrap, "linger.ms": 5}
    config.update({key.replace("_", "."): value for key, value in settings.items()})
    producer = Producer(config)
    where = {} if partition is None else {"partition": partition}
    for value in values:
        producer.produce(topic, value=value, key=value[:9], headers=[("h", b"1"), ("h", b"2")], on_delivery=report, **where)
    left = producer.flush(LIMIT)
    equal((left, len(delivered)), (0, len(values)))
    return delivered


def consumer(bootstrap, group, **settings):
    config = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest",
              "enable.auto.commit": False, "session.timeout.ms": 60000}
    config.update({key.replace("_", "."): value for key, value in settings.items()})
    return Consumer(config)


def read(reader, count):
    messages = []

    def done():
        message = reader.poll(0.2)
        if message is not None:
            if message.error():
                raise KafkaException(message.error())
            messages.append(message)
        return len(messages) >= count

    wait(f"{count} messages", done)
    return messages


@check
def deliveries_in_every_codec(bootstrap):
    create(bootstrap, "rd.codecs", 1)
    offset = 0
    for codec in CODECS:
        for idempotent in [True, False]:
            values = [f"{codec}-{idempotent}-{i}" * 5 for i in range(50)]
            got = produce(bootstrap, "rd.codecs", values, compression_type=codec, enable_idempotence=idempotent)
            equal(got, [(0, offset + i) for i in range(50)])
            offset += 50
    reader = consumer(bootstrap, "rd-codecs")
    reader.assign([TopicPartition("rd.codecs", 0, 0)])
    messages = read(reader, offset)
    equal([m.offset() for m in messages], list(range(offset)))
    equal(messages[0].headers(), [("h", b"1"), ("h", b"2")])
    equal(messages[-1].value(), b"zstd-False-49" * 5)
    assert messages[0].timestamp()[1] > 0
    reader.close()


@check
def acks_of_every_kind_and_a_large_record(bootstrap):
    for acks in ["all", "1"]:
        produce(bootstrap, "rd.acks", ["a"], acks=acks)
    producer = Producer({"bootstrap.servers": bootstrap, "acks": "0"})
    producer.produce("rd.acks", value="a")
    equal(producer.flush(LIMIT), 0)
    reader = consumer(bootstrap, "rd-acks")
    reader.assign([TopicPartition("rd.acks", 0, 0)])
    equal(len(read(reader, 3)), 3)
    large = "x" * 900_000
    produce(bootstrap, "rd.acks", [large])
    equal(read(reader, 1)[0].value(), large.encode())
    reader.close()
    errors = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 3_000_000})
    producer.produce("rd.acks", value="x" * 2_000_000, on_delivery=lambda error, _: errors.append(error))
    producer.flush(LIMIT)
    equal([e.code() for e in errors], [KafkaError.MSG_SIZE_TOO_LARGE])


@check
def positions_watermarks_and_times(bootstrap):
    create(bootstrap, "rd.offsets", 2)
    produce(bootstrap, "rd.offsets", [str(i) for i in range(20)], partition=1)
    reader = consumer(bootstrap, "rd-offsets")
    equal(reader.get_watermark_offsets(TopicPartition("rd.offsets", 1), timeout=LIMIT), (0, 20))
    equal(reader.get_watermark_offsets(TopicPartition("rd.offsets", 0), timeout=LIMIT), (0, 0))
    found = reader.offsets_for_times([TopicPartition("rd.offsets", 1, 0)], LIMIT)
    equal(found[0].offset, 0)
    found = reader.offsets_for_times([TopicPartition("rd.offsets", 1, 2**45)], LIMIT)
    equal(found[0].offset, -1)
    reader.assign([TopicPartition("rd.offsets", 1, 15)])
    equal([m.value() for m in read(reader, 5)], [str(i).encode() for i in range(15, 20)])
    reader.seek(TopicPartition("rd.offsets", 1, 3))
    equal(read(reader, 1)[0].value(), b"3")
    # Beyond the end the reset policy decides.
    reader.assign([TopicPartition("rd.offsets", 1, 99)])
    equal(read(reader, 1)[0].value(), b"0")
    reader.close()


@check
def group_of_three_rebalances_commits_and_resumes(bootstrap):
    create(bootstrap, "rd.group", 6)
    for strategy in ["range,roundrobin", "cooperative-sticky"]:
        group = "rd-group-" + strategy[:5]
        owned, seen, members, uncommitted = {}, [], [], []

        def start(name):
            member = consumer(bootstrap, group, partition_assignment_strategy=strategy)
            owned[name] = set()

            def assigned(consumer, partitions):
                owned[name].update(p.partition for p in partitions)
                call = consumer.incremental_assign if strategy.startswith("coop") else consumer.assign
                call(partitions)

            def revoked(consumer, partitions):
                owned[name].difference_update(p.partition for p in partitions)
                call = consumer.incremental_unassign if strategy.startswith("coop") else lambda _: consumer.unassign()
                call(partitions)

            member.subscribe(["rd.group"], on_assign=assigned, on_revoke=revoked)
            members.append((name, member))

        def poll():
            for _, member in members:
                message = member.poll(0.02)
                if message is not None:
                    assert not message.error(), message.error()
                    seen.append(message.value())
                    uncommitted.append((member, message))
            # A commit is refused while the group rebalances; then it is tried again.
            for _ in range(len(uncommitted)):
                member, message = uncommitted.pop(0)
                try:
                    member.commit(message, asynchronous=False)
                except KafkaException:
                    uncommitted.append((member, message))
                    break

        def balanced(each):
            poll()
            return [len(owned[name]) for name, _ in members] == each

        for name in "abc":
            start(name)
        wait("2 partitions each", lambda: balanced([2, 2, 2]))
        values = [f"{strategy}-1-{i}".encode() for i in range(60)]
        base = len(values)
        produce(bootstrap, "rd.group", values)
        wait("all of the first round", lambda: poll() or (set(values) <= set(seen) and not uncommitted))
        members.pop(1)[1].close()
        wait("3 partitions each", lambda: balanced([3, 3]))
        more = [f"{strategy}-2-{i}".encode() for i in range(60)]
        produce(bootstrap, "rd.group", more)
        wait("all of the second round", lambda: poll() or (set(more) <= set(seen) and not uncommitted))
        for _, member in members:
            member.close()
        members.clear()
        # What was committed is not read again.
        before = len(seen)
        start("d")
        wait("all partitions", lambda: balanced([6]))
        last = [f"{strategy}-3-{i}".encode() for i in range(6)]
        produce(bootstrap, "rd.group", last)
        wait("all of the last round", lambda: poll() or (set(last) <= set(seen) and not uncommitted))
        equal(sorted(seen[before:]), sorted(last))
        members.pop()[1].close()
        expected = base * 2 + 6
        equal(len([v for v in seen if v.startswith(strategy.encode())]), expected)


@check
def static_member_comes_back_without_a_rebalance(bootstrap):
    create(bootstrap, "rd.static", 2)
    produce(bootstrap, "rd.static", [b"x"], partition=0)
    assignments = []

    def start():
        member = consumer(bootstrap, "rd-static", group_instance_id="one")
        member.subscribe(["rd.static"], on_assign=lambda _, partitions: assignments.append(len(partitions)))
        return member

    first = start()
    equal(read(first, 1)[0].value(), b"x")
    first.commit(asynchronous=False)
    first.close()
    client = admin(bootstrap)
    described = client.describe_consumer_groups(["rd-static"])["rd-static"].result(LIMIT)
    equal([m.group_instance_id for m in described.members], ["one"])
    second = start()
    produce(bootstrap, "rd.static", [b"y"], partition=0)
    equal(read(second, 1)[0].value(), b"y")
    second.close()
    equal(assignments, [2, 2])


@check
def topics_and_configs(bootstrap):
    client = admin(bootstrap)
    create(bootstrap, "rd.admin", 1, {"retention.ms": "360000"})
    try:
        create(bootstrap, "rd.admin", 1)
        raise AssertionError("the topic was there")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.TOPIC_ALREADY_EXISTS)
    client.create_partitions([NewPartitions("rd.admin", 3)])["rd.admin"].result(LIMIT)
    wait_leaders(client, "rd.admin", 3)
    resource = ConfigResource(ConfigResource.Type.TOPIC, "rd.admin")
    described = client.describe_configs([resource])[resource].result(LIMIT)
    equal((described["retention.ms"].value, described["retention.ms"].is_default), ("360000", False))
    equal((described["segment.bytes"].value, described["segment.bytes"].is_default), ("1073741824", True))
    change = ConfigResource(ConfigResource.Type.TOPIC, "rd.admin", incremental_configs=[
        ConfigEntry("retention.ms", None, incremental_operation=AlterConfigOpType.DELETE),
        ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.APPEND),
        ConfigEntry("segment.bytes", "2097152", incremental_operation=AlterConfigOpType.SET),
    ])
    client.incremental_alter_configs([change])[change].result(LIMIT)

    def changed():
        described = client.describe_configs([resource])[resource].result(LIMIT)
        return [described[key].value for key in ["retention.ms", "cleanup.policy", "segment.bytes"]]

    # A busy broker of Apache Kafka describes what it has not read back yet.
    wait("the changes", lambda: changed() == ["604800000", "delete,compact", "2097152"])
    bad = ConfigResource(ConfigResource.Type.TOPIC, "rd.admin", incremental_configs=[
        ConfigEntry("segment.bytes", "many", incremental_operation=AlterConfigOpType.SET)])
    try:
        client.incremental_alter_configs([bad])[bad].result(LIMIT)
        raise AssertionError("a bad value was taken")
    except KafkaException as error:
        equal(error.args[0].code(), KafkaError.INVALID_CONFIG)
    client.delete_topics(["rd.admin"])["rd.admin"].result(LIMIT)
    wait("the topic is gone", lambda: "rd.admin" not in client.list_topics(timeout=LIMIT).topics)


@check
def groups_offsets_and_records(bootstrap):
    client = admin(bootstrap)
    create(bootstrap, "rd.groups", 1)
    produce(bootstrap, "rd.groups", [str(i) for i in range(10)])
    reader = consumer(bootstrap, "rd-groups")
    reader.subscribe(["rd.groups"])
    read(reader, 4)
    reader.commit(offsets=[TopicPartition("rd.groups", 0, 4, "note")], asynchronous=False)
    described = client.describe_consumer_groups(["rd-groups"])["rd-groups"].result(LIMIT)
    equal((described.state.name, len(described.members), described.partition_assignor), ("STABLE", 1, "range"))
    equal(described.members[0].assignment.topic_partitions[0].topic, "rd.groups")
    reader.close()
    reader = consumer(bootstrap, "rd-groups")
    got = reader.committed([TopicPartition("rd.groups", 0)], LIMIT)[0]
    equal((got.offset, got.metadata), (4, "note"))
    reader.close()
    listed = client.list_consumer_groups().result(LIMIT)
    assert "rd-groups" in [g.group_id for g in listed.valid], listed
    latest = client.list_offsets({TopicPartition("rd.groups", 0): OffsetSpec.latest()})
    equal([f.result(LIMIT).offset for f in latest.values()], [10])
    deleted = client.delete_records([TopicPartition("rd.groups", 0, 6)])
    equal([f.result(LIMIT).low_watermark for f in deleted.values()], [6])
    client.delete_consumer_groups(["rd-groups"])["rd-groups"].result(LIMIT)
    listed = client.list_consumer_groups().result(LIMIT)
    assert "rd-groups" not in [g.group_id for g in listed.valid], listed


@check
def cluster_is_described(bootstrap):
    client = admin(bootstrap)
    described = client.describe_cluster().result(LIMIT)
    equal([(n.id, f"{n.host}:{n.port}") for n in described.nodes], [(1, bootstrap)])
    equal(described.controller.id, 1)
    equal(len(described.cluster_id), 22)
    topics = client.list_topics(timeout=LIMIT)
    equal((list(topics.brokers), topics.cluster_id), ([1], described.cluster_id))


if __name__ == "__main__":
    main()
