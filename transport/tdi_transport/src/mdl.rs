//! The buffers of requests: MDL chains, walked where they lie and never copied together (C-360, C-361, D-004).
//!
//! A chain is driver memory: it is read by guarded copies, bounded in length, and its pages are touched once
//! when the request comes in ([`check`]). From then until the request completes the buffers belong to the
//! transport (C-363, C-403); that is what lets the network fill and drain them in place (`transfer`).

use std::io::{IoSlice, IoSliceMut};

use gate::memory;
use nt_abi::{Irp, NtStatus};
use tdi_library::chain::{self, Pieces};

/// Members handed to the network at once.
const SLICES: usize = 16;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// The network reads the buffer.
    Out,
    /// The network writes to it.
    In,
}

/// Checks that a request's chain has `length` bytes that can be touched.
///
/// INVALID_PARAMETER for a chain that is too short or goes in a circle, ACCESS_VIOLATION for memory that is not
/// there.
///
/// # Safety
/// `irp` is a packet the transport holds.
pub(crate) unsafe fn check(irp: *mut Irp, length: u32, direction: Direction) -> Result<(), NtStatus> {
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, 0, length.into());
    while let Some(piece) = pieces.advance()? {
        let probed = match direction {
            Direction::Out => memory::probe_read(piece.address, piece.length),
            Direction::In => memory::probe_write(piece.address, piece.length),
        };
        probed.map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    }
    Ok(())
}

/// All bytes that a request's chain has.
///
/// # Safety
/// As [`check`].
pub(crate) unsafe fn length(irp: *mut Irp) -> Result<u32, NtStatus> {
    // SAFETY: the caller's promise.
    let bytes = chain::length(unsafe { (*irp).mdl_address })?;
    u32::try_from(bytes).map_err(|_| NtStatus::INVALID_PARAMETER)
}

/// Copies `from` into a request's chain, `offset` bytes in. Returns how many bytes had room.
///
/// # Safety
/// As [`check`].
pub(crate) unsafe fn store(irp: *mut Irp, offset: u32, from: &[u8]) -> Result<usize, NtStatus> {
    // SAFETY: the caller's promise.
    let room = u64::from(unsafe { length(irp)? }).saturating_sub(offset.into()).min(from.len() as u64);
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, offset.into(), room);
    let mut done = 0;
    while let Some(piece) = pieces.advance()? {
        let part = from.get(done..done + piece.length).unwrap_or_default();
        memory::write(piece.address, part).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
        done += part.len();
    }
    Ok(done)
}

/// What one call to the network moved.
pub(crate) enum Step<R> {
    /// So many bytes.
    Moved(usize),
    /// It said something else.
    Other(R),
}

/// What a whole transfer came to.
pub(crate) struct Transfer<R> {
    /// Bytes moved.
    pub(crate) count: u32,
    /// What ended it early, if the network said more than a number.
    pub(crate) end: Option<R>,
}

