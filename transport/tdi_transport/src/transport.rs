//! The transport as a whole: its driver object, its devices, its tables, its network.

use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use net_api::Network;
use nt_abi::io::device_flags;
use nt_abi::{DeviceObject, DriverObject, FileObject, NtStatus};
use nt_dispatcher::{clock, poller};
use nt_io::device::{self, NewDevice};
use nt_io::driver::{self, NewDriver};
use tdi_core::sharing::{AddressTable, Protocol};
use tdi_core::transport_address::Family;
use tdi_core::{Config, Instant};

use crate::address::AddressState;
use crate::announce::{self, Announced};
use crate::chained::{self, Chain};
use crate::control::ChannelState;
use crate::dispatch;
use crate::endpoint::EndpointState;
use crate::network::Forward;
use crate::pump::Later;
use crate::requests::Requests;
use crate::stream_address::StreamAddress;
use crate::table::Table;
use crate::timers::Timers;

/// `FILE_DEVICE_NETWORK`.
const FILE_DEVICE_NETWORK: u32 = 0x12;
/// The service name, and so `\Driver\Tcpip` (D-278).
const SERVICE: &str = "Tcpip";

/// What a device of the transport offers (C-001 to C-006).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DeviceKind {
    /// `\Device\Tcp`: addresses and connections.
    Tcp(Family),
    /// `\Device\Udp`: addresses for datagrams.
    Udp(Family),
    /// `\Device\RawIp`: addresses by protocol number.
    RawIp(Family),
    /// `\Device\Ip`: control channels only.
    Ip(Family),
    /// `\Device\IPMULTICAST`: control channels only.
    Multicast,
}

impl DeviceKind {
    /// Which addresses it uses.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Tcp(family) | Self::Udp(family) | Self::RawIp(family) | Self::Ip(family) => family,
            Self::Multicast => Family::V4,
        }
    }
}

/// All devices by name.
const DEVICES: [(&str, DeviceKind); 9] = [
    (r"\Device\Tcp", DeviceKind::Tcp(Family::V4)),
    (r"\Device\Tcp6", DeviceKind::Tcp(Family::V6)),
    (r"\Device\Udp", DeviceKind::Udp(Family::V4)),
    (r"\Device\Udp6", DeviceKind::Udp(Family::V6)),
    (r"\Device\RawIp", DeviceKind::RawIp(Family::V4)),
    (r"\Device\RawIp6", DeviceKind::RawIp(Family::V6)),
    (r"\Device\Ip", DeviceKind::Ip(Family::V4)),
    (r"\Device\Ip6", DeviceKind::Ip(Family::V6)),
    (r"\Device\IPMULTICAST", DeviceKind::Multicast),
];

/// The running transport. Leaked: requests, keys and the poller may come back to it late.
static CURRENT: AtomicPtr<Transport> = AtomicPtr::new(ptr::null_mut());

/// The transport that the dispatch routines serve.
pub(crate) fn current() -> Option<&'static Transport> {
    // SAFETY: `start` stores a leaked transport; nothing frees it.
    unsafe { CURRENT.load(Ordering::Acquire).as_ref() }
}

/// Addresses that are open on the network, so that shared opens share one (C-104).
pub(crate) type Opened = Vec<(Protocol, SocketAddr, std::sync::Weak<StreamAddress>)>;

/// Who uses which address, by hosts.
#[derive(Default)]
pub(crate) struct Claims(Vec<HostClaims>);

impl Claims {
    pub(crate) fn of(&mut self, host: u16) -> &mut HostClaims {
        let count = self.0.len().max(usize::from(host) + 1);
        self.0.resize_with(count, HostClaims::default);
        &mut self.0[usize::from(host)]
    }
}

/// One of the hosts that the network has.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) number: u16,
    pub(crate) network: &'a dyn Network,
}

/// Who uses which address of one host.
#[derive(Default)]
pub(crate) struct HostClaims {
    pub(crate) table: AddressTable,
    pub(crate) opened: Opened,
}

/// A transport over one network.
pub struct Transport {
    pub(crate) network: Arc<dyn Network>,
    /// The network lives in virtual time.
    pub(crate) is_virtual: bool,
    pub(crate) config: &'static Config,
    driver: u64,
    devices: Vec<(u64, DeviceKind)>,
    pub(crate) endpoints: Table<EndpointState>,
    pub(crate) addresses: Table<AddressState>,
    /// Those that take offers from the network.
    pub(crate) listeners: Table<Arc<StreamAddress>>,
    pub(crate) channels: Table<ChannelState>,
    /// Received data that clients look at or keep.
    pub(crate) chains: Table<Chain>,
    pub(crate) requests: Requests,
    pub(crate) timers: Timers,
    /// What the poller goes on with.
    ready: Mutex<Vec<Later>>,
    pub(crate) has_ready: AtomicBool,
    /// Connections and addresses of which the network may have news.
    watched: AtomicU32,
    serials: AtomicU32,
    pub(crate) offers: AtomicU64,
    claims: Mutex<Claims>,
    announced: Mutex<Option<Announced>>,
    /// NT system time of the start (D-142).
    pub(crate) start_time: u64,
}

