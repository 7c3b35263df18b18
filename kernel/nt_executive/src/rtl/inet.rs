//! IP addresses as text.
//!
//! Reading stops at the first character that is no part of an address and tells where; the `Ex` variants read a whole
//! text with a port and, for IPv6, brackets and a scope.

mod exports;
mod v4;
mod v6;

pub use exports::TABLE;

/// A reading that failed, at which character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BadAt(usize);

/// An address, and how many characters it took.
type Read<T> = Result<(T, usize), BadAt>;

/// A decimal port behind a colon at the end of a text; in host order. `None` if that is not what the text holds.
fn port(text: &[u8]) -> Option<u16> {
    match text {
        [] => Some(0),
        [b':', digits @ ..] if !digits.is_empty() && digits.len() <= 5 => {
            let all = digits.iter().all(u8::is_ascii_digit);
            let value = digits.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit & 0xF));
            u16::try_from(value).ok().filter(|&port| all && port != 0)
        }
        _ => None,
    }
}
