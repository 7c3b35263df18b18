//! IPv4: four parts, or fewer of which the last holds the rest; each decimal, octal or hexadecimal.

use super::{BadAt, Read};

/// One part's number, and where it ended.
fn part(text: &[u8], start: usize, strict: bool) -> Result<(u64, usize), BadAt> {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let is_hex = at(start) == b'0' && matches!(at(start + 1), b'x' | b'X');
    let is_octal = at(start) == b'0' && at(start + 1).is_ascii_digit();
    if strict && (is_hex || is_octal) {
        return Err(BadAt(start + 1));
    }
    let (radix, first) = if is_hex { (16, start + 2) } else { (if is_octal { 8 } else { 10 }, start) };
    let mut place = first;
    let mut value = 0u64;
    while let Some(digit) = char::from(at(place)).to_digit(radix) {
        value = value * u64::from(radix) + u64::from(digit);
        if value > u32::MAX.into() {
            return Err(BadAt(place));
        }
        place += 1;
    }
    // A digit that the base does not have is a mistake, not the end.
    if place == first || at(place).is_ascii_digit() {
        return Err(BadAt(place));
    }
    Ok((value, place))
}

/// Reads an address. `strict`: four decimal parts and nothing else.
pub fn parse(text: &[u8], strict: bool) -> Read<[u8; 4]> {
    let mut parts = Vec::new();
    let mut place = 0;
    loop {
        let (value, end) = part(text, place, strict)?;
        parts.push(value);
        place = end;
        if text.get(place) != Some(&b'.') {
            break;
        }
        if parts.len() == 4 {
            return Err(BadAt(place));
        }
        place += 1;
    }
    if strict && parts.len() != 4 {
        return Err(BadAt(place));
    }
    let (last, front) = parts.split_last().ok_or(BadAt(place))?;
    let room = 8 * (4 - front.len() as u32);
    if front.iter().any(|&part| part > 255) || last >> room != 0 {
        return Err(BadAt(place));
    }
    let head = front.iter().enumerate().fold(0, |head, (index, part)| head | part << (24 - 8 * index));
    Ok((((head | last) as u32).to_be_bytes(), place))
}

/// `1.2.3.4`
pub fn text(address: [u8; 4]) -> String {
    let [a, b, c, d] = address;
    format!("{a}.{b}.{c}.{d}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    #[test]
    fn forms_are_read_up_to_what_is_no_part_of_them() {
        for (text, address, taken) in [
            ("1.2.3.4", [1, 2, 3, 4], 7),
            ("255.255.255.255:80", [255; 4], 15),
            ("1.2.0x102", [1, 2, 1, 2], 9),
            ("0x7f.1", [127, 0, 0, 1], 6),
            ("010.0.0.1", [8, 0, 0, 1], 9),
            ("203569230", [12, 34, 56, 78], 9),
            ("1.1.1.0a", [1, 1, 1, 0], 7),
        ] {
            assert_eq!(parse(text.as_bytes(), false), Ok((address, taken)), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told() {
        for text in ["", " ", "a", "1.2.3.256", "1.2.3.4.5", "1.1.1.08", "1.1.1.0x", "1.1.1.-2", "4294967296", "256.1"]
        {
            assert!(parse(text.as_bytes(), false).is_err(), "{text}");
        }
        for text in ["1", "1.2.3", "0x1.2.3.4", "01.2.3.4"] {
            assert!(parse(text.as_bytes(), true).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_is_read_back(address: [u8; 4]) {
            let printed = text(address);
            prop_assert_eq!(&printed, &Ipv4Addr::from(address).to_string());
            prop_assert_eq!(parse(printed.as_bytes(), true), Ok((address, printed.len())));
        }

        #[test]
        fn any_text_is_answered(text: Vec<u8>, strict: bool) {
            let _ = parse(&text, strict);
        }
    }
}
