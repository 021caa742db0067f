// franz-go: main BOOTSTRAP. Prints PASS or FAIL for each check.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var bootstrap string

// limit is how long a busy machine may take for one thing.
const limit = time.Minute

func client(options ...kgo.Opt) (*kgo.Client, error) {
	patient := []kgo.Opt{
		kgo.SeedBrokers(bootstrap), kgo.DialTimeout(limit), kgo.RequestTimeoutOverhead(limit),
		kgo.MetadataMinAge(100 * time.Millisecond),
	}
	return kgo.NewClient(append(patient, options...)...)
}

func withAdmin(use func(context.Context, *kadm.Client) error) error {
	cl, err := client()
	if err != nil {
		return err
	}
	defer cl.Close()
	// Some of them wait for several things.
	ctx, cancel := context.WithTimeout(context.Background(), 3*limit)
	defer cancel()
	admin := kadm.NewClient(cl)
	admin.SetTimeoutMillis(int32(limit.Milliseconds()))
	return use(ctx, admin)
}

// create makes a topic and waits until its partitions have leaders.
func create(topic string, partitions int32) error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		if _, err := admin.CreateTopic(ctx, partitions, 1, nil, topic); err != nil {
			return err
		}
		return waitLeaders(ctx, admin, topic, int(partitions))
	})
}

// waitLeaders waits until the topic has so many partitions, all of them with leaders.
func waitLeaders(ctx context.Context, admin *kadm.Client, topic string, partitions int) error {
	return wait(fmt.Sprintf("%d leaders of %s", partitions, topic), func() bool {
		topics, err := admin.ListTopics(ctx, topic)
		if err != nil || topics[topic].Err != nil || len(topics[topic].Partitions) != partitions {
			return false
		}
		for _, partition := range topics[topic].Partitions {
			if partition.Err != nil || partition.Leader < 0 {
				return false
			}
		}
		return true
	})
}

func numbered(prefix string, count int) []string {
	values := make([]string, count)
	for i := range values {
		values[i] = fmt.Sprintf("%s%03d", prefix, i)
	}
	return values
}

// produce sends the values and gives the offsets that they got.
func produce(topic string, values []string, options ...kgo.Opt) ([]int64, error) {
	cl, err := client(append([]kgo.Opt{kgo.DefaultProduceTopic(topic)}, options...)...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	records := make([]*kgo.Record, len(values))
	for i, value := range values {
		headers := []kgo.RecordHeader{{Key: "h", Value: []byte("1")}, {Key: "h", Value: []byte("2")}}
		records[i] = &kgo.Record{Key: []byte(value), Value: []byte(value), Headers: headers}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	offsets := make([]int64, len(records))
	for i, record := range records {
		offsets[i] = record.Offset
	}
	return offsets, nil
}

func read(cl *kgo.Client, count int) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := cl.PollFetches(ctx)
		if errs := fetches.Errors(); len(errs) > 0 {
			return nil, fmt.Errorf("after %d of %d records: %v", len(records), count, errs)
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

func expect[T any](what string, actual, expected T) error {
	if got, want := fmt.Sprint(actual), fmt.Sprint(expected); got != want {
		return fmt.Errorf("%s: %s instead of %s", what, got, want)
	}
	return nil
}

func wait(what string, done func() bool) error {
	for end := time.Now().Add(limit); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("waited in vain for %s", what)
		}
	}
	return nil
}

func producesInEveryCodec() error {
	if err := create("go.codecs", 1); err != nil {
		return err
	}
	codecs := []kgo.CompressionCodec{
		kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression(),
	}
	next := int64(0)
	for _, codec := range codecs {
		for _, idempotent := range []bool{true, false} {
			options := []kgo.Opt{kgo.ProducerBatchCompression(codec)}
			if !idempotent {
				options = append(options, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck()))
			}
			offsets, err := produce("go.codecs", numbered("v", 20), options...)
			if err != nil {
				return err
			}
			if err := expect("first and last offset", []int64{offsets[0], offsets[19]}, []int64{next, next + 19}); err != nil {
				return err
			}
			next += 20
		}
	}
	cl, err := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"go.codecs": {0: kgo.NewOffset().At(5)}}))
	if err != nil {
		return err
	}
	defer cl.Close()
	records, err := read(cl, int(next)-5)
	if err != nil {
		return err
	}
	for i, record := range records {
		if record.Offset != int64(i+5) || string(record.Value) != fmt.Sprintf("v%03d", (i+5)%20) || len(record.Headers) != 2 {
			return fmt.Errorf("record %d is %+v", i+5, record)
		}
	}
	return nil
}

