//! Runs made by hand, in the order and with the events that a real one has.

#![allow(dead_code, reason = "each test file uses its part")]

use figure::{Names, Options};
use nt_abi::tdi::{TdiEvent, TdiRequest};
use nt_abi::{MajorFunction, NtStatus};
use trace::{Event, Farewell, Functions, OpenKind, Record};

pub const CLIENT: u64 = 0x7000_0000_1000;
pub const TRANSPORT: u64 = 0x7000_0000_2000;
pub const TCP: u64 = 0x7000_0000_3000;
pub const ADDRESS: u64 = 0x7000_0000_4000;
pub const ENDPOINT: u64 = 0x7000_0000_5000;
pub const IRP: u64 = 0x7000_0000_6000;
pub const NETWORK_THREAD: u16 = 9;

/// Names as the application gives them.
pub fn names() -> Names {
    Names {
        status: |status| match NtStatus(status).name() {
            Some(name) => format!("STATUS_{name}"),
            None => format!("{status:#010x}"),
        },
        function: |functions| {
            let functions = Functions(functions);
            let tdi = TdiRequest(functions.minor()).name().filter(|_| functions.is_internal_device_control());
            match (tdi, MajorFunction(functions.major()).name()) {
                (Some(name), _) => format!("TDI_{name}"),
                (None, Some(name)) => format!("IRP_MJ_{name}"),
                (None, None) => format!("request {:#06x}", functions.0),
            }
        },
        detail: |functions, detail| match Functions(functions) {
            functions if functions == tdi(TdiRequest::DISCONNECT) => disconnect_kind(detail).into(),
            functions if functions == tdi(TdiRequest::SET_EVENT_HANDLER) => handler(detail as u32),
            functions if functions.major() == MajorFunction::DEVICE_CONTROL.0 => format!("{detail:#x}"),
            _ => String::new(),
        },
        event: handler,
        event_moves_data: |event| matches!(TdiEvent(event), TdiEvent::RECEIVE | TdiEvent::CHAINED_RECEIVE),
        event_detail: |event, detail| match TdiEvent(event) {
            TdiEvent::DISCONNECT => disconnect_kind(detail).into(),
            _ => String::new(),
        },
    }
}

fn handler(event: u32) -> String {
    match TdiEvent(event).name() {
        Some(name) => format!("ClientEvent{}{}", &name[..1], name[1..].to_lowercase()),
        None => format!("event {event}"),
    }
}

fn disconnect_kind(flags: u64) -> &'static str {
    match flags {
        4 => "release",
        2 => "abort",
        1 => "wait",
        _ => "",
    }
}

pub fn tdi(request: TdiRequest) -> Functions {
    Functions::new(MajorFunction::INTERNAL_DEVICE_CONTROL.0, request.0)
}

pub fn major(major: MajorFunction) -> Functions {
    Functions::new(major.0, 0)
}

pub fn options() -> Options {
    Options::new(names())
}

/// A run in the making.
pub struct Run {
    pub records: Vec<Record>,
    now: u64,
    thread: u16,
}

impl Run {
    pub fn new() -> Self {
        Self { records: Vec::new(), now: 1_200_000, thread: 1 }
    }

    pub fn say(&mut self, event: Event, text: &str) {
        if event.is_stamped() {
            self.now += 7_300 + self.now % 1_900;
        }
        self.records.push(Record { time_ns: self.now, thread: self.thread, event, text: text.into() });
    }

    pub fn event(&mut self, event: Event) {
        self.say(event, "");
    }

    pub fn wait(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
    }

    pub fn on(&mut self, thread: u16) {
        self.thread = thread;
    }

    pub fn dispatch(&mut self, irp: u64, file: u64, functions: Functions, detail: u64) {
        self.event(Event::IrpDispatched { irp, device: TCP, file, functions: functions.0, detail, routine: 0 });
    }

    pub fn done(&mut self, irp: u64, status: NtStatus, information: u64) {
        self.event(Event::IrpCompleted { irp, status: status.0, information });
        self.event(Event::IrpReturned { irp, status: status.0 });
    }

    /// A request that is over when its dispatch routine returns.
    pub fn request(&mut self, file: u64, functions: Functions, detail: u64, status: NtStatus, information: u64) {
        self.dispatch(IRP, file, functions, detail);
        self.done(IRP, status, information);
    }

    pub fn pend(&mut self, irp: u64, file: u64, functions: Functions, detail: u64) {
        self.dispatch(irp, file, functions, detail);
        self.event(Event::IrpReturned { irp, status: NtStatus::PENDING.0 });
    }

