// kafkajs: node kafkajs.mjs BOOTSTRAP, with NODE_PATH at the folder of the installed modules.

import { createRequire } from "node:module";
import assert from "node:assert/strict";

const { Kafka, CompressionTypes, AssignerProtocol, logLevel, ConfigResourceTypes } = createRequire(import.meta.url)("kafkajs");

const bootstrap = process.argv[2];
const LIMIT = 60_000;
const kafka = new Kafka({
  clientId: "kafkajs",
  brokers: [bootstrap],
  logLevel: logLevel.NOTHING,
  connectionTimeout: LIMIT,
  requestTimeout: LIMIT,
  retry: { retries: 20, maxRetryTime: 3000 },
});
const admin = kafka.admin();

/** An error is no end of the wait: the broker may not know the topic yet. */
async function wait(what, done) {
  const end = Date.now() + LIMIT;
  let problem = "";
  const attempt = async () => {
    try {
      return await done();
    } catch (error) {
      problem = `: ${error.message}`;
      return false;
    }
  };
  while (!(await attempt())) {
    if (Date.now() > end) throw new Error(`waited in vain for ${what}${problem}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** The client's own way to wait for leaders fails where the broker does not know the topic yet. */
async function create(topic, numPartitions, configEntries = []) {
  const topics = [{ topic, numPartitions, configEntries }];
  await admin.createTopics({ topics, timeout: LIMIT, waitForLeaders: false });
  await leaders(topic, numPartitions);
}

async function leaders(topic, numPartitions) {
  const all = JSON.stringify(Array(numPartitions).fill([1, [1]]));
  await wait(`${numPartitions} leaders of ${topic}`, async () => {
    const { topics } = await admin.fetchTopicMetadata({ topics: [topic] });
    return JSON.stringify(topics[0].partitions.map((p) => [p.leader, p.isr])) === all;
  });
}

async function produce(topic, values, options = {}) {
  const producer = kafka.producer({ idempotent: options.idempotent ?? false });
  await producer.connect();
  const messages = values.map((value) => ({ key: value, value, headers: { h: ["1", "2"] } }));
  const sent = await producer.send({ topic, messages, ...options.send });
  await producer.disconnect();
  return sent;
}

/** A member of a group that keeps what it read and which partitions it owns. */
async function member(topic, groupId) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: LIMIT, heartbeatInterval: 300, maxWaitTimeInMs: 200 });
  const state = { consumer, owned: [], values: [] };
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
    state.owned = payload.memberAssignment[topic] ?? [];
  });
  consumer.on(consumer.events.REBALANCING, () => {
    state.owned = [];
  });
  await consumer.connect();
  await consumer.subscribe({ topic, fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => state.values.push(message.value.toString()) });
  return state;
}

const numbered = (prefix, count) => Array.from({ length: count }, (_, i) => `${prefix}${i}`);
const sorted = (values) => [...values].sort();

const checks = {
  async produce_idempotent_and_not() {
    await create("js.produce", 1);
    const offsets = [];
    for (const idempotent of [false, true]) {
      for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
        const [sent] = await produce("js.produce", numbered("v", 10), { idempotent, send: { compression } });
        offsets.push(sent.baseOffset);
      }
    }
    assert.deepEqual(offsets, ["0", "10", "20", "30"]);
    const [, sent] = [0, await produce("js.produce", ["one"], { send: { acks: 1 } })];
    assert.equal(sent[0].baseOffset, "40");
    await produce("js.produce", ["none"], { send: { acks: 0 } });
    await wait("the record without an answer", async () => (await admin.fetchTopicOffsets("js.produce"))[0].high === "42");
    const reader = await member("js.produce", "js-produce");
    await wait("42 records", () => reader.values.length === 42);
    assert.deepEqual(reader.values.slice(-3), ["v9", "one", "none"]);
    await reader.consumer.disconnect();
  },

  async group_of_three_rebalances_commits_and_resumes() {
    await create("js.group", 6);
    const members = [];
    for (let i = 0; i < 3; i++) members.push(await member("js.group", "js-group"));
    const values = () => members.flatMap((m) => m.values);
    await wait("2 partitions each", () => members.every((m) => m.owned.length === 2));
    await produce("js.group", numbered("a", 60));
    await wait("the first round", () => values().length === 60);
    const { groups } = await admin.describeGroups(["js-group"]);
    assert.equal(groups[0].state, "Stable");
    assert.equal(groups[0].members.length, 3);
    const assigned = AssignerProtocol.MemberAssignment.decode(groups[0].members[0].memberAssignment);
    assert.equal(assigned.assignment["js.group"].length, 2);
    await members[1].consumer.disconnect();
    members[1].owned = [];
    await wait("3 partitions each", () => [0, 2].every((i) => members[i].owned.length === 3));
    await produce("js.group", numbered("b", 60));
    await wait("the second round", () => values().length === 120);
    await members[0].consumer.disconnect();
    await members[2].consumer.disconnect();
    const last = await member("js.group", "js-group");
    await wait("all partitions", () => last.owned.length === 6);
    await produce("js.group", numbered("c", 6));
    await wait("the third round", () => last.values.length >= 6);
    assert.deepEqual(sorted(last.values), numbered("c", 6));
    await last.consumer.disconnect();
    assert.equal(values().length, 120);
  },

  async topics_and_configs() {
    await create("js.admin", 1, [{ name: "retention.ms", value: "360000" }]);
    assert.equal(await admin.createTopics({ topics: [{ topic: "js.admin" }] }), false);
    await admin.createPartitions({ topicPartitions: [{ topic: "js.admin", count: 3 }], timeout: LIMIT });
    await leaders("js.admin", 3);
    const describe = async () => {
      const resource = { type: ConfigResourceTypes.TOPIC, name: "js.admin", configNames: ["retention.ms", "cleanup.policy"] };
      const { resources } = await admin.describeConfigs({ resources: [resource], includeSynonyms: true });
      return Object.fromEntries(resources[0].configEntries.map((c) => [c.configName, c.configValue]));
    };
    assert.deepEqual(await describe(), { "retention.ms": "360000", "cleanup.policy": "delete" });
    const configEntries = [{ name: "cleanup.policy", value: "compact" }];
    const resources = [{ type: ConfigResourceTypes.TOPIC, name: "js.admin", configEntries }];
    await admin.alterConfigs({ validateOnly: true, resources });
    assert.equal((await describe())["cleanup.policy"], "delete");
    await admin.alterConfigs({ validateOnly: false, resources });
    // A busy broker of Apache Kafka describes what it has not read back yet.
    await wait("the changed configs", async () => (await describe())["cleanup.policy"] === "compact");
    assert.deepEqual(await describe(), { "retention.ms": "604800000", "cleanup.policy": "compact" });
    await admin.deleteTopics({ topics: ["js.admin"], timeout: LIMIT });
    await wait("the topic is gone", async () => !(await admin.listTopics()).includes("js.admin"));
  },

  async groups_offsets_and_records() {
    await create("js.offsets", 1);
    await produce("js.offsets", numbered("v", 10));
    await admin.setOffsets({ groupId: "js-offsets", topic: "js.offsets", partitions: [{ partition: 0, offset: "4" }] });
    const reader = await member("js.offsets", "js-offsets");
    await wait("6 records", () => reader.values.length === 6);
    await reader.consumer.stop();
    await reader.consumer.disconnect();
    const [fetched] = await admin.fetchOffsets({ groupId: "js-offsets", topics: ["js.offsets"] });
    assert.equal(fetched.partitions[0].offset, "10");
    await admin.resetOffsets({ groupId: "js-offsets", topic: "js.offsets", earliest: true });
    await admin.deleteTopicRecords({ topic: "js.offsets", partitions: [{ partition: 0, offset: "7" }] });
    assert.equal((await admin.fetchTopicOffsets("js.offsets"))[0].low, "7");
    assert.equal((await admin.fetchTopicOffsetsByTimestamp("js.offsets", 0))[0].offset, "7");
    assert((await admin.listGroups()).groups.some((g) => g.groupId === "js-offsets" && g.protocolType === "consumer"));
    await admin.deleteGroups(["js-offsets"]);
    assert(!(await admin.listGroups()).groups.some((g) => g.groupId === "js-offsets"));
  },

  async cluster_is_described() {
    const { brokers, controller, clusterId } = await admin.describeCluster();
    assert.deepEqual(brokers.map((b) => [b.nodeId, `${b.host}:${b.port}`]), [[1, bootstrap]]);
    assert.equal(controller, 1);
    assert.equal(clusterId.length, 22);
  },
};

let failed = 0;
await admin.connect();
for (const [name, check] of Object.entries(checks)) {
  const start = Date.now();
  try {
    await check();
    console.log(`PASS ${name} ${((Date.now() - start) / 1000).toFixed(1)}s`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.stack}`);
  }
}
await admin.disconnect();
process.exit(failed === 0 ? 0 : 1);
