#!/usr/bin/env python3
"""A sink in Python: each record as a line of JSON in a file of its task, safe on disk before its offset is committed."""

import decimal
import json
import os

from aqueduct_plugin import DataError, Key, RetriableError, Sink, serve


def plain(value):
    """What JSON has no form for, as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise DataError(f"a {type(value).__name__} cannot be written as JSON")


class JsonSink(Sink):
    class_name = "org.example.python.JsonSinkConnector"
    version = "1.0"
    config = [
        Key("folder", required=True, documentation="Folder of the files, one for each task.", non_empty=True),
        Key("largest.value", "INT", default=1 << 20, at_least=1,
            documentation="A record whose line is longer is refused."),
    ]

    @classmethod
    def validate(cls, config):
        folder = config.get("folder")
        if folder and not os.path.isdir(os.path.dirname(os.path.abspath(folder))):
            return {"folder": ["neither the folder nor the one above it is there"]}
        return {}

    @classmethod
    def task_configs(cls, config, settings, max_tasks):
        return [settings for _ in range(max_tasks)]

    def start(self, config, context):
        self.config, self.context = config, context
        os.makedirs(config["folder"], exist_ok=True)
        path = os.path.join(config["folder"], f"{context.connector}-{context.task}.jsonl")
        self.file = open(path, "a", encoding="utf-8")

    def put(self, records):
        refused = []
        for record in records:
            line = json.dumps(
                {"topic": record.topic, "partition": record.partition, "offset": record.offset, "key": record.key,
                 "value": record.value, "headers": record.headers}, default=plain)
            if len(line) > self.config["largest.value"]:
                error = DataError(f"the line would be {len(line)} characters long")
                if not self.context.can_report:
                    raise error
                refused.append((record, error))
                continue
            try:
                self.file.write(line + "\n")
            except OSError as error:
                raise RetriableError(f"the file cannot be written: {error}") from error
        return refused

    def flush(self):
        self.file.flush()
        os.fsync(self.file.fileno())

    def stop(self):
        if hasattr(self, "file"):
            self.file.close()


serve(JsonSink)