    pub fn complete_later(&mut self, irp: u64, status: NtStatus, information: u64) {
        let thread = self.thread;
        self.thread = NETWORK_THREAD;
        self.event(Event::IrpCompletedLater { irp, status: status.0, information });
        self.thread = thread;
    }

    pub fn open(&mut self, file: u64, kind: OpenKind) {
        self.request(file, major(MajorFunction::CREATE), 0, NtStatus::SUCCESS, 0);
        self.say(Event::FileOpened { file, device: TCP, handle: file >> 12 & 0xFFF, status: 0, kind }, r"\Device\Tcp");
    }

    pub fn network(&mut self, event: Event, text: &str) {
        let thread = self.thread;
        self.thread = NETWORK_THREAD;
        self.say(event, text);
        self.thread = thread;
    }

    /// Up to a driver that runs and a transport it can open.
    pub fn begin(&mut self) {
        self.say(Event::RunStarted { seeded: 0, seed: 0 }, "drydock 0.1.0");
        self.say(Event::DeviceCreated { device: TCP, driver: TRANSPORT }, r"\Device\Tcp");
        self.say(Event::ImageLoaded { base: 0x1_4000_0000, size: 0x8000, driver: 0 }, "tdi_client.sys");
        self.wait(300_000);
        self.say(Event::DriverEntryCalled { driver: CLIENT }, "tdi_client.sys");
    }

    pub fn connect(&mut self, file: u64) {
        let irp = IRP + 0x100;
        self.dispatch(irp, file, tdi(TdiRequest::CONNECT), 0);
        self.say(Event::ConnectStarted { endpoint: file }, "127.0.0.1:8080");
        self.event(Event::IrpReturned { irp, status: NtStatus::PENDING.0 });
        self.wait(180_000);
        self.network(Event::Connected { endpoint: file }, "127.0.0.1:8080");
        self.complete_later(irp, NtStatus::SUCCESS, 0);
    }

    pub fn send(&mut self, file: u64, bytes: u64) {
        self.dispatch(IRP, file, tdi(TdiRequest::SEND), bytes);
        self.event(Event::BytesSent { endpoint: file, bytes });
        self.done(IRP, NtStatus::SUCCESS, bytes);
    }

    pub fn receive_later(&mut self, file: u64, room: u64, bytes: u64) {
        let irp = IRP + 0x200;
        self.pend(irp, file, tdi(TdiRequest::RECEIVE), room);
        self.wait(90_000);
        self.network(Event::BytesReceived { endpoint: file, bytes }, "");
        self.complete_later(irp, NtStatus::SUCCESS, bytes);
    }

    /// The last handle and then the last reference.
    pub fn close(&mut self, file: u64, farewell: Option<Farewell>) {
        self.event(Event::HandleClosed { handle: file >> 12 & 0xFFF, object: file, remaining: 0 });
        self.dispatch(IRP, file, major(MajorFunction::CLEANUP), 0);
        if let Some(farewell) = farewell {
            self.event(Event::RemoteTold { endpoint: file, farewell });
            self.event(Event::EndpointDisassociated { endpoint: file });
        }
        self.done(IRP, NtStatus::SUCCESS, 0);
        self.request(file, major(MajorFunction::CLOSE), 0, NtStatus::SUCCESS, 0);
        self.event(Event::FileDeleted { file });
    }

    pub fn end(&mut self) {
        self.event(Event::DriverEntryReturned { driver: CLIENT, status: 0 });
        self.wait(2_000_000);
        self.event(Event::UnloadCalled { driver: CLIENT });
        self.event(Event::UnloadReturned { driver: CLIENT });
        self.event(Event::RunEnded {});
    }
}

/// A client opens, connects, asks, receives, and closes without a disconnect.
pub fn closing_life(receives: usize) -> Vec<Record> {
    let mut run = Run::new();
    run.begin();
    run.open(ADDRESS, OpenKind::TransportAddress);
    run.open(ENDPOINT, OpenKind::ConnectionEndpoint);
    run.dispatch(IRP, ENDPOINT, tdi(TdiRequest::ASSOCIATE_ADDRESS), 0);
    run.event(Event::EndpointAssociated { endpoint: ENDPOINT, address: ADDRESS });
    run.done(IRP, NtStatus::SUCCESS, 0);
    let disconnect = u64::from(TdiEvent::DISCONNECT.0);
    run.request(ADDRESS, tdi(TdiRequest::SET_EVENT_HANDLER), disconnect, NtStatus::SUCCESS, 0);
    run.connect(ENDPOINT);
    run.send(ENDPOINT, 91);
    for round in 0..receives {
        run.receive_later(ENDPOINT, 65_536, if round + 1 == receives { 1_460 } else { 65_536 });
    }
    run.network(Event::RemoteEnded { endpoint: ENDPOINT, farewell: Farewell::Fin }, "");
    run.on(NETWORK_THREAD);
    run.event(Event::Indicated { endpoint: ENDPOINT, event: TdiEvent::DISCONNECT.0, context: 0x99, bytes: 4 });
    run.say(Event::DebugPrint { level: 0, caller: 0 }, "tdi_client: the server has closed its side\n");
    run.event(Event::IndicationReturned { endpoint: ENDPOINT, status: 0, taken: 0 });
    run.on(1);
    run.close(ENDPOINT, Some(Farewell::Fin));
    run.close(ADDRESS, None);
    run.end();
    run.records
}

