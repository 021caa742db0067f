//! Texts that people write: property files, broker settings, worker settings, and the JSON of the converter.

#![no_main]

use aqueduct_broker::config::{Properties, Settings};
use aqueduct_connect_api::{ConfigMap, Factory, Plugin};
// Linked for the plugins that it registers.
use aqueduct_connect_worker as _;
use aqueduct_fuzz::Seeds;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

const SEEDS: &[&[u8]] = &[
    b"\x00node.id=1\nlisteners=PLAINTEXT://:9092,SSL://[::1]:9093\nlog.dirs=/a,/b\nnum.partitions = 3\n",
    b"\x00node.id=1\nadvertised.listeners=PLAINTEXT://h:1\n# comment\nlog.retention.hours:168\nkey\\ with=\\u0041\\\n  more\n",
    b"\x01{\"schema\":{\"type\":\"struct\",\"fields\":[{\"field\":\"a\",\"type\":\"int64\",\"optional\":true}]},\"payload\":{\"a\":1}}",
    b"\x01{\"schema\":{\"type\":\"bytes\",\"name\":\"org.apache.kafka.connect.data.Decimal\",\"parameters\":{\"scale\":\"2\"}},\"payload\":\"AQ==\"}",
    b"\x01{\"schema\":{\"type\":\"map\",\"keys\":{\"type\":\"int32\"},\"values\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}},\"payload\":[[1,[\"x\"]]]}",
    b"\x02{\"a\":[1,2.5,null,{\"b\":true}]}",
];

fn read(json: &[u8], schemas: &str) {
    let plugin = Plugin::by_class("org.apache.kafka.connect.json.JsonConverter").expect("it is registered");
    let Factory::Converter(make) = plugin.factory else { unreachable!("it is a converter") };
    let mut converter = make();
    let settings: ConfigMap = [("schemas.enable".to_owned(), schemas.to_owned())].into_iter().collect();
    let settings = (plugin.config)().parse(&settings).expect("good settings");
    converter.configure(&settings, false).expect("good settings");
    let Ok(value) = converter.decode("t", &[], Some(&Bytes::copy_from_slice(json))) else { return };
    if let Ok(Some(written)) = converter.encode("t", &[], value.schema.as_ref(), &value.value) {
        converter.decode("t", &[], Some(&written)).expect("what was written can be read");
    }
}

fuzz_target!(
    init: {
        let mut seeds = Seeds::new();
        SEEDS.iter().for_each(|seed| seeds.put(seed));
    },
    |data: &[u8]| {
        let [kind, rest @ ..] = data else { return };
        match kind % 3 {
            0 => {
                let Ok(text) = std::str::from_utf8(rest) else { return };
                if let Ok(properties) = Properties::parse(text, "fuzz") {
                    let _ = Settings::read(properties);
                }
            }
            1 => read(rest, "true"),
            _ => read(rest, "false"),
        }
    }
);
