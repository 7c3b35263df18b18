//! Ethernet addresses as text: six bytes in hexadecimal, with hyphens between them.

use nt_abi::NtStatus;

gate::exports! {
    /// Ethernet addresses.
    pub static TABLE in "ntoskrnl.exe";
    "RtlEthernetAddressToStringA" = rtl_ethernet_address_to_string_a(address: *const [u8; 6], text: *mut u8) -> *mut u8, rules "K-200";
    "RtlEthernetAddressToStringW" = rtl_ethernet_address_to_string_w(address: *const [u8; 6], text: *mut u16) -> *mut u16, rules "K-200";
    "RtlEthernetStringToAddressA" = rtl_ethernet_string_to_address_a(text: *const u8, end: *mut *const u8, address: *mut [u8; 6]) -> NtStatus, rules "K-200";
    "RtlEthernetStringToAddressW" = rtl_ethernet_string_to_address_w(text: *const u16, end: *mut *const u16, address: *mut [u8; 6]) -> NtStatus, rules "K-200";
}

const BYTES: usize = 6;
/// Characters, without a terminator.
const LENGTH: usize = BYTES * 3 - 1;

fn text_of(address: [u8; BYTES]) -> [u8; LENGTH + 1] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = [b'-'; LENGTH + 1];
    for (place, byte) in address.into_iter().enumerate() {
        text[place * 3] = DIGITS[usize::from(byte >> 4)];
        text[place * 3 + 1] = DIGITS[usize::from(byte & 15)];
    }
    text[LENGTH] = 0;
    text
}

/// Reads an address; gives how many characters were part of it, also when it is none.
fn read(character: impl Fn(usize) -> u16) -> (usize, Option<[u8; BYTES]>) {
    let digit = |place| char::from_u32(character(place).into()).and_then(|character| character.to_digit(16));
    let mut address = [0; BYTES];
    let mut place = 0;
    for (index, byte) in address.iter_mut().enumerate() {
        if index > 0 {
            if character(place) != u16::from(b'-') {
                return (place, None);
            }
            place += 1;
        }
        let Some(high) = digit(place) else { return (place, None) };
        place += 1;
        *byte = high as u8;
        if let Some(low) = digit(place) {
            place += 1;
            *byte = (high << 4 | low) as u8;
        }
    }
    (place, Some(address))
}

/// Gives the address of the terminator.
unsafe extern "win64" fn rtl_ethernet_address_to_string_a(address: *const [u8; 6], text: *mut u8) -> *mut u8 {
    // SAFETY: the driver's pointers; a bad one faults and is blamed on it. The same holds for the whole module.
    unsafe {
        text.cast::<[u8; LENGTH + 1]>().write(text_of(address.read()));
        text.add(LENGTH)
    }
}

unsafe extern "win64" fn rtl_ethernet_address_to_string_w(address: *const [u8; 6], text: *mut u16) -> *mut u16 {
    // SAFETY: see `rtl_ethernet_address_to_string_a`.
    unsafe {
        text.cast::<[u16; LENGTH + 1]>().write_unaligned(text_of(address.read()).map(u16::from));
        text.add(LENGTH)
    }
}

unsafe extern "win64" fn rtl_ethernet_string_to_address_a(
    text: *const u8,
    end: *mut *const u8,
    address: *mut [u8; 6],
) -> NtStatus {
    // SAFETY: see `rtl_ethernet_address_to_string_a`. Reading stops at the terminator, which is no digit.
    unsafe {
        let (length, found) = read(|place| (*text.add(place)).into());
        end.write_unaligned(text.add(length));
        give(found, address)
    }
}

unsafe extern "win64" fn rtl_ethernet_string_to_address_w(
    text: *const u16,
    end: *mut *const u16,
    address: *mut [u8; 6],
) -> NtStatus {
    // SAFETY: as in `rtl_ethernet_string_to_address_a`.
    unsafe {
        let (length, found) = read(|place| text.add(place).read_unaligned());
        end.write_unaligned(text.add(length));
        give(found, address)
    }
}

unsafe fn give(found: Option<[u8; BYTES]>, address: *mut [u8; BYTES]) -> NtStatus {
    let Some(found) = found else { return NtStatus::INVALID_PARAMETER };
    // SAFETY: the driver's result.
    unsafe { address.write(found) };
    NtStatus::SUCCESS
}
