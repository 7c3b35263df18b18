//! Drivers with the worst intentions (`hostile/hostile.c`): the supervisor survives each, and its report says what was done
//! and where.

mod scenario;

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use proves::proves;
use scenario::{Ran, Run};
use serde_json::Value;

/// The hostile driver's image, as it is or as `hostile_entry`.
fn image(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| scenario::built("tests/hostile", "hostile"));
    built.join(format!("{name}.sys"))
}

/// A run that asks the driver for a deed.
fn deed(name: &str) -> Run {
    deed_on(name, "none")
}

/// The same on another network.
fn deed_on(name: &str, network: &str) -> Run {
    let hex: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    Run::of(image("hostile")).ioctl(r"\Device\Hostile", 0x22_2000).args(["--in", &hex, "--net", network])
}

/// Codes of bugchecks.
mod code {
    pub const SPIN_LOCK_ALREADY_OWNED: u64 = 0x0F;
    pub const KMODE_EXCEPTION_NOT_HANDLED: u64 = 0x1E;
    pub const MULTIPLE_IRP_COMPLETE_REQUESTS: u64 = 0x44;
    pub const SYSTEM_THREAD_EXCEPTION_NOT_HANDLED: u64 = 0x7E;
    pub const PAGE_FAULT_IN_NONPAGED_AREA: u64 = 0x50;
    pub const UNEXPECTED_KERNEL_MODE_TRAP: u64 = 0x7F;
    pub const ATTEMPTED_WRITE_TO_READONLY_MEMORY: u64 = 0xBE;
    pub const BAD_POOL_CALLER: u64 = 0xC2;
    pub const DRIVER_VERIFIER_IOMANAGER_VIOLATION: u64 = 0xC9;
    pub const DPC_WATCHDOG_VIOLATION: u64 = 0x133;
    pub const INTERNAL_ERROR: u64 = 0xD0C0_0002;
    pub const DEADLOCK: u64 = 0xD0C0_0003;
    pub const RAW_SYSTEM_CALL: u64 = 0xD0C0_0004;
}

/// The run must have ended in this bugcheck, blamed on a function of the driver's, with a crash file that says the same. Gives the
/// message.
#[track_caller]
fn ends_in(run: Run, code: u64, function: &str) -> String {
    let ran = run.run().expect("bugcheck", 2);
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!(bugcheck["code"], code, "{ran:#?}");
    assert!(bugcheck["driver"].as_str().is_some_and(|name| name.starts_with("hostile")), "{ran:#?}");
    assert!(bugcheck["offset"].as_u64().is_some_and(|offset| offset > 0), "{ran:#?}");
    let source = bugcheck["source"].as_str().unwrap_or_default();
    assert!(source.starts_with(&format!("{function} (hostile.c:")), "{ran:#?}");
    let crash = crash_of(&ran);
    assert_eq!(crash["bugcheck"]["driver"], bugcheck["driver"], "{crash}");
    assert_eq!(crash["bugcheck"]["code"], format!("{code:#010x}"), "{crash}");
    bugcheck["message"].as_str().expect("a message").to_owned()
}

/// The last line of the run's crash file.
#[track_caller]
fn crash_of(ran: &Ran) -> Value {
    let file = ran.verdict["crash_file"].as_str().expect("a crash file");
    let text = fs::read_to_string(file).expect("the crash file");
    serde_json::from_str(text.lines().last().expect("lines")).expect("JSON")
}

/// The driver destroyed its process, which left no record: it is named all the same.
#[track_caller]
fn is_lost(run: Run, words: &str) -> Ran {
    let ran = run.run().expect("bugcheck", 2);
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!(
        (&bugcheck["code"], &bugcheck["driver"]),
        (&code::INTERNAL_ERROR.into(), &"hostile.sys".into()),
        "{ran:#?}"
    );
    assert!(bugcheck["message"].as_str().is_some_and(|message| message.contains(words)), "{ran:#?}");
    crash_of(&ran);
    ran
}

/// What the driver printed of its deed.
#[track_caller]
fn prints(ran: &Ran, line: &str) {
    assert!(ran.account.contains(&format!("hostile: {line}”")), "no {line:?} in\n{}", ran.account);
}

