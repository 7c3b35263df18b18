//! What queries of keys and values store in a driver's buffer.
//!
//! Every class has a fixed part. A buffer shorter than that gets nothing and STATUS_BUFFER_TOO_SMALL; one that holds
//! it but not all the rest gets what fits and STATUS_BUFFER_OVERFLOW. Either way the length that would have been enough is
//! told.

use nt_abi::NtStatus;

use super::tree::{KeyId, Tree, Value};

/// An answer, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    bytes: Vec<u8>,
    /// Bytes of the fixed part.
    fixed: usize,
}

impl Answer {
    fn new(fixed: Vec<u8>) -> Self {
        Self { fixed: fixed.len(), bytes: fixed }
    }

    fn then(mut self, units: &[u16]) -> Self {
        self.bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
        self
    }

    /// What a buffer of `length` bytes gets, and with which status.
    pub fn cut(&self, length: usize) -> (&[u8], NtStatus) {
        if length < self.fixed {
            (&[], NtStatus::BUFFER_TOO_SMALL)
        } else if length < self.bytes.len() {
            (&self.bytes[..length], NtStatus::BUFFER_OVERFLOW)
        } else {
            (&self.bytes, NtStatus::SUCCESS)
        }
    }

    /// The length that is enough.
    pub fn length(&self) -> u32 {
        self.bytes.len() as u32
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn bytes_of(units: &[u16]) -> u32 {
    (units.len() * 2) as u32
}

/// `KEY_VALUE_INFORMATION_CLASS`.
///
/// # Errors
/// STATUS_INVALID_PARAMETER for a class that does not exist.
pub fn of_value(class: u32, value: &Value) -> Result<Answer, NtStatus> {
    let (name, data) = (bytes_of(&value.name), value.data.len() as u32);
    Ok(match class {
        // KeyValueBasicInformation
        0 => Answer::new(words(&[0, value.kind, name])).then(&value.name),
        // KeyValueFullInformation, KeyValueFullInformationAlign64
        1 | 3 => {
            const NAME: u32 = 20;
            let offset = (NAME + name).next_multiple_of(if class == 1 { 4 } else { 8 });
            let mut answer = Answer::new(words(&[0, value.kind, offset, data, name])).then(&value.name);
            if !value.data.is_empty() {
                answer.bytes.resize(offset as usize, 0);
                answer.bytes.extend_from_slice(&value.data);
            }
            answer
        }
        // KeyValuePartialInformation
        2 => {
            let mut answer = Answer::new(words(&[0, value.kind, data]));
            answer.bytes.extend_from_slice(&value.data);
            answer
        }
        // KeyValuePartialInformationAlign64
        4 => {
            let mut answer = Answer::new(words(&[value.kind, data]));
            answer.bytes.extend_from_slice(&value.data);
            answer
        }
        _ => return Err(NtStatus::INVALID_PARAMETER),
    })
}

/// `KEY_INFORMATION_CLASS`.
///
/// # Errors
/// STATUS_KEY_DELETED, STATUS_INVALID_PARAMETER for a class that does not exist.
pub fn of_key(class: u32, tree: &Tree, id: KeyId) -> Result<Answer, NtStatus> {
    let key = tree.key(id)?;
    let time = key.last_write as u64;
    let (low, high) = (time as u32, (time >> 32) as u32);
    let (name, class_name) = (bytes_of(&key.name), bytes_of(&key.class));
    let children = || key.subkeys.iter().filter_map(|&id| tree.key(id).ok());
    let longest = |lengths: &mut dyn Iterator<Item = u32>| lengths.max().unwrap_or(0);
    let subkeys = key.subkeys.len() as u32;
    let values = key.values.len() as u32;
    let name_max = longest(&mut children().map(|key| bytes_of(&key.name)));
    let value_name_max = longest(&mut key.values.iter().map(|value| bytes_of(&value.name)));
    let value_data_max = longest(&mut key.values.iter().map(|value| value.data.len() as u32));
    Ok(match class {
        // KeyBasicInformation
        0 => Answer::new(words(&[low, high, 0, name])).then(&key.name),
        // KeyNodeInformation
        1 => {
            const NAME: u32 = 24;
            let offset = if class_name == 0 { u32::MAX } else { (NAME + name).next_multiple_of(4) };
            let mut answer = Answer::new(words(&[low, high, 0, offset, class_name, name])).then(&key.name);
            if class_name != 0 {
                answer.bytes.resize(offset as usize, 0);
                answer = answer.then(&key.class);
            }
            answer
        }
        // KeyFullInformation
        2 => {
            const CLASS: u32 = 44;
            let offset = if class_name == 0 { u32::MAX } else { CLASS };
            let class_max = longest(&mut children().map(|key| bytes_of(&key.class)));
            let counts = [
                low,
                high,
                0,
                offset,
                class_name,
                subkeys,
                name_max,
                class_max,
                values,
                value_name_max,
                value_data_max,
            ];
            Answer::new(words(&counts)).then(&key.class)
        }
        // KeyNameInformation
        3 => {
            let path = tree.path(id);
            Answer::new(words(&[bytes_of(&path)])).then(&path)
        }
        // KeyCachedInformation; it ends with padding to the alignment of its time.
        4 => Answer::new(words(&[low, high, 0, subkeys, name_max, values, value_name_max, value_data_max, name, 0])),
        _ => return Err(NtStatus::INVALID_PARAMETER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::utf16;

    fn value() -> Value {
        Value { name: utf16("Abc"), kind: 4, data: vec![1, 2, 3, 4] }
    }

    #[proves::proves("K-167")]
    #[test]
    fn partial_information_holds_index_type_length_and_data() {
        let answer = of_value(2, &value()).expect("a class");
        assert_eq!(answer.bytes, [0, 0, 0, 0, 4, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn buffer_shorter_than_the_fixed_part_gets_nothing() {
        let answer = of_value(2, &value()).expect("a class");
        assert_eq!(answer.cut(11), (&[][..], NtStatus::BUFFER_TOO_SMALL));
        assert_eq!(answer.cut(0).1, NtStatus::BUFFER_TOO_SMALL);
        assert_eq!(answer.cut(12), (&answer.bytes[..12], NtStatus::BUFFER_OVERFLOW));
        assert_eq!(answer.cut(15), (&answer.bytes[..15], NtStatus::BUFFER_OVERFLOW));
        assert_eq!(answer.cut(16), (&answer.bytes[..], NtStatus::SUCCESS));
        assert_eq!(answer.length(), 16);
    }

    #[test]
    fn data_of_full_information_is_aligned_behind_the_name() {
        let answer = of_value(1, &value()).expect("a class");
        // 20 + 6 bytes of name, then up to a multiple of four.
        assert_eq!(answer.bytes[8..12], 28u32.to_le_bytes());
        assert_eq!(answer.bytes[28..], [1, 2, 3, 4]);
        let answer = of_value(3, &value()).expect("a class");
        assert_eq!(answer.bytes[8..12], 32u32.to_le_bytes());
    }

    #[test]
    fn full_information_of_a_key_counts_what_lies_in_it() {
        let mut tree = Tree::new();
        let id = tree.create_all(tree.root(), &utf16("Key"), 7).expect("a key");
        tree.create(id, &utf16("Longer"), false, 7).expect("a key");
        tree.create(id, &utf16("b"), false, 7).expect("a key");
        tree.set_value(id, value(), 9).expect("set");
        let answer = of_key(2, &tree, id).expect("a class");
        let words: Vec<_> =
            answer.bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("four bytes"))).collect();
        assert_eq!(words, [9, 0, 0, u32::MAX, 0, 2, 12, 0, 1, 6, 4]);
        assert_eq!(of_key(9, &tree, id), Err(NtStatus::INVALID_PARAMETER));
    }
}