// member is a consumer of a group that commits what it read.
type member struct {
	cl     *kgo.Client
	mu     sync.Mutex
	owned  map[int32]bool
	values []string
	err    error
	done   chan struct{}
	stop   context.CancelFunc
}

func join(topic, group string) (*member, error) {
	m := &member{owned: map[int32]bool{}, done: make(chan struct{})}
	change := func(owns bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
			m.mu.Lock()
			defer m.mu.Unlock()
			for _, partition := range partitions[topic] {
				if owns {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	var err error
	m.cl, err = client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.BlockRebalanceOnPoll(),
		kgo.HeartbeatInterval(300*time.Millisecond), kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)), kgo.OnPartitionsLost(change(false)))
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	go m.run(ctx)
	return m, nil
}

func (m *member) run(ctx context.Context) {
	defer close(m.done)
	for ctx.Err() == nil {
		fetches := m.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			break
		}
		records := fetches.Records()
		if err := m.cl.CommitRecords(ctx, records...); err != nil && ctx.Err() == nil {
			m.err = err
			break
		}
		m.mu.Lock()
		for _, record := range records {
			m.values = append(m.values, string(record.Value))
		}
		m.mu.Unlock()
		m.cl.AllowRebalance()
	}
	m.cl.CloseAllowingRebalance()
}

func (m *member) owns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.owned)
}

func (m *member) read() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.values)
}

func (m *member) leave() error {
	m.stop()
	<-m.done
	return m.err
}

func all(members ...*member) []string {
	var values []string
	for _, m := range members {
		values = append(values, m.read()...)
	}
	return values
}

func groupOfThreeRebalancesCommitsAndResumes() error {
	if err := create("go.group", 6); err != nil {
		return err
	}
	var members []*member
	for range 3 {
		m, err := join("go.group", "go-group")
		if err != nil {
			return err
		}
		members = append(members, m)
	}
	a, b, c := members[0], members[1], members[2]
	round := func(prefix string, count int, seen func() int) error {
		before := seen()
		if _, err := produce("go.group", numbered(prefix, count)); err != nil {
			return err
		}
		return wait(prefix, func() bool { return seen() == before+count })
	}
	return errors.Join(
		wait("2 partitions each", func() bool { return a.owns() == 2 && b.owns() == 2 && c.owns() == 2 }),
		round("first", 60, func() int { return len(all(a, b, c)) }),
		b.leave(),
		wait("3 partitions each", func() bool { return a.owns() == 3 && c.owns() == 3 }),
		round("second", 60, func() int { return len(all(a, b, c)) }),
		withAdmin(func(ctx context.Context, admin *kadm.Client) error {
			groups, err := admin.DescribeGroups(ctx, "go-group")
			if err != nil {
				return err
			}
			return expect("group", []any{groups["go-group"].State, len(groups["go-group"].Members)}, []any{"Stable", 2})
		}),
		a.leave(),
		c.leave(),
		func() error {
			last, err := join("go.group", "go-group")
			if err != nil {
				return err
			}
			if err := wait("all partitions", func() bool { return last.owns() == 6 }); err != nil {
				return err
			}
			if err := round("third", 6, func() int { return len(last.read()) }); err != nil {
				return err
			}
			values := last.read()
			slices.Sort(values)
			return errors.Join(expect("what is read after coming back", values, numbered("third", 6)), last.leave())
		}(),
	)
}

