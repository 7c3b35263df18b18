//! IPv6.

use super::{BadAt, Read, v4};

/// Reads an address: groups of up to four hexadecimal digits, one `::`, and at the end perhaps an IPv4 address.
pub fn parse(text: &[u8]) -> Read<[u16; 8]> {
    let at = |place: usize| text.get(place).copied().unwrap_or(0);
    let mut groups = Vec::new();
    let mut gap = None;
    let mut place = 0;
    if text.starts_with(b"::") {
        (gap, place) = (Some(0), 2);
    }
    loop {
        let digits = (place..).take_while(|&place| at(place).is_ascii_hexdigit()).count();
        if digits == 0 {
            // Only behind a gap may a group be missing.
            if gap == Some(groups.len()) {
                break;
            }
            return Err(BadAt(place));
        }
        if at(place + digits) == b'.' {
            let (tail, taken) = v4::parse(&text[place..], true).map_err(|BadAt(bad)| BadAt(place + bad))?;
            groups.extend([u16::from_be_bytes([tail[0], tail[1]]), u16::from_be_bytes([tail[2], tail[3]])]);
            place += taken;
            break;
        }
        if digits > 4 {
            return Err(BadAt(place + 4));
        }
        let digit = |place| char::from(at(place)).to_digit(16).unwrap_or(0);
        groups.push((place..place + digits).fold(0, |value, place| value << 4 | digit(place)) as u16);
        place += digits;
        if at(place) != b':' || groups.len() == 8 {
            break;
        }
        if at(place + 1) == b':' {
            if gap.replace(groups.len()).is_some() {
                return Err(BadAt(place));
            }
            place += 2;
        } else {
            place += 1;
        }
    }
    let missing = 8usize.checked_sub(groups.len()).ok_or(BadAt(place))?;
    match gap {
        None if missing > 0 => return Err(BadAt(place)),
        Some(_) if missing == 0 => return Err(BadAt(place)),
        Some(gap) => drop(groups.splice(gap..gap, std::iter::repeat_n(0, missing))),
        None => {}
    }
    let mut address = [0; 8];
    address.copy_from_slice(&groups);
    Ok((address, place))
}

/// How many groups are printed in hexadecimal; the rest is an IPv4 address. As Windows does for mapped, translated and
/// compatible addresses and those of ISATAP.
fn hex_groups(address: &[u16; 8]) -> usize {
    let zeros = address.iter().take_while(|&&group| group == 0).count();
    let mapped = zeros >= 5 && address[5] == 0xFFFF || zeros == 4 && address[4] == 0xFFFF && address[5] == 0;
    let compatible = zeros == 6;
    let isatap = address[4] & 0xFDFF == 0 && address[5] == 0x5EFE;
    if mapped || compatible || isatap { 6 } else { 8 }
}

/// The shortest form: the first of the longest runs of two and more zero groups is left out.
pub fn text(address: [u16; 8]) -> String {
    let hex = hex_groups(&address);
    let (mut start, mut length) = (0, 0);
    let mut place = 0;
    while place < hex {
        let run = address[place..hex].iter().take_while(|&&group| group == 0).count();
        if run > length {
            (start, length) = (place, run);
        }
        place += run.max(1);
    }
    let groups = |range: &[u16]| range.iter().map(|group| format!("{group:x}")).collect::<Vec<_>>().join(":");
    let mut text = match length {
        0 | 1 => groups(&address[..hex]),
        _ => format!("{}::{}", groups(&address[..start]), groups(&address[start + length..hex])),
    };
    if hex < 8 {
        if !text.ends_with(':') {
            text.push(':');
        }
        let [a, b] = address[6].to_be_bytes();
        let [c, d] = address[7].to_be_bytes();
        text.push_str(&v4::text([a, b, c, d]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv6Addr;

    fn segments(text: &str) -> [u16; 8] {
        text.parse::<Ipv6Addr>().expect("an address").segments()
    }

    #[test]
    fn special_addresses_end_with_an_ipv4_address() {
        for (address, printed) in [
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::ffff:0:1.2.3.4", "::ffff:0:1.2.3.4"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("fe80::5efe:1.2.3.4", "fe80::5efe:1.2.3.4"),
            ("::1", "::1"),
            ("::", "::"),
            ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
            ("1:0:2:3:4:5:6:7", "1:0:2:3:4:5:6:7"),
            ("1::", "1::"),
        ] {
            assert_eq!(text(segments(address)), printed);
        }
    }

    #[test]
    fn reading_stops_at_what_is_no_part() {
        assert_eq!(parse(b"::1%3"), Ok((segments("::1"), 3)));
        assert_eq!(parse(b"1:2:3:4:5:6:7:8:9"), Ok((segments("1:2:3:4:5:6:7:8"), 15)));
        assert_eq!(parse(b"fe80::]"), Ok((segments("fe80::"), 6)));
        for bad in ["", ":", ":1", "1:2", "1::2::3", "12345::", "1:2:3:4:5:6:7::8:9", "::1.2.3", "::1.2.3.256", "g"] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_is_read_back(address in proptest::array::uniform8(prop_oneof![Just(0u16), any::<u16>()])) {
            let printed = text(address);
            prop_assert_eq!(segments(&printed), address);
            prop_assert_eq!(parse(printed.as_bytes()), Ok((address, printed.len())));
        }

        #[test]
        fn reading_agrees_with_the_language(text in "[0-9a-f:.]{0,24}") {
            if let Ok(expected) = text.parse::<Ipv6Addr>() {
                prop_assert_eq!(parse(text.as_bytes()), Ok((expected.segments(), text.len())));
            } else if let Ok((_, taken)) = parse(text.as_bytes()) {
                prop_assert!(taken < text.len(), "{} is no address", text);
            }
        }
    }
}
