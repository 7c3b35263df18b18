//! What file systems and their filters ask of names, and the drive letters of volumes.

use nt_abi::{DeviceObject, NtStatus, UnicodeString};
use nt_object::pattern;

use super::strings::create;
use super::{Units, upper};

gate::exports! {
    /// Names of files.
    pub static TABLE in "ntoskrnl.exe";
    "FsRtlIsNameInExpression" = fs_rtl_is_name_in_expression(expression: *const UnicodeString, name: *const UnicodeString, ignore_case: u8, capitals: *const u16) -> u8, irql <= PASSIVE, rules "K-200";
    "FsRtlDoesNameContainWildCards" = fs_rtl_does_name_contain_wild_cards(name: *const UnicodeString) -> u8, irql <= PASSIVE, rules "K-200";
    "FsRtlDissectName" = fs_rtl_dissect_name(name: *const UnicodeString, first: *mut UnicodeString, rest: *mut UnicodeString), irql <= PASSIVE, rules "K-200";
    "IoVolumeDeviceToDosName" | "RtlVolumeDeviceToDosName" = io_volume_device_to_dos_name(device: *mut DeviceObject, name: *mut UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-200";
}

const SEPARATOR: u16 = b'\\' as u16;

/// Of the name alone the letters become capitals: a pattern that ignores case has to be made of them already. An empty name
/// fits only an empty pattern, whatever `*` would say.
unsafe extern "win64" fn fs_rtl_is_name_in_expression(
    expression: *const UnicodeString,
    name: *const UnicodeString,
    ignore_case: u8,
    capitals: *const u16,
) -> u8 {
    let capital = |unit: u16| match (ignore_case, capitals.is_null()) {
        (0, _) => unit,
        (_, true) => upper(unit),
        // SAFETY: see below; a table has an entry for every character.
        (_, false) => unsafe { capitals.add(unit.into()).read_unaligned() },
    };
    // SAFETY: the driver's strings; bad ones fault and are blamed on it. The same holds for the whole module.
    let (expression, name): (Vec<u16>, Vec<u16>) =
        unsafe { (Units::of(expression).iter().collect(), Units::of(name).iter().map(capital).collect()) };
    let is_in = if expression.is_empty() || name.is_empty() {
        expression.is_empty() && name.is_empty()
    } else {
        pattern::fits(&expression, &name)
    };
    is_in.into()
}

/// Looks at the last component alone. The documentation says nothing of that, but it is what NT does: file systems ask it of
/// whole paths, whose folders they have found by then.
unsafe extern "win64" fn fs_rtl_does_name_contain_wild_cards(name: *const UnicodeString) -> u8 {
    // SAFETY: see `fs_rtl_is_name_in_expression`.
    let units = unsafe { Units::of(name) }.iter();
    units.rev().take_while(|&unit| unit != SEPARATOR).any(pattern::is_wild).into()
}

/// The name comes by value, which for a structure of its size means by address. Both parts lie inside of it.
unsafe extern "win64" fn fs_rtl_dissect_name(
    name: *const UnicodeString,
    first: *mut UnicodeString,
    rest: *mut UnicodeString,
) {
    // SAFETY: see `fs_rtl_is_name_in_expression`.
    unsafe {
        let name = Units::of(name);
        let part = |from: usize, to: usize| {
            let bytes = (to - from) as u16 * 2;
            let buffer = if bytes == 0 { std::ptr::null_mut() } else { name.start().wrapping_add(from).cast_mut() };
            UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer }
        };
        let begin = usize::from(name.iter().next() == Some(SEPARATOR));
        let end = name.iter().skip(begin).position(|unit| unit == SEPARATOR).map_or(name.count(), |at| begin + at);
        first.write_unaligned(part(begin, end));
        // Behind the separator, if there is one.
        rest.write_unaligned(part((end + 1).min(name.count()), name.count()));
    }
}

/// The drive letter that leads to a device, in pool that the driver frees. A device without one is no volume: it would not
/// even know the request that asks for its name.
unsafe extern "win64" fn io_volume_device_to_dos_name(device: *mut DeviceObject, name: *mut UnicodeString) -> NtStatus {
    let leads_to_it = |letter: &u8| {
        let link: Vec<u16> = format!(r"\??\{}:", char::from(*letter)).encode_utf16().collect();
        nt_object::lookup(&link).is_ok_and(|found| found.rest.is_empty() && found.body == device as u64)
    };
    match (b'A'..=b'Z').find(leads_to_it) {
        // SAFETY: see `fs_rtl_is_name_in_expression`.
        Some(letter) => unsafe { create(name, [letter.into(), b':'.into()].into_iter()) },
        None => NtStatus::INVALID_DEVICE_REQUEST,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{service, utf16};

    fn is_in(expression: &str, name: &str, ignore_case: bool) -> bool {
        let string = |units: &mut Vec<u16>| {
            let bytes = units.len() as u16 * 2;
            UnicodeString { length: bytes, maximum_length: bytes, _pad: 0, buffer: units.as_mut_ptr() }
        };
        let (mut expression, mut name) = (utf16(expression), utf16(name));
        let strings = [string(&mut expression), string(&mut name)];
        let [expression, name] = strings.each_ref().map(|string| &raw const *string as u64);
        service("FsRtlIsNameInExpression").call_word(&[expression, name, ignore_case.into(), 0]) as u8 != 0
    }

    /// What an expression means, straight from the words of its documentation, in exponential time.
    fn means(expression: &[char], name: &[char]) -> bool {
        let Some((&wanted, rest)) = expression.split_first() else { return name.is_empty() };
        let (next, tail) = (name.first().copied(), name.get(1..).unwrap_or_default());
        let takes_one = match wanted {
            '*' => next.is_some() && means(expression, tail),
            '<' => (next.is_some() && (next != Some('.') || tail.contains(&'.'))) && means(expression, tail),
            '>' => next.is_some_and(|next| next != '.') && means(rest, tail),
            '"' => next == Some('.') && means(rest, tail),
            '?' => next.is_some() && means(rest, tail),
            _ => next == Some(wanted) && means(rest, tail),
        };
        let takes_none = match wanted {
            '*' | '<' => true,
            '>' => next.is_none_or(|next| next == '.'),
            '"' => next.is_none(),
            _ => false,
        };
        takes_one || (takes_none && means(rest, name))
    }

    proptest! {
        #[test]
        fn name_is_in_an_expression_when_its_words_say_so(
            expression in r#"[AB.*?<>"]{1,7}"#, name in "[AaBb.]{1,8}", ignore_case: bool,
        ) {
            let seen = if ignore_case { name.to_uppercase() } else { name.clone() };
            let seen: Vec<char> = seen.chars().collect();
            let meant = means(&expression.chars().collect::<Vec<_>>(), &seen);
            prop_assert_eq!(is_in(&expression, &name, ignore_case), meant);
        }
    }
}
