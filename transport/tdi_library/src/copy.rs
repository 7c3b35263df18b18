//! Copying between buffers and MDL chains.
//!
//! A chain or buffer that is not there faults, and the fault is blamed on the driver that passed it.

use std::ptr;

use nt_abi::{Mdl, NtStatus};

use crate::chain::{self, Pieces};

gate::exports! {
    /// Copies.
    pub static TABLE in "tdi.sys";
    "TdiCopyBufferToMdl" = tdi_copy_buffer_to_mdl(source: *const u8, source_offset: u32, bytes: u32, chain: *mut Mdl, offset: u32, copied: *mut u32) -> NtStatus, irql <= DISPATCH, rules "D-228";
    "TdiCopyMdlToBuffer" = tdi_copy_mdl_to_buffer(chain: *mut Mdl, source_offset: u32, buffer: *mut u8, offset: u32, size: u32, copied: *mut u32) -> NtStatus, irql <= DISPATCH, rules "D-228";
    "TdiCopyMdlChainToMdlChain" = tdi_copy_mdl_chain_to_mdl_chain(source: *mut Mdl, source_offset: u32, chain: *mut Mdl, offset: u32, copied: *mut u32) -> NtStatus, irql <= DISPATCH, rules "D-228";
    "TdiCopyBufferToMdlWithReservedMappingAtDpcLevel" = tdi_copy_buffer_to_mdl_at_dpc_level(source: *const u8, chain: *mut Mdl, offset: u32, bytes: u32), irql <= DISPATCH, rules "D-228";
    "TdiMapBuffer" = tdi_map_buffer(chain: *mut Mdl), irql <= DISPATCH, rules "D-225";
    "TdiUnmapBuffer" = tdi_map_buffer(chain: *mut Mdl), irql <= DISPATCH, rules "D-225";
}

/// Bytes of a chain from `offset` on; none for a chain that cannot be walked.
fn room(head: *const Mdl, offset: u32) -> u64 {
    chain::length(head).unwrap_or(0).saturating_sub(offset.into())
}

/// Copies `bytes` bytes, which fit on both sides.
///
/// # Safety
/// `source` has that many bytes.
unsafe fn to_chain(source: *const u8, head: *const Mdl, offset: u32, bytes: u64) {
    let mut pieces = Pieces::of(head, offset.into(), bytes);
    let mut done = 0;
    while let Ok(Some(piece)) = pieces.advance() {
        // SAFETY: the caller's promise for the source; the destination is what the driver's chain says.
        unsafe { ptr::copy(source.add(done), piece.address as *mut u8, piece.length) };
        done += piece.length;
    }
}

/// As [`to_chain`], the other way.
///
/// # Safety
/// `to` has that much room.
unsafe fn from_chain(head: *const Mdl, offset: u32, to: *mut u8, bytes: u64) {
    let mut pieces = Pieces::of(head, offset.into(), bytes);
    let mut done = 0;
    while let Ok(Some(piece)) = pieces.advance() {
        // SAFETY: the caller's promise for the destination; the source is what the driver's chain says.
        unsafe { ptr::copy(piece.address as *const u8, to.add(done), piece.length) };
        done += piece.length;
    }
}

/// Stores how much was copied, and says whether that was all.
///
/// # Safety
/// `copied` is the driver's.
unsafe fn report(copied: *mut u32, count: u64, wanted: u64) -> NtStatus {
    // SAFETY: the caller's promise.
    unsafe { *copied = count as u32 };
    if count < wanted { NtStatus::BUFFER_OVERFLOW } else { NtStatus::SUCCESS }
}

/// Copies as much as fits.
unsafe extern "win64" fn tdi_copy_buffer_to_mdl(
    source: *const u8,
    source_offset: u32,
    bytes: u32,
    chain: *mut Mdl,
    offset: u32,
    copied: *mut u32,
) -> NtStatus {
    let count = room(chain, offset).min(bytes.into());
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them. The same holds
    // for every function of this module.
    unsafe {
        to_chain(source.add(source_offset as usize), chain, offset, count);
        report(copied, count, bytes.into())
    }
}

/// Copies up to the buffer's size less the offset.
unsafe extern "win64" fn tdi_copy_mdl_to_buffer(
    chain: *mut Mdl,
    source_offset: u32,
    buffer: *mut u8,
    offset: u32,
    size: u32,
    copied: *mut u32,
) -> NtStatus {
    let there = room(chain, source_offset);
    let count = there.min(size.saturating_sub(offset).into());
    // SAFETY: see `tdi_copy_buffer_to_mdl`.
    unsafe {
        from_chain(chain, source_offset, buffer.add(offset as usize), count);
        report(copied, count, there)
    }
}

/// Copies from chain to chain, through a buffer of its own so that the two may overlap.
unsafe extern "win64" fn tdi_copy_mdl_chain_to_mdl_chain(
    source: *mut Mdl,
    source_offset: u32,
    chain: *mut Mdl,
    offset: u32,
    copied: *mut u32,
) -> NtStatus {
    let there = room(source, source_offset);
    let count = there.min(room(chain, offset));
    let mut bytes = vec![0; count as usize];
    // SAFETY: see `tdi_copy_buffer_to_mdl`.
    unsafe {
        from_chain(source, source_offset, bytes.as_mut_ptr(), count);
        to_chain(bytes.as_ptr(), chain, offset, count);
        let outside = chain::length(source).unwrap_or(0) < source_offset.into();
        let status = report(copied, count, there);
        if outside { NtStatus::BUFFER_OVERFLOW } else { status }
    }
}

