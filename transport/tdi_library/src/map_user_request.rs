//! TdiMapUserRequest: the IOCTL_TDI_xxx forms of user programs into requests as drivers send them (section 10).
//!
//! A user program puts a structure into its input buffer that begins with a TDI_REQUEST of 32 bytes; data is in the
//! other buffer, which the I/O manager describes by an MDL. Structures that the first one points to must lie in the
//! same buffer (D-213).

use std::ops::Range;

use gate::memory;
use nt_abi::tdi::TdiRequest;
use nt_abi::{DeviceObject, IoStackLocation, Irp, MajorFunction, NtStatus};

gate::exports! {
    /// Requests of user programs.
    pub static TABLE in "tdi.sys";
    "TdiMapUserRequest" = tdi_map_user_request(device: *mut DeviceObject, irp: *mut Irp, location: *mut IoStackLocation) -> NtStatus, irql <= PASSIVE, rules "D-210 D-211 D-212 D-213 D-214";
}

/// Bytes of the TDI_REQUEST in front of each structure.
const HEADER: usize = 32;
/// Longest structure (CONNECT, LISTEN, RECEIVE_DATAGRAM and SET_EVENT).
const STRUCTURE_MAX: usize = 56;

/// `IOCTL_TDI_xxx` code, request, and bytes of the structure (D-210, D-211).
const CODES: [(u32, TdiRequest, usize); 14] = [
    (0x0021_0000, TdiRequest::ACCEPT, 48),
    (0x0021_0004, TdiRequest::CONNECT, 56),
    (0x0021_0008, TdiRequest::DISCONNECT, 40),
    (0x0021_000C, TdiRequest::LISTEN, 56),
    (0x0021_0012, TdiRequest::QUERY_INFORMATION, 48),
    (0x0021_0016, TdiRequest::RECEIVE, 40),
    (0x0021_001A, TdiRequest::RECEIVE_DATAGRAM, 56),
    (0x0021_001D, TdiRequest::SEND, 40),
    (0x0021_0021, TdiRequest::SEND_DATAGRAM, 40),
    (0x0021_0024, TdiRequest::SET_EVENT_HANDLER, 56),
    (0x0021_0029, TdiRequest::SET_INFORMATION, 48),
    (0x0021_002C, TdiRequest::ASSOCIATE_ADDRESS, 40),
    (0x0021_0030, TdiRequest::DISASSOCIATE_ADDRESS, 0),
    (0x0021_0036, TdiRequest::ACTION, 0),
];

/// A user program's structure, copied, and where it lies.
struct Structure {
    bytes: [u8; STRUCTURE_MAX],
    /// The buffer it came in.
    buffer: Range<u64>,
}

/// Bytes of a `TDI_CONNECTION_INFORMATION`, which all these pointers lead to.
const INFORMATION_BYTES: u64 = 48;
/// Where its own lengths and pointers are: user data, options, remote address (C-060).
const INNER: [(u64, u64); 3] = [(0, 8), (16, 24), (32, 40)];

impl Structure {
    fn word(&self, at: usize) -> u64 {
        self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_le_bytes)
    }

    fn short(&self, at: usize) -> u64 {
        self.word(at) & 0xFFFF
    }

    /// A pointer that is null or leads into the same buffer.
    fn pointer(&self, at: usize) -> Result<u64, NtStatus> {
        match self.word(at) {
            0 => Ok(0),
            pointer
                if self.buffer.contains(&pointer)
                    && pointer.checked_add(INFORMATION_BYTES).is_some_and(|end| end <= self.buffer.end) =>
            {
                Ok(pointer)
            }
            _ => Err(NtStatus::INVALID_PARAMETER),
        }
    }

    /// A pointer to a `TDI_CONNECTION_INFORMATION` whose own pointers lead into the same buffer, too: the transport
    /// would read or write there as the kernel.
    fn information(&self, at: usize) -> Result<u64, NtStatus> {
        let pointer = self.pointer(at)?;
        if pointer != 0 {
            let read = |offset| memory::read_value::<u64>(pointer + offset).map_err(|_| NtStatus::ACCESS_VIOLATION);
            for (length, place) in INNER {
                self.check(read(length)? as u32, read(place)?)?;
            }
        }
        Ok(pointer)
    }

    /// A range that is empty or lies in the same buffer.
    fn check(&self, length: u32, place: u64) -> Result<(), NtStatus> {
        let fits =
            || place >= self.buffer.start && place.checked_add(length.into()).is_some_and(|end| end <= self.buffer.end);
        if length == 0 || fits() { Ok(()) } else { Err(NtStatus::INVALID_PARAMETER) }
    }

    fn place(&self, at: usize) -> u64 {
        self.buffer.start + at as u64
    }
}

