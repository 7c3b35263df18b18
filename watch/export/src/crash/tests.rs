use trace::Event;

use super::*;

fn record() -> BugCheckRecord {
    BugCheckRecord {
        complete: true,
        code: 0xD1,
        parameters: [0x10, 2, 0, 0x0001_4000_1234],
        rip: 0x0001_4000_1234,
        image_base: 0x0001_4000_0000,
        offset: 0x1234,
        driver: "crash.sys".into(),
        thread: 0x7000,
        import: Some(12),
        import_name: "IofCallDriver".into(),
        registers: std::array::from_fn(|index| index as u64),
        rflags: 0x246,
        frames: vec![0x0001_4000_1300, 0x5000],
        message: "read of 0x10 at IRQL 2".into(),
    }
}

/// The file's text for people, and its last line.
fn written(bugcheck: &BugCheckRecord) -> (String, Value) {
    let images = [ImageRecord { name: "crash.sys".into(), base: 0x0001_4000_0000, size: 0x8000 }];
    let events = [Record {
        time_ns: 12_345_678,
        thread: 2,
        event: Event::DriverEntryCalled { driver: 0x88 },
        text: "crash\u{1b}[2J".into(),
    }];
    let crash =
        Crash { version: "0.1.0", name: "DRIVER_IRQL_NOT_LESS_OR_EQUAL", bugcheck, images: &images, events: &events };
    let mut out = Vec::new();
    crash.write(&mut out).expect("writing to memory");
    let out = String::from_utf8(out).expect("text");
    let (people, programs) = out.trim_end().rsplit_once('\n').expect("several lines");
    (people.into(), serde_json::from_str(programs).expect("the last line is JSON"))
}

#[test]
fn addresses_in_an_image_are_named_and_others_are_not() {
    let (people, programs) = written(&record());
    assert!(people.contains("Bugcheck 0x000000d1 DRIVER_IRQL_NOT_LESS_OR_EQUAL"), "{people}");
    assert!(people.contains("driver         crash.sys+0x1234"), "{people}");
    assert!(people.contains("   0  0x0000000140001234  crash.sys+0x1234\n"), "{people}");
    assert!(people.contains("   2  0x0000000000005000\n"), "{people}");
    assert_eq!(programs["frames"][0]["driver"], "crash.sys");
    assert_eq!(programs["frames"][0]["offset"], "0x1300");
    assert_eq!(programs["frames"][1]["driver"], Value::Null);
}

#[test]
fn both_parts_say_the_same() {
    let (people, programs) = written(&record());
    assert_eq!(programs["format"], "drydock-crash");
    assert_eq!(programs["version"], VERSION);
    assert_eq!(programs["bugcheck"]["code"], "0x000000d1");
    assert_eq!(programs["bugcheck"]["import"]["name"], "IofCallDriver");
    assert_eq!(programs["registers"]["r15"], "0xf");
    assert_eq!(programs["registers"]["rflags"], "0x246");
    assert_eq!(programs["events"][0]["event"], "DriverEntryCalled");
    assert!(people.contains("r15 000000000000000f"), "{people}");
    assert!(people.contains("in import      IofCallDriver (number 12)"), "{people}");
    assert!(people.contains("     12.345 ms  thread 2   DriverEntryCalled driver=0x88"), "{people}");
}

#[test]
fn control_characters_never_reach_a_terminal() {
    let (people, _) = written(&BugCheckRecord { message: "a\r\nb\u{7}".into(), driver: "\u{1b}c".into(), ..record() });
    assert!(people.chars().all(|character| character == '\n' || !character.is_control()), "{people:?}");
}

#[test]
fn incomplete_record_is_called_so() {
    let (people, programs) = written(&BugCheckRecord { complete: false, import: None, ..record() });
    assert!(people.contains("incomplete"), "{people}");
    assert_eq!(programs["bugcheck"]["complete"], false);
    assert_eq!(programs["bugcheck"]["import"], Value::Null);
}
