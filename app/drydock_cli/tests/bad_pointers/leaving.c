/*
 * Lets exceptions pass the kernel where it calls routines of the driver, and prints what the kernel then still does.
 */
#include "kernel.h"

IMPORT void *ExAllocateFromPagedLookasideList(void *list);
IMPORT i32 ExCreateCallback(void **callback, OBJECT_ATTRIBUTES *attributes, u8 create, u8 multiple);
IMPORT void ExDeletePagedLookasideList(void *list);
IMPORT void ExFreeToPagedLookasideList(void *list, void *entry);
IMPORT void ExInitializePagedLookasideList(void *list, void *allocate, void *release, u32 flags, u64 bytes, u32 tag, u16 depth);
IMPORT void ExNotifyCallback(void *callback, void *first, void *second);
IMPORT void ExRaiseStatus(i32 status);
IMPORT void *ExRegisterCallback(void *callback, void *routine, void *context);
IMPORT void ExUnregisterCallback(void *registration);
IMPORT void IoAcquireCancelSpinLock(u8 *level);
IMPORT u8 *IoAllocateIrp(u8 locations, u8 quota);
IMPORT u8 IoCancelIrp(u8 *irp);
IMPORT i32 IoCreateDevice(void *driver, u32 extension, UNICODE_STRING *name, u32 type, u32 flags, u8 exclusive, u8 **device);
IMPORT i32 IoCsqInitialize(void *queue, void *insert, void *remove, void *peek, void *acquire, void *release, void *cancelled);
IMPORT void IoCsqInsertIrp(void *queue, u8 *irp, void *context);
IMPORT u8 *IoCsqRemoveNextIrp(void *queue, void *context);
IMPORT void IoFreeIrp(u8 *irp);
IMPORT void IoReleaseCancelSpinLock(u8 level);
IMPORT i32 IofCallDriver(void *device, u8 *irp);
IMPORT void IofCompleteRequest(u8 *irp, u8 boost);
IMPORT i32 TdiDeregisterDeviceObject(void *handle);
IMPORT i32 TdiDeregisterPnPHandlers(void *handle);
IMPORT i32 TdiRegisterDeviceObject(UNICODE_STRING *name, void **handle);
IMPORT i32 TdiRegisterNotificationHandler(void *bind, void *unbind, void **handle);

enum { STATUS_FIRST = (i32)0xE0000001, STATUS_SECOND = (i32)0xE0000002, MORE_PROCESSING_REQUIRED = (i32)0xC0000016 };
enum { CASE_INSENSITIVE = 0x40, NETWORK = 0x12, TAG = 'vaeL', DEVICE_CONTROL = 14 };
/* Offsets in the driver object, the IRP and its stack locations. */
enum { UNLOAD = 0x68, MAJOR_FUNCTION = 0x70, IRP_STATUS = 0x30, IRP_LOCATION = 0x43, IRP_CANCEL_ROUTINE = 0x68, IRP_STACK = 0xB8 };
enum { LOCATION = 0x48, LOCATION_CONTROL = 3, LOCATION_ROUTINE = 0x38, ON_EVERYTHING = 0xE0 };

/* Runs `what` and gives the exception that came of it, or 0. */
#define RAISED_BY(code, what)                 \
    __try {                                   \
        what;                                 \
        code = 0;                             \
    } __except (1) {                          \
        code = (u32)_exception_code();        \
    }

static u8 *device;
static u32 code;

static u8 *location_of(u8 *irp) { return *(u8 **)(irp + IRP_STACK); }

/* As IoSetNextIrpStackLocation does. */
static void enter_location(u8 *irp) {
    *(u8 **)(irp + IRP_STACK) -= LOCATION;
    irp[IRP_LOCATION]--;
}

static void set_completion(u8 *irp, void *routine) {
    u8 *next = location_of(irp) - LOCATION;
    next[0] = DEVICE_CONTROL;
    *(void **)(next + LOCATION_ROUTINE) = routine;
    next[LOCATION_CONTROL] = ON_EVERYTHING;
}

/* Callback objects. */
static u32 second_runs;

static void raise_first(void *context, void *first, void *second) {
    (void)context, (void)first, (void)second;
    ExRaiseStatus(STATUS_FIRST);
}

static void raise_second(void *context, void *first, void *second) {
    (void)context, (void)first, (void)second;
    second_runs++;
    ExRaiseStatus(STATUS_SECOND);
}

