//! Bytes in shared words.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of text in one continuation slot; its first word is [`CONTINUATION`].
pub const TEXT_LINE_BYTES: usize = 56;
/// Most continuation slots of a record.
pub const TEXT_LINES_MAX: usize = 15;
/// Longest text of an event in bytes; longer ones are cut.
pub const TEXT_BYTES_MAX: usize = TEXT_LINE_BYTES * TEXT_LINES_MAX;

/// First word of a continuation slot. No stamp has this value, so a reader that was lapped finds the next record.
pub const CONTINUATION: u64 = u64::MAX;

/// The first `max` bytes of `text`, without half a character at the end.
pub fn cut(text: &str, max: usize) -> &[u8] {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text.as_bytes()[..end]
}

/// Writes bytes into words, first byte lowest. Bytes that do not fit are left out. Safe in a signal handler.
pub fn put_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut packed = [0; 8];
        packed[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(packed), Relaxed);
    }
}

/// Up to `length` bytes from words, as text. Bytes that are no UTF-8 become U+FFFD.
pub fn get_text<'a>(words: impl IntoIterator<Item = &'a AtomicU64>, length: u64) -> String {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let packed = words.into_iter().take(length.div_ceil(8));
    let mut bytes: Vec<u8> = packed.flat_map(|word| word.load(Relaxed).to_le_bytes()).collect();
    bytes.truncate(length);
    String::from_utf8_lossy(&bytes).into_owned()
}