/// Two clients, a filter between them and the transport, a finding, a failure, a cancelled request, a reset.
pub fn crowded() -> Vec<Record> {
    const FILTER: u64 = 0x7100_0000_1000;
    const FILTER_DEVICE: u64 = 0x7100_0000_2000;
    const OTHER: u64 = 0x7100_0000_3000;
    const OTHER_DEVICE: u64 = 0x7100_0000_4000;
    let mut run = Run::new();
    run.begin();
    run.event(Event::DriverEntryReturned { driver: CLIENT, status: 0 });
    run.say(Event::DriverEntryCalled { driver: FILTER }, "a_filter_with_a_remarkably_long_name.sys");
    run.say(Event::DeviceCreated { device: FILTER_DEVICE, driver: FILTER }, "");
    run.event(Event::DeviceAttached { device: FILTER_DEVICE, lower: TCP });
    run.event(Event::DriverEntryReturned { driver: FILTER, status: 0 });
    run.say(Event::DriverEntryCalled { driver: OTHER }, "echo.sys");
    run.say(Event::DeviceCreated { device: OTHER_DEVICE, driver: OTHER }, r"\Device\Echo");
    run.event(Event::DriverEntryReturned { driver: OTHER, status: 0 });
    let ioctl = Event::IrpDispatched {
        irp: IRP + 0x900,
        device: OTHER_DEVICE,
        file: 0,
        functions: major(MajorFunction::DEVICE_CONTROL).0,
        detail: 0x22_2000,
        routine: 0,
    };
    run.event(ioctl);
    run.event(Event::IrpDispatched {
        irp: IRP,
        device: FILTER_DEVICE,
        file: ENDPOINT,
        functions: 0,
        detail: 0,
        routine: 0,
    });
    run.dispatch(IRP, ENDPOINT, major(MajorFunction::CREATE), 0);
    run.done(IRP, NtStatus::SUCCESS, 0);
    run.event(Event::IrpReturned { irp: IRP, status: 0 });
    let kind = OpenKind::ConnectionEndpoint;
    run.say(Event::FileOpened { file: ENDPOINT, device: TCP, handle: 8, status: 0, kind }, r"\Device\Tcp");
    let connect = tdi(TdiRequest::CONNECT);
    let passed =
        |device| Event::IrpDispatched { irp: IRP, device, file: ENDPOINT, functions: connect.0, detail: 0, routine: 0 };
    run.event(passed(FILTER_DEVICE));
    run.event(passed(TCP));
    run.say(Event::ConnectStarted { endpoint: ENDPOINT }, "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535");
    run.event(Event::IrpReturned { irp: IRP, status: NtStatus::PENDING.0 });
    run.event(Event::IrpReturned { irp: IRP, status: NtStatus::PENDING.0 });
    run.network(Event::ConnectFailed { endpoint: ENDPOINT, status: 0xC000_0236 }, "");
    run.complete_later(IRP, NtStatus(0xC000_0236), 0);
    run.pend(IRP + 0x300, ENDPOINT, tdi(TdiRequest::RECEIVE), 4096);
    run.pend(IRP + 0x400, ENDPOINT, tdi(TdiRequest::RECEIVE), 4096);
    run.pend(IRP + 0x500, ENDPOINT, tdi(TdiRequest::RECEIVE), 4096);
    run.event(Event::IrpCancelled { irp: IRP + 0x400 });
    run.complete_later(IRP + 0x400, NtStatus(0xC000_0120), 0);
    let finding = "K-127\tKeWaitForSingleObject at DISPATCH_LEVEL with a timeout: the thread would never be woken; wait at \
                   PASSIVE_LEVEL, or use a timeout of zero";
    run.say(Event::Finding { driver: 0x1_4000_0000, offset: 0x1234 }, finding);
    run.network(Event::RemoteEnded { endpoint: ENDPOINT, farewell: Farewell::Rst }, "");
    run.complete_later(IRP + 0x300, NtStatus(0xC000_020D), 0);
    run.complete_later(IRP + 0x500, NtStatus(0xC000_020D), 0);
    run.close(ENDPOINT, None);
    run.event(Event::IrpCompleted { irp: IRP + 0x900, status: 0, information: 0 });
    run.event(Event::IrpReturned { irp: IRP + 0x900, status: 0 });
    run.event(Event::EventsLost { count: 12 });
    run.event(Event::EventsResumed {});
    run.say(Event::HostNote {}, "the driver did not answer for a second");
    run.end();
    run.records
}

