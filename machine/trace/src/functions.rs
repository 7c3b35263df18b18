//! What the `functions` of a request mean, as far as readers of events care.
//!
//! Only the few codes on which the meaning of a run hangs are known here; names of all others are the
//! business of whoever prints them.

/// `STATUS_PENDING`: the request is not over when its dispatch routine returns this.
pub const STATUS_PENDING: u32 = 0x103;

/// `STATUS_UNHANDLED_EXCEPTION`: an exception passed the routine, which has returned nothing.
pub const STATUS_UNHANDLED_EXCEPTION: u32 = 0xC000_0144;

/// A request's major and minor function, as in [`crate::Event::IrpDispatched`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Functions(pub u32);

impl Functions {
    /// The two codes in one.
    pub const fn new(major: u8, minor: u8) -> Self {
        Self((major as u32) << 8 | minor as u32)
    }

    /// `IRP_MJ_xxx`.
    pub const fn major(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// `IRP_MN_xxx` or `TDI_xxx`.
    pub const fn minor(self) -> u8 {
        self.0 as u8
    }

    /// IRP_MJ_CREATE.
    pub const fn is_create(self) -> bool {
        self.major() == 0x00
    }

    /// IRP_MJ_CLEANUP: the last handle of a file object is gone.
    pub const fn is_cleanup(self) -> bool {
        self.major() == 0x12
    }

    /// IRP_MJ_CLOSE: the last reference to a file object is gone.
    pub const fn is_close(self) -> bool {
        self.major() == 0x02
    }

    /// IRP_MJ_INTERNAL_DEVICE_CONTROL, which carries the TDI requests in its minor function.
    pub const fn is_internal_device_control(self) -> bool {
        self.major() == 0x0F
    }

    /// IRP_MJ_READ or IRP_MJ_WRITE, or a TDI request that moves data: `information` counts bytes.
    pub const fn is_transfer(self) -> bool {
        match self.major() {
            0x03 | 0x04 => true,
            // TDI_SEND, TDI_RECEIVE, TDI_SEND_DATAGRAM, TDI_RECEIVE_DATAGRAM
            0x0F => matches!(self.minor(), 0x07..=0x0A),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use nt_abi::tdi::TdiRequest;
    use nt_abi::{MajorFunction, NtStatus};

    use super::*;

    fn tdi(request: TdiRequest) -> Functions {
        Functions::new(MajorFunction::INTERNAL_DEVICE_CONTROL.0, request.0)
    }

    #[test]
    fn codes_are_those_of_nt() {
        assert_eq!(STATUS_PENDING, NtStatus::PENDING.0);
        assert_eq!(STATUS_UNHANDLED_EXCEPTION, NtStatus::UNHANDLED_EXCEPTION.0);
        let major = |major: MajorFunction| Functions::new(major.0, 0);
        assert!(major(MajorFunction::CREATE).is_create());
        assert!(major(MajorFunction::CLEANUP).is_cleanup());
        assert!(major(MajorFunction::CLOSE).is_close());
        assert!(tdi(TdiRequest::CONNECT).is_internal_device_control());
    }

    #[test]
    fn data_moves_by_read_write_send_and_receive_only() {
        let transfers = (0..=0x1B).flat_map(|major| (0..=0x2A).map(move |minor| Functions::new(major, minor)));
        let transfers: Vec<_> =
            transfers.filter(|functions| functions.is_transfer() && functions.major() == 0x0F).collect();
        let requests = [TdiRequest::SEND, TdiRequest::RECEIVE, TdiRequest::SEND_DATAGRAM, TdiRequest::RECEIVE_DATAGRAM];
        assert_eq!(transfers, requests.map(tdi));
        assert!(Functions::new(MajorFunction::READ.0, 0).is_transfer());
        assert!(Functions::new(MajorFunction::WRITE.0, 0).is_transfer());
        assert!(!Functions::new(MajorFunction::DEVICE_CONTROL.0, 7).is_transfer());
    }
}
