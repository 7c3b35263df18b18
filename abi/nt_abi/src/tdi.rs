//! TDI constants and structures (chapters 2 and 3 of `tdi-connections.md`).

use core::mem::{offset_of, size_of};

use crate::open_enum;

open_enum! {
    /// Minor function codes of TDI requests (C-014).
    pub enum TdiRequest : u8 {
        #[allow(missing_docs)] ASSOCIATE_ADDRESS = 0x01,
        #[allow(missing_docs)] DISASSOCIATE_ADDRESS = 0x02,
        #[allow(missing_docs)] CONNECT = 0x03,
        #[allow(missing_docs)] LISTEN = 0x04,
        #[allow(missing_docs)] ACCEPT = 0x05,
        #[allow(missing_docs)] DISCONNECT = 0x06,
        #[allow(missing_docs)] SEND = 0x07,
        #[allow(missing_docs)] RECEIVE = 0x08,
        #[allow(missing_docs)] SEND_DATAGRAM = 0x09,
        #[allow(missing_docs)] RECEIVE_DATAGRAM = 0x0A,
        #[allow(missing_docs)] SET_EVENT_HANDLER = 0x0B,
        #[allow(missing_docs)] QUERY_INFORMATION = 0x0C,
        #[allow(missing_docs)] SET_INFORMATION = 0x0D,
        #[allow(missing_docs)] ACTION = 0x0E,
        #[allow(missing_docs)] DIRECT_SEND = 0x27,
        #[allow(missing_docs)] DIRECT_SEND_DATAGRAM = 0x29,
        #[allow(missing_docs)] DIRECT_ACCEPT = 0x2A,
    }
}

open_enum! {
    /// Event type codes (C-015).
    pub enum TdiEvent : u32 {
        #[allow(missing_docs)] CONNECT = 0,
        #[allow(missing_docs)] DISCONNECT = 1,
        #[allow(missing_docs)] ERROR = 2,
        #[allow(missing_docs)] RECEIVE = 3,
        #[allow(missing_docs)] RECEIVE_DATAGRAM = 4,
        #[allow(missing_docs)] RECEIVE_EXPEDITED = 5,
        #[allow(missing_docs)] SEND_POSSIBLE = 6,
        #[allow(missing_docs)] CHAINED_RECEIVE = 7,
        #[allow(missing_docs)] CHAINED_RECEIVE_DATAGRAM = 8,
        #[allow(missing_docs)] CHAINED_RECEIVE_EXPEDITED = 9,
        #[allow(missing_docs)] ERROR_EX = 10,
    }
}

open_enum! {
    /// Object kinds, by convention in `FsContext2` (C-016, C-089).
    pub enum TdiObjectKind : u64 {
        #[allow(missing_docs)] TRANSPORT_ADDRESS = 1,
        #[allow(missing_docs)] CONNECTION = 2,
        #[allow(missing_docs)] CONTROL_CHANNEL = 3,
    }
}

open_enum! {
    /// Address type codes (C-024).
    pub enum AddressType : u16 {
        #[allow(missing_docs)] UNSPEC = 0,
        #[allow(missing_docs)] IP = 2,
        #[allow(missing_docs)] NETBIOS = 17,
        #[allow(missing_docs)] IP6 = 23,
    }
}

/// TDI_SEND flags (C-017); not the receive flags (C-019).
pub mod send_flags {
    /// `TDI_SEND_EXPEDITED`.
    pub const EXPEDITED: u32 = 0x20;
    /// `TDI_SEND_PARTIAL`.
    pub const PARTIAL: u32 = 0x40;
    /// `TDI_SEND_NO_RESPONSE_EXPECTED`.
    pub const NO_RESPONSE_EXPECTED: u32 = 0x80;
    /// `TDI_SEND_NON_BLOCKING`.
    pub const NON_BLOCKING: u32 = 0x100;
    /// `TDI_SEND_AND_DISCONNECT`.
    pub const AND_DISCONNECT: u32 = 0x200;
}