/// Cannot fail: what does not fit is left out.
unsafe extern "win64" fn tdi_copy_buffer_to_mdl_at_dpc_level(
    source: *const u8,
    chain: *mut Mdl,
    offset: u32,
    bytes: u32,
) {
    // SAFETY: see `tdi_copy_buffer_to_mdl`.
    unsafe { to_chain(source, chain, offset, room(chain, offset).min(bytes.into())) }
}

/// Obsolete, with no effect since XP.
unsafe extern "win64" fn tdi_map_buffer(_chain: *mut Mdl) {}

#[cfg(test)]
mod tests {
    use nt_abi::mdl::mdl_flags;
    use proptest::prelude::*;
    use proves::proves;

    use super::*;

    /// A chain over parts of a buffer.
    struct Chain {
        bytes: Vec<u8>,
        mdls: Vec<Mdl>,
    }

    impl Chain {
        fn new(bytes: &[u8], parts: &[usize]) -> Self {
            let bytes = bytes.to_vec();
            let mut offset = 0;
            let mut mdls: Vec<Mdl> = parts
                .iter()
                .map(|&length| {
                    let at = bytes.as_ptr() as u64 + offset as u64;
                    offset += length;
                    Mdl {
                        next: ptr::null_mut(),
                        size: 0x30,
                        flags: mdl_flags::SOURCE_IS_NONPAGED_POOL,
                        _pad: 0,
                        process: 0,
                        mapped_system_va: at,
                        start_va: 0,
                        byte_count: length as u32,
                        byte_offset: 0,
                    }
                })
                .collect();
            for at in 1..mdls.len() {
                mdls[at - 1].next = &raw mut mdls[at];
            }
            Self { bytes, mdls }
        }

        fn head(&mut self) -> *mut Mdl {
            self.mdls.first_mut().map_or(ptr::null_mut(), |head| head)
        }

        fn bytes(&self) -> Vec<u8> {
            // SAFETY: our own buffer, read as what foreign code left there.
            self.bytes.iter().map(|byte| unsafe { ptr::from_ref(byte).read_volatile() }).collect()
        }
    }

    #[proves("D-228")]
    #[test]
    fn copies_go_over_members_and_report_what_did_not_fit() {
        let mut chain = Chain::new(&[0; 10], &[3, 0, 4, 3]);
        let mut copied = 99;
        // SAFETY: buffers of the test.
        unsafe {
            let source = b"xxabcdefghijk";
            let all = tdi_copy_buffer_to_mdl(source.as_ptr(), 2, 7, chain.head(), 2, &mut copied);
            assert_eq!((all, copied), (NtStatus::SUCCESS, 7));
            assert_eq!(chain.bytes(), b"\0\0abcdefg\0");
            let part = tdi_copy_buffer_to_mdl(source.as_ptr(), 2, 11, chain.head(), 8, &mut copied);
            assert_eq!((part, copied), (NtStatus::BUFFER_OVERFLOW, 2));
            let mut back = [0; 6];
            let part = tdi_copy_mdl_to_buffer(chain.head(), 3, back.as_mut_ptr(), 2, 6, &mut copied);
            assert_eq!((part, copied, &back), (NtStatus::BUFFER_OVERFLOW, 4, b"\0\0bcde"));
            let none = tdi_copy_mdl_to_buffer(chain.head(), 30, back.as_mut_ptr(), 0, 6, &mut copied);
            assert_eq!((none, copied), (NtStatus::SUCCESS, 0));
        }
    }

    proptest! {
        #[test]
        fn chain_to_chain_moves_exactly_what_fits(
            from in prop::collection::vec(0_usize..20, 0..6),
            to in prop::collection::vec(0_usize..20, 0..6),
            source_offset in 0_u32..40,
            offset in 0_u32..40,
        ) {
            let (length, room) = (from.iter().sum::<usize>(), to.iter().sum::<usize>());
            let text: Vec<u8> = (1..=length as u8).collect();
            let mut source = Chain::new(&text, &from);
            let mut target = Chain::new(&vec![0; room], &to);
            let mut copied = 0;
            // SAFETY: buffers of the test.
            let status = unsafe {
                tdi_copy_mdl_chain_to_mdl_chain(source.head(), source_offset, target.head(), offset, &mut copied)
            };
            let there = length.saturating_sub(source_offset as usize);
            let count = there.min(room.saturating_sub(offset as usize));
            prop_assert_eq!(copied as usize, count);
            let is_all = count == there && source_offset as usize <= length;
            prop_assert_eq!(status, if is_all { NtStatus::SUCCESS } else { NtStatus::BUFFER_OVERFLOW });
            let mut expected = vec![0; room];
            if count > 0 {
                let part = &text[source_offset as usize..source_offset as usize + count];
                expected[offset as usize..offset as usize + count].copy_from_slice(part);
            }
            prop_assert_eq!(target.bytes(), expected);
        }
    }
}
