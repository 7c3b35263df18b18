use std::cell::RefCell;

use gate::memory::read_value;
use nt_abi::UnicodeString;
use proves::proves;

use super::*;
use crate::registry::{Data, set_value, set_value_at};
use crate::testing::{kernel_thread, utf16};

/// A table as a driver lays it out.
#[derive(Default)]
struct Table {
    words: Vec<u64>,
    texts: Vec<Vec<u16>>,
}

impl Table {
    fn text(&mut self, text: &str) -> u64 {
        self.texts.push(utf16(&format!("{text}\0")));
        self.texts.last().map_or(0, |text| text.as_ptr() as u64)
    }

    fn entry(mut self, routine: u64, flags: u32, name: &str, entry_context: u64, default: (u32, u64, u32)) -> Self {
        let name = if name.is_empty() { 0 } else { self.text(name) };
        let (kind, data, length) = default;
        self.words.extend([routine, flags.into(), name, entry_context, kind.into(), data, length.into()]);
        self
    }

    fn direct(self, flags: u32, name: &str, into: u64) -> Self {
        self.entry(0, flags | flags::DIRECT, name, into, (0, 0, 0))
    }

    fn told(self, flags: u32, name: &str) -> Self {
        self.entry(tell as *const () as u64, flags, name, 0x55, (0, 0, 0))
    }

    fn run(mut self, service: &str) -> NtStatus {
        kernel_thread();
        self.words.extend([0; 7]);
        let path = utf16(&format!("{service}\\Parameters\0"));
        // SAFETY: a table of this test.
        unsafe { rtl_query_registry_values(1, path.as_ptr() as u64, self.words.as_ptr() as u64, 0x44, 0) }
    }
}

thread_local! {
    /// What the routine was told: name, type, text or data.
    static TOLD: RefCell<Vec<(String, u32, Vec<u8>)>> = const { RefCell::new(Vec::new()) };
}

fn told() -> Vec<(String, u32, Vec<u8>)> {
    TOLD.take()
}

unsafe extern "win64" fn tell(name: u64, kind: u32, data: u64, length: u32, context: u64, entry_context: u64) -> u32 {
    assert_eq!((context, entry_context), (0x44, 0x55));
    let name = if name == 0 { Vec::new() } else { memory::read_wide_c_string(name, 99).expect("a name") };
    let mut bytes = vec![0; length as usize];
    memory::read(data, &mut bytes).expect("data");
    TOLD.with_borrow_mut(|told| told.push((String::from_utf16_lossy(&name), kind, bytes)));
    0
}

fn wide(text: &str) -> Vec<u8> {
    terminated(&utf16(text))
}

#[proves("K-166")]
#[test]
fn missing_optional_value_is_passed_over_and_a_required_one_fails() {
    set_value("QueryA", "Here", &Data::Number(7)).expect("set");
    let mut number = 0u32;
    let into = &raw mut number as u64;
    assert_eq!(Table::default().direct(0, "Missing", into).direct(0, "Here", into).run("QueryA"), NtStatus::SUCCESS);
    assert_eq!(number, 7);
    let status = Table::default().direct(flags::REQUIRED, "Missing", into).run("QueryA");
    assert_eq!(status, NtStatus::OBJECT_NAME_NOT_FOUND);
    assert_eq!(Table::default().run("NoSuchService"), NtStatus::OBJECT_NAME_NOT_FOUND);
}

#[test]
fn default_stands_in_for_a_missing_value() {
    set_value("QueryB", "Other", &Data::Number(1)).expect("set");
    let (mut number, default) = (0u32, 99u32);
    let mut string = UnicodeString::EMPTY;
    let text = utf16("fallback\0");
    let table = Table::default()
        .entry(0, flags::DIRECT, "N", &raw mut number as u64, (value_type::DWORD, &raw const default as u64, 4))
        .entry(0, flags::DIRECT, "S", &raw mut string as u64, (value_type::SZ, text.as_ptr() as u64, 0));
    assert_eq!(table.run("QueryB"), NtStatus::SUCCESS);
    assert_eq!((number, string.length, string.maximum_length), (99, 16, 18));
    pool::free(string.buffer as u64, None, 0);
}

#[test]
fn direct_text_fills_the_drivers_buffer_or_fails() {
    set_value("QueryC", "Text", &Data::Text("abc".into())).expect("set");
    let mut buffer = [0u16; 4];
    let mut string = UnicodeString { length: 0, maximum_length: 8, _pad: 0, buffer: buffer.as_mut_ptr() };
    let into = &raw mut string as u64;
    assert_eq!(Table::default().direct(0, "Text", into).run("QueryC"), NtStatus::SUCCESS);
    assert_eq!((read_value::<u16>(into), buffer), (Ok(6), [97, 98, 99, 0]));
    memory::write_value(into + 2, 6u16).expect("the maximum length");
    assert_eq!(Table::default().direct(0, "Text", into).run("QueryC"), NtStatus::BUFFER_TOO_SMALL);
}

