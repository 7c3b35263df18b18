//! What holds of every figure: it is XML, everything lies on the sheet, and nothing covers a text.

use nt_abi::MajorFunction;
use proptest::prelude::*;
use roxmltree::{Document, Node};
use trace::{Event, OpenKind, Record};

use crate::svg::sheet::TextStyle;

#[path = "../../tests/runs/mod.rs"]
mod runs;

/// A rectangle on the sheet, and what it is.
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
    what: String,
}

impl Area {
    fn overlaps(&self, other: &Self) -> bool {
        // A hair's breadth is for rounding to tenths.
        let hair = 0.2;
        self.left + hair < other.right
            && other.left + hair < self.right
            && self.top + hair < other.bottom
            && other.top + hair < self.bottom
    }

    fn words(&self) -> String {
        let Self { what, left, top, right, bottom } = self;
        format!("{what:?} at ({left:.1}, {top:.1}) to ({right:.1}, {bottom:.1})")
    }

    fn contains(&self, other: &Self) -> bool {
        let hair = 1.0;
        self.left <= other.left + hair
            && self.top <= other.top + hair
            && other.right <= self.right + hair
            && other.bottom <= self.bottom + hair
    }
}

fn number(node: &Node<'_, '_>, name: &str) -> f64 {
    node.attribute(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// The room of a text: from the top of its capitals to its baseline.
fn text_area(node: &Node<'_, '_>) -> Area {
    let size = number(node, "font-size");
    let style = TextStyle { size, bold: node.has_attribute("font-weight"), italic: node.has_attribute("font-style") };
    let text = node.text().unwrap_or_default();
    let (x, y, width) = (number(node, "x"), number(node, "y"), style.width(text));
    let left = match node.attribute("text-anchor") {
        Some("middle") => x - width / 2.0,
        Some("end") => x - width,
        _ => x,
    };
    Area { left, top: y - size * 0.73, right: left + width, bottom: y, what: text.into() }
}

fn rect_area(node: &Node<'_, '_>) -> Area {
    let (left, top) = (number(node, "x"), number(node, "y"));
    let (right, bottom) = (left + number(node, "width"), top + number(node, "height"));
    Area { left, top, right, bottom, what: "a rectangle".into() }
}

fn line_area(node: &Node<'_, '_>) -> Area {
    let (x1, x2, y1, y2) = (number(node, "x1"), number(node, "x2"), number(node, "y1"), number(node, "y2"));
    Area { left: x1.min(x2), top: y1.min(y2), right: x1.max(x2), bottom: y1.max(y2), what: "a line".into() }
}

/// Checks a figure; `Err` says what is wrong with it.
fn check(svg: &str) -> Result<(), String> {
    let document = Document::parse(svg).map_err(|error| error.to_string())?;
    let root = document.root_element();
    let (right, bottom) = (number(&root, "width"), number(&root, "height"));
    let sheet = Area { left: 0.0, top: 0.0, right, bottom, what: "the sheet".into() };
    let mut texts: Vec<Area> = Vec::new();
    for node in root.children().filter(Node::is_element) {
        let area = match node.tag_name().name() {
            "text" => text_area(&node),
            "rect" if node.attribute("width") != Some("100%") => rect_area(&node),
            "line" => line_area(&node),
            _ => continue,
        };
        if !sheet.contains(&area) {
            return Err(format!("{} lies beyond the sheet of {right} by {bottom}", area.words()));
        }
        // Later elements are painted over earlier ones.
        let paints = node.tag_name().name() != "line" || area.top == area.bottom;
        if let Some(text) = texts.iter().find(|text| paints && text.overlaps(&area)) {
            return Err(format!("{} is covered by {}", text.words(), area.words()));
        }
        if node.tag_name().name() == "text" {
            texts.push(area);
        }
    }
    Ok(())
}

#[track_caller]
fn assert_readable(records: &[Record]) -> String {
    let svg = crate::draw(records, &runs::options());
    if let Err(problem) = check(&svg) {
        panic!("{problem}");
    }
    svg
}

fn row_count(svg: &str) -> usize {
    svg.matches("<polygon").count()
}

#[test]
fn figure_of_a_closing_life_is_readable() {
    let svg = assert_readable(&runs::closing_life(3));
    for text in ["tdi_client", "I/O manager", "transport", "remote node", "FIN, endpoint\u{A0}#1, orderly end"] {
        assert!(svg.contains(&format!(">{text}</text>")), "{text} is missing");
    }
}

#[test]
fn figure_with_filter_finding_failure_cancel_and_reset_is_readable() {
    assert_readable(&runs::crowded());
}

#[test]
fn request_within_one_driver_is_drawn_with_a_loop() {
    let records = runs::two_storeys();
    let svg = assert_readable(&records);
    assert_eq!(svg.matches(">IRP_MJ_DEVICE_CONTROL, 0x222004</text>").count(), 2, "{svg}");
    assert!(crate::text(&records, &runs::options()).contains('↺'));
}

#[test]
fn long_runs_are_folded_to_a_page() {
    for records in [runs::closing_life(5_000), runs::rounds(2_000), runs::crowd(300)] {
        let svg = assert_readable(&records);
        assert!(row_count(&svg) < 170, "{} rows", row_count(&svg));
        assert!(svg.len() < 150_000, "{} bytes", svg.len());
    }
}

#[test]
fn checker_sees_overlaps_and_what_lies_beyond_the_sheet() {
    let sheet = |inner: &str| format!("<svg width=\"100\" height=\"50\">{inner}</svg>");
    let text = |x: u32, y: u32| format!("<text x=\"{x}\" y=\"{y}\" font-size=\"10\">word</text>");
    assert_eq!(check(&sheet(&format!("{}{}", text(5, 20), text(5, 40)))), Ok(()));
    assert!(check(&sheet(&format!("{}{}", text(5, 20), text(10, 24)))).is_err());
    assert!(check(&sheet(&text(90, 20))).is_err());
    let rect = "<rect x=\"0\" y=\"0\" width=\"50\" height=\"30\"/>";
    assert_eq!(check(&sheet(&format!("{rect}{}", text(5, 20)))), Ok(()));
    assert!(check(&sheet(&format!("{}{rect}", text(5, 20)))).is_err());
    assert!(check(&sheet("<text>")).is_err());
}

#[test]
fn hostile_texts_stay_text() {
    let hostile = "</text><script>alert(1)</script>&\"'\0\u{1b}[2J\u{202E}\u{FFFF}\r\n\u{7f}\u{2028}";
    let mut records = runs::crowded();
    for record in &mut records {
        record.text.insert_str(0, hostile);
    }
    let svg = assert_readable(&records);
    assert!(!svg.contains("<script") && !svg.contains('\u{1b}') && !svg.contains('\u{202E}'));
    let text = crate::text(&records, &runs::options());
    assert!(text.chars().all(|character| character == '\n' || !character.is_control()), "{text:?}");
    assert!(!text.contains('\u{202E}'), "a text that turns the direction of others");
}

#[test]
fn texts_without_end_are_cut() {
    let mut records = runs::crowded();
    for record in &mut records {
        record.text = "W".repeat(10_000);
    }
    let svg = assert_readable(&records);
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
}

#[test]
fn nothing_recorded_is_said() {
    assert!(assert_readable(&[]).contains("No events were recorded."));
}

/// Any event that a ring can hold, about a few objects so that events meet.
fn any_record() -> impl Strategy<Value = Record> {
    let word = prop_oneof![4 => 0..6u64, 1 => any::<u64>(), 1 => Just(0x103), 1 => Just(0x0F03)];
    let words = prop::collection::vec(word, 6);
    let exists = |code: &u16| Event::from_words(*code, [0; 6]).is_some();
    let codes: Vec<u16> = (0..u16::MAX).filter(exists).collect();
    let event = (prop::sample::select(codes), words).prop_filter_map("a field out of range", |(code, words)| {
        Event::from_words(code, [words[0], words[1], words[2], words[3], words[4], words[5]])
    });
    (event, 0..4u16, "[a-z<&\\PC]{0,40}", any::<u32>()).prop_map(|(event, thread, text, time)| Record {
        time_ns: u64::from(time),
        thread,
        event,
        text,
    })
}

proptest! {
    // Of 300 records of a case some have a field out of range, and soak asks for many cases.
    #![proptest_config(ProptestConfig { cases: 200, max_local_rejects: u32::MAX, ..ProptestConfig::default() })]

    #[test]
    fn any_records_give_a_readable_figure(records in prop::collection::vec(any_record(), 0..300)) {
        let options = crate::Options { rows_max: 60, ..runs::options() };
        prop_assert_eq!(check(&crate::draw(&records, &options)), Ok(()));
        prop_assert!(!crate::text(&records, &options).is_empty());
        let mut narrator = crate::Narrator::new(runs::names());
        records.iter().for_each(|record| drop(narrator.account(record)));
        narrator.end();
    }
}

#[test]
fn many_drivers_share_one_sheet() {
    let mut run = runs::Run::new();
    run.begin();
    for driver in 0..200u64 {
        let (driver, device) = (0x7200_0000_0000 + driver * 0x1000, 0x7300_0000_0000 + driver * 0x1000);
        run.say(Event::DriverEntryCalled { driver }, "some_driver_of_many.sys");
        run.say(Event::DeviceCreated { device, driver }, r"\Device\OneOfMany");
        run.event(Event::DriverEntryReturned { driver, status: 0 });
        let functions = runs::major(MajorFunction::CREATE).0;
        run.event(Event::IrpDispatched { irp: 1, device, file: 2, functions, detail: 0, routine: 0 });
        run.done(1, nt_abi::NtStatus::SUCCESS, 0);
        let kind = OpenKind::Device;
        run.say(Event::FileOpened { file: 2, device, handle: 4, status: 0, kind }, r"\Device\OneOfMany");
    }
    run.end();
    assert_readable(&run.records);
}

#[test]
fn open_for_the_command_line_begins_at_the_tester() {
    let records = runs::asked();
    let text = crate::text(&records, &runs::options());
    assert!(text.contains("┌ tester (--ioctl, steps)"), "{text}");
    let mut narrator = crate::Narrator::new(runs::names());
    let lines: Vec<String> = records.iter().flat_map(|record| narrator.account(record)).collect();
    let open = lines.iter().find(|line| line.contains(r"opens \Device\Asked")).expect("the open");
    assert!(open.contains("tester "), "{open}");
    assert_readable(&records);
}

#[test]
fn runs_of_spaces_in_printed_text_stay() {
    let records = runs::asked();
    assert!(crate::text(&records, &runs::options()).contains("“port    state”"));
    // SVG collapses plain spaces.
    assert!(assert_readable(&records).contains("“port\u{A0}\u{A0}\u{A0} state”"));
    let mut narrator = crate::Narrator::new(runs::names());
    let mut lines: Vec<String> = records.iter().flat_map(|record| narrator.account(record)).collect();
    lines.extend(narrator.end());
    assert!(lines.iter().any(|line| line.ends_with("prints “port    state”")), "{lines:#?}");
}

#[test]
fn handler_that_accepts_is_not_drawn_as_a_failure() {
    let mut run = runs::Run::new();
    run.begin();
    run.open(runs::ADDRESS, OpenKind::TransportAddress);
    run.event(Event::Indicated { endpoint: runs::ADDRESS, event: 0, context: 0, bytes: 0 });
    let status = nt_abi::NtStatus::MORE_PROCESSING_REQUIRED.0;
    run.event(Event::IndicationReturned { endpoint: runs::ADDRESS, status, taken: 0 });
    let svg = assert_readable(&run.records);
    let line = svg.lines().find(|line| line.contains("STATUS_MORE_PROCESSING_REQUIRED")).expect("the status");
    assert!(line.contains(super::PENDING), "{line}");
}

#[test]
fn early_end_after_a_silence_is_drawn_at_its_time() {
    let stop = Some(crate::Stop { text: "Time is up".into(), driver: String::new(), time_ns: 7_000_000_000 });
    let text = crate::text(&runs::asked(), &crate::Options { stop, ..runs::options() });
    let line = text.lines().find(|line| line.contains("Time is up")).expect("the end");
    assert!(line.trim_start().starts_with("7,000.000 ms"), "{text}");
}

#[test]
fn early_end_is_drawn_as_a_box_over_all_lifelines() {
    let text =
        format!("Bugcheck 0x1e <KMODE_EXCEPTION_NOT_HANDLED>: {}", "what the driver did, at length; ".repeat(20));
    for driver in ["tdi_client.sys", "unknown.sys", ""] {
        let stop = Some(crate::Stop { text: text.clone(), driver: driver.into(), time_ns: 0 });
        let options = crate::Options { stop, ..runs::options() };
        for records in [runs::asked(), Vec::new()] {
            let svg = crate::draw(&records, &options);
            assert_eq!(check(&svg), Ok(()));
            assert!(svg.contains("Bugcheck 0x1e"), "{svg}");
            assert!(crate::text(&records, &options).contains("Bugcheck 0x1e"));
        }
    }
}
