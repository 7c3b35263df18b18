use super::*;
use proptest::prelude::*;

/// Argument words, and memory at made-up addresses.
#[derive(Default)]
struct Given {
    words: Vec<u64>,
    memory: Vec<(u64, Vec<u8>)>,
    taken: usize,
}

impl Given {
    fn word(mut self, word: u64) -> Self {
        self.words.push(word);
        self
    }

    /// Another argument that points to these bytes.
    fn bytes(mut self, bytes: &[u8]) -> Self {
        let address = 0x1000 * (self.memory.len() as u64 + 1);
        self.memory.push((address, bytes.to_vec()));
        self.word(address)
    }

    fn wide(self, text: &str) -> Self {
        let bytes: Vec<u8> = text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
        self.bytes(&bytes)
    }

    /// A counted string of `length` bytes at the next argument's memory.
    fn counted(mut self, length: u16, bytes: &[u8]) -> Self {
        let buffer = 0x1000 * (self.memory.len() as u64 + 1);
        self.memory.push((buffer, bytes.to_vec()));
        let mut header = length.to_le_bytes().to_vec();
        header.extend(length.to_le_bytes());
        header.extend([0; 4]);
        header.extend(buffer.to_le_bytes());
        self.bytes(&header)
    }
}

impl Arguments for Given {
    fn next(&mut self) -> u64 {
        self.taken += 1;
        self.words.get(self.taken - 1).copied().unwrap_or(0)
    }

    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        self.memory.iter().any(|(start, bytes)| {
            let place = address.wrapping_sub(*start) as usize;
            let found = bytes.get(place..place.saturating_add(into.len()));
            found.inspect(|found| into.copy_from_slice(found)).is_some()
        })
    }
}

fn run(flavour: Flavour, template: &str, mut given: Given) -> (String, Formatted) {
    let template: Vec<u16> = template.encode_utf16().collect();
    let mut text = Vec::new();
    let formatted = format(flavour, &template, &mut given, &mut |unit| text.push(unit));
    assert_eq!(formatted.units, text.len());
    (String::from_utf16_lossy(&text), formatted)
}

#[track_caller]
fn narrow(template: &str, given: Given, expected: &str) {
    assert_eq!(run(Flavour::Narrow, template, given).0, expected, "{template}");
}

fn numbers(words: &[u64]) -> Given {
    Given { words: words.to_vec(), ..Given::default() }
}

#[test]
fn integers_have_the_size_their_prefix_says() {
    let minus_one = [u64::MAX];
    narrow("%d", numbers(&minus_one), "-1");
    narrow("%u", numbers(&minus_one), "4294967295");
    narrow("%lu", numbers(&minus_one), "4294967295");
    narrow("%hu", numbers(&minus_one), "65535");
    narrow("%hhu", numbers(&minus_one), "255");
    for template in ["%I64u", "%llu", "%Iu", "%zu"] {
        narrow(template, numbers(&minus_one), "18446744073709551615");
    }
    narrow("%I32x", numbers(&minus_one), "ffffffff");
    narrow("%I64d", numbers(&[1 << 63]), "-9223372036854775808");
    narrow("%x %X %o", numbers(&[0xAB, 0xAB, 8]), "ab AB 10");
    // The upper half of a 32-bit argument is garbage.
    narrow("%d", numbers(&[0xDEAD_BEEF_0000_0007]), "7");
}

#[test]
fn flags_width_and_precision_work_as_in_c() {
    narrow("[%5d][%-5d][%05d][%+d][% d]", numbers(&[42; 5]), "[   42][42   ][00042][+42][ 42]");
    narrow("[%.4d][%6.4d][%06.4d][%.0d]", numbers(&[42, 42, 42, 0]), "[0042][  0042][  0042][]");
    narrow("[%#x][%#X][%#o][%#x]", numbers(&[255, 255, 8, 0]), "[0xff][0XFF][010][0]");
    narrow("[%*d][%-*d][%.*d]", numbers(&[4, 7, 4, 7, 3, 7]), "[   7][7   ][007]");
    narrow("[%*d]", numbers(&[(-4i64) as u64, 7]), "[7   ]");
    narrow("[%#010x]", numbers(&[255]), "[0x000000ff]");
}

#[test]
fn pointers_are_sixteen_capital_digits() {
    narrow("%p", numbers(&[0xABC]), "0000000000000ABC");
}