func topicsAndConfigs() error {
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		value := "360000"
		if _, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": &value}, "go.admin"); err != nil {
			return err
		}
		if _, err := admin.CreateTopic(ctx, 1, 1, nil, "go.admin"); !errors.Is(err, kerr.TopicAlreadyExists) {
			return fmt.Errorf("creating it again: %v", err)
		}
		if _, err := admin.UpdatePartitions(ctx, 3, "go.admin"); err != nil {
			return err
		}
		if err := waitLeaders(ctx, admin, "go.admin", 3); err != nil {
			return err
		}
		policy := "compact"
		changes := []kadm.AlterConfig{
			{Op: kadm.DeleteConfig, Name: "retention.ms"},
			{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: &policy},
		}
		if altered, err := admin.AlterTopicConfigs(ctx, changes, "go.admin"); err != nil || altered[0].Err != nil {
			return fmt.Errorf("altering: %v %v", err, altered)
		}
		// A busy broker of Apache Kafka describes what it has not read back yet.
		changed := func() bool {
			configs, err := admin.DescribeTopicConfigs(ctx, "go.admin")
			if err != nil {
				return false
			}
			found := map[string]string{}
			for _, config := range configs[0].Configs {
				found[config.Key] = config.MaybeValue()
			}
			return found["retention.ms"] == "604800000" && found["cleanup.policy"] == "delete,compact"
		}
		if err := wait("the changed configs", changed); err != nil {
			return err
		}
		if _, err := admin.DeleteTopic(ctx, "go.admin"); err != nil {
			return err
		}
		return wait("the topic is gone", func() bool {
			topics, err := admin.ListTopics(ctx)
			return err == nil && !topics.Has("go.admin")
		})
	})
}

func groupsOffsetsAndRecords() error {
	if err := create("go.offsets", 1); err != nil {
		return err
	}
	if _, err := produce("go.offsets", numbered("v", 10)); err != nil {
		return err
	}
	return withAdmin(func(ctx context.Context, admin *kadm.Client) error {
		offsets := kadm.Offsets{}
		offsets.AddOffset("go.offsets", 0, 4, -1)
		if err := admin.CommitAllOffsets(ctx, "go-offsets", offsets); err != nil {
			return err
		}
		fetched, err := admin.FetchOffsets(ctx, "go-offsets")
		if err != nil {
			return err
		}
		if err := expect("committed", fetched["go.offsets"][0].At, 4); err != nil {
			return err
		}
		lag, err := admin.Lag(ctx, "go-offsets")
		if err != nil {
			return err
		}
		if err := expect("lag", lag["go-offsets"].Lag.Total(), 6); err != nil {
			return err
		}
		before := kadm.Offsets{}
		before.AddOffset("go.offsets", 0, 7, -1)
		if _, err := admin.DeleteRecords(ctx, before); err != nil {
			return err
		}
		start, err := admin.ListStartOffsets(ctx, "go.offsets")
		if err != nil {
			return err
		}
		end, err := admin.ListEndOffsets(ctx, "go.offsets")
		if err != nil {
			return err
		}
		got := []int64{start["go.offsets"][0].Offset, end["go.offsets"][0].Offset}
		if err := expect("start and end", got, []int64{7, 10}); err != nil {
			return err
		}
		listed, err := admin.ListGroups(ctx)
		if err != nil {
			return err
		}
		if !slices.Contains(listed.Groups(), "go-offsets") {
			return fmt.Errorf("go-offsets is not listed: %v", listed.Groups())
		}
		if _, err := admin.DeleteGroup(ctx, "go-offsets"); err != nil {
			return err
		}
		if _, err := admin.DeleteGroup(ctx, "go-offsets"); !errors.Is(err, kerr.GroupIDNotFound) {
			return fmt.Errorf("deleting it again: %v", err)
		}
		brokers, err := admin.BrokerMetadata(ctx)
		if err != nil {
			return err
		}
		return expect("cluster", []any{brokers.Controller, len(brokers.Cluster)}, []any{1, 22})
	})
}

func main() {
	bootstrap = os.Args[1]
	failed := false
	for _, check := range []struct {
		name string
		run  func() error
	}{
		{"produces_in_every_codec", producesInEveryCodec},
		{"group_of_three_rebalances_commits_and_resumes", groupOfThreeRebalancesCommitsAndResumes},
		{"topics_and_configs", topicsAndConfigs},
		{"groups_offsets_and_records", groupsOffsetsAndRecords},
	} {
		start := time.Now()
		if err := check.run(); err != nil {
			failed = true
			fmt.Printf("FAIL %s: %s\n", check.name, strings.ReplaceAll(err.Error(), "\n", "; "))
		} else {
			fmt.Printf("PASS %s %.1fs\n", check.name, time.Since(start).Seconds())
		}
	}
	if failed {
		os.Exit(1)
	}
}
