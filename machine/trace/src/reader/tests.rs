use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::*;
use crate::{BugCheckReport, Farewell, RingWriter, TEXT_BYTES_MAX, TraceOptions, TraceWriter};

/// A file with its two sides.
struct Pair {
    file: TraceFile,
    writer: &'static TraceWriter,
    reader: TraceReader,
}

#[track_caller]
fn pair(options: TraceOptions) -> Pair {
    let file = TraceFile::create(&options).expect("a memfd");
    let writer = TraceWriter::map(file.fd()).expect("a trace file");
    let reader = TraceReader::new(&file).expect("a mapping");
    Pair { file, writer, reader }
}

fn small(rings: usize, ring_records: usize) -> TraceOptions {
    TraceOptions { rings, ring_records, ..TraceOptions::default() }
}

/// A stamped event that carries a number.
fn numbered(number: u64) -> Event {
    Event::IrpCancelled { irp: number }
}

/// An unstamped one.
fn plain(number: u64) -> Event {
    Event::FileDeleted { file: number }
}

fn numbers(records: &[Record]) -> Vec<u64> {
    recorded(records).map(|record| record.event.to_words()[0]).collect()
}

/// Those that the reader did not make itself.
fn recorded(records: &[Record]) -> impl Iterator<Item = &Record> {
    records.iter().filter(|record| !matches!(record.event, Event::EventsLost { .. } | Event::EventsResumed {}))
}

/// What the records themselves say is missing.
fn announced(records: &[Record]) -> u64 {
    let counts = records.iter().map(|record| match record.event {
        Event::EventsLost { count } => count,
        _ => 0,
    });
    counts.sum()
}

#[test]
fn events_come_out_as_they_went_in() {
    let mut pair = pair(small(2, 64));
    let mut ring = pair.writer.take_ring(7);
    let told = Event::RemoteTold { endpoint: 5, farewell: Farewell::Rst };
    ring.record(told);
    ring.record_with_text(Event::HostNote {}, "grüße");
    let records = pair.reader.finish();
    assert_eq!(
        records.iter().map(|record| (record.thread, record.event)).collect::<Vec<_>>(),
        [(7, told), (7, Event::HostNote {})]
    );
    assert_eq!(records[1].text, "grüße");
    assert!(records[0].time_ns <= records[1].time_ns);
    assert_eq!((pair.reader.lost(), pair.reader.damaged()), (0, 0));
}

#[test]
fn record_published_after_a_thousand_drains_is_no_earlier_than_the_one_before_it() {
    let Pair { file, mut reader, .. } = pair(small(1, 64));
    let Reading { ticks, nanoseconds } = file.started();
    let record = |number| Record { time_ns: 0, thread: 1, event: numbered(number), text: String::new() };
    reader.calibration.add(Reading { ticks: ticks + 1000, nanoseconds: nanoseconds + 1000 });
    reader.held.push((ticks + 500, record(0)));
    let first = reader.hand_out(u64::MAX);
    // Readings so steep that their first line, drawn back to the stamps of both records, ends before the start.
    for number in 1..=2000 {
        reader
            .calibration
            .add(Reading { ticks: ticks + 1000 + number, nanoseconds: nanoseconds + 1000 + 1000 * number });
    }
    reader.held.push((ticks + 501, record(1)));
    let second = reader.hand_out(u64::MAX);
    assert_eq!((first[0].time_ns, second[0].time_ns), (500, 500));
}

#[test]
fn texts_of_every_length_survive_and_the_longest_are_cut() {
    let mut pair = pair(small(1, 4096));
    let mut ring = pair.writer.take_ring(1);
    let lengths: Vec<usize> = (0..120).chain([TEXT_BYTES_MAX - 1, TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1, 5000]).collect();
    for &length in &lengths {
        ring.record_with_text(numbered(length as u64), &"x".repeat(length));
    }
    let records = pair.reader.finish();
    let kept: Vec<usize> = records.iter().map(|record| record.text.len()).collect();
    assert_eq!(kept, lengths.iter().map(|&length| length.min(TEXT_BYTES_MAX)).collect::<Vec<_>>());
}

