"""Produces or consumes records with librdkafka; prints MiB a second.

usage: librdkafka.py produce|consume BOOTSTRAP TOPIC RECORDS SIZE ACKS CODEC BATCH_BYTES
"""

import os
import sys
import time

from confluent_kafka import Consumer, Producer

verb, bootstrap, topic, records, size = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])
acks, codec, batch = sys.argv[6], sys.argv[7], int(sys.argv[8])

if verb == "produce":
    producer = Producer({
        "bootstrap.servers": bootstrap,
        "acks": acks,
        "linger.ms": 5,
        "batch.size": batch,
        "compression.type": codec,
        "queue.buffering.max.messages": 500000,
    })
    failed = []
    on_delivery = lambda error, message: failed.append(error) if error else None
    payload = os.urandom(size)
    start = time.monotonic()
    for _ in range(records):
        while True:
            try:
                producer.produce(topic, payload, on_delivery=on_delivery)
                break
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
    producer.flush(120)
    seconds = time.monotonic() - start
    if failed:
        sys.exit(f"{len(failed)} records failed, the first with {failed[0]}")
else:
    consumer = Consumer({
        "bootstrap.servers": bootstrap,
        "group.id": topic,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
    })
    consumer.subscribe([topic])
    seen, start = 0, None
    deadline = time.monotonic() + 120
    while seen < records:
        batch = consumer.consume(10000, 1.0)
        if time.monotonic() > deadline:
            sys.exit(f"only {seen} of {records} records came")
        for message in batch:
            if message.error():
                sys.exit(str(message.error()))
        if batch and start is None:
            start = time.monotonic()
        seen += len(batch)
    seconds = time.monotonic() - start
    consumer.close()

print(f"{records * size / 1048576 / max(seconds, 1e-9):.1f}")
