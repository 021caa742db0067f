#!/usr/bin/env python3
"""A source in Python: every line of the files in a folder, one task for each share of the files."""

import os
import time

from aqueduct_plugin import (ConfigError, Key, Source, SourceRecord, schema, serve, struct_schema, timestamp_schema)

LINE = struct_schema("org.example.python.Line", number=schema("int64"), text=schema("string"),
                     read_at=timestamp_schema())


class LinesSource(Source):
    class_name = "org.example.python.LinesSourceConnector"
    version = "1.0"
    config = [
        Key("path", required=True, documentation="Folder whose files are read.", non_empty=True),
        Key("topic", required=True, documentation="Topic that lines go to.", non_empty=True),
        Key("suffix", default=".txt", documentation="Only files whose names end like this are read."),
        Key("batch.lines", "INT", default=500, at_least=1, documentation="Lines taken at once."),
    ]

    @classmethod
    def validate(cls, config):
        path = config.get("path")
        if path and not os.path.isdir(path):
            return {"path": ["there is no such folder on this worker"]}
        return {}

    divided = None
    """The files as they were when they were shared out."""

    @classmethod
    def _files(cls, config):
        return sorted(name for name in os.listdir(config["path"]) if name.endswith(config["suffix"]))

    @classmethod
    def task_configs(cls, config, settings, max_tasks):
        cls.divided = cls._files(config)
        count = max(1, min(max_tasks, len(cls.divided)))
        return [{**settings, "files": "\n".join(cls.divided[n::count])} for n in range(count)]

    @classmethod
    def tasks_changed(cls, config):
        return cls.divided is not None and cls._files(config) != cls.divided

    def start(self, config, context):
        if not os.path.isdir(config["path"]):
            raise ConfigError("path", "there is no such folder on this worker")
        self.config = config
        self.files = [name for name in config.get("files", "").split("\n") if name]
        stored = context.offsets([{"file": name} for name in self.files])
        self.places = {name: (o["position"], o["lines"]) if o else (0, 0) for name, o in zip(self.files, stored)}

    def poll(self):
        records = []
        for name in self.files:
            position, number = self.places[name]
            with open(os.path.join(self.config["path"], name), "rb") as file:
                file.seek(position)
                for line in file:
                    if not line.endswith(b"\n") or len(records) >= self.config["batch.lines"]:
                        break
                    position, number = position + len(line), number + 1
                    text = line.rstrip(b"\r\n").decode("utf-8", "replace")
                    records.append(SourceRecord(
                        self.config["topic"],
                        {"number": number, "text": text, "read_at": int(time.time() * 1000)},
                        name,
                        value_schema=LINE,
                        key_schema=schema("string"),
                        headers=[("plugin", "python")],
                        source_partition={"file": name},
                        source_offset={"position": position, "lines": number},
                    ))
            self.places[name] = (position, number)
        return records


serve(LinesSource)
