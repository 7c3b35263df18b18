//! Every export called with bad pointers, inside a `__try` (`bad_pointers/`): the driver that called it gets the exception, as if it
//! had touched the memory itself, and what the export was doing leaves nothing behind.

mod scenario;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use proves::proves;
use scenario::Run;

/// The image of one of the drivers.
fn image(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| scenario::built("tests/bad_pointers", "bad_pointers"));
    built.join(name).with_extension("sys")
}

/// What every argument is: a small number, and the last one, as a REG_DWORD that the driver extends.
const NEAR_NULL: &str = "16";
const LAST: &str = "4294967295";

/// What ends the run, as on Windows: it says so itself, or the argument is looked up and is not there.
const ENDS_THE_RUN: &str = "
    DbgBreakPoint DbgBreakPointWithStatus KeBugCheck KeBugCheckEx RtlAssert _local_unwind RtlUnwind RtlUnwindEx RtlRestoreContext
    __chkstk
    CmCallbackReleaseKeyObjectIDEx ExFreePool ExFreePool2 ExFreePoolWithTag IoFreeMdl ExFreeCacheAwareRundownProtection ObReleaseObjectSecurity
    MmFreeContiguousMemory MmFreeContiguousMemorySpecifyCache MmFreeNonCachedMemory
    ExConvertExclusiveToSharedLite ExReleaseResourceAndLeaveCriticalRegion ExReleaseResourceForThreadLite ExReleaseResourceLite
    ExNotifyCallback ExRegisterCallback IoFreeIrp IoGetDeviceAttachmentBaseRef IoInvalidateDeviceRelations IoInvalidateDeviceState
    IoRegisterLastChanceShutdownNotification IoRegisterShutdownNotification IoRequestDeviceEject IoSetCompletionRoutineEx
    KeInsertQueueDpc KeQueryPriorityThread KeSetBasePriorityThread KeSetPriorityThread
    ObDereferenceObject ObDereferenceObjectDeferDelete ObDereferenceObjectDeferDeleteWithTag ObGetObjectSecurity
    ObReferenceObject ObSetSecurityObjectByPointer ObfDereferenceObject ObfDereferenceObjectDeferDelete
    ObfDereferenceObjectWithTag ObfReferenceObject ObfReferenceObjectWithTag PsDereferenceImpersonationToken
    PsDereferencePrimaryToken PsIsThreadTerminating
";

/// What touches the memory at DISPATCH_LEVEL or above, or under a lock where Windows would be there: no exception, but the end.
const TOUCHES_AT_A_HIGH_LEVEL: &str = "
    ExAcquireSpinLockExclusive ExAcquireSpinLockShared IoAcquireCancelSpinLock KeAcquireInStackQueuedSpinLock
    KeAcquireInStackQueuedSpinLockForDpc KeAcquireSpinLock KeAcquireSpinLockForDpc KeAcquireSpinLockRaiseToDpc KfAcquireSpinLock
    KeRaiseIrql
    ExInterlockedAddLargeInteger ExInterlockedAddUlong ExInterlockedCompareExchange64 ExInterlockedInsertHeadList
    ExInterlockedInsertTailList ExInterlockedPopEntryList ExInterlockedPushEntryList ExInterlockedRemoveHeadList
    ExfInterlockedAddUlong ExfInterlockedInsertHeadList ExfInterlockedInsertTailList ExfInterlockedPopEntryList
    ExfInterlockedPushEntryList ExfInterlockedRemoveHeadList
    IoStartNextPacket IoStartNextPacketByKey IoStartPacket KeInsertByKeyDeviceQueue KeInsertDeviceQueue
    KeRemoveByKeyDeviceQueue KeRemoveByKeyDeviceQueueIfBusy KeRemoveDeviceQueue KeRemoveEntryDeviceQueue
    IoAttachDeviceByPointer IoAttachDeviceToDeviceStack IoAttachDeviceToDeviceStackSafe IoDetachDevice
    KeInsertHeadQueue KeInsertQueue KeRundownQueue KeSetCoalescableTimer KeSetTimer KeSetTimerEx
";

/// What takes a routine, which is called later, or which Drydock does not call and says so.
const REGISTERS: &str = "PsSetCreateThreadNotifyRoutine ZwSetTimer";

/// What the last number ends the run with, where a small one does not: that many objects to wait for, that many microseconds, a
/// packet whose memory need not be touched to see that it is none.
const ENDS_AT_THE_LAST: &str =
    "KeWaitForMultipleObjects KeStallExecutionProcessor IoCancelIrp IoCompleteRequest IofCompleteRequest";

/// What is no function.
const VARIABLES: &str = "
    ExEventObjectType InitSafeBootMode IoDeviceObjectType IoDriverObjectType IoFileObjectType KdDebuggerEnabled
    KdDebuggerNotPresent KeNumberProcessors KeTickCount MmHighestUserAddress MmSystemRangeStart MmUserProbeAddress
    NlsAnsiCodePage NlsMbCodePageTag NlsMbOemCodePageTag NtBuildNumber NtGlobalFlag PsInitialSystemProcess PsProcessType
    PsThreadType SeExports SeTokenObjectType
";