#[test]
fn text_is_cut_between_characters() {
    let mut pair = pair(small(1, 64));
    pair.writer.take_ring(1).record_with_text(numbered(0), &"é".repeat(TEXT_BYTES_MAX));
    let text = pair.reader.finish().remove(0).text;
    assert_eq!(text, "é".repeat(TEXT_BYTES_MAX / 2));
}

#[test]
fn absent_ring_drops_events() {
    let mut ring = RingWriter::absent();
    ring.record(numbered(1));
    ring.record_with_text(numbered(1), "text");
    ring.count(Counter::Irps, 1);
    ring.release();
}

#[test]
fn rings_are_merged_by_time() {
    let mut pair = pair(small(3, 64));
    let mut a = pair.writer.take_ring(1);
    let mut b = pair.writer.take_ring(2);
    for number in 0..20 {
        if number % 3 == 0 { &mut a } else { &mut b }.record(numbered(number));
    }
    assert_eq!(numbers(&pair.reader.finish()), (0..20).collect::<Vec<_>>());
}

#[test]
fn drain_holds_back_what_another_ring_may_still_precede() {
    let mut pair = pair(small(2, 64));
    let mut ring = pair.writer.take_ring(1);
    ring.record(numbered(1));
    assert_eq!(numbers(&pair.reader.drain()), []);
    ring.record(numbered(2));
    assert_eq!(numbers(&pair.reader.drain()), [1]);
    assert_eq!(numbers(&pair.reader.finish()), [2]);
}

#[test]
fn events_recorded_while_a_drain_is_under_way_keep_their_order() {
    let mut pair = pair(small(3, 64));
    let (mut first, mut second) = (pair.writer.take_ring(1), pair.writer.take_ring(2));
    let begun = Reading::now();
    // The drain began, but its thread did not get to run before these were there.
    second.record(numbered(1));
    first.record(numbered(2));
    second.record(numbered(3));
    let mut records = pair.reader.drain_since(begun);
    records.extend(pair.reader.finish());
    assert_eq!(numbers(&records), [1, 2, 3]);
}

#[test]
fn unstamped_event_is_not_placed_before_the_last_reading_of_its_ring() {
    let mut pair = pair(small(3, 64));
    let mut a = pair.writer.take_ring(1);
    let mut b = pair.writer.take_ring(2);
    a.record(numbered(1));
    pair.reader.drain();
    b.record(numbered(2));
    pair.reader.drain();
    a.record(plain(3));
    let rest = [pair.reader.drain(), pair.reader.finish()].concat();
    assert_eq!(numbers(&rest), [2, 3]);
}

#[test]
fn flight_recorder_keeps_the_newest_and_counts_the_rest() {
    // The only ring is the shared one; with two there is one of the fast kind.
    for rings in [1, 2] {
        let mut pair = pair(small(rings, 64));
        let mut ring = pair.writer.take_ring(1);
        for number in 0..1000 {
            ring.record(numbered(number));
        }
        let records = pair.reader.finish();
        let kept = numbers(&records);
        assert_eq!(kept, (1000 - kept.len() as u64..1000).collect::<Vec<_>>());
        assert!(matches!(records[0].event, Event::EventsLost { .. }));
        assert_eq!(records[1].event, Event::EventsResumed {});
        assert_eq!(announced(&records), pair.reader.lost());
        assert!(kept.len() >= 32, "{kept:?}");
        assert_eq!(pair.reader.lost(), 1000 - kept.len() as u64);
        assert_eq!(pair.reader.damaged(), 0);
    }
}

#[test]
fn gap_in_one_ring_spans_what_others_recorded_meanwhile() {
    let mut pair = pair(small(3, 64));
    let (mut lost, mut whole) = (pair.writer.take_ring(1), pair.writer.take_ring(2));
    lost.record(numbered(0));
    pair.reader.drain();
    whole.record(numbered(1));
    for _ in 0..200 {
        lost.record(numbered(2));
    }
    let events: Vec<Event> = pair.reader.finish().iter().map(|record| record.event).collect();
    let at = |event: &Event| events.iter().position(|other| other == event).expect("it was recorded");
    let begins = events.iter().position(|event| matches!(event, Event::EventsLost { .. })).expect("events were lost");
    assert!(at(&numbered(0)) < begins, "{events:?}");
    assert!(begins < at(&numbered(1)) && at(&numbered(1)) < at(&Event::EventsResumed {}), "{events:?}");
}

