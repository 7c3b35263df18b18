use proves::proves;

use super::*;
use crate::testing::{kernel_thread, utf16};

/// A string over a buffer of this test, with room for `room` characters.
struct Text {
    buffer: Vec<u16>,
    string: UnicodeString,
}

fn text(contents: &str, room: usize) -> Text {
    let mut buffer = utf16(contents);
    let length = buffer.len() as u16 * 2;
    buffer.resize(room.max(buffer.len()), 0xFFFF);
    let string =
        UnicodeString { length, maximum_length: buffer.len() as u16 * 2, _pad: 0, buffer: buffer.as_mut_ptr() };
    Text { buffer, string }
}

fn contents(text: &Text) -> String {
    String::from_utf16_lossy(&text.buffer[..usize::from(text.string.length) / 2])
}

#[proves("K-164")]
#[test]
fn null_text_initialises_an_empty_string_and_other_texts_count_their_terminator() {
    let mut string = text("junk", 4).string;
    let units = utf16("abc\0");
    // SAFETY: strings of this test.
    unsafe {
        rtl_init_unicode_string(&mut string, ptr::null());
        assert_eq!((string.length, string.maximum_length, string.buffer.is_null()), (0, 0, true));
        rtl_init_unicode_string(&mut string, units.as_ptr());
        assert_eq!((string.length, string.maximum_length), (6, 8));
        assert_eq!(string.buffer.cast_const(), units.as_ptr());
    }
}

#[test]
fn text_that_no_length_can_say_is_cut_or_refused() {
    let mut string = text("", 1).string;
    let mut units = vec![0x61u16; 0x8000];
    units.push(0);
    // SAFETY: strings of this test.
    unsafe {
        rtl_init_unicode_string(&mut string, units.as_ptr());
        assert_eq!((string.length, string.maximum_length), (0xFFFC, 0xFFFE));
        assert_eq!(rtl_init_unicode_string_ex(&mut string, units.as_ptr()), NtStatus::NAME_TOO_LONG);
    }
}

#[proves("K-163")]
#[test]
fn copy_and_append_count_bytes_and_terminate_only_where_there_is_room() {
    let (mut to, from) = (text("", 5), text("abc", 3));
    // SAFETY: strings of this test.
    unsafe {
        rtl_copy_unicode_string(&mut to.string, &from.string);
        assert_eq!((to.string.length, &to.buffer[..]), (6, &[0x61, 0x62, 0x63, 0, 0xFFFF][..]));
        assert_eq!(rtl_append_unicode_to_string(&mut to.string, utf16("de\0").as_ptr()), NtStatus::SUCCESS);
        assert_eq!(contents(&to), "abcde");
        let status = rtl_append_unicode_string_to_string(&mut to.string, &text("f", 1).string);
        assert_eq!((status, contents(&to)), (NtStatus::BUFFER_TOO_SMALL, "abcde".into()));
        rtl_copy_unicode_string(&mut to.string, ptr::null());
        assert_eq!(to.string.length, 0);
    }
}

#[test]
fn copy_is_cut_at_the_destinations_room() {
    let mut to = text("", 2);
    // SAFETY: strings of this test.
    unsafe { rtl_copy_unicode_string(&mut to.string, &text("abc", 3).string) };
    assert_eq!(contents(&to), "ab");
}

#[test]
fn comparison_orders_by_characters_then_by_length() {
    let compare = |a: &str, b: &str, insensitive| {
        // SAFETY: strings of this test.
        unsafe { rtl_compare_unicode_string(&text(a, 0).string, &text(b, 0).string, insensitive) }.signum()
    };
    assert_eq!(compare("abc", "abd", 0), -1);
    assert_eq!(compare("abc", "ab", 0), 1);
    assert_eq!(compare("ABC", "abc", 0), -1);
    assert_eq!(compare("ÄBC", "äbc", 1), 0);
    assert_eq!(compare("", "", 1), 0);
}