/// Many endpoints, one after the other.
pub fn rounds(count: u64) -> Vec<Record> {
    let mut run = Run::new();
    run.begin();
    for _ in 0..count {
        run.open(ENDPOINT, OpenKind::ConnectionEndpoint);
        run.connect(ENDPOINT);
        run.send(ENDPOINT, 91);
        run.receive_later(ENDPOINT, 4096, 1460);
        run.close(ENDPOINT, Some(Farewell::Fin));
    }
    run.end();
    run.records
}

/// Many endpoints at once, each step on all of them before the next.
pub fn crowd(count: u64) -> Vec<Record> {
    let mut run = Run::new();
    let endpoints = || (0..count).map(|index| (ENDPOINT + 0x10_0000 * index, IRP + 0x10_0000 * index));
    run.begin();
    endpoints().for_each(|(file, _)| run.open(file, OpenKind::ConnectionEndpoint));
    endpoints().for_each(|(file, irp)| {
        run.dispatch(irp, file, tdi(TdiRequest::CONNECT), 0);
        run.say(Event::ConnectStarted { endpoint: file }, "127.0.0.1:8080");
        run.event(Event::IrpReturned { irp, status: NtStatus::PENDING.0 });
    });
    endpoints().for_each(|(file, irp)| {
        run.network(Event::Connected { endpoint: file }, "127.0.0.1:8080");
        run.complete_later(irp, NtStatus::SUCCESS, 0);
    });
    endpoints().for_each(|(file, irp)| run.pend(irp, file, tdi(TdiRequest::RECEIVE), 4096));
    endpoints().for_each(|(file, irp)| {
        run.network(Event::BytesReceived { endpoint: file, bytes: 1460 }, "");
        run.complete_later(irp, NtStatus::SUCCESS, 1460);
    });
    endpoints().for_each(|(file, _)| run.close(file, Some(Farewell::Fin)));
    run.end();
    run.records
}

/// A driver with two devices, one over the other, that passes a request from the upper to the lower.
pub fn two_storeys() -> Vec<Record> {
    const UPPER: u64 = 0x7100_0000_2000;
    const LOWER: u64 = 0x7100_0000_3000;
    let mut run = Run::new();
    run.begin();
    run.say(Event::DeviceCreated { device: LOWER, driver: CLIENT }, r"\Device\Storeys");
    run.say(Event::DeviceCreated { device: UPPER, driver: CLIENT }, "");
    run.event(Event::DeviceAttached { device: UPPER, lower: LOWER });
    run.event(Event::DriverEntryReturned { driver: CLIENT, status: 0 });
    let functions = major(MajorFunction::DEVICE_CONTROL).0;
    for device in [UPPER, LOWER] {
        run.event(Event::IrpDispatched { irp: IRP, device, file: 0, functions, detail: 0x22_2004, routine: 0 });
    }
    run.done(IRP, NtStatus::SUCCESS, 0);
    run.event(Event::IrpReturned { irp: IRP, status: 0 });
    run.wait(2_000_000);
    run.event(Event::UnloadCalled { driver: CLIENT });
    run.event(Event::UnloadReturned { driver: CLIENT });
    run.event(Event::RunEnded {});
    run.records
}

/// What the command line asks of a driver, up to the middle of the request; the driver prints a table on the way.
pub fn asked() -> Vec<Record> {
    const DEVICE: u64 = 0x7100_0000_2000;
    let mut run = Run::new();
    run.begin();
    run.say(Event::DeviceCreated { device: DEVICE, driver: CLIENT }, r"\Device\Asked");
    run.event(Event::DriverEntryReturned { driver: CLIENT, status: 0 });
    let kind = OpenKind::Device;
    run.event(Event::IrpDispatched { irp: IRP, device: DEVICE, file: 8, functions: 0, detail: 0, routine: 0 });
    run.done(IRP, NtStatus::SUCCESS, 0);
    run.say(Event::FileOpened { file: 8, device: DEVICE, handle: 4, status: 0, kind }, r"\Device\Asked");
    let functions = major(MajorFunction::DEVICE_CONTROL).0;
    run.event(Event::IrpDispatched { irp: IRP, device: DEVICE, file: 8, functions, detail: 0x22_2004, routine: 0 });
    run.say(Event::DebugPrint { level: 0, caller: 0 }, "port    state\r\n");
    run.records
}