#[test]
fn reader_that_was_lapped_finds_the_next_record_behind_texts() {
    let mut pair = pair(small(2, 64));
    let mut ring = pair.writer.take_ring(1);
    for number in 0..500 {
        ring.record_with_text(numbered(number), &"y".repeat(number as usize % 200));
    }
    let records = pair.reader.finish();
    let kept = numbers(&records);
    assert_eq!(kept, (500 - kept.len() as u64..500).collect::<Vec<_>>());
    assert!(recorded(&records).all(|record| record.text.len() as u64 == record.event.to_words()[0] % 200));
    assert_eq!((pair.reader.lost(), pair.reader.damaged()), (500 - kept.len() as u64, 0));
}

/// Several threads record numbers with texts that depend on them, while the reader runs.
fn stress(options: TraceOptions, threads: u64, events: u64) -> (TraceReader, Vec<Record>) {
    let Pair { writer, mut reader, .. } = pair(options);
    let done = AtomicBool::new(false);
    let mut records = Vec::new();
    thread::scope(|scope| {
        let recorders: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mut ring = writer.take_ring(thread as u16);
                    for number in 0..events {
                        let event = if number % 2 == 0 { numbered(number) } else { plain(number) };
                        ring.count(Counter::Irps, 1);
                        ring.record_with_text(event, &number.to_string().repeat(number as usize % 20));
                    }
                })
            })
            .collect();
        let done = &done;
        let records = &mut records;
        let reader = &mut reader;
        scope.spawn(move || {
            while !done.load(Relaxed) {
                records.extend(reader.drain());
            }
        });
        recorders.into_iter().for_each(|recorder| recorder.join().expect("recorders do not panic"));
        done.store(true, Relaxed);
    });
    records.extend(reader.finish());
    (reader, records)
}

/// Each thread's numbers rise, and each text is the one that was recorded with its number.
#[track_caller]
fn assert_sound(records: &[Record], threads: u64) {
    for thread in 0..threads {
        let own: Vec<&Record> = recorded(records).filter(|record| u64::from(record.thread) == thread).collect();
        assert!(own.windows(2).all(|two| two[0].event.to_words()[0] < two[1].event.to_words()[0]));
        assert!(own.windows(2).all(|two| two[0].time_ns <= two[1].time_ns));
    }
    for record in recorded(records) {
        let number = record.event.to_words()[0];
        assert_eq!(record.text, number.to_string().repeat(number as usize % 20));
    }
}

#[test]
fn nothing_torn_comes_out_of_rings_that_are_overwritten_while_read() {
    let (reader, records) = stress(small(4, 64), 3, 100_000);
    assert_sound(&records, 3);
    assert_eq!(reader.damaged(), 0);
    assert_eq!(numbers(&records).len() as u64 + reader.lost(), 300_000);
    assert_eq!(reader.count(Counter::Irps), 300_000);
}

#[test]
fn lossless_rings_lose_nothing() {
    let (reader, records) = stress(TraceOptions { lossless: true, ..small(3, 128) }, 2, 20_000);
    assert_sound(&records, 2);
    assert_eq!((records.len(), reader.lost(), reader.damaged()), (40_000, 0, 0));
}

#[test]
fn threads_beyond_the_rings_share_the_last_one() {
    let (reader, records) = stress(TraceOptions { lossless: true, ..small(2, 128) }, 4, 5_000);
    assert_sound(&records, 4);
    assert_eq!((records.len(), reader.lost(), reader.damaged()), (20_000, 0, 0));
    assert_eq!(reader.count(Counter::Irps), 20_000);
}

#[test]
fn ring_of_an_ended_thread_is_used_again() {
    let mut pair = pair(small(2, 4096));
    for number in 0..100 {
        pair.writer.take_ring(number).record(numbered(u64::from(number)));
    }
    assert_eq!(numbers(&pair.reader.finish()), (0..100).collect::<Vec<_>>());
    assert_eq!(pair.reader.rings[1].read, 0, "the shared ring was never needed");
}