/// TDI_RECEIVE and indication flags (C-018).
pub mod receive_flags {
    /// `TDI_RECEIVE_BROADCAST`.
    pub const BROADCAST: u32 = 0x4;
    /// `TDI_RECEIVE_MULTICAST`.
    pub const MULTICAST: u32 = 0x8;
    /// `TDI_RECEIVE_PARTIAL`.
    pub const PARTIAL: u32 = 0x10;
    /// `TDI_RECEIVE_NORMAL`.
    pub const NORMAL: u32 = 0x20;
    /// `TDI_RECEIVE_EXPEDITED`.
    pub const EXPEDITED: u32 = 0x40;
    /// `TDI_RECEIVE_PEEK`.
    pub const PEEK: u32 = 0x80;
    /// `TDI_RECEIVE_NO_RESPONSE_EXP`.
    pub const NO_RESPONSE_EXPECTED: u32 = 0x100;
    /// `TDI_RECEIVE_COPY_LOOKAHEAD`.
    pub const COPY_LOOKAHEAD: u32 = 0x200;
    /// `TDI_RECEIVE_ENTIRE_MESSAGE`.
    pub const ENTIRE_MESSAGE: u32 = 0x400;
    /// `TDI_RECEIVE_AT_DISPATCH_LEVEL`.
    pub const AT_DISPATCH_LEVEL: u32 = 0x800;
    /// `TDI_RECEIVE_CONTROL_INFO`.
    pub const CONTROL_INFO: u32 = 0x1000;
    /// `TDI_RECEIVE_FORCE_INDICATION`.
    pub const FORCE_INDICATION: u32 = 0x2000;
    /// `TDI_RECEIVE_NO_PUSH`.
    pub const NO_PUSH: u32 = 0x4000;
}

/// TDI_DISCONNECT flags (C-020).
pub mod disconnect_flags {
    /// `TDI_DISCONNECT_WAIT`.
    pub const WAIT: u32 = 0x1;
    /// `TDI_DISCONNECT_ABORT`.
    pub const ABORT: u32 = 0x2;
    /// `TDI_DISCONNECT_RELEASE`.
    pub const RELEASE: u32 = 0x4;
}

/// TDI_LISTEN flag (C-021).
pub const QUERY_ACCEPT: u64 = 0x1;

/// Service flags reported by a provider (C-022).
pub mod service_flags {
    #![allow(missing_docs, reason = "the DDK's own names")]
    pub const CONNECTION_MODE: u32 = 0x1;
    pub const ORDERLY_RELEASE: u32 = 0x2;
    pub const CONNECTIONLESS_MODE: u32 = 0x4;
    pub const ERROR_FREE_DELIVERY: u32 = 0x8;
    pub const SECURITY_LEVEL: u32 = 0x10;
    pub const BROADCAST_SUPPORTED: u32 = 0x20;
    pub const MULTICAST_SUPPORTED: u32 = 0x40;
    pub const DELAYED_ACCEPTANCE: u32 = 0x80;
    pub const EXPEDITED_DATA: u32 = 0x100;
    pub const INTERNAL_BUFFERING: u32 = 0x200;
    pub const ROUTE_DIRECTED: u32 = 0x400;
    pub const NO_ZERO_LENGTH: u32 = 0x800;
    pub const POINT_TO_POINT: u32 = 0x1000;
    pub const MESSAGE_MODE: u32 = 0x2000;
    pub const HALF_DUPLEX: u32 = 0x4000;
    pub const DGRAM_CONNECTION: u32 = 0x8000;
    pub const FORCE_ACCESS_CHECK: u32 = 0x1_0000;
    pub const SEND_AND_DISCONNECT: u32 = 0x2_0000;
    pub const DIRECT_ACCEPT: u32 = 0x4_0000;
    pub const ACCEPT_LOCAL_ADDR: u32 = 0x8_0000;
    pub const ADDRESS_SECURITY: u32 = 0x10_0000;
    pub const PREPOST_RECVS: u32 = 0x20_0000;
    pub const NO_PUSH: u32 = 0x40_0000;
}

/// What Windows TCP/IP reports (C-011, D-139).
pub const TCPIP_SERVICE_FLAGS: u32 = 0x007B_89AF;