const TIME: [&str; 2] = ["--timeout", "2"];
const TIME_IS_UP: &str = "The run took longer than its time limit";

#[test]
fn wait_for_ever_in_driver_entry_is_stopped_at_its_place() {
    let message = ends_in(Run::of(image("hostile_entry")).args(TIME), code::DPC_WATCHDOG_VIOLATION, "WaitForEver");
    assert!(message.starts_with(&format!("{TIME_IS_UP} in DriverEntry of hostile_entry.sys.")), "{message}");
    assert!(message.contains("called KeWaitForSingleObject at hostile_entry.sys+0x"), "{message}");
    assert!(message.contains("waits for the event 0x"), "{message}");
}

#[test]
fn wait_for_ever_in_a_dispatch_routine_is_stopped_at_its_place() {
    let message = ends_in(deed("WaitForEver").args(TIME), code::DPC_WATCHDOG_VIOLATION, "WaitForEver");
    assert!(message.starts_with(&format!("{TIME_IS_UP} over a request to hostile.sys.")), "{message}");
    assert!(message.contains("waits for the event 0x"), "{message}");
}

#[test]
fn hung_unload_is_stopped_at_its_place() {
    let message = ends_in(deed("WaitInUnload").args(TIME), code::DPC_WATCHDOG_VIOLATION, "WaitForEver");
    assert!(message.starts_with(&format!("{TIME_IS_UP} in the Unload routine of hostile.sys.")), "{message}");
    let message = ends_in(deed("LoopInUnload").args(TIME), code::DPC_WATCHDOG_VIOLATION, "LoopForEver");
    assert!(message.starts_with(&format!("{TIME_IS_UP} in the Unload routine of hostile.sys.")), "{message}");
}

#[test]
fn every_waiting_thread_is_named_with_what_it_waits_for() {
    let message = ends_in(deed("WaitForThread").args(TIME), code::DPC_WATCHDOG_VIOLATION, "WaitForThread");
    assert!(message.contains("waits for the thread 0x") && message.contains("waits for the event 0x"), "{message}");
    assert_eq!(message.matches("called KeWaitForSingleObject at hostile.sys+0x").count(), 2, "{message}");
}

#[test]
fn request_that_nobody_completes_is_blamed_on_the_routine_that_took_it() {
    let message = ends_in(deed("NeverComplete").args(TIME), code::DPC_WATCHDOG_VIOLATION, "DispatchDeviceControl");
    assert!(message.contains("This routine was given a request that nobody has completed"), "{message}");
    let message = ends_in(deed("NeverComplete").args(["--seed", "1"]), code::DEADLOCK, "DispatchDeviceControl");
    assert!(message.contains("was given a request that nobody has completed"), "{message}");
}

#[test]
fn waits_for_ever_in_virtual_time_are_a_deadlock_at_once() {
    let message = ends_in(deed("WaitForThread").args(["--seed", "3"]), code::DEADLOCK, "WaitForThread");
    assert!(message.contains("waits for the event 0x"), "{message}");
}

#[test]
fn endless_loops_are_stopped_at_their_places() {
    ends_in(deed("LoopForEver").args(TIME), code::DPC_WATCHDOG_VIOLATION, "LoopForEver");
    ends_in(deed("LoopInDpc").args(TIME), code::DPC_WATCHDOG_VIOLATION, "LoopForEver");
    ends_in(deed("LoopForEver").args(TIME).args(["--seed", "3"]), code::DPC_WATCHDOG_VIOLATION, "LoopForEver");
    ends_in(deed("WaitForSpinLock"), code::SPIN_LOCK_ALREADY_OWNED, "WaitForSpinLock");
}

#[test]
fn driver_that_prints_for_ever_is_stopped_in_its_loop() {
    ends_in(deed("PrintForEver").arg("--quiet").args(TIME), code::DPC_WATCHDOG_VIOLATION, "PrintForEver");
}

#[test]
fn scribbling_over_the_hosts_page_of_a_thread_is_told_and_blamed() {
    let message = ends_in(deed("ScribbleOverHostPage"), code::INTERNAL_ERROR, "ScribbleOverHostPage");
    assert!(message.starts_with("What Drydock keeps of this thread was written over"), "{message}");
}

