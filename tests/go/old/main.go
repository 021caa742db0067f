// sarama and kafka-go with the requests of old Kafka versions: old BOOTSTRAP. Prints PASS or FAIL for each check.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/IBM/sarama"
	"github.com/segmentio/kafka-go"
)

var bootstrap string

const count = 60

// limit is how long a busy machine may take for one thing.
const limit = time.Minute

func value(i int) string { return fmt.Sprintf("v%03d", i) }

// all says whether each value was read once.
func all(values []string) error {
	sort.Strings(values)
	for i := range count {
		if i >= len(values) || values[i] != value(i) {
			return fmt.Errorf("read %d values: %v", len(values), values)
		}
	}
	if len(values) != count {
		return fmt.Errorf("read %d values instead of %d", len(values), count)
	}
	return nil
}

// handler of a sarama group: commits what it reads, and ends when it has all. Each partition is read in a goroutine of its own.
type handler struct {
	lock   sync.Mutex
	values []string
	stop   context.CancelFunc
}

func (h *handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (h *handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }
func (h *handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			session.MarkMessage(message, "")
			if h.add(string(message.Value)) == count {
				h.stop()
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

// add keeps a value and says how many there are.
func (h *handler) add(value string) int {
	h.lock.Lock()
	defer h.lock.Unlock()
	h.values = append(h.values, value)
	return len(h.values)
}

func withSarama(version sarama.KafkaVersion) error {
	config := sarama.NewConfig()
	config.Version = version
	config.Producer.Return.Successes = true
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	// A busy machine takes longer than the usual attempts to answer, to choose leaders and to make the topic of the groups'
	// offsets: a minute for each.
	config.Net.ReadTimeout = 2 * limit
	config.Admin.Timeout = limit
	config.Admin.Retry.Max = 600
	config.Metadata.Retry.Max = 240
	config.Producer.Timeout = limit
	config.Producer.Retry.Max = 600
	config.Consumer.Group.Session.Timeout = limit
	config.Consumer.Group.Rebalance.Retry.Max = 30
	config.Consumer.Offsets.Retry.Max = 30
	codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4}
	if version.IsAtLeast(sarama.V2_1_0_0) {
		codecs = append(codecs, sarama.CompressionZSTD)
	}
	name := strings.ReplaceAll(version.String(), ".", "-")
	topic, group := "sarama-"+name, "sarama-group-"+name
	admin, err := sarama.NewClusterAdmin([]string{bootstrap}, config)
	if err != nil {
		return fmt.Errorf("admin: %w", err)
	}
	defer admin.Close()
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1}, false); !errors.Is(err, sarama.ErrTopicAlreadyExists) {
		return fmt.Errorf("create again: %v", err)
	}
	if err := admin.CreatePartitions(topic, 2, nil, false); version.IsAtLeast(sarama.V1_0_0_0) && err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	for i, codec := range codecs {
		config.Producer.Compression = codec
		producer, err := sarama.NewSyncProducer([]string{bootstrap}, config)
		if err != nil {
			return fmt.Errorf("producer: %w", err)
		}
		for n := i; n < count; n += len(codecs) {
			message := &sarama.ProducerMessage{Topic: topic, Key: sarama.StringEncoder(value(n)), Value: sarama.StringEncoder(value(n))}
			if version.IsAtLeast(sarama.V0_11_0_0) {
				message.Headers = []sarama.RecordHeader{{Key: []byte("h"), Value: []byte("1")}}
			}
			if _, _, err := producer.SendMessage(message); err != nil {
				return fmt.Errorf("produce %v: %w", codec, err)
			}
		}
		if err := producer.Close(); err != nil {
			return err
		}
	}
	member, err := sarama.NewConsumerGroup([]string{bootstrap}, group, config)
	if err != nil {
		return fmt.Errorf("group: %w", err)
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*limit)
	defer stop()
	h := &handler{stop: stop}
	for ctx.Err() == nil {
		if err := member.Consume(ctx, []string{topic}, h); err != nil && ctx.Err() == nil {
			return fmt.Errorf("consume: %w", err)
		}
	}
	if err := member.Close(); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	if err := all(h.values); err != nil {
		return err
	}
	offsets, err := admin.ListConsumerGroupOffsets(group, nil)
	if err != nil {
		return fmt.Errorf("offsets: %w", err)
	}
	total := int64(0)
	for _, block := range offsets.Blocks[topic] {
		if block.Offset > 0 {
			total += block.Offset
		}
	}
	if total != count {
		return fmt.Errorf("%d offsets are committed", total)
	}
	// What describes configs in older versions is not served any more, by Apache Kafka neither.
	if !version.IsAtLeast(sarama.V1_1_0_0) {
		return admin.DeleteTopic(topic)
	}
	entries, err := admin.DescribeConfig(sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"retention.ms"}})
	if err != nil || len(entries) != 1 || entries[0].Value != "604800000" {
		return fmt.Errorf("configs: %v %v", entries, err)
	}
	groups, err := admin.DescribeConsumerGroups([]string{group})
	if err != nil || groups[0].State != "Empty" {
		return fmt.Errorf("groups: %v %v", groups, err)
	}
	if err := admin.DeleteConsumerGroup(group); err != nil {
		return fmt.Errorf("delete group: %w", err)
	}
	return admin.DeleteTopic(topic)
}