/// The names of each family in the table of exports that `cargo xtask exports` writes.
fn families(left_out: &str) -> Vec<Vec<String>> {
    let left_out: BTreeSet<&str> = [left_out, ENDS_THE_RUN, TOUCHES_AT_A_HIGH_LEVEL, REGISTERS, VARIABLES]
        .iter()
        .flat_map(|names| names.split_whitespace())
        .collect();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exports.md");
    let table = fs::read_to_string(table).expect("the table of exports");
    let name = |line: &str| Some(line.strip_prefix("| ")?.split(' ').next()?.to_owned());
    let names = |family: &str| -> Vec<String> {
        let rows = family.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
        rows.filter_map(name).filter(|name| !left_out.contains(name.as_str())).collect()
    };
    // MmGetSystemRoutineAddress finds what the kernel and the HAL export.
    let is_kernels = |family: &&str| !family.starts_with("tdi_library") && !family.starts_with("nt_executive::ndis");
    table.split("\n## ").skip(1).filter(is_kernels).map(names).filter(|names| !names.is_empty()).collect()
}

/// Calls these exports and gives what came of each.
#[track_caller]
fn outcomes(names: &[String], argument: &str) -> Vec<(String, String)> {
    let (names_setting, argument) = (format!("Names={}", names.join(" ")), format!("Argument={argument}"));
    let ran = Run::of(image("bad_pointers"))
        .args(["--net", "none", "--timeout", "20", "--set", &names_setting, "--set", &argument])
        .run();
    let last = || ran.account.lines().rev().take(4).collect::<Vec<_>>();
    assert!(
        ran.account.contains("bad_pointers: the kernel is whole"),
        "{:#?} of {names:?}: {}",
        last(),
        ran.verdict["bugcheck"]
    );
    let outcome = |name: &String| {
        let line = ran.line(&format!("bad_pointers: {name} "));
        let (_, outcome) = line.split_once(&format!("bad_pointers: {name} ")).expect("the line that was looked for");
        (name.clone(), outcome.trim_end_matches('”').to_owned())
    };
    names.iter().map(outcome).collect()
}

#[test]
#[proves("K-014")]
fn bad_pointer_to_any_export_is_the_exception_of_the_driver_that_passed_it() {
    let all: Vec<_> = families("").iter().flat_map(|names| outcomes(names, NEAR_NULL)).collect();
    assert!(all.len() > 900, "the table was read: {}", all.len());
    let others: Vec<_> =
        all.iter().filter(|(_, outcome)| outcome != "raised c0000005" && outcome != "returned").collect();
    let raises = |name: &str, status: &str| (name.to_owned(), format!("raised {status}"));
    // What their argument says, or their name.
    let expected = [
        raises("ExRaiseDatatypeMisalignment", "80000002"),
        raises("ExRaiseStatus", "00000010"),
        raises("RtlRaiseStatus", "00000010"),
    ];
    assert_eq!(others, expected.iter().collect::<Vec<_>>());
    // Many return an error or do without their arguments; these can do neither.
    let must = "memcpy memmove memset memcmp RtlCompareMemory RtlCopyMemory strlen wcslen _stricmp _wcsnicmp strcpy \
        RtlInitUnicodeString RtlCompareUnicodeString RtlCopyUnicodeString RtlUnicodeStringToInteger RtlLengthSid RtlRandomEx \
        RtlTimeToTimeFields KeInitializeEvent KeSetEvent KeWaitForSingleObject ExAcquireFastMutex qsort \
        RtlInsertElementGenericTableAvl IoAllocateDriverObjectExtension InterlockedPushEntrySList IofCompleteRequest";
    for must in must.split_whitespace() {
        let outcome = all.iter().find(|(name, _)| name == must).map(|(_, outcome)| outcome.as_str());
        assert_eq!(outcome, Some("raised c0000005"), "{must}");
    }
    let raised = all.iter().filter(|(_, outcome)| outcome.starts_with("raised")).count();
    assert!(raised > 400, "{raised}");
}

#[test]
fn last_address_to_any_export_is_the_exception_of_the_driver_that_passed_it() {
    for (name, outcome) in families(ENDS_AT_THE_LAST).iter().flat_map(|names| outcomes(names, LAST)) {
        let is_right = outcome == "returned" || outcome.starts_with("raised");
        assert!(is_right, "{name} {outcome}");
    }
}

#[test]
#[proves("K-014", "K-062")]
fn bad_place_for_a_result_leaves_nothing_open_registered_or_made() {
    let ran = Run::of(image("out_pointers")).args(["--net", "none", "--timeout", "20"]).run();
    assert!(ran.account.contains("out_pointers: nothing is left"), "{ran:#?}");
    assert_eq!(ran.verdict["bugcheck"], serde_json::Value::Null, "{ran:#?}");
    // All there is to say is that the sender of a request gave it nothing to be told by: neither block nor event.
    assert_eq!(ran.findings(), ["the status block of a request that was sent here is gone"], "{ran:#?}");
    assert_eq!(ran.verdict["findings"][0]["times"], 2, "{ran:#?}");
    let counts = &ran.verdict["counts"];
    assert_eq!((&counts["cleanups"], &counts["closes"]), (&counts["opens"], &counts["opens"]), "{ran:#?}");
    assert!(ran.account.contains("returns from DriverUnload"), "{ran:#?}");
}
