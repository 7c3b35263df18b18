//! One JSON object per event (`--trace FILE.jsonl`; format in `docs/trace-jsonl.md`).

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use trace::{Event, Farewell, OpenKind, Record};

/// Writes the record as one line: `{"t":1200,"thread":3,"event":"FileOpened",...,"text":"\\Device\\Tcp"}`.
///
/// # Errors
/// What `to` says.
pub fn write_json_line(mut to: impl Write, record: &Record) -> io::Result<()> {
    let mut object = Map::new();
    object.insert("t".into(), json!(record.time_ns));
    object.insert("thread".into(), json!(record.thread));
    object.insert("event".into(), json!(record.event.name()));
    for (name, word) in record.event.fields() {
        object.insert(key(name).into(), value(&record.event, name, word));
    }
    if !record.text.is_empty() {
        object.insert("text".into(), json!(record.text));
    }
    serde_json::to_writer(&mut to, &Value::Object(object))?;
    to.write_all(b"\n")
}

/// The names of the header's keys are taken: a field of that name gets another.
fn key(name: &'static str) -> &'static str {
    match name {
        "thread" => "thread_object",
        "event" => "tdi_event",
        _ => name,
    }
}

/// Words that name kinds, numbers that count, and hex strings for all that is an address or a code.
fn value(event: &Event, name: &str, word: u64) -> Value {
    match (event, name) {
        (&Event::RemoteTold { farewell, .. } | &Event::RemoteEnded { farewell, .. }, "farewell") => match farewell {
            Farewell::Fin => json!("fin"),
            Farewell::Rst => json!("rst"),
        },
        (&Event::FileOpened { kind, .. }, "kind") => match kind {
            OpenKind::Device => json!("device"),
            OpenKind::TransportAddress => json!("transport_address"),
            OpenKind::ConnectionEndpoint => json!("connection_endpoint"),
            OpenKind::ControlChannel => json!("control_channel"),
        },
        (
            _,
            "size" | "remaining" | "count" | "information" | "bytes" | "taken" | "seeded" | "seed" | "level" | "event",
        ) => {
            json!(word)
        }
        (_, "status") => json!(format!("{word:#010x}")),
        (_, "functions") => json!(format!("{word:#06x}")),
        _ => json!(format!("{word:#x}")),
    }
}