/// Makes the driver object and the devices and begins to serve them.
///
/// Only one transport can run at a time.
///
/// # Errors
/// STATUS_OBJECT_NAME_COLLISION if one runs, STATUS_INSUFFICIENT_RESOURCES.
///
/// IRQL: PASSIVE_LEVEL, on a thread of the kernel.
pub fn start(network: Arc<dyn Network>, config: &'static Config) -> Result<&'static Transport, NtStatus> {
    let driver = driver::create(&NewDriver { name: SERVICE, image: (0, 0), entry: 0 })?;
    // SAFETY: the driver object just made.
    unsafe { dispatch::install(driver) };
    let mut devices = Vec::new();
    for (name, kind) in DEVICES {
        // SAFETY: as above.
        match unsafe { new_device(driver, name) } {
            Ok(device) => devices.push((device as u64, kind)),
            Err(status) => {
                // SAFETY: as above.
                unsafe { remove(driver, &devices) };
                return Err(status);
            }
        }
    }
    let is_virtual = network.capabilities().virtual_time;
    let transport = Box::leak(Box::new(Transport {
        network,
        is_virtual,
        config,
        driver: driver as u64,
        devices,
        endpoints: Table::new(),
        addresses: Table::new(),
        listeners: Table::new(),
        channels: Table::new(),
        chains: Table::new(),
        requests: Requests::new(),
        timers: Timers::new(),
        ready: Mutex::new(Vec::new()),
        has_ready: AtomicBool::new(false),
        watched: AtomicU32::new(0),
        serials: AtomicU32::new(0),
        offers: AtomicU64::new(0),
        claims: Mutex::new(Claims::default()),
        announced: Mutex::new(None),
        start_time: clock::system_time_100ns(),
    }));
    CURRENT.store(transport, Ordering::Release);
    poller::set_poller(&Forward)?;
    tdi_library::set_take_back(chained::take_back);
    transport.announce();
    Ok(transport)
}

unsafe fn new_device(driver: *mut DriverObject, name: &str) -> Result<*mut DeviceObject, NtStatus> {
    let name: Vec<u16> = name.encode_utf16().collect();
    let new = NewDevice {
        driver,
        extension: 0,
        name: Some(&name),
        device_type: FILE_DEVICE_NETWORK,
        characteristics: 0,
        exclusive: false,
    };
    // SAFETY: the caller's driver object and the device just made.
    unsafe {
        let device = device::create(&new, 0)?;
        (*device).flags |= device_flags::DIRECT_IO;
        (*device).flags &= !device_flags::DEVICE_INITIALIZING;
        Ok(device)
    }
}

unsafe fn remove(driver: *mut DriverObject, devices: &[(u64, DeviceKind)]) {
    for (device, _) in devices {
        // SAFETY: our devices, deleted once.
        unsafe { device::delete(*device as *mut DeviceObject) };
    }
    let name: Vec<u16> = format!(r"\Driver\{SERVICE}").encode_utf16().collect();
    let _ = nt_object::remove(&name);
    nt_object::dereference(driver as u64);
}

impl Transport {
    /// The host that a file is opened on. The file object tells: when a filter passes a request on, the driver that calls
    /// now is the filter.
    pub(crate) fn host_of(&self, file: *mut FileObject) -> Host<'_> {
        let opener = nt_object::allocating_caller(file as u64);
        let (number, network) = self.network.host_of(opener).unwrap_or((0, &*self.network));
        Host { number, network }
    }

    /// Tells clients that there are devices to open addresses on.
    fn announce(&self) {
        let with_addresses =
            |kind: &DeviceKind| matches!(kind, DeviceKind::Tcp(_) | DeviceKind::Udp(_) | DeviceKind::RawIp(_));
        let names: Vec<_> = DEVICES.iter().filter(|(_, kind)| with_addresses(kind)).map(|(name, _)| *name).collect();
        let first = self.devices.first().map_or(0, |(device, _)| *device);
        // The hosts of a simulation have one address each, and nothing tells yet whose drivers will listen.
        let interfaces = if self.is_virtual { Vec::new() } else { self.network.interfaces() };
        let announced = announce::announce(SERVICE, &names, first, &interfaces);
        *self.announced.lock().unwrap_or_else(PoisonError::into_inner) = Some(announced);
    }

    /// Ends the transport: its devices go; what drivers left open stays as it is (see
    /// [`Transport::for_each_leftover`]) and nobody serves it any more.
    ///
    /// IRQL: PASSIVE_LEVEL.
    pub fn stop(&'static self) {
        let this = ptr::from_ref(self).cast_mut();
        if CURRENT.compare_exchange(this, ptr::null_mut(), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            let announced = self.announced.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(announced) = announced {
                announced.withdraw();
            }
            // SAFETY: made by `start`; this branch runs once.
            unsafe { remove(self.driver as *mut DriverObject, &self.devices) };
            self.network.wake();
        }
    }

    /// What a device offers, if it is one of ours.
    #[inline]
    pub(crate) fn kind_of(&self, device: *mut DeviceObject) -> Option<DeviceKind> {
        self.devices.iter().find(|(ours, _)| *ours == device as u64).map(|&(_, kind)| kind)
    }

    pub(crate) fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for the key of a new connection.
    pub(crate) fn next_serial(&self) -> u32 {
        self.serials.fetch_add(1, Ordering::Relaxed)
    }

    /// The network may have news of one thing more.
    pub(crate) fn watch_more(&self) {
        if self.watched.fetch_add(1, Ordering::Relaxed) == 0 {
            poller::changed();
        }
    }

    /// ... of one thing less.
    pub(crate) fn watch_less(&self) {
        self.watched.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the network may have news by itself. One in virtual time has none: its news are due at times.
    pub(crate) fn is_watching(&self) -> bool {
        !self.is_virtual && self.watched.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn ready(&self) -> MutexGuard<'_, Vec<Later>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Now, as the core counts it.
pub(crate) fn now() -> Instant {
    Instant(clock::now_100ns())
}
