//! Valid images with bytes changed at random: an error or a load, never a crash, a hang or much memory.

use proptest::prelude::*;
use test_image::HEADERS;

use super::{driver, load_file};
use crate::ImageFile;

/// A change of a file.
#[derive(Clone, Debug)]
enum Change {
    Byte(usize, u8),
    /// A word of a value that headers and tables are likely to trip over.
    Word(usize, u32),
    Cut(usize),
}

impl Change {
    fn apply(&self, file: &mut Vec<u8>) {
        match *self {
            Self::Byte(at, byte) if at < file.len() => file[at] = byte,
            Self::Word(at, word) if at + 4 <= file.len() => file[at..at + 4].copy_from_slice(&word.to_le_bytes()),
            Self::Cut(length) => file.truncate(length),
            _ => {}
        }
    }
}

fn change(length: usize) -> impl Strategy<Value = Change> {
    // Half of the changes hit the headers, where most decisions are made.
    let place = || prop_oneof![0..HEADERS as usize, 0..length];
    let word =
        prop_oneof![Just(0), Just(u32::MAX), Just(0x8000_0000), Just(0x7FFF_FFFF), 0..0x1_0000_u32, any::<u32>(),];
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        4 => (place(), word).prop_map(|(at, word)| Change::Word(at, word)),
        1 => (0..length).prop_map(Change::Cut),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(change(driver().build().len()), 1..6)
}

fn changed(changes: &[Change]) -> Vec<u8> {
    let mut file = driver().build();
    changes.iter().for_each(|change| change.apply(&mut file));
    file
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn mutated_image_is_refused_or_loaded_and_reading_it_agrees(changes in changes()) {
        let file = changed(&changes);
        let loaded = load_file(&file);
        let Ok(mut read) = ImageFile::read(&file) else {
            prop_assert!(loaded.is_err(), "loaded but not read");
            return Ok(());
        };
        let before = read.bytes(0..read.headers().size).map(<[u8]>::to_vec);
        let checked = read.check();
        prop_assert_eq!(loaded.is_ok(), checked.is_ok(), "{:?} {:?}", loaded, checked);
        prop_assert_eq!(read.bytes(0..read.headers().size).map(<[u8]>::to_vec), before, "a check changes nothing");
        if loaded.is_ok() {
            let functions = read.functions().expect("what was loaded can be read");
            let code = read.code(&functions).expect("what was loaded can be read");
            let starts: Vec<_> = code.instructions().map(|(offset, _)| offset).collect();
            prop_assert!(code.rewritten().all(|offset| starts.binary_search(&offset).is_ok()));
        }
    }

    #[test]
    fn bytes_behind_a_valid_beginning_are_refused_or_loaded(changes in changes(), tail in any::<Vec<u8>>()) {
        let mut file = changed(&changes);
        file.truncate(HEADERS as usize);
        file.extend(tail);
        let _ = load_file(&file);
    }
}