#[test]
fn prefix_suffix_and_equality_mind_the_case_flag() {
    // SAFETY: strings of this test.
    unsafe {
        let (a, b, tcp) = (text(r"\Device", 0), text(r"\DEVICE\Tcp", 0), text("TCP", 0));
        let (a, b, tcp) = (a.string, b.string, tcp.string);
        assert_eq!((rtl_prefix_unicode_string(&a, &b, 1), rtl_prefix_unicode_string(&a, &b, 0)), (1, 0));
        assert_eq!(rtl_prefix_unicode_string(&b, &a, 1), 0);
        assert_eq!((rtl_suffix_unicode_string(&tcp, &b, 1), rtl_suffix_unicode_string(&tcp, &b, 0)), (1, 0));
        assert_eq!(rtl_equal_unicode_string(&a, &text(r"\dEVICE", 0).string, 1), 1);
        assert_eq!(rtl_equal_unicode_string(&a, &b, 1), 0);
    }
}

#[proves("K-165")]
#[test]
fn allocated_strings_are_pool_and_freeing_empties_them() {
    kernel_thread();
    let mut to = UnicodeString::EMPTY;
    // SAFETY: strings of this test.
    unsafe {
        assert_eq!(rtl_upcase_unicode_string(&mut to, &text("aé1", 0).string, 1), NtStatus::SUCCESS);
        assert_eq!((to.length, to.maximum_length), (6, 6));
        let units: Vec<u16> = Units::of(&to).iter().collect();
        assert_eq!(units, utf16("AÉ1"));
        let address = to.buffer as u64;
        assert!(pool::find(address).is_some());
        rtl_free_unicode_string(&mut to);
        assert!(pool::find(address).is_none() && to.buffer.is_null() && to.maximum_length == 0);
        rtl_free_unicode_string(&mut to);
        assert_eq!(rtl_create_unicode_string(&mut to, utf16("xy\0").as_ptr()), 1);
        assert_eq!((to.length, to.maximum_length, *to.buffer.add(2)), (4, 6, 0));
        rtl_free_unicode_string(&mut to);
    }
}

#[test]
fn upcase_into_a_short_buffer_overflows() {
    let mut to = text("", 2);
    // SAFETY: strings of this test.
    let status = unsafe { rtl_upcase_unicode_string(&mut to.string, &text("abc", 0).string, 0) };
    assert_eq!((status, to.string.length), (NtStatus::BUFFER_OVERFLOW, 0));
}

#[test]
fn duplicate_follows_its_flags() {
    kernel_thread();
    let mut to = text("x", 1).string;
    // SAFETY: strings of this test.
    unsafe {
        let empty = text("", 0);
        let empty = empty.string;
        assert_eq!(rtl_duplicate_unicode_string(0, &empty, &mut to), NtStatus::SUCCESS);
        assert!(to.buffer.is_null());
        assert_eq!(rtl_duplicate_unicode_string(3, &empty, &mut to), NtStatus::SUCCESS);
        assert_eq!((to.length, to.maximum_length, *to.buffer), (0, 2, 0));
        rtl_free_unicode_string(&mut to);
        assert_eq!(rtl_duplicate_unicode_string(2, &empty, &mut to), NtStatus::INVALID_PARAMETER);
        let mut odd = text("ab", 0);
        odd.string.length = 3;
        assert_eq!(rtl_duplicate_unicode_string(0, &odd.string, &mut to), NtStatus::INVALID_PARAMETER);
    }
}

#[test]
fn hash_depends_on_case_only_if_asked() {
    let hash = |contents: &str, insensitive| {
        let mut hash = 0;
        // SAFETY: strings of this test.
        let status = unsafe { rtl_hash_unicode_string(&text(contents, 0).string, insensitive, 1, &mut hash) };
        assert_eq!(status, NtStatus::SUCCESS);
        hash
    };
    assert_eq!(hash("AB", 0), 65 * 65599 + 66);
    assert_eq!(hash("ab", 1), hash("AB", 0));
    assert_ne!(hash("ab", 0), hash("AB", 0));
}