static void try_callback(void) {
    static u16 text[] = u"\\Callback\\Leaving";
    UNICODE_STRING name = {sizeof text - 2, sizeof text, text};
    OBJECT_ATTRIBUTES attributes = {sizeof attributes, 0, &name, CASE_INSENSITIVE, 0, 0};
    void *callback;
    if (ExCreateCallback(&callback, &attributes, 1, 1) < 0) return;
    void *one = ExRegisterCallback(callback, raise_first, 0), *other = ExRegisterCallback(callback, raise_second, 0);
    RAISED_BY(code, ExNotifyCallback(callback, 0, 0));
    DbgPrint("leaving: callback raised %x, second ran %u\n", code, second_runs);
    ExUnregisterCallback(one);
    ExUnregisterCallback(other);
    ObfDereferenceObject(callback);
}

/* Cancel-safe queues. */
static u32 raise_in, inserted, removed, locked, cancelled;
enum { NOWHERE, ACQUIRE, INSERT, PEEK };
static u8 *queued;

static void insert(void *queue, u8 *irp) {
    (void)queue;
    if (raise_in == INSERT) ExRaiseStatus(STATUS_FIRST);
    inserted++;
    queued = irp;
}

static void remove(void *queue, u8 *irp) {
    (void)queue, (void)irp;
    removed++;
    queued = 0;
}

static u8 *peek(void *queue, u8 *irp, void *context) {
    (void)queue, (void)context;
    if (raise_in == PEEK) ExRaiseStatus(STATUS_FIRST);
    return irp ? 0 : queued;
}

static void acquire(void *queue, u8 *level) {
    (void)queue;
    if (raise_in == ACQUIRE) ExRaiseStatus(STATUS_FIRST);
    *level = 0;
    locked++;
}

static void release(void *queue, u8 level) {
    (void)queue, (void)level;
    locked--;
}

static void complete_cancelled(void *queue, u8 *irp) {
    (void)queue, (void)irp;
    cancelled++;
}

static void print_queue(const char *what) {
    DbgPrint("leaving: %s raised %x, inserted %u removed %u locked %u cancelled %u\n", what, code, inserted, removed, locked, cancelled);
}

static void try_queue(void) {
    static u64 queue[10];
    IoCsqInitialize(queue, insert, remove, peek, acquire, release, complete_cancelled);
    u8 *irp = IoAllocateIrp(1, 0);
    enter_location(irp);
    raise_in = ACQUIRE;
    RAISED_BY(code, IoCsqInsertIrp(queue, irp, 0));
    print_queue("acquire in insert");
    raise_in = INSERT;
    RAISED_BY(code, IoCsqInsertIrp(queue, irp, 0));
    print_queue("insert");
    /* What raised has left nothing behind: cancelling it asks nobody, and it can be queued. */
    DbgPrint("leaving: cancel routine %u\n", *(u64 *)(irp + IRP_CANCEL_ROUTINE) != 0);
    raise_in = NOWHERE;
    RAISED_BY(code, IoCsqInsertIrp(queue, irp, 0));
    print_queue("nothing");
    raise_in = PEEK;
    RAISED_BY(code, IoCsqRemoveNextIrp(queue, 0));
    print_queue("peek");
    raise_in = ACQUIRE;
    RAISED_BY(code, IoCsqRemoveNextIrp(queue, 0));
    print_queue("acquire in remove");
    RAISED_BY(code, IoCancelIrp(irp));
    print_queue("acquire in cancel");
    IoFreeIrp(irp);
}

/* Cancel routines. */
static void raise_cancelled(void *of, u8 *irp) {
    (void)of, (void)irp;
    ExRaiseStatus(STATUS_FIRST);
}

static void try_cancel(void *routine) {
    u8 level;
    u8 *irp = IoAllocateIrp(1, 0);
    *(void **)(irp + IRP_CANCEL_ROUTINE) = routine;
    RAISED_BY(code, IoCancelIrp(irp));
    DbgPrint("leaving: cancel raised %x at level %u\n", code, KeGetCurrentIrql());
    IoAcquireCancelSpinLock(&level);
    IoReleaseCancelSpinLock(level);
    IoFreeIrp(irp);
}

/* Dispatch and completion routines. */
static u32 upper_runs;
static i32 (*behave)(u8 *irp);

static i32 dispatch(void *of, u8 *irp) {
    (void)of;
    return behave(irp);
}