#[test]
fn strings_follow_letter_prefix_and_flavour() {
    narrow("%s|%hs|%S", Given::default().bytes(b"a\0").bytes(b"b\0").wide("c"), "a|b|c");
    narrow("%ws|%ls", Given::default().wide("d").wide("e"), "d|e");
    let given = Given::default().wide("f").bytes(b"g\0").bytes(b"h\0");
    assert_eq!(run(Flavour::Wide, "%s|%S|%hs", given).0, "f|g|h");
    narrow("[%5s][%-5s][%.2s]", Given::default().bytes(b"ab\0").bytes(b"ab\0").bytes(b"abcd\0"), "[   ab][ab   ][ab]");
    narrow("%s", numbers(&[0]), "(null)");
    narrow("%c%C", numbers(&[0x41, 0x20AC]), "A\u{20AC}");
}

#[test]
fn precision_bounds_what_is_read() {
    // No terminator follows.
    let (text, formatted) = run(Flavour::Narrow, "%.3s", Given::default().bytes(b"abc"));
    assert_eq!((text.as_str(), formatted.unreadable), ("abc", None));
}

#[test]
fn counted_strings_print_their_length() {
    let wide: Vec<u8> = "Name!".encode_utf16().flat_map(u16::to_le_bytes).collect();
    narrow("<%wZ>", Given::default().counted(8, &wide), "<Name>");
    narrow("<%Z>", Given::default().counted(3, b"abcdef"), "<abc>");
    assert_eq!(run(Flavour::Wide, "<%Z>", Given::default().counted(8, &wide)).0, "<Name>");
    narrow("%wZ", numbers(&[0]), "(null)");
}

#[test]
fn floating_point_prints_as_microsoft_does() {
    let word = f64::to_bits;
    narrow("%f %.2f %.0f %#.0f", numbers(&[word(1.5), word(-2.345), word(2.5), word(3.0)]), "1.500000 -2.35 2 3.");
    narrow("%e %E", numbers(&[word(12345.678), word(0.00012)]), "1.234568e+004 1.200000E-004");
    narrow("%g %g %g", numbers(&[word(0.0001), word(1e10), word(100000.0)]), "0.0001 1e+010 100000");
    narrow("%08.2f", numbers(&[word(-1.5)]), "-0001.50");
}

#[test]
fn percent_and_unknown_letters_print_themselves() {
    narrow("100%% %y %", Given::default(), "100% y ");
}

#[test]
fn unreadable_string_prints_a_note_and_is_told() {
    let (text, formatted) = run(Flavour::Narrow, "a %s b %d", numbers(&[0x9_0000, 5]));
    assert_eq!(text, "a <unreadable 0x90000> b 5");
    assert_eq!(formatted.unreadable, Some(0x9_0000));
}

#[test]
fn count_letter_is_refused_and_told() {
    let (text, formatted) = run(Flavour::Narrow, "ab%ncd %d", numbers(&[0x1000, 3]));
    assert_eq!(text, "abcd 3");
    assert!(formatted.refused_count);
}

proptest! {
    /// Formats come from drivers: whatever they hold, formatting ends, and its output is bounded by its input.
    #[test]
    fn any_format_ends(template: Vec<u16>, words: Vec<u64>, text: Vec<u8>) {
        let mut given = Given { words, memory: vec![(0x1000, text)], taken: 0 };
        let mut units = 0usize;
        let formatted = format(Flavour::Narrow, &template, &mut given, &mut |_| units += 1);
        prop_assert_eq!(formatted.units, units);
        prop_assert!(units <= template.len() * (3 * 0x1_0000));
    }

    #[test]
    fn letters_of_the_grammar_end(template in "(%[-+ #0]{0,3}[0-9]{0,3}(\\.[0-9*]{0,2})?(I64|I32|h|l|ll|w|z)?[a-zA-Z]?|x){0,12}", words: Vec<u64>) {
        let template: Vec<u16> = template.encode_utf16().collect();
        let mut given = Given { words, memory: vec![(0, vec![0; 64])], taken: 0 };
        format(Flavour::Wide, &template, &mut given, &mut |_| {});
    }

    #[test]
    fn integers_agree_with_the_language(value: i64, width in 0usize..30) {
        let expected = format!("{value:>width$}|{:x}|{:o}", value as u32, value as u64);
        let template = format!("%{width}I64d|%x|%I64o");
        prop_assert_eq!(run(Flavour::Narrow, &template, numbers(&[value as u64; 3])).0, expected);
    }
}
