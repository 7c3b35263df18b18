/*
 * Looks up the exports that the value Names of its Parameters lists, separated by blanks, and calls each with the number
 * Argument in every argument, inside a __try. Prints what came of each, and, if the kernel still works afterwards, that it is whole.
 */
#include "kernel.h"

typedef struct {
    u64 words[3];
} KEVENT;

IMPORT void KeInitializeEvent(KEVENT *event, u32 type, u8 state);
IMPORT i32 KeSetEvent(KEVENT *event, i32 increment, u8 wait);
IMPORT i32 KeWaitForSingleObject(void *object, u32 reason, u32 mode, u8 alertable, void *timeout);
IMPORT i32 KeWaitForMultipleObjects(u32 count, void **objects, u32 type, u32 reason, u32 mode, u8 alertable, void *timeout, void *blocks);
IMPORT void KfLowerIrql(u8 irql);
IMPORT void *MmGetSystemRoutineAddress(UNICODE_STRING *name);
IMPORT i32 ObReferenceObjectByHandle(void *handle, u32 access, void *type, u32 mode, void **object, void *information);
IMPORT i32 PsCreateSystemThread(void **handle, u32 access, void *attributes, void *process, void *id, void *routine, void *context);
IMPORT i32 ZwOpenKey(void **handle, u32 access, OBJECT_ATTRIBUTES *attributes);
IMPORT i32 ZwQueryValueKey(void *key, UNICODE_STRING *name, u32 what, void *into, u32 room, u32 *bytes);

enum { KERNEL_HANDLE = 0x200, CASE_INSENSITIVE = 0x40, KEY_READ = 0x20019, PARTIAL = 2, TAG = 'tniP' };
enum { SUCCESS = 0, UNSUCCESSFUL = (i32)0xC0000001 };

typedef u64 EXPORT(u64, u64, u64, u64, u64, u64, u64, u64);

/* Type and bytes of the value, then its characters. */
static struct {
    u32 index, type, bytes;
    u16 names[0x8000];
} value;

static u64 argument;

static i32 read_value(void *key, u16 *name, u16 bytes) {
    UNICODE_STRING string = {bytes, bytes, name};
    u32 length;
    return ZwQueryValueKey(key, &string, PARTIAL, &value, sizeof value, &length);
}

static i32 read_settings(UNICODE_STRING *path) {
    static u16 text[256];
    static const u16 tail[] = u"\\Parameters";
    static u16 names[] = u"Names", number[] = u"Argument";
    u32 units = path->length / 2, i;
    void *key;
    for (i = 0; i < units; i++) text[i] = path->text[i];
    for (i = 0; tail[i] != 0; i++) text[units++] = tail[i];
    UNICODE_STRING full = {(u16)(units * 2), (u16)(units * 2), text};
    OBJECT_ATTRIBUTES attributes = {sizeof attributes, 0, &full, KERNEL_HANDLE | CASE_INSENSITIVE, 0, 0};
    i32 status = ZwOpenKey(&key, KEY_READ, &attributes);
    if (status < 0) return status;
    status = read_value(key, number, sizeof number - 2);
    /* A REG_DWORD, of which 0xFFFFFFFF stands for the last address. */
    argument = (u64)(long long)*(i32 *)value.names;
    if (status >= 0) status = read_value(key, names, sizeof names - 2);
    ZwClose(key);
    return status;
}

__declspec(noinline) static void try(UNICODE_STRING *name) {
    EXPORT *export = MmGetSystemRoutineAddress(name);
    if (export == 0) {
        DbgPrint("bad_pointers: %wZ is no export\n", name);
        return;
    }
    __try {
        export(argument, argument, argument, argument, argument, argument, argument, argument);
        DbgPrint("bad_pointers: %wZ returned\n", name);
    } __except (1) {
        DbgPrint("bad_pointers: %wZ raised %08x\n", name, (u32)_exception_code());
    }
    if (KeGetCurrentIrql() != 0) KfLowerIrql(0);
}

static void set(void *event) {
    KeSetEvent(event, 0, 0);
}

/* A wait for two events, of which the second is none, leaves nothing behind that a signal of the first would find. */
static i32 wait_for_what_is_none(void) {
    KEVENT event;
    void *objects[2] = {&event, (void *)0x10};
    i32 caught = 0;
    KeInitializeEvent(&event, 0, 0);
    __try {
        KeWaitForMultipleObjects(2, objects, 0, 0, 0, 0, 0, 0);
    } __except (_exception_code() == 0xC0000005) {
        caught = 1;
    }
    KeSetEvent(&event, 0, 0);
    return caught;
}

/* Pool, handles, threads and waits, which all have locks of the host. */
static i32 is_whole(void) {
    KEVENT event;
    void *handle, *thread, *block = ExAllocatePoolWithTag(0, 100, TAG);
    if (block == 0) return 0;
    ExFreePoolWithTag(block, TAG);
    KeInitializeEvent(&event, 0, 0);
    if (PsCreateSystemThread(&handle, 0x1FFFFF, 0, 0, 0, set, &event) < 0) return 0;
    i32 status = ObReferenceObjectByHandle(handle, 0x100000, 0, 0, &thread, 0);
    ZwClose(handle);
    if (status < 0) return 0;
    KeWaitForSingleObject(&event, 0, 0, 0, 0);
    KeWaitForSingleObject(thread, 0, 0, 0, 0);
    ObfDereferenceObject(thread);
    return 1;
}

static void unload(void *driver) {
    (void)driver;
}

i32 DriverEntry(u8 *driver, UNICODE_STRING *path) {
    i32 status = read_settings(path);
    if (status < 0) return status;
    /* DRIVER_OBJECT.DriverUnload */
    *(void **)(driver + 0x68) = unload;
    u16 *at = value.names;
    while (*at != 0) {
        u16 *end = at;
        while (*end != 0 && *end != ' ') end++;
        u16 bytes = (u16)((end - at) * 2);
        UNICODE_STRING name = {bytes, bytes, at};
        try(&name);
        at = *end == 0 ? end : end + 1;
    }
    if (!wait_for_what_is_none() || !is_whole()) return UNSUCCESSFUL;
    DbgPrint("bad_pointers: the kernel is whole\n");
    return SUCCESS;
}