static i32 complete(u8 *irp) {
    *(i32 *)(irp + IRP_STATUS) = 0;
    IofCompleteRequest(irp, 0);
    return 0;
}

static i32 raise_before(u8 *irp) {
    (void)irp;
    ExRaiseStatus(STATUS_FIRST);
    return 0;
}

static i32 raise_behind(u8 *irp) {
    complete(irp);
    ExRaiseStatus(STATUS_SECOND);
    return 0;
}

static i32 keep(void *of, u8 *irp, void *context) {
    (void)of, (void)irp, (void)context;
    upper_runs++;
    return MORE_PROCESSING_REQUIRED;
}

static i32 raise_completion(void *of, u8 *irp, void *context) {
    (void)of, (void)irp, (void)context;
    ExRaiseStatus(STATUS_FIRST);
    return 0;
}

/* A packet of two locations: the upper one's routine keeps the packet, the lower one's is `lower`. */
static void try_request(const char *what, i32 (*behaviour)(u8 *irp), void *lower) {
    u8 *irp = IoAllocateIrp(2, 0);
    behave = behaviour;
    upper_runs = 0;
    set_completion(irp, keep);
    enter_location(irp);
    set_completion(irp, lower);
    RAISED_BY(code, IofCallDriver(device, irp));
    DbgPrint("leaving: %s raised %x, upper ran %u\n", what, code, upper_runs);
    IoFreeIrp(irp);
}

/* Lookaside lists. */
static u32 releases;

static void release_entry(void *entry) {
    ExFreePoolWithTag(entry, TAG);
    if (++releases == 1) ExRaiseStatus(STATUS_FIRST);
}

static void try_lookaside(void) {
    static __declspec(align(16)) u64 list[32];
    void *entries[3];
    u32 i;
    ExInitializePagedLookasideList(list, 0, release_entry, 0, 64, TAG, 0);
    for (i = 0; i < 3; i++) entries[i] = ExAllocateFromPagedLookasideList(list);
    for (i = 0; i < 3; i++) ExFreeToPagedLookasideList(list, entries[i]);
    RAISED_BY(code, ExDeletePagedLookasideList(list));
    DbgPrint("leaving: lookaside raised %x, released %u\n", code, releases);
    /* The rest is in the list still. */
    for (i = 0; i < 2; i++) ExFreePoolWithTag(ExAllocateFromPagedLookasideList(list), TAG);
}

/* Handlers of plug and play events. */
static u32 bindings;

static void raise_bind(UNICODE_STRING *name) {
    (void)name;
    bindings++;
    ExRaiseStatus(STATUS_FIRST);
}

static void try_bindings(void) {
    static u16 first[] = u"\\Device\\LeavingOne", second[] = u"\\Device\\LeavingTwo";
    UNICODE_STRING one = {sizeof first - 2, sizeof first, first}, two = {sizeof second - 2, sizeof second, second};
    void *of_one, *of_two, *handler = 0;
    TdiRegisterDeviceObject(&one, &of_one);
    TdiRegisterDeviceObject(&two, &of_two);
    RAISED_BY(code, TdiRegisterNotificationHandler(raise_bind, 0, &handler));
    DbgPrint("leaving: binding raised %x, called %u\n", code, bindings);
    TdiDeregisterPnPHandlers(handler);
    TdiDeregisterDeviceObject(of_two);
    TdiDeregisterDeviceObject(of_one);
}

static void unload(void *driver) {
    (void)driver;
    IoDeleteDevice(device);
    DbgPrint("leaving: unloaded\n");
}

i32 DriverEntry(u8 *driver, void *path) {
    void *nowhere = (void *)0x4141414141414141;
    u32 i;
    (void)path;
    *(void **)(driver + UNLOAD) = unload;
    for (i = 0; i < 28; i++) *(void **)(driver + MAJOR_FUNCTION + 8 * i) = dispatch;
    i32 status = IoCreateDevice(driver, 0, 0, NETWORK, 0, 0, &device);
    if (status < 0) return status;
    try_callback();
    try_queue();
    try_cancel(raise_cancelled);
    try_cancel(nowhere);
    try_lookaside();
    try_bindings();
    try_request("dispatch", raise_before, keep);
    try_request("dispatch behind completion", raise_behind, keep);
    try_request("completion", complete, raise_completion);
    try_request("wild completion", complete, nowhere);
    return 0;
}