#[test]
fn scribbling_over_the_trace_is_a_finding_and_forges_no_bugcheck() {
    let ran = deed("ScribbleOverTrace").arg("--quiet").run();
    assert!(ran.status.is_some_and(|status| status > 0), "{ran:#?}");
    let is_told = |finding: &&str| finding.contains("memory that Drydock keeps its records in was written over");
    assert!(ran.findings().iter().any(is_told), "{ran:#?}");
    assert_ne!(ran.verdict["bugcheck"]["code"], 0x4242_4242, "{ran:#?}");
}

#[test]
fn host_code_and_import_stubs_cannot_be_written_to() {
    ends_in(deed("ScribbleOverHostCode"), code::ATTEMPTED_WRITE_TO_READONLY_MEMORY, "ScribbleOverHostCode");
    ends_in(deed("ScribbleOverStub"), code::ATTEMPTED_WRITE_TO_READONLY_MEMORY, "ScribbleOverStub");
}

#[test]
fn jumps_into_the_middle_of_host_functions_leave_a_report() {
    // What it meets there decides the code; that there is an end, a verdict and a crash file is what counts.
    let ran = deed("JumpIntoHostCode").args(TIME).run().expect("bugcheck", 2);
    crash_of(&ran);
}

#[test]
fn system_call_from_driver_pages_is_reported_at_its_place() {
    let message = ends_in(deed("CallLinuxHere"), code::RAW_SYSTEM_CALL, "LinuxHere");
    assert!(message.contains("Linux system call 2 itself"), "{message}");
}

/// Networks that can make no socket at all.
fn networks_without_sockets() -> [String; 2] {
    let network = "[[host]]\nname = \"alone\"\naddress = [\"10.0.0.1\"]\ndriver = \"hostile.sys\"\n";
    ["none".into(), scenario::simulated("lonely", network)]
}

#[test]
fn with_the_hosts_own_instruction_linux_refuses_everything_that_leads_out() {
    for network in networks_without_sockets() {
        let ran = deed_on("AskLinuxForEverything", &network).run().expect_clean();
        for call in [
            "fork",
            "vfork",
            "clone of a process",
            "clone3",
            "execve",
            "execveat",
            "open",
            "openat",
            "openat2",
            "unlink",
            "socket",
            "unix socket",
            "socketpair",
            "ptrace",
            "process_vm_writev",
            "kill of the supervisor",
            "kill of everybody",
            "setrlimit",
            "io_uring_setup",
            "memory to execute",
        ] {
            prints(&ran, &format!("{call}: -1"));
        }
    }
}

#[test]
fn driver_cannot_end_or_stop_its_process_as_if_from_outside() {
    for name in ["KillItself", "StopItself"] {
        prints(&deed(name).run().expect_clean(), "still here");
    }
}

#[test]
fn driver_that_ends_or_destroys_its_process_is_named() {
    is_lost(deed("Exit"), "exited with status 0 without a record");
    is_lost(deed("UnmapEverything"), "was killed by SIGSEGV without a record");
    is_lost(deed("BlockAllSignalsAndFault"), "was killed by SIGSEGV without a record");
}

#[test]
fn driver_that_closes_all_descriptors_is_named() {
    prints(&is_lost(deed("CloseAllDescriptors"), "without a record"), "still here");
}

#[test]
fn driver_that_blocks_all_signals_is_stopped_and_told_of() {
    let ran = deed("BlockAllSignalsAndLoop").args(["--timeout", "5"]).run().expect("bugcheck", 2);
    assert_eq!(ran.verdict["bugcheck"]["driver"], "hostile.sys", "{ran:#?}");
    let message = ran.verdict["bugcheck"]["message"].as_str().expect("a message");
    assert!(message.contains("answers no signal, as if it had blocked them"), "{message}");
}

#[test]
fn pool_is_bounded_and_its_end_is_told_to_the_driver() {
    let ran = deed("AllocateForEver").run().expect("findings", 1);
    prints(&ran, "no more pool after some");
}

#[test]
fn a_million_threads_cannot_be_made_and_those_that_were_end() {
    prints(&deed("MakeAMillionThreads").run().expect_clean(), "many threads");
}

