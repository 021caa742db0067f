"""Connectors for Aqueduct in Python, with the standard library alone.

A plugin is an executable whose file name starts with "aqueduct-plugin-", in a folder of the worker's plugin.path:

    #!/usr/bin/env python3
    from aqueduct_plugin import Key, Source, SourceRecord, serve

    class Ticks(Source):
        class_name = "org.example.TicksSource"
        version = "1.0"
        config = [Key("topic", required=True)]

        def start(self, config, context):
            self.topic = config["topic"]
            stored = context.offset({"clock": "main"})
            self.tick = stored["tick"] if stored else 0

        def poll(self):
            self.tick += 1
            return [SourceRecord(self.topic, self.tick, source_partition={"clock": "main"},
                                 source_offset={"tick": self.tick})]

    serve(Ticks)

Standard output belongs to the protocol, so print() goes to standard error here, which is the plugin's log. The protocol
itself is in docs/plugins.md.
"""

import base64
import decimal
import json
import math
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback

PROTOCOL = 1
SDK_VERSION = "1"


class RetriableError(Exception):
    """May pass: the worker tries again."""


class DataError(Exception):
    """The data is wrong; trying again does not help."""


class ConfigError(Exception):
    """The setting `name` is wrong."""

    def __init__(self, name, message):
        super().__init__(message)
        self.name = name


# Values. Without a schema an int is an int64, a float a float64; these say something else.


class Int8(int):
    pass


class Int16(int):
    pass


class Int32(int):
    pass


class Float32(float):
    pass


class Date(int):
    """Days since 1970-01-01."""


class Time(int):
    """Milliseconds since midnight."""


class Timestamp(int):
    """Milliseconds since 1970-01-01T00:00:00Z."""


class Struct(dict):
    """A struct that brings its schema along, inside of data that has none."""

    def __init__(self, schema, values):
        super().__init__(values)
        self.schema = schema


# Schemas are dicts in the form that Kafka's JSON converter writes.

DECIMAL = "org.apache.kafka.connect.data.Decimal"
DATE = "org.apache.kafka.connect.data.Date"
TIME = "org.apache.kafka.connect.data.Time"
TIMESTAMP = "org.apache.kafka.connect.data.Timestamp"


def schema(kind, optional=False, **more):
    """A schema of a type: boolean int8 int16 int32 int64 float double string bytes, or array, map, struct with their parts."""
    return {"type": kind, "optional": optional, **more}


def struct_schema(name, optional=False, **fields):
    """A struct; fields are schemas by name, in order."""
    return schema("struct", optional, name=name, fields=[{**of, "field": field} for field, of in fields.items()])


def array_schema(items, optional=False):
    return schema("array", optional, items=items)


def map_schema(keys, values, optional=False):
    return schema("map", optional, keys=keys, values=values)


def decimal_schema(scale, optional=False):
    return schema("bytes", optional, name=DECIMAL, version=1, parameters={"scale": str(scale)})


def date_schema(optional=False):
    return schema("int32", optional, name=DATE, version=1)


def time_schema(optional=False):
    return schema("int32", optional, name=TIME, version=1)


def timestamp_schema(optional=False):
    return schema("int64", optional, name=TIMESTAMP, version=1)


def _float_out(value):
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(value)


def _bytes_out(value):
    return base64.b64encode(bytes(value)).decode("ascii")


def encode(value, of=None):
    """A value as JSON data: of the schema `of`, or with its types beside it where there is none."""
    if of is None:
        return _encode_tagged(value)
    if value is None:
        return None
    kind = of["type"]
    if kind == "struct":
        return {field["field"]: encode(value.get(field["field"]), field) for field in of["fields"]}
    if kind == "array":
        return [encode(item, of["items"]) for item in value]
    if kind == "map":
        pairs = value.items() if isinstance(value, dict) else value
        return [[encode(k, of["keys"]), encode(v, of["values"])] for k, v in pairs]
    if kind == "bytes":
        return str(value) if of.get("name") == DECIMAL else _bytes_out(value)
    if kind in ("float", "double", "float32", "float64"):
        return _float_out(value)
    if kind == "boolean":
        return bool(value)
    if kind == "string":
        if not isinstance(value, str):
            raise DataError(f"a str was expected, {value!r} was found")
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"an int was expected, {value!r} was found")
    return int(value)


