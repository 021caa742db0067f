import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Prints what a topic has at its start, to its end, however long that takes. Arguments: servers, topic, isolation level.
 * Partition, headers, key and value of a record are separated by 1f, headers from each other by 1e, records are ended by 1d.
 */
public final class ReadTopic {
    private static final long LIMIT_NANOS = 60_000_000_000L;

    public static void main(String[] args) throws Exception {
        String topic = args[1];
        Map<String, Object> settings = Map.of("bootstrap.servers", args[0], "isolation.level", args[2],
            "enable.auto.commit", "false", "auto.offset.reset", "earliest", "allow.auto.create.topics", "false");
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(settings, bytes, bytes)) {
            List<TopicPartition> partitions = new ArrayList<>();
            consumer.partitionsFor(topic).forEach(found -> partitions.add(new TopicPartition(topic, found.partition())));
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            // With read_committed that is where the first open transaction begins.
            Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
            long last = System.nanoTime();
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    if (record.offset() < ends.get(new TopicPartition(topic, record.partition()))) {
                        print(out, record);
                    }
                    last = System.nanoTime();
                }
                if (System.nanoTime() - last > LIMIT_NANOS) {
                    throw new IllegalStateException("no more records come; the end is " + ends);
                }
            }
        }
        out.flush();
    }

    private static void print(PrintStream out, ConsumerRecord<byte[], byte[]> record) {
        List<String> headers = new ArrayList<>();
        for (Header header : record.headers()) {
            headers.add(header.key() + ":" + text(header.value()));
        }
        out.print(record.partition() + "\u001f" + String.join("\u001e", headers) + "\u001f" + text(record.key()) + "\u001f"
            + text(record.value()) + "\u001d");
    }

    private static String text(byte[] bytes) {
        return bytes == null ? "null" : new String(bytes, StandardCharsets.UTF_8);
    }
}
