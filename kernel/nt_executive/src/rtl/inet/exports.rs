//! The win64 faces of addresses as text.

use gate::memory::put;
use nt_abi::NtStatus;

use super::{BadAt, Read, port, v4, v6};

gate::exports! {
    /// IP addresses as text.
    pub static TABLE in "ntoskrnl.exe";
    "RtlIpv4AddressToStringA" = rtl_ipv4_address_to_string_a(address: *const [u8; 4], to: *mut u8) -> *mut u8, rules "K-200";
    "RtlIpv4AddressToStringW" = rtl_ipv4_address_to_string_w(address: *const [u8; 4], to: *mut u16) -> *mut u16, rules "K-200";
    "RtlIpv4AddressToStringExA" = rtl_ipv4_address_to_string_ex_a(address: *const [u8; 4], port: u16, to: *mut u8, room: *mut u32) -> NtStatus, rules "K-200";
    "RtlIpv4AddressToStringExW" = rtl_ipv4_address_to_string_ex_w(address: *const [u8; 4], port: u16, to: *mut u16, room: *mut u32) -> NtStatus, rules "K-200";
    "RtlIpv4StringToAddressA" = rtl_ipv4_string_to_address_a(text: *const u8, strict: u8, end: *mut *const u8, address: *mut [u8; 4]) -> NtStatus, rules "K-200";
    "RtlIpv4StringToAddressW" = rtl_ipv4_string_to_address_w(text: *const u16, strict: u8, end: *mut *const u16, address: *mut [u8; 4]) -> NtStatus, rules "K-200";
    "RtlIpv4StringToAddressExA" = rtl_ipv4_string_to_address_ex_a(text: *const u8, strict: u8, address: *mut [u8; 4], port: *mut u16) -> NtStatus, rules "K-200";
    "RtlIpv4StringToAddressExW" = rtl_ipv4_string_to_address_ex_w(text: *const u16, strict: u8, address: *mut [u8; 4], port: *mut u16) -> NtStatus, rules "K-200";
    "RtlIpv6AddressToStringA" = rtl_ipv6_address_to_string_a(address: *const [u8; 16], to: *mut u8) -> *mut u8, rules "K-200";
    "RtlIpv6AddressToStringW" = rtl_ipv6_address_to_string_w(address: *const [u8; 16], to: *mut u16) -> *mut u16, rules "K-200";
    "RtlIpv6AddressToStringExA" = rtl_ipv6_address_to_string_ex_a(address: *const [u8; 16], scope: u32, port: u16, to: *mut u8, room: *mut u32) -> NtStatus, rules "K-200";
    "RtlIpv6AddressToStringExW" = rtl_ipv6_address_to_string_ex_w(address: *const [u8; 16], scope: u32, port: u16, to: *mut u16, room: *mut u32) -> NtStatus, rules "K-200";
    "RtlIpv6StringToAddressA" = rtl_ipv6_string_to_address_a(text: *const u8, end: *mut *const u8, address: *mut [u8; 16]) -> NtStatus, rules "K-200";
    "RtlIpv6StringToAddressW" = rtl_ipv6_string_to_address_w(text: *const u16, end: *mut *const u16, address: *mut [u8; 16]) -> NtStatus, rules "K-200";
    "RtlIpv6StringToAddressExA" = rtl_ipv6_string_to_address_ex_a(text: *const u8, address: *mut [u8; 16], scope: *mut u32, port: *mut u16) -> NtStatus, rules "K-200";
    "RtlIpv6StringToAddressExW" = rtl_ipv6_string_to_address_ex_w(text: *const u16, address: *mut [u8; 16], scope: *mut u32, port: *mut u16) -> NtStatus, rules "K-200";
}

/// No address is longer, with brackets, scope and port.
const TEXT_MAX: usize = 80;

// All pointers of this module are the driver's; a bad one faults and is blamed on it. That is what every SAFETY note
// below refers to.

/// A character of either kind.
trait Unit: Copy {
    fn byte(self) -> u8;
    fn of(byte: u8) -> Self;
}