#[test]
fn full_disk_is_told_to_the_driver() {
    let folder = scenario::folder("full");
    let run = deed("FillDisk").arg("--files").arg(&folder);
    let ran = run.run().expect_clean();
    prints(&ran, "the write ended with c000007f");
    fs::remove_file(folder.join("full")).expect("the driver's file");
}

#[test]
fn special_pool_blames_each_misuse_at_once() {
    let guarded = |name| deed(name).arg("--special-pool");
    ends_in(guarded("OverrunPool"), code::PAGE_FAULT_IN_NONPAGED_AREA, "OverrunPool");
    ends_in(guarded("UnderrunPool"), code::PAGE_FAULT_IN_NONPAGED_AREA, "UnderrunPool");
    ends_in(guarded("UseFreedPool"), code::PAGE_FAULT_IN_NONPAGED_AREA, "UseFreedPool");
    let message = ends_in(guarded("FreePoolTwice"), code::BAD_POOL_CALLER, "FreePoolTwice");
    assert!(
        message.contains("was freed twice; the first time by the call that returns to hostile.sys+0x"),
        "{message}"
    );
    ends_in(guarded("FreeWhatIsNoPool"), code::BAD_POOL_CALLER, "FreeWhatIsNoPool");
}

#[test]
fn recursion_in_completion_routines_is_a_stack_overflow_of_the_drivers() {
    // Which of the functions that call each other meets the end of the stack depends on its size.
    let ran = deed("RecurseInCompletion").arg("--quiet").run().expect("bugcheck", 2);
    let bugcheck = &ran.verdict["bugcheck"];
    assert_eq!(bugcheck["code"], code::UNEXPECTED_KERNEL_MODE_TRAP, "{ran:#?}");
    assert!(bugcheck["source"].as_str().is_some_and(|source| source.contains("hostile.c:")), "{ran:#?}");
    assert!(crash_of(&ran)["frames"].as_array().is_some_and(|frames| frames.len() > 20), "{ran:#?}");
}

#[test]
fn spoilt_packets_are_blamed_on_who_sent_them() {
    ends_in(deed("SpoilPacketType"), code::MULTIPLE_IRP_COMPLETE_REQUESTS, "SpoilPacketType");
    ends_in(deed("SpoilPacketNumber"), code::MULTIPLE_IRP_COMPLETE_REQUESTS, "SpoilPacketNumber");
    ends_in(deed("SpoilPacketLocation"), code::KMODE_EXCEPTION_NOT_HANDLED, "SpoilPacketLocation");
    ends_in(deed("SendToNoDevice"), code::KMODE_EXCEPTION_NOT_HANDLED, "SendToNoDevice");
}

#[test]
fn spoilt_files_and_mdls_get_an_error_or_are_blamed_on_the_driver() {
    ends_in(deed("SpoilFileDevice"), code::KMODE_EXCEPTION_NOT_HANDLED, "SpoilFileDevice");
    prints(&deed("SpoilPacketFile").run(), "the request came to c000000d");
    prints(&deed("SpoilFileContext").run(), "the request came to c000000d");
    prints(&deed("SpoilMdl").run(), "the request came to c0000005");
    prints(&deed("SpoilMdlChain").run(), "the request came to c000000d");
}

#[test]
fn routine_at_an_impossible_address_is_blamed_on_who_named_it() {
    let blamed = |name, code, function| {
        let message = ends_in(deed(name), code, function);
        assert!(message.contains("is address 0x4141414141414141 (no address can be that)"), "{message}");
    };
    let in_system_thread = code::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED;
    for name in ["NothingAsThread", "NothingAsWorkItem", "NothingAsOldWorkItem"] {
        blamed(name, in_system_thread, name);
    }
    blamed("NothingAsNotification", code::KMODE_EXCEPTION_NOT_HANDLED, "NothingAsNotification");
    // These are named by the driver's object, which DriverEntry fills.
    for name in ["NothingAsUnload", "NothingAsCleanup", "ScribbleOverDriverObject"] {
        blamed(name, code::KMODE_EXCEPTION_NOT_HANDLED, "DriverEntry");
    }
}

