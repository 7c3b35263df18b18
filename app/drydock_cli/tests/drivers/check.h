/*
 * What every test driver shares: claims, and how they are reported.
 *
 * A source file defines FAMILY before it includes this header, and one function, Checks. Each claim that does not hold
 * prints a line "FAMILY: FAILS line N: claim"; at the end comes "FAMILY: N claims, N failed". families.rs reads them.
 */
#ifndef CHECK_H
#define CHECK_H

#include <ntifs.h>
#include <stdarg.h>

#define TEST_TAG 'tseT'

/*
 * Exports that the headers do not declare, or hide behind a macro or an inline function of the same name; each on a line of its
 * own, from which the Makefile makes the import library. CALL and VALUE go through the import whatever the headers define.
 */
#define IMPORT(type, name, ...) extern type (NTAPI *const __imp_##name)(__VA_ARGS__)
#define TDI_IMPORT(type, name, ...) extern type (NTAPI *const __imp_##name)(__VA_ARGS__)
#define IMPORT_DATA(type, name) extern type *const __imp_##name
#define CALL(name) __imp_##name
#define VALUE(name) (*__imp_##name)

static LONG Claims, Failed;
static PDRIVER_OBJECT Self;

static BOOLEAN Claim(BOOLEAN Holds, int Line, const char *Text)
{
    InterlockedIncrement(&Claims);
    if (!Holds) {
        InterlockedIncrement(&Failed);
        DbgPrint(FAMILY ": FAILS line %d: %s\n", Line, Text);
    }
    return Holds;
}

/* Claims that a condition is true; is whether it was. */
#define CHECK(condition) Claim((condition) != 0, __LINE__, #condition)

/* Claims that a status, text or number is what it should be, and shows what it was. */
#define CHECK_STATUS(expected, call)                                                                                   \
    do {                                                                                                               \
        NTSTATUS got = (call);                                                                                         \
        if (!Claim(got == (expected), __LINE__, #call))                                                                \
            DbgPrint(FAMILY ":   is %08x, not " #expected "\n", got);                                                  \
    } while (0)

#define CHECK_NUMBER(expected, call)                                                                                   \
    do {                                                                                                               \
        LONGLONG got = (LONGLONG)(call);                                                                               \
        if (!Claim(got == (LONGLONG)(expected), __LINE__, #call))                                                      \
            DbgPrint(FAMILY ":   is %I64d, not %I64d\n", got, (LONGLONG)(expected));                                   \
    } while (0)

#define CHECK_TEXT(expected, text)                                                                                     \
    do {                                                                                                               \
        const char *got = (text);                                                                                      \
        if (!Claim(strcmp(got, (expected)) == 0, __LINE__, #text))                                                     \
            DbgPrint(FAMILY ":   is '%s', not '%s'\n", got, (expected));                                               \
    } while (0)

static inline LARGE_INTEGER Milliseconds(ULONG Count)
{
    LARGE_INTEGER time;

    time.QuadPart = -10000LL * Count;
    return time;
}

static inline void Sleep(ULONG Count)
{
    LARGE_INTEGER time = Milliseconds(Count);

    KeDelayExecutionThread(KernelMode, FALSE, &time);
}

/* A system thread that can be waited for. */
static inline PKTHREAD Start(PKSTART_ROUTINE Routine, PVOID Context)
{
    HANDLE handle;
    PVOID thread = NULL;

    if (!NT_SUCCESS(PsCreateSystemThread(&handle, THREAD_ALL_ACCESS, NULL, NULL, NULL, Routine, Context)))
        return NULL;
    ObReferenceObjectByHandle(handle, THREAD_ALL_ACCESS, *PsThreadType, KernelMode, &thread, NULL);
    ZwClose(handle);
    return thread;
}

static inline void Join(PKTHREAD Thread)
{
    if (Thread != NULL) {
        KeWaitForSingleObject(Thread, Executive, KernelMode, FALSE, NULL);
        ObDereferenceObject(Thread);
    }
}

/* The number of this name under the driver's Parameters, 0 without one. */
static inline ULONG Setting(PUNICODE_STRING RegistryPath, PWSTR Name)
{
    ULONG value = 0;
    WCHAR room[128];
    UNICODE_STRING path = {0, sizeof(room), room};
    RTL_QUERY_REGISTRY_TABLE table[] = {
        {NULL, RTL_QUERY_REGISTRY_DIRECT, Name, &value, REG_NONE, NULL, 0},
        {NULL, 0, NULL, NULL, 0, NULL, 0},
    };

    RtlCopyUnicodeString(&path, RegistryPath);
    RtlAppendUnicodeToString(&path, L"\\Parameters");
    RtlQueryRegistryValues(RTL_REGISTRY_ABSOLUTE, path.Buffer, table, NULL, NULL);
    return value;
}

static void Checks(PUNICODE_STRING RegistryPath);

static void NTAPI Unload(PDRIVER_OBJECT Driver)
{
    (void)Driver;
}

NTSTATUS NTAPI DriverEntry(PDRIVER_OBJECT Driver, PUNICODE_STRING RegistryPath)
{
    Driver->DriverUnload = Unload;
    Self = Driver;
    Checks(RegistryPath);
    DbgPrint(FAMILY ": %d claims, %d failed\n", Claims, Failed);
    return STATUS_SUCCESS;
}

#endif