impl Unit for u8 {
    fn byte(self) -> u8 {
        self
    }
    fn of(byte: u8) -> Self {
        byte
    }
}

impl Unit for u16 {
    /// What is not ASCII is no part of an address.
    fn byte(self) -> u8 {
        u8::try_from(self).unwrap_or(b'?')
    }
    fn of(byte: u8) -> Self {
        byte.into()
    }
}

/// The characters in front of the NUL, as many as an address could have.
unsafe fn read<T: Unit>(text: *const T) -> Vec<u8> {
    // SAFETY: the driver's text.
    (0..TEXT_MAX)
        .map(|place| unsafe { text.add(place).read_unaligned() }.byte())
        .take_while(|&byte| byte != 0)
        .collect()
}

/// Stores a text; gives where its terminator is.
unsafe fn store<T: Unit>(text: &str, to: *mut T) -> *mut T {
    for (place, byte) in text.bytes().chain([0]).enumerate() {
        // SAFETY: the driver's buffer.
        unsafe { to.add(place).write_unaligned(T::of(byte)) };
    }
    to.wrapping_add(text.len())
}

/// Stores a text if there is room, and always how much is needed.
unsafe fn store_counted<T: Unit>(text: &str, to: *mut T, room: *mut u32) -> NtStatus {
    if room.is_null() || to.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's buffer and length.
    unsafe {
        let (needed, given) = (text.len() as u32 + 1, room.read_unaligned());
        put(room, needed);
        if given < needed {
            return NtStatus::INVALID_PARAMETER;
        }
        store(text, to);
    }
    NtStatus::SUCCESS
}

/// Tells where reading stopped, and the address if there is one.
unsafe fn answer<T, A>(found: Read<A>, text: *const T, end: *mut *const T, address: *mut A) -> NtStatus {
    let (taken, status) = match &found {
        Ok((_, taken)) => (*taken, NtStatus::SUCCESS),
        Err(BadAt(place)) => (*place, NtStatus::INVALID_PARAMETER),
    };
    // SAFETY: the driver's results.
    unsafe {
        put(end, text.add(taken));
        if let Ok((found, _)) = found {
            address.write_unaligned(found);
        }
    }
    status
}

/// A port in network order as text behind an address, nothing for port 0.
fn port_text(port: u16) -> String {
    if port == 0 { String::new() } else { format!(":{}", u16::from_be(port)) }
}

unsafe extern "win64" fn rtl_ipv4_address_to_string_a(address: *const [u8; 4], to: *mut u8) -> *mut u8 {
    // SAFETY: the driver's address and buffer.
    unsafe { store(&v4::text(address.read()), to) }
}

unsafe extern "win64" fn rtl_ipv4_address_to_string_w(address: *const [u8; 4], to: *mut u16) -> *mut u16 {
    // SAFETY: the driver's address and buffer.
    unsafe { store(&v4::text(address.read()), to) }
}

unsafe fn v4_counted<T: Unit>(address: *const [u8; 4], port: u16, to: *mut T, room: *mut u32) -> NtStatus {
    if address.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's address and buffer.
    unsafe { store_counted(&format!("{}{}", v4::text(address.read()), port_text(port)), to, room) }
}

unsafe extern "win64" fn rtl_ipv4_address_to_string_ex_a(
    address: *const [u8; 4],
    port: u16,
    to: *mut u8,
    room: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's address and buffer.
    unsafe { v4_counted(address, port, to, room) }
}

unsafe extern "win64" fn rtl_ipv4_address_to_string_ex_w(
    address: *const [u8; 4],
    port: u16,
    to: *mut u16,
    room: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's address and buffer.
    unsafe { v4_counted(address, port, to, room) }
}

unsafe extern "win64" fn rtl_ipv4_string_to_address_a(
    text: *const u8,
    strict: u8,
    end: *mut *const u8,
    address: *mut [u8; 4],
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { answer(v4::parse(&read(text), strict != 0), text, end, address) }
}

