import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Small transactions one right after the other, from several producers into a few partitions: BOOTSTRAP VERSION PRODUCERS
 * TRANSACTIONS, where VERSION is the cluster's transaction.version. None may fail, and a reader of committed records finds
 * those of the committed ones, once.
 */
public final class TransactionLoop {
    private static final int PARTITIONS = 3;

    public static void main(String[] args) throws Exception {
        String bootstrap = args[0];
        short version = Short.parseShort(args[1]);
        int producers = Integer.parseInt(args[2]);
        int transactions = Integer.parseInt(args[3]);
        String topic = "loop-" + version;
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            setVersion(admin, version);
            admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1))).all().get();
        }
        Set<String> expected = ConcurrentHashMap.newKeySet();
        Map<Integer, Exception> failed = new ConcurrentHashMap<>();
        long from = System.nanoTime();
        List<Thread> threads = IntStream.range(0, producers).mapToObj(n -> new Thread(() -> {
            try {
                run(bootstrap, topic, n, transactions, expected);
            } catch (Exception e) {
                failed.put(n, e);
            }
        })).toList();
        threads.forEach(Thread::start);
        for (Thread thread : threads) {
            thread.join();
        }
        double seconds = (System.nanoTime() - from) / 1e9;
        failed.forEach((n, e) -> {
            System.out.println("FAIL producer " + n + ": " + e);
            e.printStackTrace();
        });
        System.out.printf("version %d: %d transactions in %.1f s%n", version, producers * transactions, seconds);
        if (failed.isEmpty()) {
            System.out.println("PASS transactions of version " + version);
            check(bootstrap, topic, expected);
        }
        System.exit(failed.isEmpty() ? 0 : 1);
    }

    private static void setVersion(Admin admin, short version) throws Exception {
        short now = admin.describeFeatures().featureMetadata().get().finalizedFeatures()
            .get("transaction.version").maxVersionLevel();
        if (now != version) {
            FeatureUpdate.UpgradeType type =
                version > now ? FeatureUpdate.UpgradeType.UPGRADE : FeatureUpdate.UpgradeType.SAFE_DOWNGRADE;
            Map<String, FeatureUpdate> updates =
                Map.of("transaction.version", new FeatureUpdate(version, type));
            admin.updateFeatures(updates, new UpdateFeaturesOptions()).all().get();
        }
    }

    private static void run(String bootstrap, String topic, int n, int transactions, Set<String> expected)
        throws InterruptedException, ExecutionException {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("transactional.id", topic + "-" + n);
        settings.put("linger.ms", "0");
        settings.put("retry.backoff.ms", "20");
        Callback ignored = (metadata, error) -> { };
        try (KafkaProducer<String, String> producer =
            new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            producer.initTransactions();
            for (int i = 0; i < transactions; i++) {
                producer.beginTransaction();
                Set<String> sent = new HashSet<>();
                // Partitions of the transaction before, which its markers are just being written to.
                for (int partition = 0; partition <= i % PARTITIONS; partition++) {
                    String value = n + "-" + i + "-" + partition;
                    producer.send(new ProducerRecord<>(topic, partition, null, value), ignored);
                    sent.add(value);
                }
                if (i % 4 == 0) {
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    offsets.put(new TopicPartition(topic, 0), new OffsetAndMetadata(i));
                    producer.sendOffsetsToTransaction(offsets, new ConsumerGroupMetadata("group-" + n));
                }
                if (i % 5 == 4) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                    expected.addAll(sent);
                }
            }
        }
    }

    private static void check(String bootstrap, String topic, Set<String> expected) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        Set<String> missing = new HashSet<>(expected);
        int surplus = 0;
        try (KafkaConsumer<String, String> consumer =
            new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.assign(IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p)).toList());
            long until = System.nanoTime() + 30_000_000_000L;
            while (!missing.isEmpty() && System.nanoTime() < until) {
                for (ConsumerRecord<String, String> record : consumer.poll(java.time.Duration.ofMillis(200))) {
                    surplus += missing.remove(record.value()) ? 0 : 1;
                }
            }
        }
        boolean right = missing.isEmpty() && surplus == 0;
        System.out.println((right ? "PASS" : "FAIL") + " committed records: " + expected.size() + " expected, "
            + missing.size() + " missing, " + surplus + " surplus");
    }
}
