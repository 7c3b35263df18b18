/* Bugcheck callbacks: how they are registered, and what is called when the run ends. */
#define FAMILY "last_calls"
#include "check.h"

IMPORT(BOOLEAN, KeRegisterBugCheckReasonCallback, PKBUGCHECK_REASON_CALLBACK_RECORD, PKBUGCHECK_REASON_CALLBACK_ROUTINE,
       KBUGCHECK_CALLBACK_REASON, PUCHAR);
IMPORT(BOOLEAN, KeDeregisterBugCheckReasonCallback, PKBUGCHECK_REASON_CALLBACK_RECORD);

static KBUGCHECK_CALLBACK_RECORD First, Second, Third;
static KBUGCHECK_REASON_CALLBACK_RECORD Data, Pages;
static UCHAR Kept[16];
static volatile ULONG *volatile Nowhere;
static volatile BOOLEAN Forever = TRUE;

static VOID NTAPI Note(PVOID Buffer, ULONG Length)
{
    DbgPrint(FAMILY ": noted %d %d %d %d\n", Buffer == Kept, Length, KeGetCurrentIrql(), First.State);
}

static VOID NTAPI Fault(PVOID Buffer, ULONG Length)
{
    (void)Buffer, (void)Length;
    *Nowhere = 1;
}

static VOID NTAPI Loop(PVOID Buffer, ULONG Length)
{
    (void)Buffer, (void)Length;
    while (Forever)
        ;
}

static VOID NTAPI Die(PVOID Buffer, ULONG Length)
{
    (void)Buffer, (void)Length;
    KeBugCheckEx(0xC4, 5, 6, 7, 8);
}

static VOID NTAPI Give(KBUGCHECK_CALLBACK_REASON Reason, PKBUGCHECK_REASON_CALLBACK_RECORD Record, PVOID Specific,
                       ULONG Length)
{
    PKBUGCHECK_SECONDARY_DUMP_DATA data = Specific;

    if (Reason != KbCallbackSecondaryDumpData || Record != &Data || Length != sizeof(*data) || data->InBufferLength < 5)
        return;
    RtlCopyMemory(data->InBuffer, "dying", 5);
    data->OutBuffer = data->InBuffer;
    data->OutBufferLength = 5;
}

static VOID NTAPI Never(KBUGCHECK_CALLBACK_REASON Reason, PKBUGCHECK_REASON_CALLBACK_RECORD Record, PVOID Specific,
                        ULONG Length)
{
    (void)Reason, (void)Record, (void)Specific, (void)Length;
    DbgPrint(FAMILY ": FAILS: called for a dump that nobody writes\n");
}

static BOOLEAN Register(PKBUGCHECK_CALLBACK_RECORD Record, PKBUGCHECK_CALLBACK_ROUTINE Routine, const char *Component)
{
    Record->State = BufferEmpty;
    return KeRegisterBugCheckCallback(Record, Routine, Kept, sizeof(Kept), (PUCHAR)Component);
}

static void Registrations(void)
{
    C_ASSERT(sizeof(First) == 0x40 && sizeof(Data) == 0x30);
    CHECK(!KeDeregisterBugCheckCallback(&First));
    CHECK(Register(&First, Note, "first"));
    CHECK_NUMBER(BufferInserted, First.State);
    CHECK(First.CallbackRoutine == Note && First.Buffer == Kept && First.Length == sizeof(Kept));
    CHECK(strcmp((const char *)First.Component, "first") == 0);
    CHECK(!KeRegisterBugCheckCallback(&First, Note, NULL, 0, (PUCHAR)"again"));
    First.State = BufferEmpty;
    CHECK(!KeRegisterBugCheckCallback(&First, Note, NULL, 0, (PUCHAR)"again"));
    CHECK(First.Buffer == Kept);
    CHECK(!CALL(KeDeregisterBugCheckReasonCallback)((PVOID)&First));
    CHECK(KeDeregisterBugCheckCallback(&First));
    CHECK_NUMBER(BufferEmpty, First.State);
    CHECK(!KeDeregisterBugCheckCallback(&First));

    CHECK(CALL(KeRegisterBugCheckReasonCallback)(&Data, Give, KbCallbackSecondaryDumpData, (PUCHAR)"data"));
    CHECK(Data.State == BufferInserted && Data.Reason == KbCallbackSecondaryDumpData && Data.CallbackRoutine == Give);
    CHECK(!CALL(KeRegisterBugCheckReasonCallback)(&Data, Give, KbCallbackSecondaryDumpData, (PUCHAR)"data"));
    CHECK(CALL(KeDeregisterBugCheckReasonCallback)(&Data));
    CHECK(!CALL(KeDeregisterBugCheckReasonCallback)(&Data));
    CHECK_NUMBER(BufferEmpty, Data.State);
    CHECK(!CALL(KeRegisterBugCheckReasonCallback)(&Data, Give, KbCallbackInvalid, (PUCHAR)"data"));
}

/* The value End under Parameters says what is left registered, and how the run ends. */
static void Checks(PUNICODE_STRING RegistryPath)
{
    ULONG end = Setting(RegistryPath, L"End");

    Registrations();
    if (end == 0)
        return;
    Register(&First, Note, "first");
    switch (end) {
    case 1:
        /* Left behind. */
        return;
    case 2:
        Register(&Second, Note, "second");
        Register(&Third, Note, "third");
        Third.Checksum++;
        CALL(KeRegisterBugCheckReasonCallback)(&Pages, Never, KbCallbackAddPages, (PUCHAR)"pages");
        CALL(KeRegisterBugCheckReasonCallback)(&Data, Give, KbCallbackSecondaryDumpData, (PUCHAR)"data");
        break;
    case 3:
    case 4:
        Register(&Second, Fault, "second");
        break;
    case 5:
        Register(&Second, Loop, "second");
        break;
    case 6:
        Register(&Second, Die, "second");
        break;
    }
    if (end != 2)
        Register(&Third, Note, "third");
    /* A fault at a raised level ends the run in a handler of the host's; KeBugCheckEx ends it on this stack. */
    if (end == 4) {
        KIRQL old;

        KeRaiseIrql(DISPATCH_LEVEL, &old);
        *Nowhere = 1;
    }
    KeBugCheckEx(0xE2, 1, 2, 3, 4);
}
