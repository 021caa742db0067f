import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * A Kafka Streams application, and what feeds and reads it: {@code run BOOTSTRAP STATE_DIR}, {@code create BOOTSTRAP},
 * {@code feed BOOTSTRAP FROM COUNT}, {@code read BOOTSTRAP TOPIC}, {@code await BOOTSTRAP TOPIC COUNT}.
 *
 * <p>Clicks of users are joined with the table of users, counted by the user's region through a repartition topic, and
 * counted by user in windows of a minute; all exactly once, with stores that change logs restore.
 */
public final class StreamsApp {
    private static final int USERS = 7;
    private static final int PARTITIONS = 2;
    /** The time of the first click, at the start of a minute; of late, since old records are not kept. */
    private static final long START = Long.parseLong(System.getenv("STREAMS_START"));

    /** Replicas of each topic. */
    private static final short REPLICAS = Short.parseShort(System.getenv().getOrDefault("STREAMS_REPLICAS", "1"));

    public static void main(String[] args) throws Exception {
        switch (args[0]) {
            case "create" -> create(args[1]);
            case "feed" -> feed(args[1], Integer.parseInt(args[2]), Integer.parseInt(args[3]));
            case "read" -> read(args[1], args[2]);
            case "await" -> await(args[1], args[2], Integer.parseInt(args[3]));
            case "run" -> run(args[1], args[2]);
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    private static void run(String bootstrap, String dir) throws Exception {
        StreamsBuilder builder = new StreamsBuilder();
        Consumed<String, String> strings = Consumed.with(Serdes.String(), Serdes.String());
        KTable<String, String> users = builder.table("users", strings);
        KStream<String, String> clicks = builder.stream("clicks", strings);
        KStream<String, String> joined = clicks.join(users, (page, region) -> page + "@" + region);
        joined.to("joined", Produced.with(Serdes.String(), Serdes.String()));
        joined.map((user, value) -> KeyValue.pair(value.substring(value.indexOf('@') + 1), user))
            .groupByKey(Grouped.with("regions", Serdes.String(), Serdes.String()))
            .count(Materialized.as("regions-count"))
            .toStream().mapValues(String::valueOf)
            .to("regions", Produced.with(Serdes.String(), Serdes.String()));
        clicks.groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
            .windowedBy(TimeWindows.ofSizeAndGrace(Duration.ofMinutes(1), Duration.ofDays(1)))
            .count(Materialized.as("windows-count"))
            .toStream((window, count) -> window.key() + "/" + (window.window().start() - START) / 60_000)
            .mapValues(String::valueOf)
            .to("windows", Produced.with(Serdes.String(), Serdes.String()));
        Properties config = new Properties();
        config.putAll(Map.of(
            "application.id", "streams-app", "bootstrap.servers", bootstrap, "state.dir", dir,
            "processing.guarantee", "exactly_once_v2", "commit.interval.ms", 100, "replication.factor", (int) REPLICAS,
            "statestore.cache.max.bytes", 0, "consumer.session.timeout.ms", 6000));
        config.putAll(Map.of("consumer.heartbeat.interval.ms", 1000, "consumer.auto.offset.reset", "earliest",
            "num.stream.threads", 1));
        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            System.out.println("failed " + error);
            failed.countDown();
            return org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse
                .SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> System.out.println("state " + now));
        streams.setGlobalStateRestoreListener(new StateRestoreListener() {
            @Override
            public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            }

            @Override
            public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
            }

            @Override
            public void onRestoreEnd(TopicPartition partition, String store, long total) {
                System.out.println("restored " + store + " " + partition.partition() + " " + total);
            }
        });
        streams.start();
        failed.await();
        streams.close(Duration.ofSeconds(10));
        System.exit(1);
    }

    private static void create(String bootstrap) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            List<NewTopic> topics = new ArrayList<>();
            for (String name : List.of("clicks", "users", "joined", "regions", "windows")) {
                topics.add(new NewTopic(name, PARTITIONS, REPLICAS));
            }
            admin.createTopics(topics).all().get();
        }
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            for (int user = 0; user < USERS; user++) {
                producer.send(new ProducerRecord<>("users", null, START, "user" + user, "region" + user % 3));
            }
        }
    }

    /** Clicks numbered from {@code from}, ten seconds apart for each user. */
    private static void feed(String bootstrap, int from, int count) {
        try (KafkaProducer<String, String> producer = producer(bootstrap)) {
            for (int i = from; i < from + count; i++) {
                long time = START + i / USERS * 10_000L;
                producer.send(new ProducerRecord<>("clicks", null, time, "user" + i % USERS, "page" + i));
            }
        }
    }

    private static KafkaProducer<String, String> producer(String bootstrap) {
        return new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap), new StringSerializer(), new StringSerializer());
    }

    /** How many records transactions have committed: waits for them for at most ten seconds. */
    private static void await(String bootstrap, String topic, int count) throws InterruptedException {
        int seen = 0;
        Instant limit = Instant.now().plusSeconds(10);
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap)) {
            while (!consumer.listTopics().containsKey(topic) && Instant.now().isBefore(limit)) {
                Thread.sleep(200);
            }
            List<TopicPartition> partitions = partitions(topic);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            // What comes too much comes soon.
            Instant end = limit;
            while (Instant.now().isBefore(end)) {
                boolean before = seen < count;
                seen += consumer.poll(Duration.ofMillis(100)).count();
                if (before && seen >= count) {
                    end = Instant.now().plusMillis(500);
                }
            }
        }
        System.out.println(seen);
    }

    private static KafkaConsumer<String, String> consumer(String bootstrap) {
        Map<String, Object> config = Map.of("bootstrap.servers", bootstrap, "isolation.level", "read_committed",
            "auto.offset.reset", "earliest", "enable.auto.commit", false, "allow.auto.create.topics", false);
        return new KafkaConsumer<>(config, new StringDeserializer(), new StringDeserializer());
    }

    private static List<TopicPartition> partitions(String topic) {
        List<TopicPartition> partitions = new ArrayList<>();
        for (int partition = 0; partition < PARTITIONS; partition++) {
            partitions.add(new TopicPartition(topic, partition));
        }
        return partitions;
    }

    /** What transactions have committed, one line for each record, up to the last stable offset of this moment. */
    private static void read(String bootstrap, String topic) {
        try (KafkaConsumer<String, String> consumer = consumer(bootstrap)) {
            if (!consumer.listTopics().containsKey(topic)) {
                return;
            }
            List<TopicPartition> partitions = partitions(topic);
            consumer.assign(partitions);
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            consumer.seekToBeginning(partitions);
            Instant limit = Instant.now().plusSeconds(30);
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (Instant.now().isAfter(limit)) {
                    throw new IllegalStateException("cannot read to " + ends);
                }
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    System.out.println(record.partition() + " " + record.key() + " " + record.value());
                }
            }
        }
    }
}
