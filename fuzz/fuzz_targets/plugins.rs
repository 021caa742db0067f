//! What a plugin writes: frames, messages, descriptions, schemas, values and records.

#![no_main]

use aqueduct_connector_process::{
    Description, Event, RecordReader, Session, read_schema, tagged, typed, write_schema, write_tagged, write_typed,
};
use aqueduct_fuzz::Seeds;
use libfuzzer_sys::fuzz_target;

const SEEDS: &[&[u8]] = &[
    b"\x00\x00\x00\x00\x0e{\"alive\":true}\x00\x00\x00\x25{\"ask\":\"offsets\",\"partitions\":[{\"a\":1}]}",
    b"\x00\x00\x00\x00\x1b{\"id\":1,\"ok\":{\"records\":[]}}",
    b"\x01{\"connectors\":[{\"class\":\"a.B\",\"type\":\"sink\",\"version\":\"1\",\"config\":[{\"name\":\"x\",\"type\":\"INT\",\"default\":\"5\",\"at_least\":1}]}]}",
    b"\x02{\"schemas\":[{\"type\":\"struct\",\"fields\":[{\"type\":\"int64\",\"field\":\"id\"}]}],\"records\":[{\"topic\":\"t\",\"value\":{\"id\":7},\"value_schema\":0,\"source_partition\":{\"a\":1},\"source_offset\":{}}]}",
    b"\x02{\"records\":[{\"topic\":\"t\",\"value\":{\"map\":[[\"a\",{\"decimal\":\"1.50\"}]]},\"headers\":[{\"key\":\"h\",\"value\":{\"float64\":\"NaN\"}}],\"source_partition\":{},\"source_offset\":{}}]}",
    b"\x03{\"struct\":{\"schema\":{\"type\":\"struct\",\"fields\":[{\"type\":\"bytes\",\"field\":\"b\",\"default\":\"AQ==\"}]},\"value\":{}}}",
];

/// What was read can be written, and reads as the same again.
fn values(text: &str) {
    if let Ok(value) = tagged(text) {
        let mut out = Vec::new();
        write_tagged(&mut out, &value).expect("a value that was read");
        let again = tagged(std::str::from_utf8(&out).expect("JSON is text")).expect("as written");
        assert_eq!(format!("{value:?}"), format!("{again:?}"));
    }
    if let Ok(schema) = read_schema(text) {
        let mut out = Vec::new();
        write_schema(&mut out, &schema).expect("a schema that was read");
        let again = read_schema(std::str::from_utf8(&out).expect("JSON is text")).expect("as written");
        assert_eq!(format!("{schema:?}"), format!("{again:?}"));
    }
}

fn records(text: &str) {
    let Ok(records) = RecordReader::default().read(text, 1000) else { return };
    for data in records.iter().map(|record| &record.record.value) {
        let Some(schema) = &data.schema else { continue };
        let mut out = Vec::new();
        write_typed(&mut out, schema, &data.value).expect("a value that was read");
        let again = typed(schema, std::str::from_utf8(&out).expect("JSON is text")).expect("as written");
        assert_eq!(format!("{:?}", data.value), format!("{again:?}"));
    }
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        SEEDS.iter().for_each(|seed| seeds.put(seed));
    },
    |data: &[u8]| {
        let Some((kind, rest)) = data.split_first() else { return };
        if *kind == 0 {
            let mut session = Session::new(1 << 16);
            let _ = session.call("poll", b"{}");
            for piece in rest.chunks(7) {
                session.push(piece);
                loop {
                    match session.next_event() {
                        Ok(Some(Event::Answer(_))) => drop(session.call("poll", b"{}")),
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => return,
                    }
                }
            }
            return;
        }
        let Ok(text) = std::str::from_utf8(rest) else { return };
        match kind {
            1 => drop(Description::read(text)),
            2 => records(text),
            _ => values(text.trim()),
        }
    }
);