/// `TDI_REQUEST_KERNEL`: parameters of CONNECT, LISTEN and DISCONNECT (C-053).
#[doc(alias = "TDI_REQUEST_KERNEL")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RequestKernel {
    /// Undefined for CONNECT (C-190).
    pub request_flags: u64,
    /// What the client gives.
    pub request_connection_information: *mut ConnectionInformation,
    /// Where results go, or null.
    pub return_connection_information: *mut ConnectionInformation,
    /// A timeout's `LARGE_INTEGER`, or null.
    pub request_specific: *mut i64,
}

/// `TDI_REQUEST_KERNEL_ACCEPT`: no flags word in front (C-054).
#[doc(alias = "TDI_REQUEST_KERNEL_ACCEPT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RequestKernelAccept {
    /// What the client gives.
    pub request_connection_information: *mut ConnectionInformation,
    /// Where results go, or null.
    pub return_connection_information: *mut ConnectionInformation,
}

/// `TDI_REQUEST_KERNEL_SEND` and `TDI_REQUEST_KERNEL_RECEIVE` (C-057, C-058).
#[doc(alias = "TDI_REQUEST_KERNEL_SEND")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RequestKernelTransfer {
    /// Bytes.
    pub length: u32,
    /// [`send_flags`] or [`receive_flags`].
    pub flags: u32,
}

/// `TDI_REQUEST_KERNEL_SET_EVENT` (C-059).
#[doc(alias = "TDI_REQUEST_KERNEL_SET_EVENT")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RequestKernelSetEvent {
    /// Which event.
    pub event_type: TdiEvent,
    /// Unused.
    pub _pad: u32,
    /// The handler, or 0 to deregister.
    pub event_handler: u64,
    /// Its first argument.
    pub event_context: u64,
}

/// `TDI_REQUEST_KERNEL_QUERY_INFORMATION`.
#[doc(alias = "TDI_REQUEST_KERNEL_QUERY_INFORMATION")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct RequestKernelQueryInformation {
    /// `TDI_QUERY_xxx`.
    pub query_type: u32,
    /// Unused.
    pub _pad: u32,
    /// Optional.
    pub request_connection_information: *mut ConnectionInformation,
}

/// `TDI_CONNECTION_INFORMATION` (C-060); a zero length makes its pointer count as null (C-061).
#[doc(alias = "TDI_CONNECTION_INFORMATION")]
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ConnectionInformation {
    /// Bytes at `user_data`.
    pub user_data_length: i32,
    /// Unused.
    pub _pad: u32,
    /// Connect data.
    pub user_data: u64,
    /// Bytes at `options`.
    pub options_length: i32,
    /// Unused.
    pub _pad2: u32,
    /// Options.
    pub options: u64,
    /// Bytes at `remote_address`: the whole TRANSPORT_ADDRESS (C-062).
    pub remote_address_length: i32,
    /// Unused.
    pub _pad3: u32,
    /// A TRANSPORT_ADDRESS.
    pub remote_address: u64,
}

/// Bytes of a TA_IP_ADDRESS (C-042).
pub const TA_IP_ADDRESS_LENGTH: usize = 22;
/// Bytes of a TDI_ADDRESS_IP (C-042).
pub const TDI_ADDRESS_IP_LENGTH: usize = 14;
/// Bytes of a TDI_ADDRESS_IP6 (C-043).
pub const TDI_ADDRESS_IP6_LENGTH: usize = 26;

/// `TDI_QUERY_xxx` codes.
pub mod query {
    #![allow(missing_docs, reason = "the DDK's own names")]
    pub const BROADCAST_ADDRESS: u32 = 0x1;
    pub const PROVIDER_INFO: u32 = 0x2;
    pub const ADDRESS_INFO: u32 = 0x3;
    pub const CONNECTION_INFO: u32 = 0x4;
    pub const PROVIDER_STATISTICS: u32 = 0x5;
    pub const DATAGRAM_INFO: u32 = 0x6;
    pub const DATA_LINK_ADDRESS: u32 = 0x7;
    pub const NETWORK_ADDRESS: u32 = 0x8;
    pub const MAX_DATAGRAM_INFO: u32 = 0x9;
    pub const ROUTING_INFO: u32 = 0xA;
    pub const ADAPTER_STATUS: u32 = 0x100;
    pub const SESSION_STATUS: u32 = 0x200;
    pub const FIND_NAME: u32 = 0x300;
}

