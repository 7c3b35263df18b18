//! The network itself: its `epoll` instance, its wake-up, its spare descriptor.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use net_api::{
    Capabilities, DatagramAddress, EventSink, InterfaceEntry, Key, LocalAddress, NetError, NetTime, Network, Policy,
    Readiness, Sharing, Wait,
};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::accept::Listener;
use crate::address::HostAddress;
use crate::datagram::HostDatagramAddress;
use crate::error::net_error;
use crate::interfaces::interfaces;
use crate::reach::Reach;

/// Events fetched by one system call. More only means one more call.
const EVENTS_PER_POLL: usize = 64;

/// How long a poll blocks at most while a listener is stuck for want of descriptors: whoever closes one
/// need not be us, and then nothing tells.
const STUCK_POLL_MAX: Duration = Duration::from_millis(100);

/// The host's TCP sockets as a network.
pub struct HostNetwork {
    shared: Arc<Shared>,
    interfaces: Vec<InterfaceEntry>,
}

impl HostNetwork {
    /// A network that reaches the loopback addresses only ([`Policy::Loopback`]).
    ///
    /// # Errors
    /// [`NetError::OutOfDescriptors`] and the like.
    pub fn loopback() -> Result<Self, NetError> {
        Self::new(Reach::Loopback)
    }

    /// A network that reaches whatever the host reaches ([`Policy::Host`]).
    ///
    /// # Errors
    /// [`NetError::OutOfDescriptors`] and the like.
    pub fn host() -> Result<Self, NetError> {
        Self::new(Reach::Everything)
    }

    fn new(reach: Reach) -> Result<Self, NetError> {
        let shared = Shared::new(reach).map_err(net_error)?;
        Ok(Self { shared: Arc::new(shared), interfaces: interfaces(reach) })
    }
}

impl Network for HostNetwork {
    fn policy(&self) -> Policy {
        self.shared.reach.policy()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            urgent_bytes: 1,
            refuses_before_handshake: false,
            ipv6: true,
            virtual_time: false,
            datagram_bytes_max: 65_507,
            multicast: true,
            delivery_errors: true,
        }
    }

    fn open_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        Ok(Arc::new(HostAddress::open(&self.shared, local, Sharing::Exclusive)?))
    }

    fn open_shared_address(&self, local: SocketAddr) -> Result<Arc<dyn LocalAddress>, NetError> {
        Ok(Arc::new(HostAddress::open(&self.shared, local, Sharing::Shared)?))
    }

    fn open_datagram_address(&self, local: SocketAddr, sharing: Sharing) -> Result<Arc<dyn DatagramAddress>, NetError> {
        Ok(Arc::new(HostDatagramAddress::open(&self.shared, local, sharing)?))
    }

    fn interfaces(&self) -> Vec<InterfaceEntry> {
        self.interfaces.clone()
    }

    fn poll(&self, now: NetTime, wait: Wait, sink: &dyn EventSink) -> usize {
        let mut events = [EpollEvent::empty(); EVENTS_PER_POLL];
        let mut longest = wait.longest(now);
        if self.shared.is_short() {
            longest = Some(longest.map_or(STUCK_POLL_MAX, |longest| longest.min(STUCK_POLL_MAX)));
            self.shared.recover();
        }
        let count = match self.shared.epoll.wait(&mut events, timeout(longest)) {
            Ok(count) => count,
            // A signal handler has run on this thread; the caller looks at its clock and polls again.
            Err(Errno::EINTR) => return 0,
            // The other errors name an argument, and none of them comes from outside.
            Err(errno) => panic!("epoll_wait: {errno}"),
        };
        let mut delivered = 0;
        for event in events.iter().take(count) {
            let key = Key(event.data());
            if key != Key::RESERVED {
                sink.handle_event(key, readiness(event.events()));
                delivered += 1;
            }
        }
        delivered
    }

    fn wake(&self) {
        // Each write is an edge, so nobody has to read the counter back. It overflows after 2^64 of them.
        let _ = self.shared.wake.write(1);
    }

    fn next_deadline(&self) -> Option<NetTime> {
        None
    }
}

/// What addresses and connections need of their network.
pub(crate) struct Shared {
    pub(crate) reach: Reach,
    /// Where the kernel takes ports for floating addresses from.
    pub(crate) ephemeral_ports: RangeInclusive<u16>,
    /// What shared addresses of this network have bound, once for each.
    pub(crate) shared_bindings: Mutex<Vec<SocketAddr>>,
    epoll: Epoll,
    wake: EventFd,
    spare: Mutex<Spare>,
    /// Set while `spare` has no descriptor.
    is_short: AtomicBool,
}

struct Spare {
    /// Held back so that an offer can be refused when no descriptor is left: otherwise it stays in the
    /// queue, is reported again and again, and is neither taken nor refused.
    descriptor: Option<EventFd>,
    /// Listeners with offers that could not even be refused. Their edge is gone, so they must be armed
    /// again.
    stuck: Vec<Weak<Listener>>,
}