#[test]
fn direct_binary_says_how_much_it_was() {
    set_value("QueryD", "Bytes", &Data::Binary((1..=6).collect())).expect("set");
    let mut buffer = [16u32, 0, 0, 0];
    let into = buffer.as_mut_ptr() as u64;
    assert_eq!(Table::default().direct(0, "Bytes", into).run("QueryD"), NtStatus::SUCCESS);
    assert_eq!(buffer, [6, value_type::BINARY, 0x0403_0201, 0x0605]);
    memory::write_value(into, -16i32).expect("the room");
    assert_eq!(Table::default().direct(0, "Bytes", into).run("QueryD"), NtStatus::SUCCESS);
    assert_eq!(buffer[..2], [0x0403_0201, 0x0605]);
    memory::write_value(into, 13u32).expect("the room");
    assert_eq!(Table::default().direct(0, "Bytes", into).run("QueryD"), NtStatus::BUFFER_TOO_SMALL);
}

#[test]
fn routine_is_told_each_text_of_several_unless_they_are_not_to_be_expanded() {
    set_value("QueryE", "Several", &Data::Texts(vec!["a".into(), "bc".into()])).expect("set");
    assert_eq!(Table::default().told(0, "Several").run("QueryE"), NtStatus::SUCCESS);
    let several = "Several".to_owned();
    let expected = vec![(several.clone(), value_type::SZ, wide("a")), (several.clone(), value_type::SZ, wide("bc"))];
    assert_eq!(told(), expected);
    assert_eq!(Table::default().told(flags::NOEXPAND, "Several").run("QueryE"), NtStatus::SUCCESS);
    assert_eq!(told(), [(several, value_type::MULTI_SZ, wide("a\0bc\0"))]);
}

#[test]
fn variables_are_expanded_and_change_the_type() {
    set_value("QueryF", "Path", &Data::ExpandText(r"%SystemRoot%\x %other%".into())).expect("set");
    assert_eq!(Table::default().told(0, "Path").run("QueryF"), NtStatus::SUCCESS);
    assert_eq!(told(), [("Path".to_owned(), value_type::SZ, wide(r"\SystemRoot\x %other%"))]);
}

#[test]
fn subkey_entries_move_and_topkey_returns() {
    set_value("QueryG", "Top", &Data::Number(1)).expect("set");
    let below = r"\Registry\Machine\System\CurrentControlSet\Services\QueryG\Parameters\Below";
    set_value_at(below, "In", &Data::Number(2)).expect("set");
    let (mut inside, mut top) = (0u32, 0u32);
    let table = Table::default()
        .entry(0, flags::SUBKEY, "Below", 0, (0, 0, 0))
        .direct(flags::REQUIRED, "In", &raw mut inside as u64)
        .direct(flags::REQUIRED | flags::TOPKEY, "Top", &raw mut top as u64);
    assert_eq!(table.run("QueryG"), NtStatus::SUCCESS);
    assert_eq!((inside, top), (2, 1));
    assert_eq!(Table::default().told(flags::SUBKEY, "Below").run("QueryG"), NtStatus::SUCCESS);
    assert_eq!(told(), [("In".to_owned(), value_type::DWORD, vec![2, 0, 0, 0])]);
}

#[test]
fn value_is_deleted_after_it_was_told() {
    set_value("QueryH", "Once", &Data::Number(1)).expect("set");
    for count in [1, 0] {
        assert_eq!(Table::default().told(flags::DELETE, "Once").run("QueryH"), NtStatus::SUCCESS);
        assert_eq!(told().len(), count);
    }
}

#[test]
fn wrong_type_is_refused_where_it_is_checked() {
    set_value("QueryI", "N", &Data::Number(1)).expect("set");
    let mut string = UnicodeString::EMPTY;
    let expected = value_type::SZ << TYPECHECK_SHIFT;
    let table =
        Table::default().entry(0, flags::DIRECT | flags::TYPECHECK, "N", &raw mut string as u64, (expected, 0, 0));
    assert_eq!(table.run("QueryI"), NtStatus::OBJECT_TYPE_MISMATCH);
}

#[test]
fn entry_that_contradicts_itself_is_refused() {
    set_value("QueryJ", "N", &Data::Number(1)).expect("set");
    assert_eq!(Table::default().direct(0, "", 1).run("QueryJ"), NtStatus::INVALID_PARAMETER);
    assert_eq!(Table::default().told(flags::DIRECT, "N").run("QueryJ"), NtStatus::INVALID_PARAMETER);
}