const _: () = assert!(size_of::<RequestKernel>() == 0x20 && offset_of!(RequestKernel, request_specific) == 0x18);
const _: () = assert!(size_of::<RequestKernelTransfer>() == 8 && size_of::<RequestKernelSetEvent>() == 0x18);
const _: () = assert!(offset_of!(RequestKernelSetEvent, event_handler) == 8);
const _: () = assert!(size_of::<RequestKernelQueryInformation>() == 0x10);
const _: () = {
    assert!(size_of::<ConnectionInformation>() == 0x30 && offset_of!(ConnectionInformation, user_data) == 8);
    assert!(
        offset_of!(ConnectionInformation, options_length) == 0x10 && offset_of!(ConnectionInformation, options) == 0x18
    );
    assert!(offset_of!(ConnectionInformation, remote_address_length) == 0x20);
    assert!(offset_of!(ConnectionInformation, remote_address) == 0x28);
};

/// The private codes of TCP/IP (D-175 to D-178, D-185 to D-187, D-201, D-203).
#[allow(missing_docs)]
pub mod private {
    pub const IOCTL_TCP_QUERY_INFORMATION_EX: u32 = 0x0012_0003;
    pub const IOCTL_TCP_SET_INFORMATION_EX: u32 = 0x0012_8004;
    /// The code with which drivers for newer systems set.
    pub const IOCTL_TCP_SET_INFORMATION_EX_ANY: u32 = 0x0012_0028;

    pub const GENERIC_ENTITY: u32 = 0;
    pub const IF_ENTITY: u32 = 0x200;
    pub const AT_ENTITY: u32 = 0x280;
    pub const CL_NL_ENTITY: u32 = 0x301;
    pub const ER_ENTITY: u32 = 0x380;
    pub const CO_TL_ENTITY: u32 = 0x400;
    pub const CL_TL_ENTITY: u32 = 0x401;
    pub const INFO_CLASS_GENERIC: u32 = 0x100;
    pub const INFO_CLASS_PROTOCOL: u32 = 0x200;
    pub const INFO_TYPE_PROVIDER: u32 = 0x100;
    pub const INFO_TYPE_ADDRESS_OBJECT: u32 = 0x200;
    pub const INFO_TYPE_CONNECTION: u32 = 0x300;

    /// What is asked of a provider. LIST and TYPE are of the generic class, the others of a protocol's.
    pub mod entity_id {
        pub const LIST: u32 = 0;
        pub const TYPE: u32 = 1;
        pub const ENTRY: u32 = 1;
        pub const TABLE: u32 = 0x101;
        pub const ADDRESSES: u32 = 0x102;
        pub const INTERFACE_OF_ADDRESS: u32 = 0x103;
    }

    /// What an entity is.
    pub mod entity_type {
        pub const IF_MIB: u32 = 0x202;
        pub const AT_ARP: u32 = 0x280;
        pub const CL_NL_IP: u32 = 0x303;
        pub const ER_ICMP: u32 = 0x380;
        pub const CL_TL_UDP: u32 = 0x403;
        pub const CO_TL_TCP: u32 = 0x404;
    }

    /// What is set on a connection.
    pub mod tcp_socket {
        pub const NODELAY: u32 = 1;
        pub const KEEPALIVE: u32 = 2;
        pub const WINDOW: u32 = 6;
        pub const KEEPALIVE_VALS: u32 = 7;
        pub const SCALE_CWIN: u32 = 9;
    }

    /// What is set on an address.
    pub mod ao_option {
        pub const TTL: u32 = 1;
        pub const MCASTTTL: u32 = 2;
        pub const MCASTIF: u32 = 3;
        pub const ADD_MCAST: u32 = 6;
        pub const DEL_MCAST: u32 = 7;
        pub const TOS: u32 = 8;
        pub const IP_DONTFRAGMENT: u32 = 9;
        pub const MCASTLOOP: u32 = 10;
        pub const BROADCAST: u32 = 11;
        pub const IP_PKTINFO: u32 = 27;
        pub const WINDOW: u32 = 34;
        pub const SCALE_CWIN: u32 = 35;
        pub const PROTECT: u32 = 38;
    }
}