impl Shared {
    fn new(reach: Reach) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let wake = new_event()?;
        epoll.add(&wake, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, Key::RESERVED.0))?;
        let spare = Mutex::new(Spare { descriptor: Some(new_event()?), stuck: Vec::new() });
        Ok(Self {
            reach,
            ephemeral_ports: ephemeral_ports(),
            shared_bindings: Mutex::default(),
            epoll,
            wake,
            spare,
            is_short: AtomicBool::new(false),
        })
    }

    /// Reports readiness of a connection or datagram address from now on.
    pub(crate) fn watch(&self, socket: BorrowedFd<'_>, key: Key) -> nix::Result<()> {
        debug_assert_ne!(key, Key::RESERVED);
        self.epoll.add(socket, everything(key))
    }

    /// Reports the readiness of one that is watched once more.
    pub(crate) fn watch_again(&self, socket: BorrowedFd<'_>, key: Key) -> nix::Result<()> {
        self.epoll.modify(socket, &mut everything(key))
    }

    /// Reports offers at a listener from now on.
    pub(crate) fn watch_offers(&self, listener: &Listener) -> nix::Result<()> {
        debug_assert_ne!(listener.key, Key::RESERVED);
        self.epoll.add(listener.socket.as_fd(), offers(listener))
    }

    /// Runs `work` with one descriptor more than there is. `None` if even the spare one is gone.
    pub(crate) fn with_spare_descriptor<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        let mut spare = self.lock_spare();
        drop(spare.descriptor.take()?);
        let outcome = work();
        self.refill(&mut spare);
        Some(outcome)
    }

    /// Remembers a listener whose oldest offer could be neither taken nor refused.
    pub(crate) fn listener_is_stuck(&self, listener: &Arc<Listener>) {
        self.lock_spare().stuck.push(Arc::downgrade(listener));
        self.is_short.store(true, Ordering::Release);
    }

    /// To be called after a descriptor was closed.
    pub(crate) fn descriptor_was_closed(&self) {
        if self.is_short() {
            self.recover();
        }
    }

    fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Acquire)
    }

    fn recover(&self) {
        self.refill(&mut self.lock_spare());
    }

    /// Another thread may be quicker at taking a freed descriptor; whoever closes the next one, or
    /// polls, tries again.
    fn refill(&self, spare: &mut Spare) {
        if spare.descriptor.is_none() {
            spare.descriptor = new_event().ok();
        }
        if spare.descriptor.is_some() {
            for listener in spare.stuck.drain(..).filter_map(|stuck| stuck.upgrade()) {
                // Only a descriptor that is not registered could fail, and this one is while it is open.
                let _ = self.epoll.modify(listener.socket.as_fd(), &mut offers(&listener));
            }
        }
        self.is_short.store(spare.descriptor.is_none(), Ordering::Release);
    }

    fn lock_spare(&self) -> MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn everything(key: Key) -> EpollEvent {
    let all = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLPRI;
    EpollEvent::new(all | EpollFlags::EPOLLET, key.0)
}

fn offers(listener: &Listener) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, listener.key.0)
}

/// Every unprivileged port if the host does not say.
fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 1024..=u16::MAX,
    }
}

fn new_event() -> nix::Result<EventFd> {
    EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
}

/// In whole milliseconds, rounded up: a poll that returned early would only be called again.
fn timeout(longest: Option<Duration>) -> EpollTimeout {
    match longest {
        None => EpollTimeout::NONE,
        Some(longest) => {
            let milliseconds = longest.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX)
        }
    }
}

fn readiness(events: EpollFlags) -> Readiness {
    const TABLE: [(EpollFlags, Readiness); 6] = [
        (EpollFlags::EPOLLIN, Readiness::READABLE),
        (EpollFlags::EPOLLOUT, Readiness::WRITABLE),
        (EpollFlags::EPOLLRDHUP, Readiness::REMOTE_ENDED),
        (EpollFlags::EPOLLHUP, Readiness::BROKEN),
        (EpollFlags::EPOLLERR, Readiness::BROKEN),
        (EpollFlags::EPOLLPRI, Readiness::URGENT),
    ];
    let mut ready = Readiness::NONE;
    for (event, bit) in TABLE {
        if events.intersects(event) {
            ready |= bit;
        }
    }
    ready
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_never_ends_early() {
        assert_eq!(timeout(Some(Duration::from_nanos(1))), EpollTimeout::from(1_u8));
        assert_eq!(timeout(Some(Duration::from_millis(7))), EpollTimeout::from(7_u8));
        assert_eq!(timeout(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(timeout(Some(Duration::MAX)), EpollTimeout::MAX);
        assert_eq!(timeout(None), EpollTimeout::NONE);
    }

    #[test]
    fn stuck_listener_is_reported_again_without_a_new_offer() {
        struct Count(Mutex<Vec<Key>>);
        impl EventSink for Count {
            fn handle_event(&self, key: Key, _ready: Readiness) {
                self.0.lock().unwrap().push(key);
            }
        }
        let network = HostNetwork::loopback().unwrap();
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let _visitor = std::net::TcpStream::connect(socket.local_addr().unwrap()).unwrap();
        let listener = Arc::new(Listener { socket: socket.into(), key: Key(5) });
        network.shared.watch_offers(&listener).unwrap();
        let count = Count(Mutex::default());
        assert_eq!(network.poll(NetTime::ZERO, Wait::No, &count), 1);
        assert_eq!(network.poll(NetTime::ZERO, Wait::No, &count), 0);
        network.shared.listener_is_stuck(&listener);
        assert_eq!(network.poll(NetTime::ZERO, Wait::No, &count), 1);
        assert_eq!(network.poll(NetTime::ZERO, Wait::No, &count), 0);
    }

    #[test]
    fn hang_up_and_error_both_mean_broken() {
        assert!(readiness(EpollFlags::EPOLLHUP).contains(Readiness::BROKEN));
        assert!(readiness(EpollFlags::EPOLLERR).contains(Readiness::BROKEN));
        assert!(readiness(EpollFlags::empty()).is_none());
    }
}