unsafe extern "win64" fn rtl_ipv4_string_to_address_w(
    text: *const u16,
    strict: u8,
    end: *mut *const u16,
    address: *mut [u8; 4],
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { answer(v4::parse(&read(text), strict != 0), text, end, address) }
}

unsafe fn v4_with_port<T: Unit>(text: *const T, strict: u8, address: *mut [u8; 4], into: *mut u16) -> NtStatus {
    if text.is_null() || address.is_null() || into.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's text and results.
    unsafe {
        let bytes = read(text);
        let found = v4::parse(&bytes, strict != 0).ok();
        let Some((found, port)) = found.and_then(|(found, taken)| Some((found, port(&bytes[taken..])?))) else {
            return NtStatus::INVALID_PARAMETER;
        };
        address.write_unaligned(found);
        into.write_unaligned(port.to_be());
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_ipv4_string_to_address_ex_a(
    text: *const u8,
    strict: u8,
    address: *mut [u8; 4],
    port: *mut u16,
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { v4_with_port(text, strict, address, port) }
}

unsafe extern "win64" fn rtl_ipv4_string_to_address_ex_w(
    text: *const u16,
    strict: u8,
    address: *mut [u8; 4],
    port: *mut u16,
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { v4_with_port(text, strict, address, port) }
}

/// Groups of an address in network order.
fn groups(bytes: [u8; 16]) -> [u16; 8] {
    std::array::from_fn(|group| u16::from_be_bytes([bytes[2 * group], bytes[2 * group + 1]]))
}

fn bytes(groups: [u16; 8]) -> [u8; 16] {
    std::array::from_fn(|byte| groups[byte / 2].to_be_bytes()[byte % 2])
}

unsafe extern "win64" fn rtl_ipv6_address_to_string_a(address: *const [u8; 16], to: *mut u8) -> *mut u8 {
    // SAFETY: the driver's address and buffer.
    unsafe { store(&v6::text(groups(address.read())), to) }
}

unsafe extern "win64" fn rtl_ipv6_address_to_string_w(address: *const [u8; 16], to: *mut u16) -> *mut u16 {
    // SAFETY: the driver's address and buffer.
    unsafe { store(&v6::text(groups(address.read())), to) }
}

unsafe fn v6_counted<T: Unit>(address: *const [u8; 16], scope: u32, port: u16, to: *mut T, room: *mut u32) -> NtStatus {
    if address.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's address and buffer.
    unsafe {
        let mut text = v6::text(groups(address.read()));
        if scope != 0 {
            text.push_str(&format!("%{scope}"));
        }
        if port != 0 {
            text = format!("[{text}]{}", port_text(port));
        }
        store_counted(&text, to, room)
    }
}

unsafe extern "win64" fn rtl_ipv6_address_to_string_ex_a(
    address: *const [u8; 16],
    scope: u32,
    port: u16,
    to: *mut u8,
    room: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's address and buffer.
    unsafe { v6_counted(address, scope, port, to, room) }
}

unsafe extern "win64" fn rtl_ipv6_address_to_string_ex_w(
    address: *const [u8; 16],
    scope: u32,
    port: u16,
    to: *mut u16,
    room: *mut u32,
) -> NtStatus {
    // SAFETY: the driver's address and buffer.
    unsafe { v6_counted(address, scope, port, to, room) }
}

fn v6_bytes(text: &[u8]) -> Read<[u8; 16]> {
    v6::parse(text).map(|(found, taken)| (bytes(found), taken))
}

unsafe extern "win64" fn rtl_ipv6_string_to_address_a(
    text: *const u8,
    end: *mut *const u8,
    address: *mut [u8; 16],
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { answer(v6_bytes(&read(text)), text, end, address) }
}

unsafe extern "win64" fn rtl_ipv6_string_to_address_w(
    text: *const u16,
    end: *mut *const u16,
    address: *mut [u8; 16],
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { answer(v6_bytes(&read(text)), text, end, address) }
}

/// `address`, `address%scope`, or either in brackets with a port behind: the parts.
fn whole(text: &[u8]) -> Option<([u8; 16], u32, u16)> {
    let bracketed = text.first() == Some(&b'[');
    let inner = if bracketed { &text[1..] } else { text };
    let (address, taken) = v6_bytes(inner).ok()?;
    let mut rest = &inner[taken..];
    let mut scope = 0u32;
    if let Some(digits) = rest.strip_prefix(b"%") {
        let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        scope = std::str::from_utf8(&digits[..count]).ok()?.parse().ok()?;
        rest = &digits[count..];
    }
    let port = match bracketed {
        true => port(rest.strip_prefix(b"]")?)?,
        false => rest.is_empty().then_some(0)?,
    };
    Some((address, scope, port))
}

unsafe fn v6_whole<T: Unit>(text: *const T, address: *mut [u8; 16], scope: *mut u32, port: *mut u16) -> NtStatus {
    if text.is_null() || address.is_null() || scope.is_null() || port.is_null() {
        return NtStatus::INVALID_PARAMETER;
    }
    // SAFETY: the driver's text and results.
    unsafe {
        let Some((found, found_scope, found_port)) = whole(&read(text)) else { return NtStatus::INVALID_PARAMETER };
        address.write_unaligned(found);
        scope.write_unaligned(found_scope);
        port.write_unaligned(found_port.to_be());
    }
    NtStatus::SUCCESS
}

unsafe extern "win64" fn rtl_ipv6_string_to_address_ex_a(
    text: *const u8,
    address: *mut [u8; 16],
    scope: *mut u32,
    port: *mut u16,
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { v6_whole(text, address, scope, port) }
}

unsafe extern "win64" fn rtl_ipv6_string_to_address_ex_w(
    text: *const u16,
    address: *mut [u8; 16],
    scope: *mut u32,
    port: *mut u16,
) -> NtStatus {
    // SAFETY: the driver's text and results.
    unsafe { v6_whole(text, address, scope, port) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn terminator_and_needed_room_are_told() {
        let (mut buffer, mut room) = ([b'#'; 24], 10);
        let address = [10, 0, 0, 1];
        // SAFETY: buffers of this test.
        unsafe {
            let end = rtl_ipv4_address_to_string_a(&address, buffer.as_mut_ptr());
            assert_eq!((end as usize - buffer.as_ptr() as usize, &buffer[..9]), (8, &b"10.0.0.1\0"[..]));
            let port = 80u16.to_be();
            let status = rtl_ipv4_address_to_string_ex_a(&address, port, buffer.as_mut_ptr(), &mut room);
            assert_eq!((status, room), (NtStatus::INVALID_PARAMETER, 12));
            let status = rtl_ipv4_address_to_string_ex_a(&address, port, buffer.as_mut_ptr(), &mut room);
            assert_eq!((status, &buffer[..12]), (NtStatus::SUCCESS, &b"10.0.0.1:80\0"[..]));
        }
    }

    #[test]
    fn reading_tells_where_it_stopped() {
        let text = c"1.2.3.4 x".to_bytes_with_nul();
        let (mut end, mut address) = (std::ptr::null(), [0; 4]);
        // SAFETY: a text of this test.
        let status = unsafe { rtl_ipv4_string_to_address_a(text.as_ptr(), 1, &mut end, &mut address) };
        assert_eq!((status, address, end as usize - text.as_ptr() as usize), (NtStatus::SUCCESS, [1, 2, 3, 4], 7));
    }

    #[test]
    fn whole_texts_have_brackets_scope_and_port() {
        let localhost = bytes([0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(whole(b"::1"), Some((localhost, 0, 0)));
        assert_eq!(whole(b"::1%7"), Some((localhost, 7, 0)));
        assert_eq!(whole(b"[::1%7]:443"), Some((localhost, 7, 443)));
        for bad in [&b"[::1"[..], b"::1:", b"::1%", b"[::1]:0", b"[::1]:70000", b"[::1]x", b"::1 "] {
            assert_eq!(whole(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text: Vec<u8>) {
            let _ = whole(&text);
        }
    }
}