/// Lets `step` send `length` bytes of a request's chain from `offset` on, piece by piece, until it takes less
/// than it is offered.
///
/// # Errors
/// As [`check`], for a chain that the driver changed since.
///
/// # Safety
/// `irp` is a packet the transport holds, whose chain was checked for this direction.
pub(crate) unsafe fn send<R>(
    irp: *mut Irp,
    offset: u32,
    length: u32,
    mut step: impl FnMut(&[IoSlice<'_>]) -> Step<R>,
) -> Result<Transfer<R>, NtStatus> {
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, offset.into(), length.into());
    let mut count = 0;
    loop {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut used = 0;
        let mut offered = 0;
        while used < SLICES
            && let Some(piece) = pieces.advance()?
        {
            // SAFETY: the range was readable when the request came in and is the transport's until it completes
            // (C-363). A driver that changes or frees it all the same gets what it would get from NT: the
            // network sends what it finds, or reports that nothing is there.
            slices[used] =
                IoSlice::new(unsafe { std::slice::from_raw_parts(piece.address as *const u8, piece.length) });
            used += 1;
            offered += piece.length;
        }
        if used == 0 {
            return Ok(Transfer { count, end: None });
        }
        match step(&slices[..used]) {
            Step::Moved(moved) => {
                count += moved.min(offered) as u32;
                if moved < offered {
                    return Ok(Transfer { count, end: None });
                }
            }
            Step::Other(end) => return Ok(Transfer { count, end: Some(end) }),
        }
    }
}

/// As [`send()`], for filling the chain.
///
/// # Errors
/// As [`send()`].
///
/// # Safety
/// As [`send()`].
pub(crate) unsafe fn fill<R>(
    irp: *mut Irp,
    offset: u32,
    length: u32,
    mut step: impl FnMut(&mut [IoSliceMut<'_>]) -> Step<R>,
) -> Result<Transfer<R>, NtStatus> {
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, offset.into(), length.into());
    let mut count = 0;
    loop {
        let mut slices: [IoSliceMut<'_>; SLICES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut used = 0;
        let mut offered = 0;
        while used < SLICES
            && let Some(piece) = pieces.advance()?
        {
            // SAFETY: as in `send`, for writing (C-403). Two members of a chain over the same bytes are a
            // driver's mistake of which only those bytes know.
            slices[used] =
                IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(piece.address as *mut u8, piece.length) });
            used += 1;
            offered += piece.length;
        }
        if used == 0 {
            return Ok(Transfer { count, end: None });
        }
        match step(&mut slices[..used]) {
            Step::Moved(moved) => {
                count += moved.min(offered) as u32;
                if moved < offered {
                    return Ok(Transfer { count, end: None });
                }
            }
            Step::Other(end) => return Ok(Transfer { count, end: Some(end) }),
        }
    }
}

/// Shows the first `length` bytes of a request's chain all at once, for a datagram. More than a few members cost an
/// allocation.
///
/// # Errors
/// As [`send()`].
///
/// # Safety
/// As [`send()`].
pub(crate) unsafe fn with_bytes<R>(
    irp: *mut Irp,
    length: u32,
    look: impl FnOnce(&[IoSlice<'_>]) -> R,
) -> Result<R, NtStatus> {
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, 0, length.into());
    let mut few = [IoSlice::new(&[]); SLICES];
    let mut used = 0;
    while used < SLICES
        && let Some(piece) = pieces.advance()?
    {
        // SAFETY: as in `send`.
        few[used] = IoSlice::new(unsafe { std::slice::from_raw_parts(piece.address as *const u8, piece.length) });
        used += 1;
    }
    if pieces.left() == 0 {
        return Ok(look(few.get(..used).unwrap_or_default()));
    }
    let mut many: Vec<IoSlice<'_>> = few.into();
    while let Some(piece) = pieces.advance()? {
        // SAFETY: as in `send`.
        let bytes = unsafe { std::slice::from_raw_parts(piece.address as *const u8, piece.length) };
        many.push(IoSlice::new(bytes));
    }
    Ok(look(&many))
}

/// As [`with_bytes`], for receiving a datagram.
///
/// # Errors
/// As [`send()`].
///
/// # Safety
/// As [`send()`].
pub(crate) unsafe fn with_room<R>(
    irp: *mut Irp,
    length: u32,
    look: impl FnOnce(&mut [IoSliceMut<'_>]) -> R,
) -> Result<R, NtStatus> {
    // SAFETY: the caller's promise.
    let mut pieces = Pieces::of(unsafe { (*irp).mdl_address }, 0, length.into());
    let mut few: [IoSliceMut<'_>; SLICES] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
    let mut used = 0;
    while used < SLICES
        && let Some(piece) = pieces.advance()?
    {
        // SAFETY: as in `fill`.
        few[used] = IoSliceMut::new(unsafe { std::slice::from_raw_parts_mut(piece.address as *mut u8, piece.length) });
        used += 1;
    }
    if pieces.left() == 0 {
        return Ok(look(few.get_mut(..used).unwrap_or_default()));
    }
    let mut many: Vec<IoSliceMut<'_>> = few.into();
    while let Some(piece) = pieces.advance()? {
        // SAFETY: as in `fill`.
        let bytes = unsafe { std::slice::from_raw_parts_mut(piece.address as *mut u8, piece.length) };
        many.push(IoSliceMut::new(bytes));
    }
    Ok(look(&mut many))
}