/// Rewrites an IOCTL_TDI_xxx request in place into the form that drivers send (D-212).
///
/// SUCCESS; INVALID_PARAMETER for SET_EVENT_HANDLER and for a structure that is too short or points outside its
/// buffer (D-213); NOT_IMPLEMENTED for any other code, which the transport then tries itself (D-214).
///
/// # Safety
/// `irp` is a packet the calling driver holds and `location` its current location.
///
/// IRQL: PASSIVE_LEVEL.
pub unsafe fn map_user_request(irp: *mut Irp, location: *mut IoStackLocation) -> NtStatus {
    // SAFETY: the caller's promise.
    let (is_control, [output, input, code, _], buffer) = unsafe {
        let major = (*location).major_function;
        (major == MajorFunction::DEVICE_CONTROL, (*location).parameters, (*irp).system_buffer)
    };
    let known = CODES.iter().find(|(known, ..)| is_control && *known == code as u32);
    let Some(&(_, request, length)) = known else { return NtStatus::NOT_IMPLEMENTED };
    match structure(buffer, input as u32, length).and_then(|structure| parameters(&structure, request, output as u32)) {
        Ok(parameters) => {
            // SAFETY: the caller's promise.
            unsafe {
                (*location).major_function = MajorFunction::INTERNAL_DEVICE_CONTROL;
                (*location).minor_function = request.0;
                (*location).parameters = parameters;
            }
            NtStatus::SUCCESS
        }
        Err(status) => status,
    }
}

fn structure(buffer: u64, input: u32, length: usize) -> Result<Structure, NtStatus> {
    let mut bytes = [0; STRUCTURE_MAX];
    if (input as usize) < length || (length > 0 && buffer == 0) {
        return Err(NtStatus::INVALID_PARAMETER);
    }
    if let Some(bytes) = bytes.get_mut(..length) {
        memory::read(buffer, bytes).map_err(|_| NtStatus::ACCESS_VIOLATION)?;
    }
    Ok(Structure { bytes, buffer: buffer..buffer.saturating_add(input.into()) })
}

/// The parameters in their kernel form.
fn parameters(from: &Structure, request: TdiRequest, data: u32) -> Result<[u64; 4], NtStatus> {
    let transfer = u64::from(data) | from.short(HEADER) << 32;
    Ok(match request {
        TdiRequest::ACCEPT => [from.information(HEADER)?, from.information(HEADER + 8)?, 0, 0],
        TdiRequest::CONNECT => [0, from.information(HEADER)?, from.information(HEADER + 8)?, from.place(HEADER + 16)],
        TdiRequest::LISTEN => [from.short(HEADER + 16), from.information(HEADER)?, from.information(HEADER + 8)?, 0],
        TdiRequest::DISCONNECT => [0, 0, 0, from.place(HEADER)],
        TdiRequest::SEND | TdiRequest::RECEIVE => [transfer, 0, 0, 0],
        TdiRequest::SEND_DATAGRAM => [data.into(), from.information(HEADER)?, 0, 0],
        TdiRequest::RECEIVE_DATAGRAM => {
            [data.into(), from.information(HEADER)?, from.information(HEADER + 8)?, from.short(HEADER + 16)]
        }
        TdiRequest::QUERY_INFORMATION | TdiRequest::SET_INFORMATION => {
            [from.word(HEADER) & 0xFFFF_FFFF, from.information(HEADER + 8)?, 0, 0]
        }
        TdiRequest::ASSOCIATE_ADDRESS => [from.word(HEADER), 0, 0, 0],
        TdiRequest::DISASSOCIATE_ADDRESS | TdiRequest::ACTION => [0; 4],
        // A user program has no function that the kernel could call.
        _ => return Err(NtStatus::INVALID_PARAMETER),
    })
}

