//! The check of extended-attribute buffers that every open goes through (C-033 to C-035).

use nt_abi::ea::{EA_NAME, EA_NAME_LENGTH, EA_VALUE_LENGTH, NEXT_ENTRY_OFFSET};

/// Checks a list of entries. An error is the offset of the first bad entry, for `IoStatus.Information`.
pub fn check(list: &[u8]) -> Result<(), usize> {
    let mut offset = 0;
    loop {
        let entry = list.get(offset..).unwrap_or_default();
        let next = entry_length(entry).ok_or(offset)?;
        match next {
            Next::Last => return Ok(()),
            Next::At(distance) => offset += distance,
        }
    }
}

enum Next {
    Last,
    At(usize),
}

fn entry_length(entry: &[u8]) -> Option<Next> {
    let name_length = usize::from(*entry.get(EA_NAME_LENGTH)?);
    let value_length = entry.get(EA_VALUE_LENGTH..EA_VALUE_LENGTH + 2)?;
    let value_length = usize::from(u16::from_le_bytes([value_length[0], value_length[1]]));
    let length = EA_NAME + name_length + 1 + value_length;
    if length > entry.len() || entry[EA_NAME + name_length] != 0 {
        return None;
    }
    let next = entry.get(NEXT_ENTRY_OFFSET..NEXT_ENTRY_OFFSET + 4)?;
    match u32::from_le_bytes([next[0], next[1], next[2], next[3]]) as usize {
        0 => Some(Next::Last),
        // A distance that leads back or into this entry could go round for ever.
        next if next >= length && next.is_multiple_of(4) && next < entry.len() => Some(Next::At(next)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proves::proves;

    fn entry(next: u32, name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut entry = next.to_le_bytes().to_vec();
        entry.extend([0, name.len() as u8]);
        entry.extend((value.len() as u16).to_le_bytes());
        entry.extend(name);
        entry.push(0);
        entry.extend(value);
        entry
    }

    #[proves("C-032")]
    #[test]
    fn buffer_longer_than_its_entries_is_accepted() {
        let mut list = entry(0, b"ConnectionContext", &[1; 8]);
        list.resize(300, 0xEE);
        assert_eq!(check(&list), Ok(()));
    }

    #[proves("C-033")]
    #[test]
    fn every_shorter_length_and_a_missing_nul_are_rejected() {
        let list = entry(0, b"ConnectionContext", &[1; 8]);
        assert_eq!(list.len(), 34);
        for length in 0..list.len() {
            assert_eq!(check(&list[..length]), Err(0), "{length} bytes");
        }
        let mut wrong = list.clone();
        wrong[8 + 17] = b'x';
        assert_eq!(check(&wrong), Err(0));
        let mut wrong = list;
        wrong[5] = 16;
        assert_eq!(check(&wrong), Err(0), "a name length that does not match");
    }

    #[proves("C-035")]
    #[test]
    fn offset_of_the_bad_entry_is_told() {
        let chained = |second: Vec<u8>| [entry(36, b"ConnectionContext", &[1; 10]), second].concat();
        assert_eq!(check(&chained(entry(0, b"X", b""))), Ok(()));
        assert_eq!(check(&chained(entry(4, b"X", b""))), Err(36));
        let unaligned = entry(35, b"ConnectionContext", &[1; 8]);
        assert_eq!(check(&unaligned), Err(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }
    }
}