#[test]
fn writer_gives_up_on_a_reader_that_stands_still() {
    let mut pair = pair(TraceOptions { lossless: true, ..small(2, 64) });
    let mut ring = pair.writer.take_ring(1);
    for number in 0..200 {
        ring.record(numbered(number));
    }
    let kept = pair.reader.finish();
    assert_eq!(numbers(&kept).len() as u64 + pair.reader.lost(), 200);
    assert_eq!(kept.last().map(|record| record.event), Some(numbered(199)));
}

#[test]
fn virtual_time_keeps_the_order_of_all_threads() {
    let mut pair = pair(TraceOptions { virtual_time: true, ..small(8, 64) });
    let mut a = pair.writer.take_ring(1);
    let mut b = pair.writer.take_ring(2);
    pair.writer.set_virtual_time(5);
    b.record(numbered(0));
    a.record(plain(1));
    b.record(numbered(2));
    pair.writer.set_virtual_time(6);
    a.record(plain(3));
    let records = pair.reader.drain();
    assert_eq!(numbers(&records), [0, 1, 2, 3]);
    assert_eq!(records.iter().map(|record| record.time_ns).collect::<Vec<_>>(), [500, 500, 500, 600]);
}

#[test]
fn times_are_nanoseconds_since_the_file_was_made() {
    let mut pair = pair(small(2, 64));
    let mut ring = pair.writer.take_ring(1);
    ring.record(numbered(0));
    thread::sleep(Duration::from_millis(20));
    ring.record(numbered(1));
    let records = pair.reader.finish();
    // No upper bound: the machine may be slow, but a sleep is never short.
    assert!(records[1].time_ns - records[0].time_ns >= 19_000_000, "{records:?}");
}

#[test]
fn counters_are_added_up_over_rings() {
    let pair = pair(small(3, 64));
    let mut rings = [pair.writer.take_ring(1), pair.writer.take_ring(2), pair.writer.take_ring(3)];
    for ring in &mut rings {
        ring.count(Counter::BytesReceived, 100);
        ring.count(Counter::Opens, 1);
    }
    assert_eq!((pair.reader.count(Counter::BytesReceived), pair.reader.count(Counter::Opens)), (300, 3));
    assert_eq!(pair.reader.count(Counter::Closes), 0);
}

#[test]
fn bugcheck_record_is_that_of_the_first() {
    let pair = pair(small(1, 64));
    assert_eq!(pair.reader.bugcheck(), None);
    let frames: Vec<u64> = (1..=40).collect();
    let report = BugCheckReport {
        code: 0xD1,
        parameters: [1, 2, 3, 4],
        rip: 0x1234,
        image_base: 0x1000,
        offset: 0x234,
        driver: "crash.sys",
        thread: 9,
        import: Some(3),
        import_name: "IofCallDriver",
        registers: std::array::from_fn(|index| index as u64),
        rflags: 0x202,
        frames: &frames,
        message: &"m".repeat(3000),
    };
    assert!(pair.writer.bugcheck(&report));
    assert!(!pair.writer.bugcheck(&BugCheckReport { code: 1, ..report }));
    let expected = BugCheckRecord {
        complete: true,
        code: 0xD1,
        parameters: [1, 2, 3, 4],
        rip: 0x1234,
        image_base: 0x1000,
        offset: 0x234,
        driver: "crash.sys".into(),
        thread: 9,
        import: Some(3),
        import_name: "IofCallDriver".into(),
        registers: std::array::from_fn(|index| index as u64),
        rflags: 0x202,
        frames: (1..=32).collect(),
        message: "m".repeat(1024),
    };
    assert_eq!(pair.reader.bugcheck(), Some(expected));
}

#[test]
fn equal_findings_are_counted_and_others_kept_in_order() {
    let pair = pair(small(1, 64));
    assert!(pair.writer.finding("C-133", "first", "a.sys", 0x10));
    assert!(pair.writer.finding("C-133", "elsewhere", "a.sys", 0x20));
    assert!(!pair.writer.finding("C-133", "first, with other words", "a.sys", 0x10));
    assert!(pair.writer.finding("C-133", "another driver", "b.sys", 0x10));
    let findings = pair.reader.findings();
    let seen: Vec<_> = findings.iter().map(|finding| (finding.message.as_str(), finding.times)).collect();
    assert_eq!(seen, [("first", 2), ("elsewhere", 1), ("another driver", 1)]);
    assert_eq!(
        findings[0],
        FindingRecord { rule: "C-133".into(), message: "first".into(), driver: "a.sys".into(), offset: 0x10, times: 2 }
    );
}

