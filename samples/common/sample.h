/*
 * What every sample shares: the kernel's headers, one way to print, one pool tag.
 *
 * A source file defines DRIVER_NAME before it includes this header.
 */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <ntddk.h>

/* One line on the debug output, with the driver's name in front. */
#define Log(format, ...) DbgPrint(DRIVER_NAME ": " format "\n", ##__VA_ARGS__)

/* Pool tags read backwards in a dump: 'lpmS' shows as "Smpl". */
#define SAMPLE_TAG 'lpmS'

/* Completes a request of ours and returns what the dispatch routine must return. */
static inline NTSTATUS CompleteIrp(PIRP Irp, NTSTATUS Status, ULONG_PTR Information)
{
    Irp->IoStatus.Status = Status;
    Irp->IoStatus.Information = Information;
    IoCompleteRequest(Irp, IO_NO_INCREMENT);
    return Status;
}

/* A relative due time, in the form that waits and TDI requests take. */
static inline LARGE_INTEGER Milliseconds(ULONG Count)
{
    LARGE_INTEGER time;

    time.QuadPart = -10000LL * Count;
    return time;
}

#endif