unsafe extern "win64" fn tdi_map_user_request(
    _device: *mut DeviceObject,
    irp: *mut Irp,
    location: *mut IoStackLocation,
) -> NtStatus {
    // SAFETY: what drivers pass is theirs to answer for; a bad pointer faults and is blamed on them.
    unsafe { map_user_request(irp, location) }
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use proptest::prelude::*;
    use proves::proves;

    use super::*;

    fn map(code: u32, buffer: &[u64], output: u32) -> (NtStatus, IoStackLocation) {
        let input = (buffer.len() * 8) as u64;
        // SAFETY: all bytes zero is a value of both; the buffer outlives the call.
        unsafe {
            let mut irp: Irp = std::mem::zeroed();
            let mut location: IoStackLocation = std::mem::zeroed();
            location.major_function = MajorFunction::DEVICE_CONTROL;
            location.parameters = [output.into(), input, code.into(), 0];
            irp.system_buffer = if buffer.is_empty() { 0 } else { buffer.as_ptr() as u64 };
            let status = tdi_map_user_request(ptr::null_mut(), &mut irp, &mut location);
            (status, location)
        }
    }

    #[proves("D-210", "D-211", "D-212")]
    #[test]
    fn known_codes_become_requests_as_drivers_send_them() {
        let mut connect = [0_u64; 14];
        connect[4] = connect.as_ptr() as u64 + 56;
        connect[6] = -1_i64 as u64;
        let (status, location) = map(0x0021_0004, &connect, 0);
        assert_eq!(status, NtStatus::SUCCESS);
        assert_eq!(location.major_function, MajorFunction::INTERNAL_DEVICE_CONTROL);
        assert_eq!(TdiRequest(location.minor_function), TdiRequest::CONNECT);
        assert_eq!(location.parameters, [0, connect[4], 0, connect.as_ptr() as u64 + 48]);
        let mut send = [0_u64; 5];
        send[4] = 0xFFFF_0020;
        let (status, location) = map(0x0021_001D, &send, 77);
        assert_eq!((status, location.parameters[0]), (NtStatus::SUCCESS, 77 | 0x20 << 32));
        let associate = [0, 0, 0, 0, 0x1234];
        assert_eq!(map(0x0021_002C, &associate, 0).1.parameters, [0x1234, 0, 0, 0]);
        let (status, location) = map(0x0021_0030, &[], 0);
        assert_eq!((status, location.minor_function), (NtStatus::SUCCESS, TdiRequest::DISASSOCIATE_ADDRESS.0));
    }

    #[proves("D-213", "D-214")]
    #[test]
    fn what_a_user_program_may_not_do_is_refused() {
        assert_eq!(map(0x0021_0024, &[0; 7], 0).0, NtStatus::INVALID_PARAMETER, "SET_EVENT_HANDLER");
        let mut outside = [0_u64; 7];
        outside[4] = outside.as_ptr() as u64 + 56;
        assert_eq!(map(0x0021_0004, &outside, 0).0, NtStatus::INVALID_PARAMETER);
        // The structure that it points to points out of the buffer itself, or past its end.
        for (length, place) in [(7, 8), (9, 10), (11, 12)] {
            let mut inner = [0_u64; 14];
            inner[4] = inner.as_ptr() as u64 + 56;
            inner[length] = 22;
            inner[place] = 0x1000;
            assert_eq!(map(0x0021_0004, &inner, 0).0, NtStatus::INVALID_PARAMETER, "{place}");
            inner[place] = inner.as_ptr() as u64 + 112 - 21;
            assert_eq!(map(0x0021_0004, &inner, 0).0, NtStatus::INVALID_PARAMETER, "{place}");
            inner[place] -= 1;
            assert_eq!(map(0x0021_0004, &inner, 0).0, NtStatus::SUCCESS, "{place}");
        }
        for (code, _, length) in CODES.iter().filter(|(.., length)| *length > 0) {
            assert_eq!(map(*code, &vec![0; length / 8 - 1], 0).0, NtStatus::INVALID_PARAMETER, "{code:#x}");
        }
        let (status, location) = map(0x0012_0003, &[0; 7], 0);
        assert_eq!((status, location.major_function), (NtStatus::NOT_IMPLEMENTED, MajorFunction::DEVICE_CONTROL));
    }

    proptest! {
        #[test]
        fn any_code_and_structure_is_judged(
            code in prop_oneof![0x0021_0000_u32..0x0021_0040, any::<u32>()],
            words in prop::collection::vec(any::<u64>(), 0..9),
            output in any::<u32>(),
        ) {
            let (status, location) = map(code, &words, output);
            let is_mapped = location.major_function == MajorFunction::INTERNAL_DEVICE_CONTROL;
            prop_assert_eq!(status == NtStatus::SUCCESS, is_mapped);
        }
    }
}
