//! GUIDs as text, and new ones.

use nt_abi::{NtStatus, UnicodeString};

use super::Units;
use super::strings::create;
use crate::random;

gate::exports! {
    /// GUIDs.
    pub static TABLE in "ntoskrnl.exe";
    "RtlStringFromGUID" = rtl_string_from_guid(guid: *const Guid, to: *mut UnicodeString) -> NtStatus, irql <= PASSIVE, rules "K-200";
    "RtlGUIDFromString" = rtl_guid_from_string(string: *const UnicodeString, guid: *mut Guid) -> NtStatus, rules "K-200";
    "ExUuidCreate" = ex_uuid_create(guid: *mut Guid) -> NtStatus, irql <= PASSIVE, rules "K-200";
}

/// `GUID`.
#[doc(alias = "GUID")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Guid {
    a: u32,
    b: u16,
    c: u16,
    d: [u8; 8],
}

const _: () = assert!(size_of::<Guid>() == 16);

impl Guid {
    /// All zeros.
    pub const NONE: Self = Self { a: 0, b: 0, c: 0, d: [0; 8] };

    /// A new one (version 4).
    pub fn random() -> Self {
        let bytes = (u128::from(random::next()) << 64 | u128::from(random::next())).to_le_bytes();
        let [a0, a1, a2, a3, b0, b1, c0, c1, d @ ..] = bytes;
        let mut made = Self {
            a: u32::from_le_bytes([a0, a1, a2, a3]),
            b: u16::from_le_bytes([b0, b1]),
            c: u16::from_le_bytes([c0, c1]) & 0x0FFF | 0x4000,
            d,
        };
        made.d[0] = made.d[0] & 0x3F | 0x80;
        made
    }

    /// In braces, as `RtlStringFromGUID` writes it.
    pub fn text(&self) -> String {
        let [d0, d1, rest @ ..] = self.d;
        let rest: String = rest.iter().map(|byte| format!("{byte:02X}")).collect();
        format!("{{{:08X}-{:04X}-{:04X}-{d0:02X}{d1:02X}-{rest}}}", self.a, self.b, self.c)
    }

    /// Reads exactly the form that [`Guid::text`] writes, in any case.
    fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('{')?.strip_suffix('}')?;
        let parts: Vec<&str> = inner.split('-').collect();
        let lengths = parts.iter().map(|part| part.len());
        let plain = parts.iter().all(|part| part.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if !plain || !lengths.eq([8, 4, 4, 4, 12]) {
            return None;
        }
        let number = |part: usize| u64::from_str_radix(parts[part], 16).ok();
        let mut d = [0; 8];
        d[..2].copy_from_slice(&(number(3)? as u16).to_be_bytes());
        d[2..].copy_from_slice(&number(4)?.to_be_bytes()[2..]);
        Some(Self { a: number(0)? as u32, b: number(1)? as u16, c: number(2)? as u16, d })
    }
}

unsafe extern "win64" fn rtl_string_from_guid(guid: *const Guid, to: *mut UnicodeString) -> NtStatus {
    // SAFETY: the driver's pointers; bad ones fault and are blamed on it. The same holds for the whole module.
    unsafe {
        let text: Vec<u16> = (*guid).text().encode_utf16().collect();
        create(to, text.into_iter())
    }
}

unsafe extern "win64" fn rtl_guid_from_string(string: *const UnicodeString, guid: *mut Guid) -> NtStatus {
    // SAFETY: see `rtl_string_from_guid`.
    unsafe {
        let units: Vec<u16> = Units::of(string).iter().collect();
        match Guid::parse(&String::from_utf16_lossy(&units)) {
            Some(found) => {
                guid.write_unaligned(found);
                NtStatus::SUCCESS
            }
            None => NtStatus::INVALID_PARAMETER,
        }
    }
}

unsafe extern "win64" fn ex_uuid_create(guid: *mut Guid) -> NtStatus {
    // SAFETY: see `rtl_string_from_guid`.
    unsafe { guid.write_unaligned(Guid::random()) };
    NtStatus::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "{00112233-4455-6677-8899-AABBCCDDEEFF}";

    #[test]
    fn text_has_the_usual_form() {
        let guid = Guid { a: 0x0011_2233, b: 0x4455, c: 0x6677, d: [0x88, 0x99, 0xAA, 0xBB, 0xCC, 0xDD, 0xEE, 0xFF] };
        assert_eq!(guid.text(), TEXT);
        assert_eq!(Guid::parse(TEXT), Some(guid));
        assert_eq!(Guid::parse(&TEXT.to_ascii_lowercase()), Some(guid));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in ["", "{}", &TEXT[1..], &TEXT[..37], &TEXT.replace('A', "G"), &TEXT.replace("4455-", "445-5")] {
            assert_eq!(Guid::parse(text), None, "{text}");
        }
    }

    #[test]
    fn new_ones_differ_and_say_their_version() {
        let create = || {
            let mut guid = Guid { a: 0, b: 0, c: 0, d: [0; 8] };
            // SAFETY: a GUID of this test.
            assert_eq!(unsafe { ex_uuid_create(&mut guid) }, NtStatus::SUCCESS);
            guid
        };
        let (one, other) = (create(), create());
        assert_ne!(one, other);
        assert_eq!((one.c >> 12, one.d[0] >> 6), (4, 2));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: String) {
            let _ = Guid::parse(&text);
        }
    }
}