#[test]
fn deferred_call_of_an_impossible_address_is_blamed_on_who_queued_it() {
    for name in ["NothingAsDpc", "NothingAsTimerDpc"] {
        let ran = deed(name).run().expect("bugcheck", 2);
        let bugcheck = &ran.verdict["bugcheck"];
        // Which of the two it is depends on the thread that the DPC runs on.
        let codes = [code::KMODE_EXCEPTION_NOT_HANDLED, code::SYSTEM_THREAD_EXCEPTION_NOT_HANDLED];
        assert!(codes.iter().any(|code| bugcheck["code"] == *code), "{ran:#?}");
        let source = bugcheck["source"].as_str().unwrap_or_default();
        assert!(source.starts_with(&format!("{name} (hostile.c:")), "{ran:#?}");
    }
}

/// The first two parameters of the bugcheck that a deed comes to.
fn parameters_of(name: &str) -> [u64; 2] {
    let ran = deed(name).run();
    [0, 1].map(|number| ran.verdict["bugcheck"]["parameters"][number].as_u64().expect("a parameter"))
}

#[test]
fn driver_that_spoils_gs_or_its_processor_block_is_named() {
    for name in ["ClearProcessorBlock", "SpoilProcessorBlock", "LoadGs", "LoadGsAndRead", "MoveGs"] {
        for seed in [&[][..], &["--seed", "1"]] {
            let run = seed.iter().fold(deed(name), |run, argument| run.arg(argument));
            let message = ends_in(run, code::INTERNAL_ERROR, name);
            assert!(message.starts_with("GS no longer leads to what is kept of this thread"), "{name}: {message}");
        }
    }
    ends_in(deed("ReturnWithoutGs").args(TIME), code::INTERNAL_ERROR, "GsLoadingDpc");
    ends_in(deed("LoadGsAndLoop").args(TIME), code::DPC_WATCHDOG_VIOLATION, "LoopForEver");
}

#[test]
#[proves("K-151")]
fn absent_kernel_addresses_are_page_faults_and_no_protected_memory() {
    const ADDRESS: u64 = 0xFFFF_F800_1234_5678;
    for (name, operation) in [("WriteToKernelAddress", 2), ("CallKernelAddress", 16)] {
        ends_in(deed(name), code::PAGE_FAULT_IN_NONPAGED_AREA, name);
        assert_eq!(parameters_of(name), [ADDRESS, operation], "{name}");
    }
}

#[test]
fn pointers_of_structures_that_lead_nowhere_aligned_are_blamed_on_the_driver() {
    for (name, field, function) in [
        ("MisalignPacketLocation", "IRP.Tail.Overlay.CurrentStackLocation", "MisalignPacketLocation"),
        ("MisalignFileDevice", "FILE_OBJECT.DeviceObject", "MisalignFileDevice"),
        ("MisalignMdl", "The chain of MDLs at IRP.MdlAddress", "Complete"),
        ("MisalignEvent", "IRP.UserEvent", "Complete"),
        ("MisalignAttachedDevice", "DEVICE_OBJECT.AttachedDevice", "MisalignAttachedDevice"),
        ("MisalignDriver", "DEVICE_OBJECT.DriverObject", "MisalignDriver"),
        ("MisalignNextDevice", "DEVICE_OBJECT.NextDevice", "MisalignNextDevice"),
    ] {
        let message = ends_in(deed(name), code::KMODE_EXCEPTION_NOT_HANDLED, function);
        assert!(message.starts_with(&format!("{field} was written over: it is 0x")), "{message}");
    }
}

#[test]
fn device_that_is_no_memory_is_an_access_violation() {
    let message =
        ends_in(deed("RegisterInterfaceOfNoDevice"), code::KMODE_EXCEPTION_NOT_HANDLED, "RegisterInterfaceOfNoDevice");
    assert!(message.contains("IoRegisterDeviceInterface raised"), "{message}");
}

#[test]
#[proves("K-028")]
fn freeing_what_is_no_packet_or_a_threads_is_a_driver_fault() {
    for (name, reason) in
        [("FreeSpoiltPacket", 1), ("FreeWhatIsNoPacket", 1), ("FreePacketTwice", 1), ("FreePacketOfThread", 2)]
    {
        ends_in(deed(name), code::DRIVER_VERIFIER_IOMANAGER_VIOLATION, name);
        assert_eq!(parameters_of(name)[0], reason, "{name}");
    }
}
