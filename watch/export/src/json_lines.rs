//! One JSON object per event (`--trace FILE.jsonl`; format in `docs/trace-jsonl.md`).

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use trace::{Event, Farewell, OpenKind, Record};

/// Writes the record as one line: `{"t":1200,"thread":3,"event":"FileOpened",...,"text":"\\Device\\Tcp"}`.
///
/// # Errors
/// What `to` says.
pub fn write_json_line(mut to: impl Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut to, &json_of(record))?;
    to.write_all(b"\n")
}

/// The record as one object.
pub fn json_of(record: &Record) -> Value {
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
    Value::Object(object)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: Event, text: &str) -> String {
        let mut out = Vec::new();
        let record = Record { time_ns: 1200, thread: 3, event, text: text.into() };
        write_json_line(&mut out, &record).expect("writing to memory");
        String::from_utf8(out).expect("JSON is UTF-8")
    }

    #[test]
    fn opened_file_is_one_line_with_addresses_in_hex() {
        let event = Event::FileOpened {
            file: 0xFFFF_8000_0000_1000,
            device: 0x2000,
            handle: 0x24,
            status: 0,
            kind: OpenKind::ConnectionEndpoint,
        };
        assert_eq!(
            line(event, r"\Device\Tcp"),
            concat!(
                r#"{"t":1200,"thread":3,"event":"FileOpened","file":"0xffff800000001000","device":"0x2000","handle":"0x24","#,
                r#""status":"0x00000000","kind":"connection_endpoint","text":"\\Device\\Tcp"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn fields_never_hide_the_keys_of_the_line() {
        let started: Value =
            serde_json::from_str(&line(Event::ThreadStarted { thread: 0x10, start: 0 }, "")).expect("JSON");
        assert_eq!((&started["thread"], &started["thread_object"]), (&json!(3), &json!("0x10")));
        let event = Event::Indicated { endpoint: 1, event: 3, context: 0x99, bytes: 512 };
        let indicated: Value = serde_json::from_str(&line(event, "")).expect("JSON");
        assert_eq!((&indicated["event"], &indicated["tdi_event"]), (&json!("Indicated"), &json!(3)));
        assert_eq!((&indicated["context"], &indicated["bytes"]), (&json!("0x99"), &json!(512)));
    }

    #[test]
    fn text_of_a_driver_stays_on_its_line() {
        let line = line(Event::DebugPrint { level: 0, caller: 0 }, "two\nlines \u{1b}[31m\"quoted\"");
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{1b}'));
        let value: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["text"], "two\nlines \u{1b}[31m\"quoted\"");
    }

    #[test]
    fn large_counts_stay_exact() {
        let value: Value =
            serde_json::from_str(&line(Event::BytesSent { endpoint: 1, bytes: u64::MAX }, "")).expect("JSON");
        assert_eq!(value["bytes"].as_u64(), Some(u64::MAX));
    }

    #[test]
    fn farewells_have_names() {
        let told = line(Event::RemoteTold { endpoint: 1, farewell: Farewell::Rst }, "");
        assert!(told.contains(r#""farewell":"rst""#), "{told}");
    }
}
