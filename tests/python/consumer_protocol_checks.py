"""librdkafka with group.protocol=consumer: python consumer_protocol_checks.py BOOTSTRAP"""

import threading

from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from checks import check, equal, main, wait

LIMIT = 60


def admin(bootstrap):
    return AdminClient({"bootstrap.servers": bootstrap})


def create(bootstrap, topic, partitions):
    client = admin(bootstrap)
    client.create_topics([NewTopic(topic, partitions, 1)])[topic].result(LIMIT)


def produce(bootstrap, topic, values, partitions):
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for at, value in enumerate(values):
        producer.produce(topic, value, partition=at % partitions)
    equal(producer.flush(LIMIT), 0)


class Member:
    """A consumer in a thread of its own, and what it owns and has read. It drives itself until it is closed."""

    owners = {}
    lock = threading.Lock()

    def __init__(self, bootstrap, group, topics, protocol="consumer", **settings):
        config = {
            "bootstrap.servers": bootstrap,
            "group.id": group,
            "group.protocol": protocol,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
        if protocol == "classic":
            config["session.timeout.ms"] = 60000
            config["heartbeat.interval.ms"] = 500
            config["partition.assignment.strategy"] = "cooperative-sticky"
        config.update({key.replace("_", "."): value for key, value in settings.items()})
        self.group, self.owned, self.read, self.failed, self.stop = group, set(), [], None, False
        self.consumer = Consumer(config)
        self.consumer.subscribe(topics, on_assign=self.assigned, on_revoke=self.revoked, on_lost=self.lost)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def assigned(self, consumer, partitions):
        with Member.lock:
            for at in partitions:
                key = (self.group, at.topic, at.partition)
                if Member.owners.get(key, self) is not self:
                    self.failed = f"{key} is assigned to two members"
                Member.owners[key] = self
                self.owned.add((at.topic, at.partition))
        consumer.incremental_assign(partitions)

    def revoked(self, consumer, partitions):
        if self.read:
            try:
                consumer.commit(asynchronous=False)
            except Exception as error:  # no offset since the last commit
                if "NO_OFFSET" not in str(error):
                    self.failed = repr(error)
        self.lost(consumer, partitions)

    def lost(self, consumer, partitions):
        with Member.lock:
            for at in partitions:
                self.owned.discard((at.topic, at.partition))
                if Member.owners.get((self.group, at.topic, at.partition)) is self:
                    del Member.owners[(self.group, at.topic, at.partition)]
        consumer.incremental_unassign(partitions)

    def run(self):
        while not self.stop:
            message = self.consumer.poll(0.1)
            if message is None:
                continue
            if message.error() is not None:
                self.failed = self.failed or str(message.error())
                continue
            self.read.append(message.value().decode())
        self.consumer.close()

    def close(self):
        self.stop = True
        self.thread.join(LIMIT)
        equal((self.failed, self.thread.is_alive()), (None, False))


def sizes(members):
    return sorted(len(member.owned) for member in members)


@check
def two_members_share_and_one_takes_over(bootstrap):
    create(bootstrap, "shared848", 4)
    produce(bootstrap, "shared848", [f"v{at}" for at in range(100)], 4)
    first = Member(bootstrap, "g848", ["shared848"])
    wait("all partitions", lambda: len(first.owned) == 4)
    wait("all records", lambda: len(first.read) == 100)
    second = Member(bootstrap, "g848", ["shared848"])
    wait("a fair share", lambda: sizes([first, second]) == [2, 2])
    client = admin(bootstrap)

    def described():
        group = client.describe_consumer_groups(["g848"])["g848"].result(LIMIT)
        return group.state, len(group.members)

    # Until both have told that they follow, the group reconciles.
    wait("a stable group of two", lambda: described() == (ConsumerGroupState.STABLE, 2))
    first.close()
    wait("everything", lambda: len(second.owned) == 4)
    produce(bootstrap, "shared848", [f"w{at}" for at in range(100)], 4)
    wait("what came later", lambda: len(second.read) >= 100)
    equal(sorted(second.read), sorted(f"w{at}" for at in range(100)))
    second.close()
    listed = client.list_consumer_group_offsets([ConsumerGroupTopicPartitions("g848")])
    offsets = listed["g848"].result(LIMIT).topic_partitions
    equal(sorted((at.partition, at.offset) for at in offsets), [(index, 50) for index in range(4)])


@check
def a_pattern_follows_new_topics_and_partitions(bootstrap):
    create(bootstrap, "pattern848-a", 1)
    member = Member(bootstrap, "p848", ["^pattern848-.*"])
    wait("the topic that there is", lambda: len(member.owned) == 1)
    client = admin(bootstrap)
    client.create_partitions([NewPartitions("pattern848-a", 3)])["pattern848-a"].result(LIMIT)
    wait("its new partitions", lambda: len(member.owned) == 3)
    create(bootstrap, "pattern848-b", 2)
    wait("a new topic", lambda: len(member.owned) == 5)
    member.close()


@check
def a_static_member_finds_its_partitions_again(bootstrap):
    create(bootstrap, "static848", 4)
    first = Member(bootstrap, "s848", ["static848"], group_instance_id="one")
    second = Member(bootstrap, "s848", ["static848"], group_instance_id="two")
    wait("a fair share", lambda: sizes([first, second]) == [2, 2])
    had, others = set(first.owned), set(second.owned)
    first.close()
    again = Member(bootstrap, "s848", ["static848"], group_instance_id="one")
    wait("its own", lambda: again.owned == had)
    equal(second.owned, others)
    again.close()
    second.close()


@check
def a_group_moves_to_the_consumer_protocol_and_back(bootstrap):
    create(bootstrap, "live848", 6)
    stop, sent = threading.Event(), []

    def keep_producing():
        producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
        while not stop.wait(0.02):
            sent.append(f"r{len(sent)}")
            producer.produce("live848", sent[-1], partition=len(sent) % 6)
        equal(producer.flush(LIMIT), 0)

    source = threading.Thread(target=keep_producing)
    source.start()
    everyone = []

    def member(protocol):
        everyone.append(Member(bootstrap, "m848", ["live848"], protocol=protocol))
        return everyone[-1]

    try:
        old = [member("classic"), member("classic")]
        wait("the classic group", lambda: sizes(old) == [3, 3])
        new = member("consumer")
        wait("one of each protocol", lambda: sizes([*old, new]) == [2, 2, 2])
        old[0].close()
        newer = member("consumer")
        wait("the second", lambda: sizes([old[1], new, newer]) == [2, 2, 2])
        old[1].close()
        wait("the group of new members", lambda: sizes([new, newer]) == [3, 3])
        back = member("classic")
        wait("one back", lambda: sizes([new, newer, back]) == [2, 2, 2])
        new.close()
        newer.close()
        wait("the last one", lambda: sizes([back]) == [6])
    finally:
        stop.set()
        source.join()
    wait("every record", lambda: len({value for one in everyone for value in one.read}) == len(sent))
    back.close()


if __name__ == "__main__":
    main()