func withKafkaGo() error {
	ctx, stop := context.WithTimeout(context.Background(), 5*limit)
	defer stop()
	topic := "kafka-go"
	conn, err := kafka.Dial("tcp", bootstrap)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.CreateTopics(kafka.TopicConfig{Topic: topic, NumPartitions: 3, ReplicationFactor: 1}); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	transport := &kafka.Transport{DialTimeout: limit}
	for i, codec := range []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd} {
		writer := &kafka.Writer{Addr: kafka.TCP(bootstrap), Topic: topic, Compression: codec, RequiredAcks: kafka.RequireAll, BatchTimeout: 10 * time.Millisecond,
			Transport: transport, MaxAttempts: 60, ReadTimeout: limit, WriteTimeout: limit}
		var messages []kafka.Message
		for n := i; n < count; n += 5 {
			messages = append(messages, kafka.Message{Key: []byte(value(n)), Value: []byte(value(n)), Headers: []kafka.Header{{Key: "h", Value: []byte("1")}}})
		}
		var err error
		// The topic's metadata may not be there yet.
		for range 600 {
			err = writer.WriteMessages(ctx, messages...)
			if !errors.Is(err, kafka.UnknownTopicOrPartition) && !errors.Is(err, kafka.LeaderNotAvailable) {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if err != nil {
			return fmt.Errorf("write %v: %w", codec, err)
		}
		if err := writer.Close(); err != nil {
			return err
		}
	}
	read := func(want int) ([]string, error) {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{bootstrap}, GroupID: "kafka-go", Topic: topic, StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond,
			SessionTimeout: limit, RebalanceTimeout: limit})
		var values []string
		joined, known := int64(0), map[string]bool{}
		for len(values) < want {
			message, err := reader.FetchMessage(ctx)
			if err != nil {
				return nil, fmt.Errorf("read %d: %w", len(values), err)
			}
			joined += reader.Stats().Rebalances
			// After five seconds without an answer it joins again, and then reads again what it has not committed.
			if joined == 1 || !known[string(message.Value)] {
				values = append(values, string(message.Value))
				known[string(message.Value)] = true
			}
			for err := reader.CommitMessages(ctx, message); err != nil; err = reader.CommitMessages(ctx, message) {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("commit: %w", err)
				}
			}
		}
		return values, reader.Close()
	}
	// A second member goes on where the first stopped.
	first, err := read(count / 3)
	if err != nil {
		return err
	}
	second, err := read(count - count/3)
	if err != nil {
		return err
	}
	if err := all(append(first, second...)); err != nil {
		return err
	}
	return conn.DeleteTopics(topic)
}

func main() {
	bootstrap = os.Args[1]
	failed := false
	check := func(name string, run func() error) {
		start := time.Now()
		if err := run(); err != nil {
			failed = true
			fmt.Printf("FAIL %s: %s\n", name, strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Printf("PASS %s %.1fs\n", name, time.Since(start).Seconds())
		}
	}
	for _, version := range []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V1_1_0_0, sarama.V2_1_0_0, sarama.V2_8_0_0, sarama.V3_6_0_0, sarama.MaxVersion} {
		check("sarama_"+version.String(), func() error { return withSarama(version) })
	}
	check("kafka_go", withKafkaGo)
	if failed {
		os.Exit(1)
	}
}