#[test]
fn findings_beyond_the_last_place_are_counted() {
    let pair = pair(small(1, 64));
    for offset in 0..300 {
        pair.writer.finding("K-001", "message", "a.sys", offset);
    }
    assert_eq!(pair.reader.findings().len() as u64 + pair.reader.findings_overflow(), 300);
    assert_eq!(pair.reader.findings_overflow(), 44);
}

#[test]
fn images_name_addresses() {
    let pair = pair(small(1, 64));
    pair.writer.image("a.sys", 0x1000, 0x2000);
    pair.writer.image(&"long".repeat(100), 0x8000, 0x1000);
    let images = pair.reader.images();
    assert_eq!(images[0], ImageRecord { name: "a.sys".into(), base: 0x1000, size: 0x2000 });
    assert_eq!(images[1].name.len(), 96);
    assert_eq!(images[0].offset_of(0x2FFF), Some(0x1FFF));
    assert_eq!((images[0].offset_of(0x3000), images[0].offset_of(0xFFF)), (None, None));
}

#[test]
fn end_of_run_is_there_once_it_was_reached() {
    let pair = pair(small(1, 64));
    assert_eq!(pair.reader.end_of_run(), None);
    pair.writer.end_of_run(EndOfRun { started: 3, unloaded: 2 });
    assert_eq!(pair.reader.end_of_run(), Some(EndOfRun { started: 3, unloaded: 2 }));
}

#[test]
fn file_of_another_kind_is_refused() {
    let file = std::fs::File::from(memfd_create(c"other", MFdFlags::empty()).expect("a memfd"));
    assert_eq!(TraceWriter::map(&file).expect_err("not sealed").kind(), io::ErrorKind::InvalidData);
    let pair = pair(small(1, 64));
    pair.reader.memory.lines()[0].0[0].store(0, Relaxed);
    assert_eq!(TraceWriter::map(pair.file.fd()).expect_err("no magic").kind(), io::ErrorKind::InvalidData);
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    /// Writes over the whole file, some words at random places, keeping `heads` plausible now and then.
    fn scribble(reader: &TraceReader, writes: &[(usize, u64)]) {
        let lines = reader.memory.lines();
        for &(place, value) in writes {
            lines[place / 8 % lines.len()].0[place % 8].store(value, Relaxed);
        }
    }

    fn read_all(reader: &mut TraceReader) -> usize {
        let mut seen = 0;
        for _ in 0..3 {
            seen += reader.drain().len();
            assert!(reader.held.len() <= 2 * 2 * 65, "{}", reader.held.len());
        }
        seen += reader.finish().len();
        reader.bugcheck();
        reader.images();
        assert!(reader.findings().len() <= 256);
        reader.end_of_run();
        reader.lost();
        reader.damaged();
        reader.count(Counter::Opens);
        seen
    }

    proptest! {
        #[test]
        fn random_file_never_harms_the_reader(words in prop::collection::vec(any::<u64>(), 512), step in 1usize..64) {
            let mut pair = pair(small(2, 64));
            let count = pair.reader.memory.lines().len() * 8;
            let writes: Vec<_> = (0..count).map(|place| (place, words[place * step % words.len()])).collect();
            scribble(&pair.reader, &writes);
            prop_assert!(read_all(&mut pair.reader) <= 4 * 2 * 65);
        }

        #[test]
        fn damage_to_valid_rings_never_harms_the_reader(
            writes in prop::collection::vec((any::<usize>(), prop_oneof![any::<u64>(), 0u64..100, Just(u64::MAX)]), 0..200),
            events in 0u64..100,
        ) {
            let mut pair = pair(small(2, 64));
            let mut ring = pair.writer.take_ring(1);
            for number in 0..events {
                ring.record_with_text(numbered(number), &"z".repeat(number as usize % 100));
            }
            scribble(&pair.reader, &writes);
            prop_assert!(read_all(&mut pair.reader) <= 4 * 2 * 65);
        }
    }
}