_TAGS = ((Int8, "int8"), (Int16, "int16"), (Int32, "int32"), (Date, "date"), (Time, "time"), (Timestamp, "timestamp"))


def _encode_tagged(value):
    if value is None or isinstance(value, (bool, str)):
        return value
    for kind, tag in _TAGS:
        if isinstance(value, kind):
            return {tag: int(value)}
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return {"float32" if isinstance(value, Float32) else "float64": _float_out(value)}
    if isinstance(value, decimal.Decimal):
        return {"decimal": str(value)}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": _bytes_out(value)}
    if isinstance(value, Struct):
        return {"struct": {"schema": value.schema, "value": encode(value, value.schema)}}
    if isinstance(value, dict):
        return {"map": [[_encode_tagged(k), _encode_tagged(v)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_encode_tagged(item) for item in value]
    raise DataError(f"a value of type {type(value).__name__} cannot be sent")


def _pairs_in(pairs):
    try:
        return dict(pairs)
    except TypeError:  # keys that are lists or maps stay pairs
        return pairs


def decode(data, of=None):
    """A value out of JSON data; the other way of `encode`."""
    if of is None:
        return _decode_tagged(data)
    if data is None:
        return None
    kind, name = of["type"], of.get("name")
    if kind == "struct":
        return {field["field"]: decode(data.get(field["field"]), field) for field in of["fields"]}
    if kind == "array":
        return [decode(item, of["items"]) for item in data]
    if kind == "map":
        return _pairs_in([(decode(k, of["keys"]), decode(v, of["values"])) for k, v in data])
    if kind == "bytes":
        return decimal.Decimal(data) if name == DECIMAL else base64.b64decode(data)
    if kind in ("float", "double", "float32", "float64"):
        return float(data)
    if kind in ("int8", "int16", "int32", "int64"):
        return {DATE: Date, TIME: Time, TIMESTAMP: Timestamp}.get(name, int)(data)
    return data


_UNTAG = {
    "int8": Int8,
    "int16": Int16,
    "int32": Int32,
    "int64": int,
    "float32": lambda v: Float32(float(v)),
    "float64": float,
    "bytes": base64.b64decode,
    "decimal": decimal.Decimal,
    "date": Date,
    "time": Time,
    "timestamp": Timestamp,
    "map": lambda pairs: _pairs_in([(_decode_tagged(k), _decode_tagged(v)) for k, v in pairs]),
    "struct": lambda s: Struct(s["schema"], decode(s["value"], s["schema"])),
}


def _decode_tagged(data):
    if isinstance(data, list):
        return [_decode_tagged(item) for item in data]
    if isinstance(data, dict):
        ((tag, value),) = data.items()
        return _UNTAG[tag](value)
    return data


class SourceRecord:
    """A record from a source. `headers` are (key, value) or (key, value, schema)."""

    def __init__(self, topic, value=None, key=None, *, source_partition, source_offset, value_schema=None,
                 key_schema=None, headers=(), partition=None, timestamp=None):
        self.topic, self.value, self.key = topic, value, key
        self.value_schema, self.key_schema = value_schema, key_schema
        self.headers, self.partition, self.timestamp = headers, partition, timestamp
        self.source_partition, self.source_offset = source_partition, source_offset


class SinkRecord:
    """A record for a sink. `headers` are (key, value) pairs; `timestamp` is in milliseconds."""

    def __init__(self, data, schemas):
        self.key_schema, self.key = self._side(data, "key", schemas)
        self.value_schema, self.value = self._side(data, "value", schemas)
        self.topic, self.partition, self.offset = data["topic"], data.get("partition"), data["offset"]
        self.timestamp, self.timestamp_type = data.get("timestamp"), data.get("timestamp_type")
        self.original_topic, self.original_partition = data["original_topic"], data["original_partition"]
        self.headers = [(h["key"], self._side(h, "value", schemas)[1]) for h in data.get("headers", ())]

    @staticmethod
    def _side(data, name, schemas):
        place = data.get(name + "_schema")
        of = None if place is None else schemas[place]
        return of, decode(data.get(name), of)


class Key:
    """A setting. `kind` is STRING INT LONG SHORT DOUBLE BOOLEAN LIST CLASS or PASSWORD."""

    def __init__(self, name, kind="STRING", *, required=False, default=None, documentation="", **more):
        self.name, self.kind, self.default = name, kind, default
        self.described = {"name": name, "type": kind, "required": required, "documentation": documentation, **more}
        if default is not None:
            self.described["default"] = str(default).lower() if isinstance(default, bool) else str(default)

    def read(self, settings):
        text = settings.get(self.name, self.described.get("default"))
        if text is None:
            return [] if self.kind == "LIST" else None
        if self.kind in ("INT", "LONG", "SHORT"):
            return int(text)
        if self.kind == "DOUBLE":
            return float(text)
        if self.kind == "BOOLEAN":
            return text.strip().lower() == "true"
        if self.kind == "LIST":
            return [item.strip() for item in text.split(",") if item.strip()]
        return text.strip()


class Connector:
    """What sources and sinks have in common. Class methods work for the connector, the others for one of its tasks."""

    class_name = None
    aliases = ()
    version = "1.0"
    config = ()

    @classmethod
    def validate(cls, config):
        """Errors by setting: {"path": ["no such folder"]}. `config` may be incomplete."""
        return {}

    @classmethod
    def task_configs(cls, config, settings, max_tasks):
        """Settings of each task, text to text, at most `max_tasks`. `settings` are the connector's as they were written."""
        return [settings]

    tasks_changed = None
    """Where a class has this class method, it is asked from time to time whether the tasks have to be divided anew."""

    def start(self, config, context):
        """Connects. `config` has every setting of `Connector.config`, read, and the others as text."""

    def stop(self):
        """Releases what the task holds."""

    @classmethod
    def _read(cls, settings):
        config = dict(settings)
        for key in cls.config:
            try:
                config[key.name] = key.read(settings)
            except ValueError:
                config[key.name] = None  # the worker reports it
        return config

    @classmethod
    def _describe(cls, kind):
        return {
            "class": cls.class_name,
            "aliases": list(cls.aliases),
            "type": kind,
            "version": cls.version,
            "config": [key.described for key in cls.config],
            "validates": cls.validate.__func__ is not Connector.validate.__func__,
            "monitors": cls.tasks_changed is not None,
            "alters_offsets": hasattr(cls, "alter_offsets"),
        }


class Source(Connector):
    def poll(self):
        """The next SourceRecords, as a list; an empty one when there are none now. Must not wait longer than half a second."""
        raise NotImplementedError

    def commit(self, partition, offset):
        """Everything up to `offset` of `partition` is in the cluster."""


class Sink(Connector):
    def open(self, partitions):
        """(topic, partition) pairs that are the task's from now on."""

    def put(self, records):
        """Takes SinkRecords, maybe none. May give a list of (record, exception) that it refuses, where `context.can_report`."""
        raise NotImplementedError

    def flush(self):
        """Makes sure of all that `put` took: after this its offsets are committed."""

    def pre_commit(self, offsets):
        """{(topic, partition): offset} that is safe; the offset of the next record to read."""
        self.flush()
        return offsets

    def close(self, partitions):
        """(topic, partition) pairs that are the task's no longer; `pre_commit` was called for them."""


class Context:
    """What the worker offers to a task."""

    def __init__(self, plugin, params):
        self._plugin = plugin
        self.connector, self.task = params.get("connector"), params.get("task")
        self.can_report = params.get("can_report", False)
        self._asked = {}

    def offsets(self, partitions):
        """The offset stored for each source partition, or None."""
        return self._plugin.ask({"ask": "offsets", "partitions": partitions})["offsets"]

    def offset(self, partition):
        return self.offsets([partition])[0]

    def store_offset(self, partition, offset):
        """Stores an offset at once, ahead of any record."""
        self._plugin.ask({"ask": "store_offset", "partition": partition, "offset": offset})

    def alive(self):
        """Tells the worker that a long call is being worked on still."""
        self._plugin.send({"alive": True})

    def pause(self, partitions):
        """Sinks: no more of these (topic, partition) pairs until `resume`. Takes effect when the present call returns."""
        self._asked.setdefault("pause", []).extend(_places(partitions))

    def resume(self, partitions):
        self._asked.setdefault("resume", []).extend(_places(partitions))

    def request_commit(self):
        """Sinks: commit soon."""
        self._asked["request_commit"] = True

    def _take(self):
        asked, self._asked = self._asked, {}
        return asked


def _places(partitions):
    return [{"topic": topic, "partition": partition} for topic, partition in partitions]


def _fault(error):
    kind = {RetriableError: "retriable", DataError: "data", ConfigError: "config"}
    fault = {"kind": next((k for t, k in kind.items() if isinstance(error, t)), "connect")}
    text = str(error)
    if fault["kind"] == "connect":
        text = f"{type(error).__name__}: {text}"
        fault["trace"] = "".join(traceback.format_exception(type(error), error, error.__traceback__)).strip()
    if isinstance(error, ConfigError):
        fault["name"] = error.name
    return {**fault, "message": text}


class _Plugin:
    """Serves the calls of the worker, one after the other."""

    def __init__(self, connectors, output):
        self.connectors = {c.class_name: c for c in connectors}
        self.output = output
        self.max_frame = 16 << 20
        self.inbox = queue.Queue(8)
        self.later = []
        self.cls = self.task = self.context = self.settings = None
        self.ready = []  # encoded records that did not fit the last answer

    def send(self, message):
        data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode("utf-8")
        if len(data) > self.max_frame:
            raise DataError(f"a message of {len(data)} bytes is larger than the worker takes ({self.max_frame})")
        self.output.write(struct.pack(">I", len(data)) + data)
        self.output.flush()

    def ask(self, question):
        self.send(question)
        while True:
            message = self.inbox.get()
            if "answer" not in message:
                self.later.append(message)  # a stop that came in between
                continue
            error = message["answer"].get("error")
            if error:
                raise (RetriableError if error.get("kind") == "retriable" else RuntimeError)(error.get("message"))
            return message["answer"]

    def listen(self):
        """Reads what the worker says. The end of input is its end, or its word that this process is not needed any more:
        that must be seen even while a call hangs, so it is a thread of its own."""
        source = os.fdopen(0, "rb", 1 << 16)
        while True:
            prefix = source.read(4)
            data = source.read(struct.unpack(">I", prefix)[0]) if len(prefix) == 4 else b""
            if not data:
                if os.getpgrp() == os.getpid():
                    os.killpg(0, signal.SIGKILL)  # and what this plugin has started
                os._exit(0)
            self.inbox.put(json.loads(data))

    def run(self):
        threading.Thread(target=self.listen, daemon=True).start()
        while True:
            message = self.later.pop(0) if self.later else self.inbox.get()
            if "call" not in message:
                continue
            try:
                answer = {"ok": getattr(self, "on_" + message["call"], self.unknown)(message.get("params", {}))}
            except Exception as error:  # pylint: disable=broad-except
                fault = _fault(error)
                if fault["kind"] == "connect":
                    print(fault["trace"], file=sys.stderr, flush=True)
                answer = {"error": fault}
            try:
                self.send({"id": message["id"], **answer})
            except DataError as error:
                self.send({"id": message["id"], "error": _fault(error)})

    def unknown(self, _params):
        raise NotImplementedError("this version of the plugin's library does not know the call")

    def on_hello(self, params):
        if PROTOCOL not in params["protocol"]:
            raise RuntimeError(f"this plugin speaks protocol {PROTOCOL}, the worker {params['protocol']}")
        self.max_frame = params.get("max_frame", self.max_frame)
        return {"protocol": PROTOCOL, "sdk": "python " + SDK_VERSION}

    def on_describe(self, _params):
        kinds = [(c, "sink" if issubclass(c, Sink) else "source") for c in self.connectors.values()]
        return {"connectors": [c._describe(kind) for c, kind in kinds]}

    def _class(self, params):
        return self.connectors[params["class"]]

    def on_validate(self, params):
        cls = self._class(params)
        return {"errors": cls.validate(cls._read(params["config"]))}

    def on_start_connector(self, params):
        self.cls, self.settings = self._class(params), params["config"]
        return {}

    def on_task_configs(self, params):
        config = self.cls._read(self.settings)
        configs = self.cls.task_configs(config, self.settings, params["max_tasks"])
        return {"configs": [{k: str(v) for k, v in c.items()} for c in configs]}

    def on_tasks_changed(self, _params):
        return {"changed": bool(self.cls.tasks_changed(self.cls._read(self.settings)))}

    def on_alter_offsets(self, params):
        return {"checked": bool(self._class(params).alter_offsets(params["config"], params["offsets"]))}

    def _start(self, params):
        cls = self._class(params)
        self.task, self.context = cls(), Context(self, params)
        self.task.start(cls._read(params["config"]), self.context)
        return {}

    on_start_source = on_start_sink = _start

    def on_poll(self, params):
        if not self.ready:
            self.ready = [self._encoded(record) for record in self.task.poll() or ()]
        if not self.ready:
            # Nothing there: not to spin, but a word of the worker ends the wait.
            until = time.monotonic() + min(params["wait_ms"] / 1000, 0.05)
            while self.inbox.empty() and time.monotonic() < until:
                time.sleep(0.005)
        schemas, records, size = {}, [], 0
        while self.ready and len(records) < params["max_records"] and size < params["max_bytes"]:
            record, used, length = self.ready.pop(0)
            for name, of, target in used:
                target[name] = schemas.setdefault(of, len(schemas))
            records.append(record)
            size += length
        return {"schemas": [json.loads(of) for of in schemas], "records": records}

    @staticmethod
    def _encoded(record):
        used = []

        def side(target, name, value, of):
            target[name] = encode(value, of)
            if of is not None:
                used.append((name + "_schema", json.dumps(of), target))

        data = {"topic": record.topic, "source_partition": record.source_partition,
                "source_offset": record.source_offset}
        side(data, "key", record.key, record.key_schema)
        side(data, "value", record.value, record.value_schema)
        if record.partition is not None:
            data["partition"] = record.partition
        if record.timestamp is not None:
            data["timestamp"] = record.timestamp
        if record.headers:
            data["headers"] = []
            for key, value, *of in record.headers:
                header = {"key": key}
                side(header, "value", value, of[0] if of else None)
                data["headers"].append(header)
        return data, used, len(json.dumps(data))

    def on_commit(self, params):
        self.task.commit(params["partition"], params["offset"])
        return {}

    def on_open(self, params):
        self.task.open([(p["topic"], p["partition"]) for p in params["partitions"]])
        return self.context._take()

    def on_close(self, params):
        self.task.close([(p["topic"], p["partition"]) for p in params["partitions"]])
        return self.context._take()

    def on_put(self, params):
        records = [SinkRecord(data, params["schemas"]) for data in params["records"]]
        refused = self.task.put(records) or ()
        place = {id(record): index for index, record in enumerate(records)}
        reported = [{"index": place[id(record)], "error": _fault(error)} for record, error in refused]
        return {"reported": reported, **self.context._take()}

    def on_pre_commit(self, params):
        taken = {(p["topic"], p["partition"]): p["offset"] for p in params["offsets"]}
        safe = self.task.pre_commit(taken)
        offsets = [{"topic": t, "partition": p, "offset": o} for (t, p), o in safe.items()]
        return {"offsets": offsets, **self.context._take()}

    def on_stop(self, _params):
        if self.task is not None:
            self.task.stop()
        return {}


def serve(*connectors):
    """Serves connectors until the worker needs them no more."""
    if "AQUEDUCT_PLUGIN_PROTOCOL" not in os.environ:
        name = os.path.basename(sys.argv[0])
        print(f"{name} is a plugin of an Aqueduct Connect worker: put it into a folder of plugin.path", file=sys.stderr)
        sys.exit(2)
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    _Plugin(connectors, output).run()
