//! NetBIOS addresses in TDI's layout (C-038, C-045, D-261).

use gate::memory::touch;
use nt_abi::object::attributes;
use nt_abi::tdi::AddressType;
use nt_abi::{Handle, NtStatus, UnicodeString, ea};
use nt_io::file::{self, Open};

gate::exports! {
    /// NetBIOS addresses.
    pub static TABLE in "tdi.sys";
    "TdiBuildNetbiosAddress" = tdi_build_netbios_address(name: *const [u8; 16], group: u8, address: *mut [u8; ADDRESS_LENGTH]), irql <= DISPATCH, rules "C-045";
    "TdiBuildNetbiosAddressEa" = tdi_build_netbios_address_ea(buffer: *mut [u8; EA_LENGTH], group: u8, name: *const [u8; 16]) -> NtStatus, irql <= DISPATCH, rules "C-030 C-038";
    "TdiOpenNetbiosAddress" = tdi_open_netbios_address(handle: *mut Handle, buffer: *mut [u8; EA_LENGTH], device: *const UnicodeString, name: *const [u8; 16]) -> NtStatus, irql <= PASSIVE, rules "D-261";
}

/// Bytes of a TA_NETBIOS_ADDRESS.
const ADDRESS_LENGTH: usize = 26;
/// Bytes of an EA entry that holds one.
const EA_LENGTH: usize = 51;
/// `TDI_ADDRESS_LENGTH_NETBIOS`.
const NETBIOS_LENGTH: u16 = 18;
/// `FILE_SHARE_READ | FILE_SHARE_WRITE`.
const SHARE_ALL: u16 = 3;
/// `FILE_OPEN_IF`, in the place where the create parameters hold the disposition.
const FILE_OPEN_IF: u32 = 3 << 24;
/// `GENERIC_READ | GENERIC_WRITE`.
const GENERIC_ACCESS: u32 = 0xC000_0000;

fn address(name: &[u8; 16], is_group: bool) -> [u8; ADDRESS_LENGTH] {
    let mut bytes = [0; ADDRESS_LENGTH];
    bytes[..4].copy_from_slice(&1_i32.to_le_bytes());
    bytes[4..6].copy_from_slice(&NETBIOS_LENGTH.to_le_bytes());
    bytes[6..8].copy_from_slice(&AddressType::NETBIOS.0.to_le_bytes());
    bytes[8..10].copy_from_slice(&u16::from(is_group).to_le_bytes());
    bytes[10..].copy_from_slice(name);
    bytes
}

fn entry(name: &[u8; 16], is_group: bool) -> [u8; EA_LENGTH] {
    let mut bytes = [0; EA_LENGTH];
    bytes[ea::EA_NAME_LENGTH] = ea::TRANSPORT_ADDRESS.len() as u8;
    bytes[ea::EA_VALUE_LENGTH..ea::EA_NAME].copy_from_slice(&(ADDRESS_LENGTH as u16).to_le_bytes());
    let value = ea::EA_NAME + ea::TRANSPORT_ADDRESS.len() + 1;
    bytes[ea::EA_NAME..value - 1].copy_from_slice(ea::TRANSPORT_ADDRESS);
    bytes[value..].copy_from_slice(&address(name, is_group));
    bytes
}

unsafe extern "win64" fn tdi_build_netbios_address(name: *const [u8; 16], group: u8, to: *mut [u8; ADDRESS_LENGTH]) {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same holds
    // for every function of this module.
    unsafe { to.write_unaligned(address(&name.read_unaligned(), group != 0)) }
}

/// The documentation speaks of a buffer of 40 bytes; the entry has 51 (C-038).
unsafe extern "win64" fn tdi_build_netbios_address_ea(
    buffer: *mut [u8; EA_LENGTH],
    group: u8,
    name: *const [u8; 16],
) -> NtStatus {
    // SAFETY: see `tdi_build_netbios_address`.
    unsafe { buffer.write_unaligned(entry(&name.read_unaligned(), group != 0)) };
    NtStatus::SUCCESS
}

unsafe extern "win64" fn tdi_open_netbios_address(
    handle: *mut Handle,
    buffer: *mut [u8; EA_LENGTH],
    device: *const UnicodeString,
    name: *const [u8; 16],
) -> NtStatus {
    let caller = gate::caller();
    let Ok(device) = gate::memory::read_unicode(device as u64) else { return NtStatus::ACCESS_VIOLATION };
    // SAFETY: see `tdi_build_netbios_address`.
    unsafe { buffer.write_unaligned(entry(&name.read_unaligned(), false)) };
    let open = Open {
        name: &device,
        attributes: attributes::KERNEL_HANDLE | attributes::CASE_INSENSITIVE,
        access: GENERIC_ACCESS,
        options: FILE_OPEN_IF,
        file_attributes: 0,
        share: SHARE_ALL,
        ea: (buffer as u64, EA_LENGTH as u32),
    };
    // SAFETY: see `tdi_build_netbios_address`.
    unsafe { touch(handle) };
    let opened = file::open(&open, caller);
    if opened.status.is_success() {
        // SAFETY: see `tdi_build_netbios_address`.
        unsafe { *handle = opened.handle };
    }
    opened.status
}

#[cfg(test)]
mod tests {
    use proves::proves;

    use super::*;

    #[proves("C-030", "C-038", "C-045", "D-261")]
    #[test]
    fn addresses_have_tdi_s_layout() {
        let name = b"SERVER          ";
        let mut bytes = [0xEE; ADDRESS_LENGTH];
        let mut list = [0xEE; EA_LENGTH];
        // SAFETY: buffers of the test.
        unsafe {
            tdi_build_netbios_address(name, 1, &mut bytes);
            assert_eq!(tdi_build_netbios_address_ea(&mut list, 0, name), NtStatus::SUCCESS);
        }
        assert_eq!(bytes[..10], [1, 0, 0, 0, 18, 0, 17, 0, 1, 0]);
        assert_eq!(bytes[10..], *name);
        assert_eq!(nt_io::ea::check(&list), Ok(()));
        assert_eq!(list[8..25], *b"TransportAddress\0");
        assert_eq!(list[25..35], [1, 0, 0, 0, 18, 0, 17, 0, 0, 0]);
    }
}
